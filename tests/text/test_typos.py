import numpy as np
import pytest

from fluorosam_cli.text.typos import misspelt


def edits(a: str, b: str) -> int:
    """Fewest letters to insert, remove, replace or swap with their neighbour (optimal string alignment)."""
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0, :] = range(len(a) + 1), range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(
                table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            )  # fmt: skip
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return int(table[-1, -1])


@pytest.mark.parametrize("phrase", ["left femur", "Th12 vertebra", "3.5 x 12 mm cortical screw", "aaaa"])
def test_one_error_in_a_long_word_and_none_elsewhere(phrase):
    found = {misspelt(phrase, np.random.default_rng(seed)) for seed in range(60)}
    assert len(found) > 2
    for wrong in found:
        assert wrong is not None
        assert edits(phrase, wrong) == 1
        digits = [[c for c in text if c.isdigit()] for text in (phrase, wrong)]
        assert digits[0] == digits[1]


def test_the_same_seed_makes_the_same_error_and_short_words_are_spared():
    assert misspelt("left femur", np.random.default_rng(3)) == misspelt("left femur", np.random.default_rng(3))
    assert misspelt("rib 5", np.random.default_rng(0)) is None

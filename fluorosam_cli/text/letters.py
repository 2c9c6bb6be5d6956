"""What a phrase is made of, letter by letter: the runs of letters of its content words, hashed into one vector.

Sentence encoders cut a misspelt word into pieces that have nothing in common with those of the right one. Runs of a few
letters mostly survive a spelling error (Bojanowski et al. 2017, "Enriching word vectors with subword information"), and
so do most of the words that are left when any one letter is taken out (Garbe 2012, "Symmetric delete spelling
correction"). Numbers stay whole. Words of a side are left out: `marks` reads them, and a structure and its mirror image
then share their letters, so that what is learnt on the left serves the right.
"""

from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

from fluorosam_cli.anatomy.marks import is_side
from fluorosam_cli.anatomy.wording import content_bag

SIZE = 2048
RUNS = (2, 3, 4)  # letters
SHORTEST_CUT = 4  # letters of a word of which one is taken out
LENGTH = 4.0  # of a phrase's vector, so that spelling is heard beside the sentence, whose length is 1


def letters(phrases: Sequence[str]) -> np.ndarray:
    """float32 (n, SIZE), rows of length LENGTH: the sum of the words' vectors; zeros where there is no word."""
    vectors = np.zeros((len(phrases), SIZE), np.float32)
    for row, phrase in zip(vectors, phrases, strict=True):
        for word in content_bag(phrase):
            if not is_side(word):
                row += _vector(word)
    return vectors * (LENGTH / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


@lru_cache(maxsize=1 << 12)
def _vector(word: str) -> np.ndarray:
    """float32 (SIZE,) of unit length: the whole word, its runs, and its cuts."""
    marked = f"<{word}>"
    runs, cuts = [], []
    if word.isalpha():
        runs = [marked[i : i + n] for n in RUNS for i in range(len(marked) - n + 1)]
    if word.isalpha() and len(word) >= SHORTEST_CUT:
        cuts = [f"-{word}", *(f"-{cut}" for cut in sorted({word[:i] + word[i + 1 :] for i in range(len(word))}))]
    vector = np.zeros(SIZE, np.float32)
    for part in ([marked], runs, cuts):
        for text in part:
            code = crc32(text.encode())
            vector[code % SIZE] += (1 if code >> 31 else -1) / len(part) ** 0.5
    return vector / np.linalg.norm(vector)

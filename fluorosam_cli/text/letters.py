"""What a phrase is made of, letter by letter: each word's letter sequences, hashed into one vector (fastText's idea).

Sentence encoders cut a misspelt word into pieces that have nothing in common with those of the right one. Runs of three
and four letters mostly survive a spelling error (Bojanowski et al. 2017, "Enriching word vectors with subword
information"), and numbers stay whole.
"""

from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

from fluorosam_cli.anatomy.wording import normalised

SIZE = 512
RUNS = (3, 4)  # letters
WHOLE = 0.5  # share of a word's vector that the whole word makes


def letters(phrases: Sequence[str]) -> np.ndarray:
    """float32 (n, SIZE), rows of unit length: the sum of the words' vectors; zeros where there is no word."""
    vectors = np.zeros((len(phrases), SIZE), np.float32)
    for row, phrase in zip(vectors, phrases, strict=True):
        for word in normalised(phrase).split():
            row += _vector(word)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


@lru_cache(maxsize=1 << 14)
def _vector(word: str) -> np.ndarray:
    """float32 (SIZE,) of unit length."""
    marked = f"<{word}>"
    runs = [marked[i : i + n] for n in RUNS for i in range(len(marked) - n + 1)] if word.isalpha() else []
    vector = np.zeros(SIZE, np.float32)
    share = (1 - WHOLE) / max(1, len(runs)) ** 0.5
    for text, weight in ((marked, WHOLE), *((run, share) for run in runs)):
        code = crc32(text.encode())
        vector[code % SIZE] += weight if code >> 31 else -weight
    return vector / np.linalg.norm(vector)

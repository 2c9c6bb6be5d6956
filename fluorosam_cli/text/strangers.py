"""Phrases that name nothing in a body: for teaching which words are unknown, and others for measuring it.

What is taught comes from a general vocabulary and from random letters; what measures is written by hand
(`nonsense.toml`), and none of its words is taught.
"""

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import numpy as np

from fluorosam_cli.anatomy.wording import normalised
from fluorosam_cli.text.encoder import vocabulary

FRAMES = (
    "{a}", "{a} {b}", "the {a} of the {b}", "{a} in the {b} {c}", "{side} {a}", "{side} {a} {b}", "{a} on the {side}",
    "the patient's {side} {a}", "{number} {a}", "{side} {number} {a}", "segment the {a}", "where is the {side} {a}?",
    "please outline the {a} {b}", "{a} {b} {c} {d}", "{letters}", "{side} {letters}", "{letters} {a}",
)  # fmt: skip
SIDES = ("left", "right")
NUMBERS = ("first", "third", "5th", "seventh", "2", "12")
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouy"


class Strangers:
    """Draws phrases without a word of `known` (any phrases)."""

    def __init__(self, known: Iterable[str]) -> None:
        measuring = [text for texts in nonsense().values() for text in texts]
        taken = {word for text in (*known, *measuring) for word in normalised(text).split()}
        self._words = [word for word in vocabulary() if word not in taken and word.removesuffix("s") not in taken]

    def draw(self, count: int, random: np.random.Generator) -> list[str]:
        """`count` phrases, the same for the same state of `random`."""
        return [self._phrase(random) for _ in range(count)]

    def _phrase(self, random: np.random.Generator) -> str:
        words = {key: self._words[random.integers(len(self._words))] for key in "abcd"}
        words |= {"side": SIDES[random.integers(2)], "number": NUMBERS[random.integers(len(NUMBERS))]}
        return FRAMES[random.integers(len(FRAMES))].format(**words, letters=_letters(random))


def _letters(random: np.random.Generator) -> str:
    """Random letters, some of them pronounceable."""
    sounds = (CONSONANTS, VOWELS if random.random() < 0.6 else CONSONANTS)
    return "".join(sounds[i % 2][random.integers(len(sounds[i % 2]))] for i in range(random.integers(4, 11)))


@cache
def nonsense() -> dict[str, tuple[str, ...]]:
    """Kind -> hand-written phrases that name nothing: food, animals, ..., and words with a side ("left banana")."""
    rows = tomllib.loads((files("fluorosam_cli.text") / "nonsense.toml").read_text(encoding="utf-8"))
    sided = tuple(f"{SIDES[i % 2]} {word}" for i, word in enumerate(rows.pop("sided")))
    return {kind: tuple(texts) for kind, texts in rows.items()} | {"with a side": sided}

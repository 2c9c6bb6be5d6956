"""One spelling error in a phrase, drawn with a seed: letters swapped, left out, doubled or hit beside the right key."""

import re

import numpy as np

SHORTEST = 4  # letters of a word that may be misspelt: one error in "rib" makes another word
WORD = re.compile(rf"[A-Za-z]{{{SHORTEST},}}")
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
KINDS = ("swapped", "left out", "doubled", "beside")


def misspelt(phrase: str, random: np.random.Generator) -> str | None:
    """The phrase with one error in one of its words; None if no word is long enough."""
    places = [place for word in WORD.finditer(phrase) for place in range(*word.span())]
    if not places:
        return None
    while True:
        wrong = _with_error(phrase, places[random.integers(len(places))], KINDS[random.integers(len(KINDS))], random)
        if wrong != phrase:
            return wrong


def _with_error(phrase: str, place: int, kind: str, random: np.random.Generator) -> str:
    before, letter, after = phrase[:place], phrase[place], phrase[place + 1 :]
    if kind == "swapped":
        return before + after[0] + letter + after[1:] if after[:1].isalpha() else phrase
    if kind == "left out":
        return before + after
    if kind == "doubled":
        return before + 2 * letter + after
    row = next((row for row in KEYS if letter.lower() in row), letter)
    at = row.find(letter.lower())
    near = row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    return before + near[random.integers(len(near))] + after if near else phrase

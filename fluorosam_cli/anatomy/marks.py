"""The side, number and region of the spine that a phrase states, read word by word.

Sentence embeddings hardly see these words, and they are what tells a structure from its mirror image and its neighbour.
The words come from `lexicon.toml`, so English, Latin and abbreviated forms are all known, also with one letter wrong.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from fluorosam_cli.anatomy.wording import NUMBER_KEYS, SIDED_NUMBER, is_side_letter, normalised, table

SIDES = ("left", "right")
NUMBERS = 12
REGIONS = ("C", "T", "L", "S")
SIZE = len(SIDES) + NUMBERS + len(REGIONS)
LEVEL = re.compile(r"(c|t|th|d|l|s)(\d+)")  # "l3", "th5": normalised text is lower case
SHORTEST_MISSPELT = 4  # letters of the right word
COMMON = {"neck", "nona"}  # too many words are one letter from these


@dataclass(frozen=True)
class Marks:
    sides: frozenset[str]  # of SIDES
    numbers: frozenset[int]  # 1-12
    regions: frozenset[str]  # of REGIONS

    def vector(self) -> tuple[float, ...]:
        """One 0 or 1 for each of SIDES, the numbers 1-12 and REGIONS, in that order."""
        return (
            *(float(side in self.sides) for side in SIDES),
            *(float(number in self.numbers) for number in range(1, NUMBERS + 1)),
            *(float(region in self.regions) for region in REGIONS),
        )


def marks(text: str) -> Marks:
    """What `text` states: "lt 5th rib" -> left and 5; "lower back" -> region L; nothing when it states nothing."""
    words = ["", *map(mended, normalised(text).split()), ""]
    plain = " ".join(words)
    sides, numbers, regions = set(), set(), {r for phrase, r in _regions().items() if f" {phrase} " in f" {plain} "}
    for before, word, after in zip(words, words[1:], words[2:], strict=False):
        if (level := LEVEL.fullmatch(word)) and 1 <= int(level[2]) <= NUMBERS:
            regions.add(_region_letters()[level[1]])
            numbers.add(int(level[2]))
        elif pair := SIDED_NUMBER.fullmatch(word):
            sides |= _sides()[pair[2]]
            numbers |= {int(pair[1])} & set(range(1, NUMBERS + 1))
        elif word in _region_letters() and after.isdigit():  # "L-3" is split at the hyphen
            regions.add(_region_letters()[word])
        elif word in _romans():
            numbers |= {_romans()[word]} if before in _counted() else set()  # not the X of "X-ray"
        elif len(word) > 1 or word.isdigit() or is_side_letter(word, after):
            sides |= _sides().get(word, frozenset())
            numbers |= {_numbers()[word]} if word in _numbers() else set()
    sides = sides or (set(SIDES) if "both" in words else set())  # "both bones of the left forearm" are on the left
    return Marks(frozenset(sides), frozenset(numbers), frozenset(regions))


def is_side(word: str) -> bool:
    """Whether this word, of normalised text, states a side: "left", "sinistra", "lfet"; a letter alone does not."""
    return len(word) > 1 and mended(word) in _sides()


@lru_cache(maxsize=1 << 14)
def mended(word: str) -> str:
    """The word of a side, number or region that `word` is with one letter wrong, or two swapped; else `word` itself."""
    if len(word) < SHORTEST_MISSPELT - 1 or not word.isalpha() or word in table()["small"]["not_marks"]:
        return word
    near = {known: value for cut in _cuts(word) for known, value in _by_cut().get(cut, {}).items()}
    return min(near) if word not in near and len(set(near.values())) == 1 else word


@cache
def _sides() -> dict[str, frozenset[str]]:
    """Word -> sides: left, sinistra, L, lt, ..."""
    found = {word.lower(): frozenset({side}) for side, words in table()["sides"].items() for word in words.values()}
    return found | {side: frozenset({side}) for side in SIDES}


def _cuts(word: str) -> set[str]:
    """The word, and what is left of it without one of its letters: words one error apart share one of these."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


@cache
def _by_cut() -> dict[str, dict[str, object]]:
    """Cut -> the words of sides, ordinal numbers and regions that it may come from -> what they say."""
    ordinals = {word: _numbers()[word] for key in ("ordinal", "latin") for word in table()["numbers"][key]}
    found: dict[str, dict[str, object]] = {}
    for word, said in (_sides() | ordinals | _regions()).items():
        if len(word) >= SHORTEST_MISSPELT and word.isalpha() and word not in COMMON:
            for cut in _cuts(word):
                found.setdefault(cut, {})[word] = said
    return found


@cache
def _numbers() -> dict[str, int]:
    """Word -> number: fifth, 5th, five, quinta, 5; Roman ones apart."""
    spelt = [table()["numbers"][key] for key in NUMBER_KEYS if key != "roman"]
    found = {word: number for words in spelt for number, word in enumerate(words, 1)}
    return found | {str(number): number for number in range(1, NUMBERS + 1)}


@cache
def _romans() -> dict[str, int]:
    return {word.lower(): number for number, word in enumerate(table()["numbers"]["roman"], 1)}


@cache
def _counted() -> frozenset[str]:
    """The words that a Roman numeral may follow."""
    return frozenset({"rib", "costa", "vertebra", "number", *_regions()})


@cache
def _regions() -> dict[str, str]:
    """Word or words -> region letter: cervical, neck, lower back, lumbalis, ..."""
    keys = ("region", "lay_region", "latin_region", "other_region")
    return {row[key]: letter for letter, row in table()["regions"].items() for key in keys if key in row}


@cache
def _region_letters() -> dict[str, str]:
    return {
        spelt.lower(): letter
        for letter, row in table()["regions"].items()
        for spelt in (letter, *row.get("other_letters", ()))
    }

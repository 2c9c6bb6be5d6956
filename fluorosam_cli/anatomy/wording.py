"""When two phrases are the same: normal forms of text, and the tables of words behind them.

`normalised` forgets how a phrase is typed: case, accents, punctuation, articles. `content_bag` also forgets what does
not change its meaning: word order, small words, plurals, other spellings, how a side, a number or a level is written.
"""

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

FILES = ("lexicon.toml", "lexicon_limbs.toml", "lexicon_trunk.toml", "lexicon_organs.toml")
LIGATURES = str.maketrans({"œ": "oe", "Œ": "Oe", "æ": "ae", "Æ": "Ae", "ß": "ss", "×": "x", "°": " degree "})
ARTICLES = re.compile(r"\b(the|a|an|(the |a )?patient s|his|her|their)\b")
NOT_PLAIN = re.compile(r"[^a-z0-9.]+|(?<!\d)\.|\.(?!\d)")  # a point counts inside a number only
GLUED = re.compile(r"(?<=\d)(mm|cm|fr|french|g|gauge|inch|degrees?|hole|x)(?=[\d\s]|$)")  # "12mm", "5x12"
HAS_DIGIT = re.compile(r"\d")  # most phrases have none, and the substitutions take time
SIDE_WORDS = re.compile(r"\b(left|right|l|r) (?:hand )?sided?\b")  # "left-sided", "of the left side"
LEVEL = re.compile(r"\b(c|t|th|d|l|s) ?(\d{1,2})\b")
SIDED_NUMBER = re.compile(r"(\d+)([lr])")  # "5l" of "rib 5L"
SAME_WORDS = {
    "french": "fr", "millimetre": "mm", "millimeter": "mm", "gauge": "g", "degrees": "degree",
    "lt": "left", "l": "left", "rt": "right", "r": "right",
}  # fmt: skip
NUMBER_KEYS = ("ordinal", "nth", "cardinal", "roman", "latin")
DORSAL = {"th": "t", "d": "t"}


@cache
def table() -> dict[str, Any]:
    """The tables of words as they stand, `FILES` together."""
    together: dict[str, Any] = {}
    for file in FILES:
        rows = tomllib.loads((files("fluorosam_cli.anatomy") / file).read_text(encoding="utf-8"))
        for key, entries in rows.items():
            together[key] = together.get(key, {}) | entries
    return together


def without_accents(text: str) -> str:
    """Latin letters as English has them: Müller -> Muller, Größe -> Grosse. Letters of other scripts stay."""
    apart = unicodedata.normalize("NFKD", text.translate(LIGATURES))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


@lru_cache(maxsize=1 << 17)
def normalised(text: str) -> str:
    """Lower case, no accents, punctuation or articles, single spaces: what counts as typed alike."""
    if not text.isascii():
        text = without_accents(text).encode("ascii", "ignore").decode()
    plain = NOT_PLAIN.sub(" ", text.lower())
    if HAS_DIGIT.search(plain):
        plain = GLUED.sub(r" \1 ", plain)
    return " ".join(ARTICLES.sub(" ", plain).split())


@lru_cache(maxsize=1 << 17)
def content_bag(text: str) -> tuple[str, ...]:
    """The words that carry a phrase's meaning, sorted: equal for phrases that are variants of each other.

    "5th rib on the left", "Left rib V" and "rib 5L" share one bag, as do "T5", "Th5" and "D-5".
    """
    plain = normalised(text)
    plain = _respelt().sub(lambda match: _spelling()[match[0]], plain)
    if "side" in plain:
        plain = SIDE_WORDS.sub(r"\1", plain)
    if HAS_DIGIT.search(plain):
        plain = LEVEL.sub(lambda match: DORSAL.get(match[1], match[1]) + match[2], plain)
    words: list[str] = []
    before, typed = "", plain.split()
    for word, after in zip(typed, [*typed[1:], ""], strict=False):
        if word in small_words() and not (word == "x" and before in ("rib", "costa", "vertebra")):
            before = word
            continue
        if number := SIDED_NUMBER.fullmatch(word):
            words += [number[1], SAME_WORDS[number[2]]]
        elif is_side_letter(word, after):
            words.append(SAME_WORDS[word])
        else:
            words.append(word if word in ("l", "r") else _same(word))
        before = word
    return tuple(sorted(words))


def counts(text: str) -> bool:
    """Whether its number says how many, "five left ribs", and not which one: "fifth left rib", "left rib five"."""
    unsaid = {*small_words(), "left", "right", *SAME_WORDS}
    number, after, *others = [*(word for word in normalised(text).split() if word not in unsaid), "", ""]
    is_number = number.isdigit() or number in table()["numbers"]["cardinal"]
    return is_number and not GLUED.search(f"0{after}") and any(map(_is_plural, (after, *others)))


def is_side_letter(word: str, after: str) -> bool:
    """Whether this letter says a side: "L femur", not "L-plate"."""
    return word in ("l", "r") and after not in table()["small"]["letter_shapes"]


@cache
def _same(word: str) -> str:
    if word in _numbers():
        return _numbers()[word]
    word = word[:-1] if _is_plural(word) else word
    return SAME_WORDS.get(word, word)


def _is_plural(word: str) -> bool:
    return len(word) > 3 and word.endswith("s") and not word.endswith("ss")


@cache
def small_words() -> frozenset[str]:
    return frozenset(table()["small"]["words"])


@cache
def _spelling() -> dict[str, str]:
    """Other spelling -> the one of the tables."""
    return {other: one for one, other in table()["spelling"].items()}


@cache
def _respelt() -> re.Pattern[str]:
    """Any of the other spellings; a look at the first letter settles most places."""
    first = "".join(sorted({re.escape(other[0]) for other in _spelling()}))
    return re.compile(f"(?=[{first}])(?:{'|'.join(map(re.escape, _spelling()))})")


@cache
def _numbers() -> dict[str, str]:
    """fifth, 5th, five, V, quinta -> 5."""
    return {word.lower(): str(n) for key in NUMBER_KEYS for n, word in enumerate(table()["numbers"][key], 1)}

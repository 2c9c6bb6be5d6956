"""The words for every structure, group and outline: which phrases name it, and which name a phrase means.

`lexicon.toml` holds base words and the grammar of sides and numbers; this module expands them. Each phrase belongs to
the train or the test split. Phrases that differ only in case, word order or small words ("left femur", "femur on the
left") always share a split, so that a test phrase is never a train phrase rearranged.
"""

import difflib
import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

from fluorosam_cli.anatomy.structures import Structure, display_name, names, outlines, structures
from fluorosam_cli.contracts import PhraseKind

HELD_OUT = 0.15  # share of each name's phrases that only evaluation sees
MIN_PHRASES_TO_HOLD_OUT = 4
KINDS: tuple[PhraseKind, ...] = ("official", "synonym", "lay", "latin", "abbreviation", "variant")
WORD_ORDER_KINDS = {"official", "synonym", "lay"}
ARTICLES = re.compile(r"\b(the|a|an|(the |a )?patient s|his|her|their)\b")
SMALL_WORDS = {"of", "on", "in", "to", "side", "sided"}

Draft = tuple[str, PhraseKind]
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Phrase:
    text: str
    kind: PhraseKind
    split: Split


@cache
def lexicon() -> dict[str, tuple[Phrase, ...]]:
    """Name -> its phrases; the first is the display name. Covers every name of `structures.names()`, in that order."""
    return {name: _with_splits(name, _distinct(_drafts(name))) for name in names()}


def resolve(text: str) -> str | None:
    """The name whose phrase this is, whatever its case, spacing, punctuation and articles; None for unknown words."""
    return _index().get(normalised(text))


def nearest(text: str, n: int = 3) -> list[str]:
    """The `n` names whose phrases look most like `text`, best first."""
    index = _index()
    found: dict[str, None] = {}
    for phrase in difflib.get_close_matches(normalised(text), index, n=8 * n, cutoff=0.4):
        found.setdefault(index[phrase])
    return list(found)[:n]


@lru_cache(maxsize=1 << 14)
def normalised(text: str) -> str:
    """Lower case, no accents, punctuation or articles, single spaces: what `resolve` compares."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(ARTICLES.sub(" ", re.sub(r"[^a-z0-9]+", " ", plain)).split())


def word_bag(text: str) -> tuple[str, ...]:
    """The words of a phrase without order and small words: equal for phrases that are rearrangements of each other."""
    return tuple(sorted(word for word in normalised(text).split() if word not in SMALL_WORDS))


def split_of(name: str, text: str) -> Split:
    """The split of a phrase from elsewhere: "test" when it says a held-out phrase with more words, else by its hash."""
    bag = set(word_bag(text))
    lexicon_bags: dict[tuple[str, ...], Split] = {word_bag(phrase.text): phrase.split for phrase in lexicon()[name]}
    if word_bag(text) in lexicon_bags:
        return lexicon_bags[word_bag(text)]
    if any(split == "test" and bag.issuperset(held_out) for held_out, split in lexicon_bags.items()):
        return "test"
    return "test" if _rank(name, word_bag(text))[0] < HELD_OUT * 256 else "train"


# --- from the table to phrases ----------------------------------------------------------------------------------------


@cache
def table() -> dict[str, Any]:
    """`lexicon.toml` as it stands."""
    return tomllib.loads((files("fluorosam_cli.anatomy") / "lexicon.toml").read_text(encoding="utf-8"))


@cache
def _index() -> dict[str, str]:
    return {normalised(phrase.text): name for name, phrases in lexicon().items() for phrase in phrases}


@cache
def _levels() -> dict[str, Structure]:
    return {structure.name: structure for structure in structures() if structure.level}


@cache
def _outline_words() -> set[tuple[str, ...]]:
    """The outlines' plain words, which no other name may take: "lung left" is no phrase of the group `lung_left`."""
    return {word_bag(display_name(name)) for name in outlines()}


def _drafts(name: str) -> Iterator[Draft]:
    """All phrases of one name in their order of importance, some of them twice."""
    primary = display_name(name)
    base, _, side = name.rpartition("_")
    sided = side in table()["sides"] and base in table()["sided"]
    yield primary, "name"
    yield from _listed(table()["plain"].get(name, {}))
    if name in _levels():
        yield from _numbered(_levels()[name])
    elif sided:
        yield from _sided(table()["sided"][base], side)
        if primary.startswith(side + " "):
            yield from _reordered(primary.removeprefix(side + " "), side)
    if name in outlines() or word_bag(name.replace("_", " ")) not in _outline_words():
        yield name.replace("_", " "), "variant"


def _listed(words: dict[str, list[str]], **values: str) -> Iterator[Draft]:
    for kind in KINDS:
        for pattern in words.get(kind, ()):
            yield pattern.format(**values), kind


def _sided(words: dict[str, list[str]], side: str) -> Iterator[Draft]:
    inflections = {"side": side, **table()["sides"][side]}
    for kind in KINDS:
        for pattern in words.get(kind, ()):
            if "{" in pattern:
                yield pattern.format(**inflections), kind
                continue
            yield f"{side} {pattern}", kind
            if kind in WORD_ORDER_KINDS:
                for order in table()["order"]["other"]:
                    yield order.format(base=pattern, **inflections), "variant"


def _reordered(base: str, side: str) -> Iterator[Draft]:
    inflections = {"base": base, "side": side, **table()["sides"][side]}
    for order in table()["order"]["primary"]:
        yield order.format(**inflections), "variant"
    for order in table()["order"]["primary_abbreviation"]:
        yield order.format(**inflections), "abbreviation"


def _numbered(structure: Structure) -> Iterator[Draft]:
    """Phrases of a rib or a vertebra."""
    level = structure.level or ""
    number = int(level.lstrip("CTLS"))
    values = {key: words[number - 1] for key, words in table()["numbers"].items()}
    values |= {"number": str(number), "level": level}
    if structure.side:
        yield from _listed(table()["rib"], side=structure.side, **values, **table()["sides"][structure.side])
        return
    region = table()["regions"][level[0]]
    values |= {"letter": level[0], **region}
    yield from _listed(table()["vertebra"], **values)
    if "other_region" in region:
        yield from _listed(table()["other_region"], **values)
    for letter in region.get("other_letters", ()):
        yield from _listed(table()["other_letter"], other_letter=letter, **values)


def _distinct(drafts: Iterator[Draft]) -> list[Draft]:
    """Each phrase once, followed by its other spelling when there is one."""
    found: dict[str, Draft] = {}
    for text, kind in drafts:
        found.setdefault(normalised(text), (text, kind))
        for one, other in table()["spelling"].items():
            spelt = text.replace(one, other) if one in text else text.replace(other, one)
            found.setdefault(normalised(spelt), (spelt, "variant"))
    return list(found.values())


# --- the held-out phrases ---------------------------------------------------------------------------------------------


def _with_splits(name: str, drafts: list[Draft]) -> tuple[Phrase, ...]:
    test = _held_out(name, [text for text, _ in drafts])
    return tuple(Phrase(text, kind, "test" if word_bag(text) in test else "train") for text, kind in drafts)


def _held_out(name: str, texts: list[str]) -> set[tuple[str, ...]]:
    """The word bags of about `HELD_OUT` of the phrases, chosen by a hash; never that of the first, the display name."""
    if len(texts) < MIN_PHRASES_TO_HOLD_OUT:
        return set()
    sizes: dict[tuple[str, ...], int] = {}
    for text in texts:
        sizes[word_bag(text)] = sizes.get(word_bag(text), 0) + 1
    del sizes[word_bag(texts[0])]
    order = sorted(sizes, key=lambda bag: _rank(name, bag))
    wanted = max(1, round(HELD_OUT * len(texts)))
    chosen: set[tuple[str, ...]] = set()
    for bag in order:
        if sum(sizes[taken] for taken in chosen) + sizes[bag] <= wanted:
            chosen.add(bag)
    return chosen or {min(order, key=lambda bag: sizes[bag])}


def _rank(name: str, bag: tuple[str, ...]) -> bytes:
    return hashlib.sha256(" ".join((name, "/", *bag)).encode()).digest()

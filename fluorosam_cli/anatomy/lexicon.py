"""The words for every structure, group and outline: which phrases name it.

The tables of `wording` hold base words and the grammar of sides and numbers; this module expands them. Each phrase
belongs to the train or the test split. Phrases with the same `content_bag` ("left femur", "L femur", "femur on the
left") always share a split, so that a test phrase is never a train phrase rewritten.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fluorosam_cli.anatomy.structures import Structure, display_name, groups, levels, names, outlines, structure
from fluorosam_cli.anatomy.wording import content_bag, normalised, table
from fluorosam_cli.contracts import PhraseKind

HELD_OUT = 0.15  # share of each name's phrases that only evaluation sees, chosen among its content bags
KINDS: tuple[PhraseKind, ...] = (
    "official", "synonym", "lay", "latin", "abbreviation", "variant", "phrase", "relation",
)  # fmt: skip
WORD_ORDER_KINDS = {"official", "synonym", "lay"}

Draft = tuple[str, PhraseKind]
Split = Literal["train", "test"]
Bag = tuple[str, ...]


@dataclass(frozen=True)
class Phrase:
    text: str
    kind: PhraseKind
    split: Split
    source: str | None = None  # where the word comes from, when that is not common knowledge


@cache
def lexicon() -> dict[str, tuple[Phrase, ...]]:
    """Name -> its phrases; the first is the display name. Covers every name of `structures.names()`, in that order."""
    return {name: with_splits(name, _distinct(_drafts(name))) for name in names()}


@cache
def ambiguous() -> dict[str, tuple[str, ...]]:
    """Phrases that belong to no name because they may mean several -> these names.

    Those of `[ambiguous]` and the unsided phrases of sided names that have no group of both sides ("forearm").
    """
    found = {phrase: tuple(meant) for phrase, meant in table()["ambiguous"].items()}
    owned = {content_bag(phrase.text) for phrases in lexicon().values() for phrase in phrases}
    both = {frozenset(members) for members in groups().values()}
    for base, words in table()["sided"].items():
        pair = tuple(name for name in (f"{base}_left", f"{base}_right") if name in lexicon())
        if len(pair) == 2 and frozenset(pair) not in both and base not in lexicon():
            unsided = [text for kind in KINDS for text in words.get(kind, ()) if "{" not in text]
            found |= {text: pair for text in unsided if content_bag(text) not in owned}
    return found


def split_of(name: str, phrases: Iterable[Phrase], text: str) -> Split:
    """The split of a phrase from elsewhere: "test" when it says a held-out phrase with more words, else by its hash."""
    bag = content_bag(text)
    bags: dict[Bag, Split] = {content_bag(phrase.text): phrase.split for phrase in phrases}
    if bag in bags:
        return bags[bag]
    if any(split == "test" and set(bag).issuperset(held_out) for held_out, split in bags.items()):
        return "test"
    return "test" if _rank(name, bag)[0] < HELD_OUT * 256 else "train"


# --- from the table to phrases ----------------------------------------------------------------------------------------


@cache
def _outline_words() -> set[Bag]:
    """The outlines' plain words, which no other name may take: "lung left" is no phrase of the group `lung_left`."""
    return {content_bag(display_name(name)) for name in outlines()}


def _drafts(name: str) -> Iterator[Draft]:
    """All phrases of one name in their order of importance, some of them twice."""
    primary = display_name(name)
    base, _, side = name.rpartition("_")
    sided = side in table()["sides"] and base in table()["sided"]
    yield primary, "name"
    yield from _listed(table()["plain"].get(name, {}))
    if name in levels():
        yield from _numbered(structure(name))
    elif sided:
        yield from _sided(table()["sided"][base], side)
        if primary.startswith(side + " "):
            yield from _reordered(primary.removeprefix(side + " "), side)
    if name in outlines() or content_bag(name.replace("_", " ")) not in _outline_words():
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
    """Each phrase once, followed by its other spellings."""
    found: dict[str, Draft] = {}
    for text, kind in drafts:
        found.setdefault(normalised(text), (text, kind))
        for one, other in table()["spelling"].items():
            if one in text:
                spelt = text.replace(one, other)
                found.setdefault(normalised(spelt), (spelt, "variant"))
    return list(found.values())


def source_of(text: str, kind: PhraseKind) -> str | None:
    """Where a word comes from: its own entry of `[sources.words]`, else that of its kind."""
    sources = table()["sources"]
    own = [source for word, source in sources["words"].items() if word in text]
    return own[-1] if own else sources.get(kind)


# --- the held-out phrases ---------------------------------------------------------------------------------------------


def with_splits(name: str, drafts: list[Draft]) -> tuple[Phrase, ...]:
    """The phrases of a name with their splits: all variants of a base phrase are on the same side."""
    bags = [content_bag(text) for text, _ in drafts]
    test = _held_out(name, bags)
    return tuple(
        Phrase(text, kind, "test" if bag in test else "train", source_of(text, kind))
        for (text, kind), bag in zip(drafts, bags, strict=True)
    )


def _held_out(name: str, bags: list[Bag]) -> set[Bag]:
    """The bags of about `HELD_OUT` of the phrases, at least one, by a hash; never the first, the display name's."""
    sizes = Counter(bags)
    del sizes[bags[0]]
    order = sorted(sizes, key=lambda bag: _rank(name, bag))
    wanted, taken, chosen = round(HELD_OUT * len(bags)), 0, set()
    for bag in order:
        if taken + sizes[bag] <= wanted:
            chosen.add(bag)
            taken += sizes[bag]
    return chosen or {min(order, key=lambda bag: sizes[bag])}


def _rank(name: str, bag: Bag) -> bytes:
    return hashlib.sha256(" ".join((name, "/", *bag)).encode()).digest()

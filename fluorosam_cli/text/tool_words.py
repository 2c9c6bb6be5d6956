"""The words for tools and implants: every family, every design in any size, every tool of one size.

Families have words of their own in `tools.toml`; designs and sizes get theirs from the catalogue and from patterns
there. A phrase that would name two things belongs to the more general one (anatomy, then families, then designs) or,
where two have an equal claim, to neither: then it is ambiguous.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from string import Formatter
from typing import Any, cast

from fluorosam_cli.anatomy import lexicon as anatomy
from fluorosam_cli.anatomy.lexicon import KINDS, Bag, Phrase, with_splits
from fluorosam_cli.anatomy.structures import display_name, names
from fluorosam_cli.anatomy.wording import content_bag, normalised, table
from fluorosam_cli.contracts import PhraseKind
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.tools.catalogue import Tool, catalogue, families

MOST = 2  # synonyms, materials and sites of a tool that its patterns use
FAMILY, DESIGN, SYNONYM, PATTERN = range(4)  # how firmly a name claims a phrase, firmest first
OTHER_UNITS = {" mm": (" millimetre",), " Fr": (" French", "F"), " gauge": ("G",)}
OWN_FAMILY: tuple[tuple[str, PhraseKind], ...] = (  # tools that the catalogue lacks, together
    ("user tools", "name"), ("user tool", "variant"), ("user's tool", "variant"), ("own tools", "synonym"),
    ("tool of one's own", "synonym"), ("added tool", "synonym"), ("tool outside the catalogue", "phrase"),
    ("custom tool", "synonym"), ("custom instrument", "synonym"),
)  # fmt: skip
NUMBER = re.compile(r"\d+(?:\.\d+)?")
PREPOSITIONS = ("in", "on", "at", "around", "behind", "between", "inside", "outside", "under", "over", "through")
PARTICIPLES = ("buried", "worn", "bent")  # besides those in -ed

Row = tuple[str, PhraseKind, int]  # text, kind, how firmly it is claimed
Claims = dict[str, list[Row]]
Owners = dict[Bag, tuple[str, ...]]


@cache
def general_words() -> dict[str, tuple[Phrase, ...]]:
    """Family or design -> its phrases; the first is the display name."""
    return _phrases(_general(), _general_owners())


@cache
def sized_words(numbers: frozenset[str] | None = None) -> dict[str, tuple[Phrase, ...]]:
    """Tool of one size -> its phrases; the first is the display name. Given numbers: only sizes with one of them."""
    claims = _sized(numbers)
    return _phrases(claims, _owners(claims, _of_anatomy() | _general_owners().keys()))


def words_of(tools: Sequence[Tool]) -> dict[str, tuple[Phrase, ...]]:
    """Tool that the catalogue lacks -> its phrases, from its name, synonyms, material, sites and use; and their family.

    Raises FluoroError when its name is a phrase for something else.
    """
    claims: Claims = {tool.name: _of_design(tool) for tool in tools}
    claims |= {tool.family: [(text, kind, FAMILY) for text, kind in OWN_FAMILY] for tool in tools}
    owners = _owners(claims, _of_anatomy() | _general_owners().keys())
    for tool in tools:
        if owners[content_bag(tool.display_name)] != (tool.name,):
            raise FluoroError(
                f"{tool.file or tool.name}: {tool.display_name!r} names something else already",
                "give it another name in tools.toml",
            )
    return _phrases(claims, owners)


@cache
def ambiguous_tools() -> dict[str, tuple[str, ...]]:
    """Phrases that several families or designs share and none owns -> the names they may mean."""
    found = {phrase: tuple(meant) for phrase, meant in words()["ambiguous"].items()}
    for bag, meant in _general_owners().items():
        if len(meant) > 1:
            texts = (text for name in meant for text, _, _ in _general()[name] if content_bag(text) == bag)
            found.setdefault(min(texts, key=lambda text: (len(text), text)), meant)
    return found


@cache
def designs() -> dict[str, tuple[Tool, ...]]:
    """Design -> its tools, one for each size."""
    found: dict[str, list[Tool]] = {}
    for tool in catalogue():
        found.setdefault(tool.design, []).append(tool)
    return {design: tuple(tools) for design, tools in found.items()}


def base_words(tool: Tool) -> str:
    """The display name without its size: "3.5 x 12 mm cortical screw" -> "cortical screw"."""
    if not tool.size:
        return tool.display_name
    return " ".join(tool.display_name.replace(tool.size, " ").replace(",", " ").split())


@cache
def words() -> dict[str, Any]:
    """`tools.toml` as it stands."""
    return tomllib.loads((files("fluorosam_cli.text") / "tools.toml").read_text(encoding="utf-8"))


# --- the phrases that a name would like -----------------------------------------------------------------------------


@cache
def _general() -> Claims:
    claims: Claims = {}
    for family, name in families().items():
        claims[family] = list(_spelt([(name, "name", FAMILY), *_family(family, name)]))
    return claims | {design: _of_design(tools[0]) for design, tools in designs().items()}


def _of_design(tool: Tool) -> list[Row]:
    synonyms: list[Row] = [(text, "synonym", SYNONYM) for text in tool.synonyms]
    patterns = _filled("design", _values(tool))
    return list(_spelt([(base_words(tool), "name", DESIGN), *synonyms, *patterns]))


def _sized(numbers: frozenset[str] | None) -> Claims:
    claims: Claims = {}
    for tool in catalogue():
        if tool.size and (numbers is None or numbers.intersection(NUMBER.findall(tool.size))):
            patterns = _filled("tool", _values(tool) | {"size": [tool.size]})
            claims[tool.name] = list(_spelt([(tool.display_name, "name", DESIGN), *patterns, *_other_units(tool)]))
    return claims


def _family(family: str, name: str) -> Iterator[Row]:
    own = words()["families"].get(family)
    if own is None:
        yield from _filled("family", {"base": [name]})
        return
    for kind in KINDS:
        for text in own.get(kind, ()):
            yield text, kind, FAMILY


def _values(tool: Tool) -> dict[str, list[str]]:
    """What the placeholders of the patterns stand for, most usual first; empty for what a tool lacks."""
    materials = [word for part in dict.fromkeys(tool.materials.values()) for word in words()["materials"].get(part, ())]
    place = words()["places"].get(tool.placement)
    return {
        "base": [base_words(tool)],
        "synonym": list(tool.synonyms[:MOST]),
        "material": list(dict.fromkeys(materials))[:MOST],
        "place": [place] if place else [],
        "use": [use] if (use := use_words(tool.use)) else [],
        "group": [families().get(tool.family, OWN_FAMILY[0][0])],
        "site": [f"at the {display_name(site)}" for site in tool.sites if site in names()][:MOST],
    }


def use_words(use: str) -> str:
    """A use as it follows a noun: "replaces a worn hip: stem, head" -> "that replaces a worn hip"."""
    plain = re.split(r"[:;,]", use)[0].strip()
    first = plain.split(" ")[0]
    if not plain or first in PREPOSITIONS:
        return plain
    if first in ("a", "an", "the"):
        return f"as {plain}"
    if first.endswith("ed") or first in PARTICIPLES:
        return f"that is {plain}"
    return f"that {plain}" if re.fullmatch(r"[a-z]+[a-rt-z]s", first) else f"for {plain}"


def _filled(pattern_set: str, values: Mapping[str, list[str]]) -> Iterator[Row]:
    for kind, pattern in words()["patterns"][pattern_set]:
        keys = [key for _, key, _, _ in Formatter().parse(pattern) if key]
        for chosen in product(*(values[key] for key in keys)):
            yield pattern.format(**dict(zip(keys, chosen, strict=True))), cast(PhraseKind, kind), PATTERN


def _other_units(tool: Tool) -> Iterator[Row]:
    for unit, others in OTHER_UNITS.items():
        if tool.size.endswith(unit):
            for other in others:
                yield f"{tool.size.removesuffix(unit)}{other} {base_words(tool)}", "variant", PATTERN


def _spelt(rows: list[Row]) -> Iterator[Row]:
    """Each phrase followed by its other spellings."""
    for text, kind, firmness in rows:
        yield text, kind, firmness
        for one, other in table()["spelling"].items():
            if one in text:
                yield text.replace(one, other), "variant", firmness


# --- who owns a phrase ------------------------------------------------------------------------------------------------


@cache
def _of_anatomy() -> frozenset[Bag]:
    own = {content_bag(phrase.text) for phrases in anatomy.lexicon().values() for phrase in phrases}
    return frozenset(own | {content_bag(text) for text in anatomy.ambiguous()})


@cache
def _general_owners() -> Owners:
    return _owners(_general(), _of_anatomy())


def _owners(claims: Claims, taken: frozenset[Bag]) -> Owners:
    """Content bag -> its owner, or all who have an equal claim; nobody for `taken` ones and for known ambiguities."""
    firmness: dict[Bag, dict[str, int]] = {}
    for name, rows in claims.items():
        for text, _, firm in rows:
            by_name = firmness.setdefault(content_bag(text), {})
            by_name[name] = min(firm, by_name.get(name, firm))
    shared = {content_bag(text) for text in words()["ambiguous"]}
    owners: Owners = {}
    for bag, by_name in firmness.items():
        firmest = min(by_name.values())
        nobody = bag in taken or (bag in shared and firmest != FAMILY)
        owners[bag] = () if nobody else tuple(name for name, firm in by_name.items() if firm == firmest)
    return owners


def _phrases(claims: Claims, owners: Owners) -> dict[str, tuple[Phrase, ...]]:
    found = {}
    for name, rows in claims.items():
        own: dict[str, tuple[str, PhraseKind]] = {}
        for text, kind, _ in rows:
            if owners[content_bag(text)] == (name,):
                own.setdefault(normalised(text), (text, kind))
        found[name] = with_splits(name, list(own.values()))
    return found

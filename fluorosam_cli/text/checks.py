"""Whether a phrase from elsewhere may stand for a name: its form, its side, level, number, size and family."""

import re
from functools import cache

from fluorosam_cli.anatomy import lexicon as anatomy
from fluorosam_cli.anatomy.marks import marks
from fluorosam_cli.anatomy.structures import groups, levels, side_of
from fluorosam_cli.anatomy.wording import content_bag, normalised
from fluorosam_cli.text.phrases import meanings, phrases_of, resolve
from fluorosam_cli.text.tool_words import NUMBER, designs, general_words
from fluorosam_cli.tools.catalogue import Tool, catalogue, families

MIN_LENGTH, MAX_LENGTH = 2, 80
PLAIN = re.compile(r"[A-Za-z0-9 ,.'()/?-]*[A-Za-z][A-Za-z0-9 ,.'()/?-]*")
INSTRUCTION = re.compile(  # words to a program or from one, not about a body
    r"\b(ignore|disregard|forget|instructions?|prompts?|assistant|language model|as an ai|json|schema|https?|www|script"
    r"|sorry|cannot|you are|you must|system message|respond|reply|translate)\b"
)


def objection(name: str, text: str) -> str | None:
    """Why `text` must not stand for `name`, or None."""
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        return f"{len(text)} characters, {MIN_LENGTH} to {MAX_LENGTH} allowed"
    if not PLAIN.fullmatch(text):
        return "characters other than plain letters, digits and punctuation"
    if (order := INSTRUCTION.search(text.lower())) is not None:
        return f"contains {order[0]!r}, which is no name but an instruction"
    other = resolve(text)
    if other is not None:
        return None if other == name else f"names {other}"
    other = _of_same_words().get(content_bag(text), name)
    if other != name:
        return f"names {other} in other words"
    if name in anatomy.lexicon():
        return _side_objection(name, text) or _level_objection(name, text) or _foreign_objection(name, text)
    return _tool_side_objection(name, text) or _size_objection(name, text) or _foreign_objection(name, text)


@cache
def _of_same_words() -> dict[tuple[str, ...], str]:
    """Content bag -> its name, for all but the many tools of one size."""
    words = anatomy.lexicon() | general_words()
    return {content_bag(phrase.text): name for name, phrases in words.items() for phrase in phrases}


def _foreign_objection(name: str, text: str) -> str | None:
    """Whether the text contains another name's phrase that no phrase of its own contains ("left liver")."""
    words = normalised(text).split()
    own = [f" {normalised(phrase.text)} " for phrase in phrases_of(name)]
    relatives = {name, *_relatives(name)}
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            part = " ".join(words[start:end])
            others = meanings(part)
            if not others or relatives.intersection(others) or any(f" {part} " in phrase for phrase in own):
                continue
            if name not in anatomy.lexicon() and others[0] in anatomy.lexicon():
                continue  # a tool may be told by where it lies
            return f"contains {part!r}, which names {' or '.join(others)}"
    return None


def _relatives(name: str) -> set[str]:
    """Names whose words may stand in its phrases: a structure's groups and members, a tool's family and sizes."""
    if name in anatomy.lexicon():
        members = set(groups().get(name, ()))
        return members | {group for group, inside in groups().items() if {name, *members} & set(inside)}
    return {word for tool in _members(name) for word in (tool.name, tool.design, tool.family)}


def _side_objection(name: str, text: str) -> str | None:
    side, stated = side_of(name), marks(text).sides
    if side and stated != {side}:
        return f"says {' and '.join(sorted(stated)) or 'no side'}, not {side}"
    two_sided = {side_of(member) for member in groups().get(name, ())} >= {"left", "right"}
    if not side and two_sided and len(stated) == 1:
        return f"says only {min(stated)}"
    return None


def _level_objection(name: str, text: str) -> str | None:
    level = levels().get(name)
    if level is None:
        return None
    number, region = int(level.lstrip("CTLS")), level[0] if level[0].isalpha() else None
    stated = marks(text)
    if stated.numbers != {number}:
        return f"says {', '.join(map(str, sorted(stated.numbers))) or 'no number'}, not {number}"
    if region and stated.regions != {region}:
        return f"says {', '.join(sorted(stated.regions)) or 'no region of the spine'}, not {region}"
    if not region and stated.regions - {"T"}:  # ribs are thoracic
        return f"says region {min(stated.regions - {'T'})} of the spine for a rib"
    return None


# --- tools ------------------------------------------------------------------------------------------------------------


@cache
def _members(name: str) -> tuple[Tool, ...]:
    """The tools that a family, a design or a tool's name covers."""
    if name in families():
        return tuple(tool for tool in catalogue() if tool.family == name)
    return designs().get(name) or tuple(tool for tool in catalogue() if tool.name == name)


def _tool_side_objection(name: str, text: str) -> str | None:
    own = {side for phrase in phrases_of(name) for side in marks(phrase.text).sides}
    foreign = marks(text).sides - own
    return f"says {min(foreign)}, which is no part of its name" if foreign else None


def _size_objection(name: str, text: str) -> str | None:
    """A tool of one size is named by its size; its design and its family by any of their sizes, or by none."""
    stated = set(NUMBER.findall(text))
    own = {number for phrase in phrases_of(name) for number in NUMBER.findall(phrase.text)}
    sizes = {number for tool in _members(name) for number in NUMBER.findall(tool.size)}
    if stated - own - sizes:
        return f"says {', '.join(sorted(stated - own - sizes))}, which is none of its sizes"
    if name not in general_words() and sizes - stated:
        return f"does not say its size, {_members(name)[0].size}"
    return None

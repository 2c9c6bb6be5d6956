"""All names that words can mean, tools and anatomy together: their phrases, and what a phrase means.

Tools of one size are many, so their words are made only when a text asks for them with a number of their size.
"""

from functools import cache, lru_cache

from fluorosam_cli.anatomy import lexicon as anatomy
from fluorosam_cli.anatomy.lexicon import Phrase
from fluorosam_cli.anatomy.matching import EXACT, Index, Match, index_of, ranked
from fluorosam_cli.anatomy.matching import respelt as respelt_by
from fluorosam_cli.anatomy.wording import normalised
from fluorosam_cli.text.tool_words import NUMBER, ambiguous_tools, general_words, sized_words

LIKE_ENOUGH = 0.75  # of a misspelt word and the one that is meant: "lumg", "lung"


@cache
def names() -> tuple[str, ...]:
    """Every name with phrases: structures, groups, outlines, tool families, designs, then tools of one size."""
    return (*anatomy.lexicon(), *general_words(), *sized_words())


def is_name(word: str) -> bool:
    """Whether this is one of `names()`."""
    return word in anatomy.lexicon() or word in general_words() or word in sized_words()


def phrases_of(name: str) -> tuple[Phrase, ...]:
    """The phrases of a name, its display name first. KeyError for a name that is not one of `names()`."""
    for words in (anatomy.lexicon(), general_words()):
        if name in words:
            return words[name]
    return sized_words()[name]


def has_one_size(name: str) -> bool:
    """Whether the name is that of a tool of one size."""
    return name not in anatomy.lexicon() and name not in general_words()


def resolve(text: str) -> str | None:
    """The one name whose phrase this is, however it is typed; None for unknown and for ambiguous words."""
    meant = meanings(text)
    return meant[0] if len(meant) == 1 else None


def meanings(text: str) -> tuple[str, ...]:
    """The names whose phrase this is, however it is typed: none for unknown words, several for ambiguous ones."""
    typed = normalised(text)
    if typed in _anatomy():  # no tool owns a phrase of anatomy, and the tools' phrases take a second to make
        return (_anatomy()[typed],)
    meant = _index().typed.get(typed, ())
    return meant or _sized_index(_numbers(text)).typed.get(normalised(text), ())


def matches(text: str, n: int = 5) -> list[Match]:
    """The `n` names that `text` most likely means, best first, with scores from 0 to 1; empty for nonsense.

    1: its very phrase; .97: the same words otherwise put; below: words shared or misspelt. Ambiguous phrases give each
    name they may mean the same score. The score comes from the lexicon alone.
    """
    found = ranked(_index(), text, n)
    if _numbers(text) and not (found and found[0].score == EXACT):
        found = sorted([*found, *ranked(_sized_index(_numbers(text)), text, n)], key=lambda match: -match.score)
    return found[:n]


def respelt(text: str) -> str | None:
    """The text with its misspelt words mended; None where nothing is misspelt, or no known word is near enough."""
    mended, likeness = respelt_by(_index(), text)
    return mended if LIKE_ENOUGH <= likeness < 1 else None


@cache
def _anatomy() -> dict[str, str]:
    """Normalised phrase -> the structure, group or outline that owns it."""
    return {normalised(phrase.text): name for name, phrases in anatomy.lexicon().items() for phrase in phrases}


def _numbers(text: str) -> frozenset[str]:
    return frozenset(NUMBER.findall(normalised(text)))


@cache
def _index() -> Index:
    pairs = [(name, p.text) for words in (anatomy.lexicon(), general_words()) for name, ps in words.items() for p in ps]
    shared = [anatomy.ambiguous(), ambiguous_tools()]
    return index_of(pairs + [(name, text) for texts in shared for text, meant in texts.items() for name in meant])


@lru_cache(maxsize=256)
def _sized_index(numbers: frozenset[str]) -> Index:
    words = sized_words(numbers) if numbers else {}
    return index_of((name, phrase.text) for name, phrases in words.items() for phrase in phrases)

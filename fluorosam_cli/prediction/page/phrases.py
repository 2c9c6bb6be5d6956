"""What the page says about words: how a phrase goes on while it is typed, and what is odd about a finished one."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

from fluorosam_cli.anatomy import lexicon as anatomy
from fluorosam_cli.anatomy.lexicon import Phrase
from fluorosam_cli.anatomy.structures import groups, outlines
from fluorosam_cli.anatomy.wording import normalised
from fluorosam_cli.prediction.answers import Answer
from fluorosam_cli.prediction.predictor import Predictor
from fluorosam_cli.prediction.understanding import display_phrase, remarks_on, understand_for
from fluorosam_cli.text import phrases
from fluorosam_cli.text.tool_words import general_words, sized_words

MOST = 12  # completions shown

Row = tuple[str, list[str], str, str, bool]  # normalised, its words, name, phrase, whether it is the usual word


@dataclass(frozen=True)
class Completion:
    phrase: str
    kind: str  # structure, group, outline or tool
    words: str  # the display name
    trained: bool  # whether the checkpoint has seen this name in training


def complete(typed: str, trained: Collection[str], n: int = MOST) -> list[Completion]:
    """The phrases that go on as `typed` does, one for each name, best first.

    First those that begin with it, then those with all its words begun in any order ("femur le"), then what it may be
    misspelt for; among equals what the checkpoint was trained on, then the usual word, then the shorter one. Nothing
    typed: what the checkpoint was trained on.
    """
    asked = normalised(typed)
    if not asked:
        known = [name for name in trained if phrases.is_name(name)]
        return [_completion(display_phrase(name), name, trained) for name in known[:n]]
    begun = asked.split()
    best: dict[str, tuple[tuple[bool, bool, bool, int], str]] = {}
    for text, words, name, phrase, usual in _rows(any(character.isdigit() for character in asked)):
        starts = text.startswith(asked)
        if not starts and not all(any(word.startswith(part) for word in words) for part in begun):
            continue
        rank = (not starts, name not in trained, not usual, len(text))
        if name not in best or rank < best[name][0]:
            shown = best[name][1] if name in best and best[name][1] == display_phrase(name) else phrase
            best[name] = (rank, shown)
    order = sorted(best, key=lambda name: best[name][0])
    if not order:
        return [_completion(display_phrase(match.name), match.name, trained) for match in phrases.matches(typed, n)]
    return [_completion(best[name][1], name, trained) for name in order[:n]]


def remark(answer: Answer, predictor: Predictor) -> tuple[str | None, list[str]]:
    """What the user should know about the words of an answer, in sentences, and what may be asked instead."""
    text = answer.prompt.text
    if text is None:
        return None, []
    words = understand_for(predictor, text)
    said = remarks_on(predictor, text) + [f"taken as {answer.asked}"] * (words.how == "ambiguous")
    instead = {"ambiguous": words.asked, "unknown": words.nearest}.get(words.how, ())
    return " ".join(f"{one[0].upper()}{one[1:]}." for one in said) or None, list(dict.fromkeys(instead))


@cache
def _rows(with_sizes: bool) -> list[Row]:
    """All phrases; those of tools of one size, which are many, only when a number is typed."""
    if with_sizes:
        sizes = ((name, found[:2]) for name, found in sized_words().items())
        return _rows(False) + _of(sizes)
    return _of([*anatomy.lexicon().items(), *general_words().items()])


def _of(entries: Iterable[tuple[str, tuple[Phrase, ...]]]) -> list[Row]:
    found = []
    for name, words in entries:
        for position, phrase in enumerate(words):
            text = normalised(phrase.text)
            found.append((text, text.split(), name, phrase.text, position == 0))
    return found


def _completion(phrase: str, name: str, trained: Collection[str]) -> Completion:
    return Completion(phrase, _kind(name), display_phrase(name), name in trained)


def _kind(name: str) -> str:
    if name not in anatomy.lexicon():
        return "tool"
    return "outline" if name in outlines() else "group" if name in groups() else "structure"

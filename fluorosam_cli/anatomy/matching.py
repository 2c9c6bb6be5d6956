"""Which phrases look most like a text: word by word, misspelt words included, with a score from 0 to 1.

Words count by how rare they are among all phrases, so that "left" decides little and "femur" much. The score is plain
arithmetic on the words, the same on every machine; it knows nothing that is not in the phrases.
"""

import difflib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from fluorosam_cli.anatomy.marks import marks
from fluorosam_cli.anatomy.wording import content_bag, counts, normalised, small_words, table

EXACT, SAME_WORDS, MOST = 1.0, 0.97, 0.95  # typed alike; the same words otherwise; the most that shared words reach
SPELLING_CUTOFF = 0.72  # difflib's ratio below which two words are not misspellings of each other
SHORTEST_MISSPELT, SHORTEST_MEANT = 3, 4  # abbreviations are too much like other words
SHORT = 5  # letters of a word in which one slip is all that is forgiven
AS_LIKE = 0.05  # ratios closer than this are told apart by how usual the words are
LEAST = 0.45  # scores below it are not listed
CONTRADICTED = 0.5  # factor where side, number or region of the spine differ
UNSAID, ADDED = 0.9, 0.7  # factors where only the phrase states a side, and where only the text does

Bag = tuple[str, ...]


@dataclass(frozen=True)
class Match:
    name: str
    score: float


@dataclass(frozen=True, eq=False)
class Index:
    """Phrases prepared for `ranked`."""

    typed: dict[str, tuple[str, ...]]  # normalised phrase -> names
    rows: list[tuple[str, Bag, str]]  # name, content bag, one phrase that has it
    by_word: dict[str, list[int]]  # word of a bag -> positions in rows
    weight: dict[str, float]
    spelt: dict[str, int]  # words as they are typed -> how often


def index_of(phrases: Iterable[tuple[str, str]]) -> Index:
    """An index of (name, phrase) pairs; a phrase may be there for several names."""
    typed: dict[str, dict[str, None]] = defaultdict(dict)
    bags: dict[tuple[str, Bag], str] = {}
    for name, phrase in phrases:
        typed[normalised(phrase)].setdefault(name)
        bags.setdefault((name, content_bag(phrase)), phrase)
    rows = [(name, bag, phrase) for (name, bag), phrase in bags.items()]
    by_word: dict[str, list[int]] = defaultdict(list)
    for position, (_, bag, _) in enumerate(rows):
        for word in dict.fromkeys(bag):
            by_word[word].append(position)
    weight = {word: math.log(1 + len(rows) / len(found)) for word, found in by_word.items()}
    spelt = Counter(word for phrase in typed for word in phrase.split())
    return Index({phrase: tuple(names) for phrase, names in typed.items()}, rows, dict(by_word), weight, spelt)


def ranked(index: Index, text: str, n: int = 5) -> list[Match]:
    """The `n` names most like `text`, best first; equal scores in the order of the index."""
    requests = frozenset(table()["small"]["requests"])
    exact = index.typed.get(normalised(text), ())
    asked, likeness = _respelt(index, [word for word in normalised(text).split() if word not in requests])
    best = dict.fromkeys(exact, EXACT)
    for name, score in _likenesses(index, asked):
        best[name] = max(best.get(name, 0.0), score * likeness)
    order = sorted(best.items(), key=lambda entry: -entry[1])  # stable
    return [Match(name, round(score, 3)) for name, score in order[:n] if score >= LEAST]


def respelt(index: Index, text: str) -> tuple[str, float]:
    """The text with its unknown words replaced by the known ones most like them, and how like the worst of these is.

    0 where a word with a digit would be: T13 is like T1, and no slip of the pen.
    """
    words = normalised(text).split()
    mended, likeness = _respelt(index, words)
    changed = (word for word, new in zip(words, mended.split(), strict=True) if word != new)
    return mended, 0.0 if any(letter.isdigit() for word in changed for letter in word) else likeness


def _likenesses(index: Index, text: str) -> list[tuple[str, float]]:
    """(name, score) of the phrases that share words with `text`: twice the weight shared over that of both."""
    asked = content_bag(text)
    unknown = max(index.weight.values(), default=1.0)
    total = sum(index.weight.get(word, unknown) for word in asked)
    shared: dict[int, float] = defaultdict(float)
    for word in dict.fromkeys(asked):
        for position in index.by_word.get(word, ()):
            shared[position] += index.weight[word]
    stated = marks(text)
    scores = []
    for position in sorted(shared):
        name, bag, phrase = index.rows[position]
        if bag == asked and (not stated.numbers or counts(text) == counts(phrase)):
            scores.append((name, SAME_WORDS))
            continue
        score = MOST * 2 * shared[position] / (total + sum(index.weight[word] for word in bag))
        if score < LEAST:
            continue
        other = marks(phrase)
        pairs = ((stated.sides, other.sides), (stated.numbers, other.numbers), (stated.regions, other.regions))
        if any(one and two and not one & two for one, two in pairs):
            score *= CONTRADICTED
        elif other.sides and not stated.sides:
            score *= UNSAID
        elif stated.sides and not other.sides:
            score *= ADDED
        scores.append((name, score))
    return scores


def _respelt(index: Index, words: list[str]) -> tuple[str, float]:
    """The words with unknown ones replaced by the known ones most like them, and how like the worst of these is."""
    text, worst = [], 1.0
    never = {"side", "sided", *small_words()}
    for word in words:
        near = ""
        if word not in index.spelt and word not in never and len(word) >= SHORTEST_MISSPELT and not word.isdigit():
            near, likeness = _most_like(index, word)
            worst = min(worst, likeness)
        text.append(near or word)
    return " ".join(text), worst


def _most_like(index: Index, word: str) -> tuple[str, float]:
    """The known word that `word` is most probably a misspelling of, "" if none, and the likeness of the two."""
    near = difflib.get_close_matches(word, index.spelt, n=5, cutoff=SPELLING_CUTOFF)
    near = [other for other in near if _may_be_meant(word, other)]
    ratios = {other: difflib.SequenceMatcher(None, other, word).ratio() for other in near}
    if not ratios:
        return "", 1.0
    best = max(ratios.values())
    chosen = max((other for other in near if ratios[other] > best - AS_LIKE), key=lambda other: index.spelt[other])
    return chosen, ratios[chosen]


def _may_be_meant(word: str, other: str) -> bool:
    """Whether a slip makes one of the other: a first letter is seldom mistaken, and of a short word one letter."""
    if word[0] != other[0] or (len(other) < SHORTEST_MEANT and other.isalpha()):
        return False
    steps = difflib.SequenceMatcher(None, word, other).get_opcodes()
    changed = sum(max(b - a, d - c) for kind, a, b, c, d in steps if kind != "equal")
    return len(word) > SHORT or changed == 1 or sorted(word) == sorted(other)

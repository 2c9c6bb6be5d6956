"""What a phrase is understood as: the words that the network is asked for, and the structure they name.

Words of the lexicon are asked as they were typed. A misspelt phrase is mended first. Of an ambiguous one every meaning
is asked, and the picture decides. Other words go to the network as they are, with a warning: it knows paraphrases that
no list has, and also answers nonsense.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fluorosam_cli.anatomy.marks import SIDES, marks
from fluorosam_cli.anatomy.matching import SAME_WORDS
from fluorosam_cli.text.phrases import has_one_size, is_name, matches, meanings, phrases_of, resolve, respelt

if TYPE_CHECKING:
    from fluorosam_cli.prediction.predictor import Predictor

NEAREST = 3
LONGEST = 3  # items of a list that are one name together
_BETWEEN = re.compile(r"[,;&+]|\band\b", re.IGNORECASE)  # the items of a list
_TWO_SIDED = re.compile(r"\b(both|bilateral(ly)?)\b", re.IGNORECASE)
_BOTH = re.compile(rf"{_BETWEEN.pattern}|{_TWO_SIDED.pattern}|/|\b(et|or)\b", re.IGNORECASE)  # two sides that are meant
_PICTURE = re.compile(r"\b(image|picture|photo|film|screen|monitor|viewer)\b", re.IGNORECASE)

How = Literal["known", "respelt", "ambiguous", "unknown"]


@dataclass(frozen=True)
class Understood:
    typed: str
    how: How
    asked: tuple[str, ...]  # one phrase for each meaning
    structures: tuple[str | None, ...]  # of these phrases
    nearest: tuple[str, ...] = ()  # phrases like the words, where these are unknown

    @property
    def sides_of_picture(self) -> bool:
        """Whether the side may have been meant as that of the picture: "on the left of the image"."""
        return bool(marks(self.typed).sides and _PICTURE.search(self.typed))


def understand(text: str) -> Understood:
    """Look a phrase up in the lexicon, misspellings included. The nearest of unknown words share words with them."""
    words = text
    meant = () if _contradictory(text) else _meant(text)
    if not meant and (mended := respelt(text)) is not None and not _contradictory(mended):
        words, meant = mended, _meant(mended)
    if len(meant) == 1:
        known = words == text
        return Understood(text, "known" if known else "respelt", (text if known else display_phrase(meant[0]),), meant)
    if meant:
        return Understood(text, "ambiguous", tuple(map(display_phrase, meant)), meant)
    nearest = tuple(display_phrase(match.name) for match in matches(text, NEAREST))
    return Understood(text, "unknown", (text,), (None,), nearest)


def parted(text: str) -> list[str]:
    """The phrases of a list such as "heart and liver", which as a whole names nothing; else the text alone.

    The side of "left femur and tibia" holds for all of them, unless another side, or both, are stated as well. "Both
    hands" are a list, too: left and right have no name together.
    """
    if not _BETWEEN.search(text) or understand(text).how != "unknown":
        return _each_side(text)
    parts = _items(text) or [text]
    first = marks(parts[0]).sides - marks(parts[0].split()[-1]).sides  # "the left femur", not "femur left"
    if len(first) == 1 and first == marks(text).sides:
        parts = [_sided(part, *first) for part in parts]
    known = all(understand(part).how != "unknown" for part in parts)
    return [side for part in parts for side in _each_side(part)] if known else [text]


def _each_side(text: str) -> list[str]:
    """Both meanings, where both sides are meant and each is a structure of its own; else the text alone."""
    meant = list(understand(text).asked) if _TWO_SIDED.search(text) else []
    return meant if sorted(side for words in meant for side in marks(words).sides) == sorted(SIDES) else [text]


def _items(text: str) -> list[str]:
    """What stands between commas and "and", unless it names something only together: "left and right lung"."""
    cuts = [0, *(end for found in _BETWEEN.finditer(text) for end in found.span()), len(text)]
    spans = [span for span in zip(cuts[::2], cuts[1::2], strict=True) if text[slice(*span)].strip()]
    items: list[str] = []
    while spans:
        runs = [text[spans[0][0] : end].strip() for _, end in spans[:LONGEST]]
        alone = [_is_known(text[slice(*span)]) for span in spans[:LONGEST]]
        together = [n for n in range(2, len(runs) + 1) if not all(alone[:n]) and _is_known(runs[n - 1])]
        count = max(together, default=1)
        items.append(runs[count - 1])
        del spans[:count]
    return items


def _is_known(text: str) -> bool:
    return understand(text.strip()).how == "known"


def _sided(part: str, side: str) -> str:
    sided = f"{side} {part}"
    unsaid = not marks(part).sides and not _TWO_SIDED.search(part)
    return sided if unsaid and understand(sided).how == "known" else part


def _contradictory(text: str) -> bool:
    """Whether the words state both sides without meaning both: "right left lung"."""
    return len(marks(text).sides) == len(SIDES) and not _BOTH.search(text)


def understand_for(predictor: "Predictor", text: str) -> Understood:
    """`understand`; the nearest of words that no phrase shares are the network's, of the names it was trained on."""
    words = understand(text)
    if words.how != "unknown" or words.nearest:
        return words
    names = [name for name in predictor.checkpoint.structures if is_name(name) and not has_one_size(name)]
    return replace(words, nearest=tuple(predictor.nearest(text, list(map(display_phrase, names)), NEAREST)))


def remarks_on(predictor: "Predictor", text: str) -> list[str]:
    """What the user should be told of a phrase before anything is segmented, as sentences without it."""
    words = understand_for(predictor, text)
    said = []
    if words.how == "respelt":
        said.append(f'understood as "{words.asked[0]}"')
    elif words.how == "ambiguous":
        said.append(f"may mean {_any_of(words.asked)}; the likeliest in the image is taken")
    elif words.how == "unknown":
        near = f"; the nearest are {', '.join(words.nearest)}" if words.nearest else ""
        said.append(f"no known name of a structure{near} (known to the network: {predictor.known(text):.2f})")
    if words.sides_of_picture:
        said.append("sides are the patient's, whose left is on the right of a frontal image")
    if {None, *predictor.checkpoint.structures}.isdisjoint(words.structures):
        said.append("this model has not been trained on it; the mask may be a guess")
    return said


def _meant(text: str) -> tuple[str, ...]:
    """The names whose phrase this is, be it in another order or with other small words."""
    return meanings(text) or tuple(match.name for match in matches(text) if match.score >= SAME_WORDS)


def display_phrase(name: str) -> str:
    """The words a person reads for a name."""
    return phrases_of(name)[0].text


def mask_stem(structure: str) -> str:
    """The structure's name; where radiographs call another one so (`lung_left`), words that mean this one alone.

    So `fluoro pack` reads corrected masks as what they were asked for.
    """
    plain = resolve(structure.replace("_", " ")) in (None, structure)
    return structure if plain else slug_of(display_phrase(structure))


def slug_of(text: str) -> str:
    """Words as a file name: lower case letters and digits joined by underscores, at most 60 characters."""
    return re.sub(r"[^\w]+", "_", text.lower()).strip("_")[:60]


def _any_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"

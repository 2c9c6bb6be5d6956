"""Where images with known masks come from: shards, or a user's folder or COCO file. Both give `Scene`s."""

import csv
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.contracts import Split
from fluorosam_cli.dataset.shards import HEADER, ShardReader
from fluorosam_cli.dataset.user_images import UserImages, find_user_images, is_user_data, read_masks, structure_of
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.images import read_radiograph
from fluorosam_cli.text.phrases import phrases_of

log = logging.getLogger("fluoro")

PhraseChoice = Literal["train", "test", "all"]
Words = dict[str, list[str]]  # structure -> phrases


@dataclass(frozen=True)
class Scene:
    """One image and the truth about it."""

    case: str
    view: str
    image: np.ndarray  # (H, W)
    masks: dict[str, np.ndarray]  # structure -> (H, W) bool, not empty
    absent: list[str]  # structures known not to be in it
    pixel_mm: tuple[float, float] | None  # height and width of a pixel, as a rule in the detector's plane
    problems: list[str] = field(default_factory=list)  # masks left out


class ShardSource:
    """A split of shards. Masks below 0.1 % or above 90 % of the image are not asked for, as in training."""

    kind: Literal["shards", "images"] = "shards"

    def __init__(self, reader: ShardReader, split: Split) -> None:
        self.split: Split | None = split
        self.structures = reader.header.structures
        self.unknown_names: dict[str, int] = {}
        self.problems: list[str] = []
        self._reader = reader

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> Scene:
        from fluorosam_cli.dataset.loader import usable

        sample = self._reader[index]
        height, width = sample.inner_hw
        masks = {self.structures[sample.structures[row]]: sample.mask(row)[:height, :width] for row in usable(sample)}
        absent = [self.structures[number] for number in sample.absent]
        spacing = sample.pixel_spacing_mm
        scale = [original / inner for original, inner in zip(sample.original_hw, sample.inner_hw, strict=True)]
        pixel_mm = (spacing * scale[0], spacing * scale[1]) if np.isfinite(spacing) and spacing > 0 else None
        return Scene(sample.case, sample.view, sample.image[:height, :width], masks, absent, pixel_mm)

    def words(self, choice: PhraseChoice) -> Words:
        found: Words = {name: [] for name in self.structures}
        for phrase in self._reader.header.phrases:
            if choice in ("all", phrase.split) and phrase.structure in found:
                found[phrase.structure].append(phrase.text)
        return found

    @property
    def sha256(self) -> str:
        return sha256_of(self._reader.folder / HEADER)


class UserSource:
    """A user's images; each is a case of its own, and every mask is asked for, however small.

    A structure with an empty mask is absent. One without a mask is unknown: nobody may have looked for it.
    """

    kind: Literal["shards", "images"] = "images"
    split: Split | None = None

    def __init__(self, found: UserImages) -> None:
        self.structures, self.unknown_names, self.problems = found.structures, found.skipped, found.problems
        self._found, self._images = found, found.images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Scene:
        """An image that cannot be read has no masks, and says why among its problems."""
        item = self._images[index]
        try:
            radiograph = read_radiograph(item.path)
        except FluoroError as error:
            return Scene(item.name, "", np.zeros((1, 1)), {}, [], None, [error.problem])
        image = radiograph.for_network
        masks, problems = read_masks(item, (image.shape[0], image.shape[1]))
        shown = {name: mask for name, mask in masks.items() if mask.any()}
        absent = [name for name, mask in masks.items() if not mask.any()]
        spacing = radiograph.spacing
        pixel_mm = None if spacing is None else (spacing.row_mm, spacing.column_mm)
        return Scene(item.name, "", image, shown, absent, pixel_mm, problems)

    def words(self, choice: PhraseChoice) -> Words:
        return {
            name: [phrase.text for phrase in phrases_of(name) if choice in ("all", phrase.split)]
            for name in self.structures
        }

    @property
    def sha256(self) -> str:
        return self._found.sha256


Source = ShardSource | UserSource


def open_source(path: Path, split: Split | None) -> Source:
    """Shards (their test split if there is one, else val) or a user's images. Raises FluoroError when none are held."""
    if is_user_data(path):
        if split is not None:
            raise FluoroError(f"{path}: images of your own have no splits", "leave --split out")
        return UserSource(find_user_images(path))
    candidates: list[Split] = [split] if split else ["test", "val"]
    for name in candidates:
        reader = ShardReader(path, name)
        if len(reader):
            return ShardSource(reader, name)
    raise FluoroError(
        f"{path}: holds no {' and no '.join(candidates)} images",
        "choose another --split" if split else "fluoro pack ... --test 0.2 holds cases out",
    )


def choose_images(count: int, limit: int | None) -> list[int]:
    """At most `limit` of `count` positions, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(limit or count, count)).round().astype(int)).tolist()


def read_prompts(path: Path, structures: Iterable[str]) -> Words:
    """Phrases of the user's own: CSV with the columns structure and phrase, or JSON `{"structure": ["phrase", ...]}`.

    Raises FluoroError for another form, and when none of the structures is among them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            lists = json.loads(text)
            if not all(isinstance(phrases, list) for phrases in lists.values()):
                raise TypeError
            pairs = [(name, phrase) for name, phrases in lists.items() for phrase in phrases]
        else:
            pairs = [(row["structure"], row["phrase"]) for row in csv.DictReader(text.splitlines())]
        pairs = [(name.strip(), phrase.strip()) for name, phrase in pairs]
    except OSError as error:
        raise FluoroError(f"{path}: cannot be read ({error.strerror})", "check the path after --prompt-file") from error
    except (ValueError, KeyError, AttributeError, TypeError, csv.Error) as error:
        raise FluoroError(
            f"{path}: neither CSV with the columns structure and phrase nor JSON of names and lists of phrases",
            'for example: {"femur_left": ["left thigh bone"]}',
        ) from error
    found: Words = {name: [] for name in structures}
    for name, phrase in pairs:
        known = name if name in found else structure_of(name)
        if known in found and phrase:
            found[known].append(phrase)
        elif known not in found:
            log.warning("warning: %s: %s: no structure of the data", path, name)
    if not any(found.values()):
        raise FluoroError(
            f"{path}: has no phrase for any structure in the data", f"such as {', '.join(list(found)[:3])}"
        )
    return found

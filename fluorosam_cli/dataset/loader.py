"""Training samples: one randomised image with P prompts, drawn as a function of (seed, position) alone.

Position `step * batch + slot` decides the image and every random draw, so that a resumed run, another number of
workers or another number of processes sees the same samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from fluorosam_cli.anatomy.structures import names, side_of
from fluorosam_cli.dataset.augment import appearance
from fluorosam_cli.dataset.mirror import Mirror
from fluorosam_cli.dataset.overlays import Sides
from fluorosam_cli.dataset.randomisation import FULL, Randomisation
from fluorosam_cli.dataset.redraw import redrawn
from fluorosam_cli.dataset.shards import Sample, ShardReader
from fluorosam_cli.errors import FluoroError

MIN_AREA_SHARE, MAX_AREA_SHARE = 0.001, 0.9  # masks outside are dropped (FluoroSAM's loader)
TOOLS_WEIGHT = 4.0  # of a tool that is there, against a structure of its area: views show few of many kinds
TOOLS_ABSENT_SHARE = 0.5  # of absent prompts that name a tool, of which there are more than structures


@dataclass(frozen=True)
class SampleConfig:
    size_px: int  # of the network's input
    prompts: int  # per image
    draws: int  # uniform numbers each prompt needs for its clicks
    absent_share: float  # of prompts that name a structure which is not in the image
    seed: int
    exclude: tuple[str, ...] = ()  # structures neither shown nor named; groups that have them are
    randomisation: Randomisation = FULL
    masks_px: int | None = None  # of masks and path lengths; None: as the image
    travel: int = 0  # the first prompts of each image get the path length through their structure


class TrainingSamples(Dataset[dict[str, Tensor]]):
    """Position -> tensors: image (S, S), masks (P, M, M), phrase (P,), present (P,), uniform (P, draws).

    With `travel`: travel (T, M, M) in mm, and travel_known (T,), as views without it or images of a user's may be among
    them; what hides the masks' ends hides the path lengths'.
    """

    def __init__(self, reader: ShardReader, config: SampleConfig) -> None:
        if not len(reader):
            raise FluoroError(f"{reader.folder}: no images of the split asked for", "fluoro pack with more cases")
        self.reader = reader
        self.config = config
        known = reader.header.structures
        words: dict[str, list[int]] = {name: [] for name in known}
        for number, phrase in enumerate(reader.header.phrases):
            if phrase.split == "train":
                words[phrase.structure].append(number)
        self.phrases = [np.array(words[name]) for name in known]
        self.mirror = Mirror(known)
        anatomy = set(names())
        self.excluded = np.array([name in config.exclude for name in known])
        self.is_tool = np.array([name not in anatomy for name in known])
        sides = {"left": -1, "right": 1, None: 0}
        self.side = np.array([sides[side_of(name)] if name in anatomy else 0 for name in known])
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, int))

    def index(self, position: int) -> int:
        """The image at a position: every epoch visits all of them in another order."""
        epoch, within = divmod(position, len(self.reader))
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.config.seed, 0, epoch])
            self._order = (epoch, rng.permutation(len(self.reader)))
        return int(self._order[1][within])

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return self.drawn(self.index(position), position)

    def drawn(self, index: int, position: int) -> dict[str, Tensor]:
        """The sample that image `index` becomes at a position."""
        c = self.config
        side = c.masks_px or c.size_px
        r = c.randomisation
        rng = np.random.default_rng([c.seed, 1, position])
        sample = self.askable(index)
        flipped = rng.random() < r.flip and self.mirror.allows(sample) and any(map(len, self._asked(sample, True)[1:]))
        chosen, structures, present = self._choose(sample, flipped, rng)
        picture = self._picture(sample, rng)
        warp = draw_warp(rng, r, flipped, sample.inner_hw[1] / sample.image.shape[1])
        image = warped(picture, warp, c.size_px)
        masks = warped_masks(sample, chosen[present], warp, side)
        sides = Sides.of(sample.boxes_xyxy, self.side[sample.structures], sample.image.shape[1], flipped)
        image, field = appearance(image, r, rng, sides)
        if field is not None:
            masks &= _at_centres(field, side)
        every = np.zeros((c.prompts, side, side), np.float32)
        every[present] = masks
        travel = {}
        if c.travel:
            maps, known = warped_travel(sample, chosen[: c.travel], warp, side)
            known &= present[: c.travel]
            travel = {
                "travel": torch.from_numpy(maps * every[: c.travel]),
                "travel_known": torch.from_numpy(known.astype(np.float32)),
            }
        return {
            **travel,
            "image": torch.from_numpy(image),
            "masks": torch.from_numpy(every),
            "phrase": torch.tensor([rng.choice(self.phrases[s]) for s in structures]),
            # A structure that was moved out of the image or covered teaches neither presence nor absence.
            "present": torch.from_numpy(present.astype(np.float32)),
            "usable": torch.from_numpy(~present | (every.mean(axis=(1, 2)) >= MIN_AREA_SHARE)),
            "uniform": torch.from_numpy(rng.random((c.prompts, c.draws), dtype=np.float32)),
        }

    def askable(self, index: int) -> Sample:
        """Image `index`, or the next of which anything can be asked."""
        for ahead in range(len(self.reader)):
            sample = self.reader[(index + ahead) % len(self.reader)]
            if any(map(len, self._asked(sample, False)[1:])):
                return sample
        raise FluoroError(
            f"{self.reader.folder}: no image has a mask of 0.1 to 90 % of its area that is asked for",
            "add images that show more, or exclude fewer structures",
        )

    def _asked(self, sample: Sample, flipped: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The masks' structures (m,), in the mirror's names if flipped, -1: none; the rows that may be asked for; the
        structures known to be absent that may be.
        """
        named = self.mirror.other(sample.structures) if flipped else sample.structures
        inside = usable(sample)
        absent = self.mirror.other(sample.absent) if flipped else sample.absent
        wanted = ~self.excluded
        inside = inside[(named[inside] >= 0) & wanted[named[inside]]]
        return named, inside, absent[(absent >= 0) & wanted[absent]]

    def _choose(
        self, sample: Sample, flipped: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask rows, structures and presence of P prompts.

        Present ones are drawn by the fourth root of their areas, tools more often: over rendered views 14 % are tools.
        Absent ones are drawn from those known to be absent.
        """
        count = self.config.prompts
        named, inside, absent = self._asked(sample, flipped)
        present = rng.random(count) >= (self.config.absent_share if len(absent) else 0)
        if not len(inside):
            present[:] = False
        chosen = np.zeros(count, int)
        if len(inside):
            weight = shares_of_present(sample.areas_px[inside], self.is_tool[named[inside]])
            chosen = rng.choice(inside, count, replace=len(inside) < count, p=weight)
        structures = named[chosen] if len(inside) else np.zeros(count, int)
        missing = rng.choice(absent, count, p=shares_of_absent(self.is_tool[absent])) if len(absent) else structures
        return chosen, np.where(present, structures, missing), present

    def _picture(self, sample: Sample, rng: np.random.Generator) -> np.ndarray:
        """The image as packed, or drawn again from its integrals; a square float32 in [0, 1] of any size."""
        header = self.reader.header.integrals
        again = rng.random() < self.config.randomisation.redraw
        integrals = sample.integrals if again and header is not None else None
        if integrals is None or header is None:
            return sample.image.astype(np.float32) / 65535
        height, width = integrals.mass_g_cm2.shape[1:]
        size = max(height, width)
        spacing_mm = sample.pixel_spacing_mm * max(sample.original_hw) / size
        coarser = max(sample.inner_hw) / size
        image = redrawn(integrals, header.materials, sample.view, spacing_mm, rng, sample.collimation, coarser)
        return np.pad(image, ((0, size - height), (0, size - width)))


def shares_of_present(areas_px: np.ndarray, is_tool: np.ndarray) -> np.ndarray:
    """Probabilities by the fourth root of the area, tools more often."""
    weight = np.where(is_tool, TOOLS_WEIGHT, 1.0) * areas_px**0.25
    return weight / weight.sum()


def shares_of_absent(is_tool: np.ndarray) -> np.ndarray:
    """Probabilities in which tools together have no more than their share."""
    weight = np.ones(len(is_tool))
    tools = int(is_tool.sum())
    if tools and tools < len(is_tool):
        weight[is_tool] = min(1, TOOLS_ABSENT_SHARE / (1 - TOOLS_ABSENT_SHARE) * (len(is_tool) - tools) / tools)
    return weight / weight.sum()


def usable(sample: Sample) -> np.ndarray:
    """Rows of the masks that cover between 0.1 % and 90 % of the image."""
    share = sample.areas_px / (sample.inner_hw[0] * sample.inner_hw[1])
    return np.flatnonzero((share >= MIN_AREA_SHARE) & (share <= MAX_AREA_SHARE))


# --- geometry ---------------------------------------------------------------------------------------------------------


def draw_warp(rng: np.random.Generator, r: Randomisation, flipped: bool = False, inner_share: float = 1) -> np.ndarray:
    """Rotation, scale, aspect and shift: (2, 3) from the sample's to the image's coordinates, -1 to 1 between edges.

    A flip mirrors what the image covers, the left `inner_share` of its width.
    """
    angle = math.radians(r.rotation_deg * rng.standard_normal())
    zoom, aspect = math.exp(rng.uniform(-0.4 * r.zoom, r.zoom)), math.exp(rng.uniform(-r.aspect, r.aspect))
    shift = rng.uniform(-r.shift, r.shift, size=2)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = np.array([[cos * aspect, -sin, shift[0]], [sin, cos / aspect, shift[1]]])
    if flipped:
        matrix[0] *= -1
        matrix[0, 2] += 2 * inner_share - 2
    return matrix


def warped(image: np.ndarray, warp: np.ndarray, size: int) -> np.ndarray:
    """The square image (S, S) under a warp, (size, size); 0 beyond its border."""
    stack = torch.from_numpy(image)[None, None]
    smaller = image.shape[0] // size
    if smaller > 1:  # bilinear sampling sees every pixel of an image up to twice as large
        stack = F.avg_pool2d(stack, smaller, ceil_mode=True)
        share = image.shape[0] / (smaller * stack.shape[-1])  # the image's, of what the cells cover
        warp = share * warp + np.array([0, 0, share - 1])
    matrix = torch.from_numpy(warp.astype(np.float32))[None]
    grid = F.affine_grid(matrix, [1, 1, size, size], align_corners=False)
    return F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0, 0].numpy()


def warped_masks(sample: Sample, rows: np.ndarray, warp: np.ndarray, size: int) -> np.ndarray:
    """Masks of a sample under a warp, (n, size, size) bool: each takes the pixel its centre falls on.

    Up to 32 masks are the bits of one image, so that they are moved together.
    """
    side = sample.image.shape[0]
    centres = (np.arange(size) * 2 + 1) / size - 1
    column, row = (
        np.floor((line[0] * centres + line[1] * centres[:, None] + line[2] + 1) / 2 * side).astype(np.int64)
        for line in warp
    )
    within = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    place = np.where(within, row * side + column, side * side)  # the last one is what lies beyond the border
    moved = np.empty((len(rows), size, size), bool)
    for first in range(0, len(rows), 32):
        bits = np.zeros(side * side + 1, np.uint32)
        square = bits[:-1].reshape(side, side)
        for number, mask in enumerate(rows[first : first + 32]):
            x0, y0, x1, y1 = sample.boxes_xyxy[mask]
            square[y0:y1, x0:x1] |= sample.mask(mask)[y0:y1, x0:x1].astype(np.uint32) << np.uint32(number)
        at = bits[place]
        for number, plane in enumerate(moved[first : first + 32]):
            np.not_equal(at & np.uint32(1 << number), 0, out=plane)
    return moved


def warped_travel(sample: Sample, rows: np.ndarray, warp: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Path lengths (n, size, size) float32 in mm through the structures of masks under a warp, and whether known."""
    found = [sample.travel_mm(int(row)) if len(sample.structures) else None for row in rows]
    moved = np.zeros((len(rows), size, size), np.float32)
    for plane, travel in zip(moved, found, strict=True):
        if travel is not None:
            plane[:] = warped(travel.astype(np.float32), warp, size)
    return moved, np.array([travel is not None for travel in found])


def _at_centres(field: np.ndarray, size: int) -> np.ndarray:
    """A field (S, S) bool at the centres of size x size cells."""
    at = ((np.arange(size) + 0.5) * len(field) / size).astype(int)
    return field[at[:, None], at]


class Positions(Sampler[list[int]]):
    """For every step from `first` to `last`, the positions of this process's share of the global batch."""

    def __init__(self, first: int, last: int, batch: int, rank: int, world: int) -> None:
        self.steps = range(first, last)
        self.batch, self.rank, self.world = batch, rank, world

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield list(range(step * self.batch + self.rank, (step + 1) * self.batch, self.world))

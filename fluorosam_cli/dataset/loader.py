"""Training samples: one augmented image with P prompts, drawn as a function of (seed, position) alone.

Position `step * batch + slot` decides the image and every random draw, so that a resumed run, another number of
workers or another number of processes sees the same samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from fluorosam_cli.dataset.augment import appearance, geometric
from fluorosam_cli.dataset.shards import Sample, ShardReader
from fluorosam_cli.errors import FluoroError

MIN_AREA_SHARE, MAX_AREA_SHARE = 0.001, 0.9  # masks outside are dropped (FluoroSAM's loader)


@dataclass(frozen=True)
class SampleConfig:
    size_px: int  # of the network's input
    prompts: int  # per image
    draws: int  # uniform numbers each prompt needs for its clicks
    absent_share: float  # of prompts that name a structure which is not in the image
    seed: int


class TrainingSamples(Dataset[dict[str, Tensor]]):
    """Position -> tensors: image (S, S), masks (P, S, S), phrase (P,), present (P,), uniform (P, draws)."""

    def __init__(self, reader: ShardReader, config: SampleConfig) -> None:
        if not len(reader):
            raise FluoroError(f"{reader.folder}: no images of the split asked for", "fluoro pack with more cases")
        self.reader = reader
        self.config = config
        names = reader.header.structures
        words: dict[str, list[int]] = {name: [] for name in names}
        for number, phrase in enumerate(reader.header.phrases):
            if phrase.split == "train":
                words[phrase.structure].append(number)
        self.phrases = [np.array(words[name]) for name in names]
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, int))

    def _index(self, position: int) -> int:
        epoch, within = divmod(position, len(self.reader))
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.config.seed, 0, epoch])
            self._order = (epoch, rng.permutation(len(self.reader)))
        return int(self._order[1][within])

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        c = self.config
        rng = np.random.default_rng([c.seed, 1, position])
        sample = self.reader[self._index(position)]
        chosen, structures, present = self._choose(sample, rng)
        nothing = np.zeros_like(sample.image, bool)
        full = np.stack([sample.mask(i) if ok else nothing for i, ok in zip(chosen, present, strict=True)])
        image = torch.from_numpy(sample.image.astype(np.float32) / 65535)
        masks = torch.from_numpy(full.astype(np.float32))
        image, masks = _shrink(image, c.size_px), (_shrink(masks, c.size_px) >= 0.5).float()
        image, masks = geometric(image, masks, rng)
        image = appearance(image, rng)
        return {
            "image": image,
            "masks": masks,
            "phrase": torch.tensor([rng.choice(self.phrases[s]) for s in structures]),
            # A structure that the geometry moved out of the image teaches neither presence nor absence.
            "present": torch.from_numpy(present.astype(np.float32)),
            "usable": torch.from_numpy(~present) | (masks.mean(dim=(1, 2)) >= MIN_AREA_SHARE),
            "uniform": torch.from_numpy(rng.random((c.prompts, c.draws), dtype=np.float32)),
        }

    def _choose(self, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mask rows, structures and presence of P prompts; drawn by the fourth root of the masks' areas."""
        inside = usable(sample)
        absent = np.setdiff1d(np.arange(len(self.phrases)), sample.structures)
        count = self.config.prompts
        present = rng.random(count) >= (self.config.absent_share if len(absent) else 0)
        if not len(inside):
            present[:] = False
            if not len(absent):
                raise FluoroError(f"case {sample.case}: a view shows no usable mask", "render other views")
        chosen = np.zeros(count, int)
        if len(inside):
            weight = sample.areas_px[inside] ** 0.25
            few = len(inside) < count
            chosen = rng.choice(inside, count, replace=few, p=weight / weight.sum())
        structures = sample.structures[chosen] if len(inside) else np.zeros(count, int)
        missing = rng.choice(absent, count) if len(absent) else structures
        return chosen, np.where(present, structures, missing), present


def usable(sample: Sample) -> np.ndarray:
    """Rows of the masks that cover between 0.1 % and 90 % of the image."""
    share = sample.areas_px / (sample.inner_hw[0] * sample.inner_hw[1])
    return np.flatnonzero((share >= MIN_AREA_SHARE) & (share <= MAX_AREA_SHARE))


def _shrink(x: Tensor, size: int) -> Tensor:
    """(..., S, S) -> (..., size, size) by area averaging (bilinear when enlarging)."""
    if x.shape[-1] == size:
        return x
    flat = x.reshape(1, -1, *x.shape[-2:])
    mode = "area" if x.shape[-1] > size else "bilinear"
    return F.interpolate(flat, (size, size), mode=mode).reshape(*x.shape[:-2], size, size)


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

"""The same image encoder with one channel per outline, trained on the same views without words or prompts.

Usage: python examples/control_channels.py SHARDS IMAGES [--seconds 600] [--seed 0]

IMAGES is a folder with images/ and masks/ID/STRUCTURE.png, which training never sees. Prints the mean Dice of each
outline there. If a prompted network trained on SHARDS stays far behind, its prompts are at fault and not the images.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.dataset.loader import SampleConfig, TrainingSamples
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.evaluation.sources import open_source
from fluorosam_cli.model.fluorosam import preset
from fluorosam_cli.model.image_encoder import ImageEncoder
from fluorosam_cli.model.preprocess import channels, fit, to_image
from fluorosam_cli.training.losses import map_loss
from fluorosam_cli.training.optimise import Optimiser
from fluorosam_cli.training.recipe import FLUORO

OUTLINES = ("lung_above_diaphragm_left", "lung_above_diaphragm_right", "mediastinum")
PRESET, BATCH = "tiny", 16


class Samples(TrainingSamples):
    """The loader's own samples, always of the same outlines; views that lack one are left out."""

    def __init__(self, reader: ShardReader, config: SampleConfig) -> None:
        super().__init__(reader, config)
        self.wanted = [reader.header.structures.index(name) for name in OUTLINES]
        self.held = [i for i in range(len(reader)) if set(self.wanted) <= set(reader[i].structures.tolist())]

    def _choose(self, sample, flipped, rng):
        named = self._asked(sample, flipped)[0]
        rows = np.array([int(np.flatnonzero(named == number)[0]) for number in self.wanted])
        return rows, np.array(self.wanted), np.ones(len(rows), bool)

    def index(self, position: int) -> int:
        rng = np.random.default_rng([self.config.seed, 2, position])
        return self.held[int(rng.integers(len(self.held)))]


class Control(nn.Module):
    """The image encoder of a preset, and one channel for each outline in the place of words and prompts."""

    def __init__(self) -> None:
        super().__init__()
        config = preset(PRESET, text_dim=1)
        self.encoder = ImageEncoder(config)
        self.output = nn.Conv2d(config.detail_dim, len(OUTLINES), 1)
        self.size = config.image_size_px

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.output(self.encoder(x)), (self.size, self.size), mode="bilinear")


def train(shards: Path, seconds: float, seed: int) -> Control:
    torch.manual_seed(seed)
    model = Control()
    config = SampleConfig(size_px=model.size, prompts=len(OUTLINES), draws=1, absent_share=0, seed=seed)
    samples = Samples(ShardReader(shards, "train"), config)
    optimiser = Optimiser(model, FLUORO)
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / seconds) < 1:
        batch = [samples[step * BATCH + i] for i in range(BATCH)]
        image, masks = (torch.stack([each[name] for each in batch]) for name in ("image", "masks"))
        loss = map_loss(model(channels(image)).flatten(0, 1), masks.flatten(0, 1)).mean()
        loss.backward()
        optimiser.step(FLUORO.learning_rate * min(1, (step + 1) / 50, 2 * (1 - done)))
        step += 1
        if step % 50 == 0:
            print(f"{step} steps, {time.monotonic() - began:.0f} s, loss {loss.item():.3f}", flush=True)
    print(f"{len(samples.held)} views, {step} steps of {BATCH}")
    return model.eval()


@torch.inference_mode()
def score(model: Control, images: Path) -> dict[str, list[float]]:
    """Dice of each outline on each image that has it, at the image's own size."""
    source = open_source(images, None)
    found: dict[str, list[float]] = {name: [] for name in OUTLINES}
    for number in range(len(source)):
        scene = source[number]
        square, frame = fit(torch.from_numpy(scene.image.astype(np.float32)), model.size)
        answer = to_image(model(channels(square[None]))[0], frame).numpy() > 0
        for name, mask in zip(OUTLINES, answer, strict=True):
            if name in scene.masks:
                real = scene.masks[name]
                found[name].append(2 * (mask & real).sum() / (mask.sum() + real.sum()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--seconds", type=float, default=600, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, values in score(train(options.shards, options.seconds, options.seed), options.images).items():
        print(f"{name}: Dice {np.mean(values):.3f} (lowest {min(values):.3f}) on {len(values)} images")


if __name__ == "__main__":
    main()

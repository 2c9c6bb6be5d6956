"""A U-Net with one channel per outline, trained on the same views: what a network without prompts makes of them.

Usage: python examples/control_unet.py SHARDS IMAGES [--seconds 600] [--seed 0]

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
from fluorosam_cli.model.preprocess import channels, fit, to_image

OUTLINES = ("lung_above_diaphragm_left", "lung_above_diaphragm_right", "mediastinum")
SIZE_PX, WIDTH, BATCH, RATE = 160, 24, 8, 2e-3


class Samples(TrainingSamples):
    """The loader's own samples, always of the same outlines; views that lack one are left out."""

    def __init__(self, reader: ShardReader, config: SampleConfig) -> None:
        super().__init__(reader, config)
        self.wanted = [reader.header.structures.index(name) for name in OUTLINES]
        self.held = [i for i in range(len(reader)) if set(self.wanted) <= set(reader[i].structures.tolist())]

    def _choose(self, sample, named, flipped, rng):
        rows = np.array([int(np.flatnonzero(named == number)[0]) for number in self.wanted])
        return rows, np.array(self.wanted), np.ones(len(rows), bool)

    def index(self, position: int) -> int:
        rng = np.random.default_rng([self.config.seed, 2, position])
        return self.held[int(rng.integers(len(self.held)))]


class Block(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels_in in (inputs, outputs):
            layers += [nn.Conv2d(channels_in, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015, with group norm and bilinear upsampling."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = [WIDTH * n for n in (1, 2, 4, 8, 8)]
        self.down = nn.ModuleList(Block(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(Block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.output = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            kept.append(x)
        for block, finer in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), finer], dim=1))
        return self.output(x)


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and Dice loss, of (B, C, H, W)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum((2, 3)) + 1
    dice = 1 - overlap / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + dice.mean()


def train(shards: Path, seconds: float, seed: int) -> UNet:
    torch.manual_seed(seed)
    config = SampleConfig(size_px=SIZE_PX, prompts=len(OUTLINES), draws=1, absent_share=0, seed=seed)
    samples = Samples(ShardReader(shards, "train"), config)
    model = UNet(len(OUTLINES))
    optimiser = torch.optim.AdamW(model.parameters(), RATE)
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / seconds) < 1:
        batch = [samples[step * BATCH + i] for i in range(BATCH)]
        image, masks = (torch.stack([each[name] for each in batch]) for name in ("image", "masks"))
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50, 2 * (1 - done))
        optimiser.zero_grad()
        loss = loss_of(model(channels(image)), masks)
        loss.backward()
        optimiser.step()
        step += 1
        if step % 100 == 0:
            print(f"{step} steps, {time.monotonic() - began:.0f} s, loss {float(loss):.3f}", flush=True)
    print(
        f"{len(samples.held)} views, {sum(p.numel() for p in model.parameters())} parameters, {step} steps of {BATCH}"
    )
    return model.eval()


@torch.inference_mode()
def score(model: UNet, images: Path) -> dict[str, list[float]]:
    """Dice of each outline on each image that has it, at the image's own size."""
    source = open_source(images, None)
    found: dict[str, list[float]] = {name: [] for name in OUTLINES}
    for number in range(len(source)):
        scene = source[number]
        square, frame = fit(torch.from_numpy(scene.image.astype(np.float32)), SIZE_PX)
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

"""Shards of simple bright shapes, so that the dataset, the model and training are tested without a renderer."""

from pathlib import Path

import numpy as np

from fluorosam_cli.artefacts import sha256_of, write_json
from fluorosam_cli.contracts import Shard, Shards, ShardsPhrase, Split
from fluorosam_cli.dataset.shard_writer import PackedImage, pack_mask, positions_to_bits, write_shard
from fluorosam_cli.dataset.shards import HEADER

STRUCTURES = ["heart", "liver", "lung_left", "lung_right"]
PHRASES = {
    "heart": ["heart", "cardiac silhouette", "cor"],
    "liver": ["liver", "hepar"],
    "lung_left": ["left lung", "lung on the left"],
    "lung_right": ["right lung", "lung on the right"],
}


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One image (size, size) uint16 and its masks: a lung on each side, a heart between, sometimes a liver."""
    y, x = np.mgrid[0:size, 0:size] / size

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        cx, cy = cx + rng.uniform(-0.04, 0.04), cy + rng.uniform(-0.04, 0.04)
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    masks = {
        "lung_right": ellipse(0.28, 0.45, 0.15, 0.3),  # the patient's right is on the image's left
        "lung_left": ellipse(0.72, 0.45, 0.15, 0.3),
        "heart": ellipse(0.55, 0.55, 0.14, 0.14),
    }
    if rng.random() < 0.5:
        masks["liver"] = ellipse(0.35, 0.85, 0.2, 0.1)
    image = np.full((size, size), 0.5) + rng.normal(0, 0.02, (size, size))
    for name, value in (("lung_right", -0.3), ("lung_left", -0.3), ("heart", 0.3), ("liver", 0.2)):
        image = image + value * masks.get(name, 0)
    return (np.clip(image, 0, 1) * 65535).astype(np.uint16), masks


def write_shapes(
    folder: Path,
    size: int = 64,
    images: int = 8,
    splits: tuple[Split, ...] = ("train", "val"),
    travel_mm: float | None = None,
) -> Path:
    """A finished shards folder with `images` images per split, two cases per split; `travel_mm` through every shape."""
    folder.mkdir(parents=True, exist_ok=True)
    shards, cases = [], [f"{split}{i}" for split in splits for i in range(2)]
    for number, split in enumerate(splits):
        rng = np.random.default_rng([7, number])
        packed = []
        for i in range(images):
            image, masks = draw(rng, size)
            rows = [
                pack_mask(masks[n], k, None if travel_mm is None else travel_mm * masks[n])
                for k, n in enumerate(STRUCTURES)
                if n in masks
            ]
            packed.append(
                PackedImage(
                    image, (size, size), (size, size), 2 * number + i % 2, b"pa", (0.0, 0.0), 1.0,
                    [row for row in rows if row is not None],
                    positions_to_bits([k for k, n in enumerate(STRUCTURES) if n not in masks], len(STRUCTURES)),
                )
            )  # fmt: skip
        name = f"{split}-00000.h5"
        write_shard(folder / name, packed, cases)
        count = sum(len(p.masks) for p in packed)
        shards.append(Shard(file=name, split=split, images=images, masks=count, sha256=sha256_of(folder / name)))
    header = Shards(
        size_px=size,
        polarity="bone_bright",
        structures=STRUCTURES,
        cases={case: splits[i // 2] for i, case in enumerate(cases)},
        phrases=[
            ShardsPhrase(structure=name, text=text, split="train" if i < 2 else "test")
            for name, texts in PHRASES.items()
            for i, text in enumerate(texts)
        ],
        shards=shards,
    )
    write_json(folder / HEADER, header)
    return folder

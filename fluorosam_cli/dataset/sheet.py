"""A picture sheet of training samples: each row an image, as packed and in several draws, with what is asked of it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.dataset.loader import SampleConfig, TrainingSamples
from fluorosam_cli.dataset.randomisation import OFF
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.errors import UsageError

CELL, LINE, GAP = 300, 16, 6  # pixels
COLOURS = ((255, 96, 96), (96, 220, 96), (110, 170, 255), (255, 200, 60), (230, 120, 255), (80, 230, 230))
SHOWN = 6  # prompts of a sample, at most: one colour each


def check_sheet(path: Path, overwrite: bool) -> None:
    """Raises UsageError unless a PNG can be written there."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: the sheet is a PNG", "give a name that ends in .png")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder", "make it, or choose another")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists already", "choose another name, or give --overwrite")


def write_sheet(path: Path, reader: ShardReader, config: SampleConfig, rows: int = 6, draws: int = 6) -> None:
    """Draw `rows` images of the split, spread over it, into a PNG; the first column is as packed."""
    samples = TrainingSamples(reader, config)
    plain = TrainingSamples(reader, SampleConfig(**{**vars(config), "randomisation": OFF}))
    rows = min(rows, len(reader))
    prompts = min(config.prompts, SHOWN)
    height = CELL + LINE * (prompts + 1) + GAP
    sheet = Image.new("RGB", ((CELL + GAP) * (draws + 1), height * rows), (12, 12, 12))
    for row in range(rows):
        index = row * len(reader) // rows
        shown = samples.askable(index)
        for column in range(draws + 1):
            position = row * draws + column
            sample = plain.drawn(index, position) if column == 0 else samples.drawn(index, position)
            head = f"{shown.case} {shown.view}" if column == 0 else ""
            cell = _cell({name: value.numpy() for name, value in sample.items()}, reader, head, prompts)
            sheet.paste(cell, (column * (CELL + GAP), row * height))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def _cell(sample: dict[str, np.ndarray], reader: ShardReader, head: str, prompts: int) -> Image.Image:
    grey = Image.fromarray(np.rint(255 * np.clip(sample["image"], 0, 1)).astype(np.uint8)).resize((CELL, CELL))
    pixels = np.stack([np.asarray(grey)] * 3, axis=-1)
    lines = []
    for i in range(prompts):
        colour = COLOURS[i % len(COLOURS)]
        mask = Image.fromarray(sample["masks"][i].astype(np.uint8) * 255).resize((CELL, CELL), Image.Resampling.NEAREST)
        pixels[_border(np.asarray(mask) > 0)] = colour
        text = reader.header.phrases[int(sample["phrase"][i])].text
        if not sample["present"][i]:
            text = f"absent: {text}"
        lines.append((text, colour if sample["usable"][i] and sample["present"][i] else (130, 130, 130)))
    cell = Image.new("RGB", (CELL, CELL + LINE * (prompts + 1)), (12, 12, 12))
    cell.paste(Image.fromarray(pixels))
    pen, font = ImageDraw.Draw(cell), ImageFont.load_default(12)
    for number, (text, colour) in enumerate([*lines, (head, (255, 255, 255))]):
        pen.text((2, CELL + LINE * number), text, fill=colour, font=font)
    return cell


def _border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (h, w) with a neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner

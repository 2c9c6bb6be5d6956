"""Rendered views side by side with their masks, as one picture to look at.

    fluoro render ct/ --views 100
    python examples/contact_sheet.py views/ -o sheet.png
    python examples/contact_sheet.py views/ --view chest_pa --view pelvis_ap --structure heart --structure femur_left

Each pair is a radiograph as it was stored, and the same with masks and their names: those asked for, else the largest
structures in it (all at once hide each other).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from fluorosam_cli.artefacts import find_artefacts, read_lines
from fluorosam_cli.contracts import View, Views
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.overlay import Layer, draw
from fluorosam_cli.render.masks import decode

GAP_PX = 8
CAPTION_PX = 26
BACKGROUND, INK = (24, 24, 24), (235, 235, 235)


@dataclass(frozen=True)
class Choice:
    """What to show: the views named, one of each and case unless `every`; the structures named, or the `largest`."""

    views: tuple[str, ...]
    structures: tuple[str, ...]
    largest: int
    every: bool


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders that `fluoro render` wrote")
    parser.add_argument("-o", "--out", type=Path, default=Path("contact_sheet.png"))
    parser.add_argument("--view", action="append", default=[], help="only this view, in the order given (repeatable)")
    parser.add_argument("--structure", action="append", default=[], help="only this structure or group (repeatable)")
    parser.add_argument("--largest", type=int, default=10, help="structures in a view, when none is named")
    parser.add_argument("--every", action="store_true", help="every picture of a view, not just its first")
    parser.add_argument("--columns", type=int, default=2, help="pairs in a row")
    parser.add_argument("--size", type=int, default=480, help="pixels along a side of each picture")
    options = parser.parse_args(words)
    choice = Choice(tuple(options.view), tuple(options.structure), options.largest, options.every)
    try:
        chosen = choose(options.folders, choice)
    except FluoroError as error:
        sys.stderr.write(f"error: {error.problem}\nhint: {error.hint}\n")
        return 1
    pairs = [pair(folder, view, choice, options.size) for folder, view in chosen]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(pairs, options.columns).save(options.out)
    sys.stdout.write(f"{options.out}\n")
    return 0


def choose(folders: Sequence[Path], choice: Choice) -> list[tuple[Path, View]]:
    """The views to show, each with its folder; raises FluoroError when there are none."""
    found: list[tuple[Path, View]] = []
    seen: set[tuple[str, str]] = set()
    for folder, view in _views(folders):
        wanted = not choice.views or view.view in choice.views
        if wanted and (choice.every or (view.case, view.view) not in seen):
            seen.add((view.case, view.view))
            found.append((folder, view))
    if not found:
        raise FluoroError(
            f"none of the views is {' or '.join(choice.views) or 'there'}",
            "render them with fluoro render --view, or look into views.jsonl",
        )
    return sorted(found, key=lambda item: choice.views.index(item[1].view)) if choice.views else found


def _views(folders: Sequence[Path]) -> Iterator[tuple[Path, View]]:
    for path in folders:
        for folder, header in find_artefacts(path, "views.json", Views):
            for view in read_lines(folder / header.views, View):
                yield folder, view


def pair(folder: Path, view: View, choice: Choice, size: int) -> Image.Image:
    """The radiograph and its outlines side by side under a line of text."""
    grey = np.asarray(Image.open(folder / view.image))
    plain = Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    overlay = Image.fromarray(draw(grey, _layers(view, choice)))
    picture = Image.new("RGB", (2 * size, size + CAPTION_PX), BACKGROUND)
    for left, image in ((0, plain), (size, overlay)):
        image = ImageOps.contain(image, (size, size), Image.Resampling.LANCZOS)
        picture.paste(image, (left, CAPTION_PX))
    text = f"{view.view}   {view.case}   {view.kvp:.0f} kVp  {view.mas:.2g} mAs   {len(view.structures)} masks"
    ImageDraw.Draw(picture).text((4, 4), text, fill=INK, font=ImageFont.load_default(15))
    return picture


def _layers(view: View, choice: Choice) -> list[Layer]:
    if choice.structures:
        shown = [mask for mask in view.structures if mask.name in choice.structures]
    else:
        single = [mask for mask in view.structures if mask.kind != "group"]
        shown = sorted(single, key=lambda mask: mask.area_px, reverse=True)[: choice.largest]
    return [Layer(decode(mask.rle), mask.name) for mask in shown]


def sheet(pairs: Sequence[Image.Image], columns: int) -> Image.Image:
    """The pairs in rows."""
    columns = min(columns, len(pairs))
    width, height = (side + GAP_PX for side in pairs[0].size)
    rows = -(-len(pairs) // columns)
    picture = Image.new("RGB", (columns * width - GAP_PX, rows * height - GAP_PX), BACKGROUND)
    for number, image in enumerate(pairs):
        picture.paste(image, (number % columns * width, number // columns * height))
    return picture


if __name__ == "__main__":
    sys.exit(main())

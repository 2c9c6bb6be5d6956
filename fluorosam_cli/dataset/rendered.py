"""Folders of rendered views, as `fluoro pack` reads them."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import outlines
from fluorosam_cli.artefacts import read_header, validate
from fluorosam_cli.contracts import View, Views
from fluorosam_cli.dataset import coco
from fluorosam_cli.dataset.pictures import Annotation, Picture, Source
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render.integrals import read_integrals, read_travel

HEADER = "views.json"
AGAIN = "render the views again with --overwrite"


def find_views(folder: Path) -> Source:
    """The views of a folder. What any of them has a mask of was looked for in all of them."""
    header = read_header(folder / HEADER, Views)
    lines = folder / header.views
    cases, offsets, names = [], [0], set()
    if not lines.is_file():
        raise FluoroError(f"{lines}: not found", AGAIN)
    with open(lines, "rb") as file:
        for line in file:
            view = _view(line, lines)
            cases.append(view.case)
            offsets.append(offsets[-1] + len(line))
            names.update(mask.name for mask in view.structures)
    known = {case.name: case.case_sha256 for case in header.cases}
    if len(cases) != header.count or not known.keys() >= set(cases):
        raise FluoroError(f"{lines}: {len(cases)} views, {HEADER} tells of {header.count} of its cases", AGAIN)
    return Source(
        path=folder,
        cases=cases,
        names=frozenset(names),
        read=partial(_read, folder, header, offsets, sorted(names)),
        headers=[folder / HEADER, lines],
        bone_bright=header.polarity == "bone_bright",
        integrals=header.integrals,
        case_sha256=known,
    )


def _view(line: bytes, path: Path) -> View:
    try:
        return View.model_validate_json(line)
    except ValueError:
        pass
    try:
        data = json.loads(line)
    except ValueError as error:
        raise FluoroError(f"{path}: a line is not valid JSON", AGAIN) from error
    return validate(View, data, str(path))  # says what is wrong


def _read(folder: Path, header: Views, offsets: list[int], names: list[str], number: int) -> Picture:
    lines = folder / header.views
    with open(lines, "rb") as file:
        file.seek(offsets[number])
        view = _view(file.read(offsets[number + 1] - offsets[number]), lines)
    image = read_png16(folder / view.image, (view.height, view.width))
    integrals = None
    if view.integrals and header.integrals:
        integrals = read_integrals(folder / view.integrals, header.integrals)
    return Picture(
        image=image,
        view=view.view,
        masks=_masks(folder, view),
        absent=absent({mask.name for mask in view.structures}, names),
        angles_deg=(view.positioner_primary_angle_deg, view.positioner_secondary_angle_deg),
        pixel_spacing_mm=view.pixel_spacing_mm,
        collimation=view.collimation,
        integrals=integrals,
        materials=header.integrals.materials if header.integrals else (),
    )


def absent(present: set[str], looked_for: Iterable[str]) -> list[str]:
    """Of the names looked for, those not there. An outline is unknown where what it is drawn from is present."""
    return [name for name in looked_for if name not in present and present.isdisjoint(outlines().get(name, ()))]


def _masks(folder: Path, view: View) -> Iterator[Annotation]:
    for mask in view.structures:
        try:
            pixels = coco.decode({"size": mask.rle.size, "counts": mask.rle.counts}, (view.height, view.width))
        except ValueError as error:
            raise FluoroError(f"{folder / view.image}: {mask.name}: {error}", AGAIN) from error
        travel = read_travel(folder / view.travel, [mask.name]).get(mask.name) if view.travel else None
        if travel is not None and travel.shape != pixels.shape:
            raise FluoroError(f"{folder / str(view.travel)}: is {travel.shape}, the image {pixels.shape}", AGAIN)
        yield Annotation(mask.name, pixels, travel)


def read_png16(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A 16-bit grey PNG of that shape as (H, W) uint16. Raises FluoroError when it is none, absent or damaged."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.size[::-1] != shape or not image.mode.startswith("I"):
                raise ValueError(
                    f"{image.mode} of {image.size[0]}x{image.size[1]}, not 16 bits of {shape[1]}x{shape[0]}"
                )
            return np.asarray(image).astype(np.uint16)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FluoroError(f"{path}: not a readable PNG ({error})", AGAIN) from error

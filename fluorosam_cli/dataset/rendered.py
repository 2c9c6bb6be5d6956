"""Folders of rendered views, as `fluoro pack` reads them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import label_ids, names, outlines, structure
from fluorosam_cli.artefacts import read_header, validate
from fluorosam_cli.contracts import View, Views, ViewsCase
from fluorosam_cli.dataset import coco
from fluorosam_cli.dataset.pictures import Annotation, Picture, Source
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render.integrals import read_integrals, read_travel

HEADER = "views.json"
IMPORTED = "imported"  # labels that `segment-ct` did not make
AGAIN = "render the views again with --overwrite"


def find_views(folder: Path) -> Source:
    """The views of a folder, found but not read."""
    header = read_header(folder / HEADER, Views)
    lines = folder / header.views
    cases, offsets, shown = [], [0], defaultdict(set)
    if not lines.is_file():
        raise FluoroError(f"{lines}: not found", AGAIN)
    with open(lines, "rb") as file:
        for line in file:
            view = _view(line, lines)
            cases.append(view.case)
            offsets.append(offsets[-1] + len(line))
            shown[view.case].update(mask.name for mask in view.structures)
    known = {case.name: [case.case_sha256] for case in header.cases}
    if len(cases) != header.count or not known.keys() >= set(cases):
        raise FluoroError(f"{lines}: {len(cases)} views, {HEADER} tells of {header.count} of its cases", AGAIN)
    return Source(
        path=folder,
        cases=cases,
        names=frozenset().union(*shown.values()),
        read=partial(_read, folder, header, offsets, looked_for(header.cases, shown)),
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


def _read(folder: Path, header: Views, offsets: list[int], looked: Mapping[str, list[str]], number: int) -> Picture:
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
        absent=absent({mask.name for mask in view.structures}, looked[view.case]),
        angles_deg=(view.positioner_primary_angle_deg, view.positioner_secondary_angle_deg),
        pixel_spacing_mm=view.pixel_spacing_mm,
        collimation=view.collimation,
        integrals=integrals,
        materials=header.integrals.materials if header.integrals else (),
    )


def looked_for(cases: Iterable[ViewsCase], shown: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Case -> of the names that any view shows, those that a view of this case would show if they were in it.

    A program looks for all that it found in any case of the same task; of labels that somebody imported, only what they
    hold is known. A group or outline counts where all of it that any case has was looked for. Tools are put into views
    when these are rendered, so they are known in all. Of a case whose labels nobody noted, what its views show counts.
    """
    anatomy = set(names())
    labelled: dict[object, set[int]] = defaultdict(set)
    for case in cases:
        labelled[_annotator(case)].update(structure(name).label_id for name in case.structures)
    every = set().union(*labelled.values())
    parts = {name: every.intersection(label_ids(name)) for name in set().union(*shown.values()) if name in anatomy}
    tools = set().union(*shown.values()) - anatomy
    found = {}
    for case in cases:
        own = labelled[_annotator(case)]
        known = (
            {name for name, of in parts.items() if of and of <= own} if case.structures else shown.get(case.name, ())
        )
        found[case.name] = sorted(tools.union(known))
    return found


def _annotator(case: ViewsCase) -> object:
    return case.name if case.segmenter in ("", IMPORTED) else (case.segmenter, case.task)


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

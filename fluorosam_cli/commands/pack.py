"""`fluoro pack`: views, users' own images and descriptions -> shards."""

import logging
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from fluorosam_cli.dataset.annotated import Patients
    from fluorosam_cli.dataset.pictures import Source

log = logging.getLogger("fluoro")
VIEWS_HEADER = "views.json"
LISTED = 20  # of what is left out; all of it with --verbose
SAME_SPACING = 1e-3  # relative: beyond it distances would be wrong by more than a pixel in a thousand


class Codec(StrEnum):
    gzip = "gzip"
    blosc = "blosc"


def pack(
    stage: Stage,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders written by `fluoro render`; folders of your own with images/ and masks/ID/STRUCTURE.png; "
            "COCO JSON files. All go into the same shards."
        ),
    ],
    descriptions: Annotated[
        list[Path], typer.Option(help="Folder written by `fluoro describe` (repeatable).", show_default="descriptions")
    ] = [Path("descriptions")],  # noqa: B006
    size: Annotated[int, typer.Option(min=32, max=2048, help="Longest side of the packed images, in pixels.")] = 448,
    val: Annotated[
        str,
        typer.Option(help="Held out to choose the best checkpoint: a share of the cases, or a file that lists them."),
    ] = "0.05",
    test: Annotated[
        str,
        typer.Option(help="Held out for `fluoro eval`: a share of the cases, or a file that lists them, one a line."),
    ] = "0",
    patients: Annotated[
        Path | None,
        typer.Option(help="CSV file, first line image,patient: which of your own images are of one person."),
    ] = None,
    codec: Annotated[Codec, typer.Option(help="Compression; blosc is read faster and needs the extra `blosc`.")] = (
        Codec.gzip
    ),
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the sha256 of existing shards, whose folders are given.")
    ] = False,
) -> dict[str, object]:
    """Pack rendered views, or your own images with masks, and descriptions into HDF5 shards, split by case."""
    from fluorosam_cli.artefacts import read_header
    from fluorosam_cli.contracts import Shards
    from fluorosam_cli.dataset.annotated import read_patients
    from fluorosam_cli.dataset.pack import SPLITS, plan_pack
    from fluorosam_cli.dataset.pack import pack as write_shards
    from fluorosam_cli.dataset.shards import HEADER
    from fluorosam_cli.dataset.shards import verify as differing

    if verify:
        stage.folder = sources[0]
        return {"failed": [f"{f / name}: absent, or not what {HEADER} says" for f in sources for name in differing(f)]}
    again = [path for number, path in enumerate(sources) if path.resolve() in {s.resolve() for s in sources[:number]}]
    if again:
        raise UsageError(f"{again[0]}: is given twice", "give it once")
    persons = read_patients(patients)
    found = [_source(path, persons) for path in sources]
    if patients is not None and not persons.met:
        raise FluoroError(f"{patients}: names none of the images", "name them as their files, folders inside included")
    _list([f"{patients}: {name}: no such image with masks" for name in persons.unmet])
    held = _held("--val", val), _held("--test", test)
    plan = plan_pack(found, descriptions, size, *held, stage.seed, codec.value)
    _list([problem for source in found for problem in source.problems])
    images = len(plan.pictures)
    split = {name: sum(s == name for s in plan.cases.values()) for name in SPLITS}
    inputs = [file for source in found for file in source.headers]
    inputs += [folder / name for folder in descriptions for name in ("descriptions.json", "descriptions.jsonl")]
    inputs += [Path(file) for file, value in zip((val, test), held, strict=True) if not isinstance(value, float)]
    inputs += [] if patients is None else [patients]
    stage.resolved["images_sha256"] = [source.content_sha256() for source in found if source.content_sha256]
    folder = stage.output(HEADER, inputs=inputs)
    if stage.dry_run:
        return stage.plan(images=images, cases=split, structures=len(plan.structures), phrases=len(plan.phrases))
    with folder as output:
        if output.finished:
            header = read_header(output.path / HEADER, Shards)
            output.skipped = images
        else:
            header = write_shards(plan, output, stage.track)
    masks = sum(shard.masks for shard in header.shards)
    return {"images": images, "masks": masks, "cases": split, "structures": len(header.structures)}


def _source(path: Path, patients: "Patients") -> "Source":
    from fluorosam_cli.dataset.annotated import find_annotated
    from fluorosam_cli.dataset.rendered import find_views
    from fluorosam_cli.dataset.user_images import is_user_data

    if not (path / VIEWS_HEADER).is_file() and is_user_data(path):
        return find_annotated(path, _read_image, patients)
    return find_views(path)


def _read_image(path: Path) -> tuple["np.ndarray", float]:
    """The image, and its pixel spacing where it is the same down and across."""
    from fluorosam_cli.prediction.images import read_radiograph

    found = read_radiograph(path)
    spacing = found.spacing
    square = spacing is not None and math.isclose(spacing.row_mm, spacing.column_mm, rel_tol=SAME_SPACING)
    return found.for_network, spacing.row_mm if spacing is not None and square else math.nan


def _held(option: str, value: str) -> float | list[str]:
    """A share, or the lines of a file."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        lines = [line.strip() for line in Path(value).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{option} {value}: neither a number nor a readable file", "give 0.05, or a file with a case a line"
        ) from error
    return [line for line in lines if line and not line.startswith("#")]


def _list(problems: list[str]) -> None:
    for problem in problems[:LISTED]:
        log.warning("left out: %s", problem)
    if len(problems) > LISTED:
        log.warning("left out: %d more, see --verbose", len(problems) - LISTED)
    for problem in problems[LISTED:]:
        log.debug("left out: %s", problem)


def register(app: typer.Typer) -> None:
    command(app, "pack", default_out="shards")(pack)

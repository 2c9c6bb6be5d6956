"""`fluoro phantom`: writes labelled CT phantoms of a parametric human, so that everything runs with no patient data."""

from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.ct.phantom_regions import DEFAULT_REGION, REGIONS
from fluorosam_cli.errors import UsageError

SPACING_MM = (0.7, 12.0)
SPACING_HELP = f"Voxel size in mm, {SPACING_MM[0]:g} to {SPACING_MM[1]:g}."


def phantom(
    stage: Stage,
    folder: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Output folder (default: phantom).")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many phantoms.")] = 1,
    region: Annotated[str, typer.Option("--region", help=f"One of {', '.join(REGIONS)}.")] = DEFAULT_REGION,
    spacing: Annotated[float, typer.Option("--spacing", metavar="MM", help=SPACING_HELP)] = 2.0,
) -> dict:
    """Write labelled CT phantoms: OUT/scans and OUT/labels, for `fluoro segment-ct OUT/scans --labels OUT/labels`."""
    from fluorosam_cli.ct.phantom import phantom_name, voxel_count, write_phantoms

    if folder is not None:
        if stage.options["out"] not in (None, folder):
            raise UsageError(f"two output folders: {folder} and {stage.options['out']}", "give one of them")
        stage.folder = folder
    stage.resolved.pop("folder")
    if region not in REGIONS:
        raise UsageError(f"--region {region}: unknown region", f"one of {', '.join(REGIONS)}")
    if not SPACING_MM[0] <= spacing <= SPACING_MM[1]:
        raise UsageError(
            f"--spacing {spacing:g}: outside {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm", "2 is fine, 4 is quick"
        )
    prepared = stage.output(header=None)
    if stage.dry_run:
        voxels = voxel_count(stage.seed, 0, region, spacing)
        return stage.plan(
            phantoms=count,
            files=f"{stage.folder}/scans/{phantom_name(0)}.nii.gz to {phantom_name(count - 1)}.nii.gz, and labels",
            voxels_of_first=voxels,
        )
    with prepared as output:

        def count_one(new: bool) -> None:
            output.done += new
            output.skipped += not new

        write_phantoms(
            stage.folder,
            count=count,
            seed=stage.seed,
            region=region,
            spacing_mm=spacing,
            track=stage.track,
            written=count_one,
        )
    return {"phantoms": count, "written": output.done, "skipped": output.skipped}


def register(app: typer.Typer) -> None:
    command(app, "phantom", default_out="phantom")(phantom)

"""`fluoro segment-ct`: scans -> cases (CT in HU, labels, header)."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.contracts import Segmenter
    from fluorosam_cli.ct.cases import Scan
    from fluorosam_cli.ct.labels import Source
    from fluorosam_cli.ct.segment import Mode
    from fluorosam_cli.ct.volume import Volume

Scans = Annotated[list[Path], typer.Argument(help="NIfTI files, globs, or folders of them (also CASE/ct.nii.gz).")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Existing labels: a label volume, a TotalSegmentator folder, or a folder with one of these per scan, "
        "by name. Ids are named by the file's own table, by labels.json beside it, or are TotalSegmentator's `total`.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    command(app, "segment-ct", default_out="ct")(segment_ct)


def segment_ct(
    stage: Stage,
    scans: Scans,
    labels: Labels = None,
    fast: Annotated[bool, typer.Option("--fast", help="TotalSegmentator at 3 mm instead of 1.5.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="TotalSegmentator at 6 mm.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> dict[str, object]:
    """Turn CT scans into cases: label them with TotalSegmentator, or import labels that exist."""
    from fluorosam_cli.ct.cases import find_scans, is_finished, write_case
    from fluorosam_cli.ct.labels import find_labels
    from fluorosam_cli.ct.segment import check_ready

    mode = _mode(labels, fast, fastest, device)
    if labels is not None and not labels.exists():
        raise FluoroError(f"{labels}: no such file or folder", "check the path after --labels")
    found = find_scans(scans, labels)
    single = len(found) == 1
    if labels is not None and labels.is_file() and not single:
        raise UsageError(
            f"{labels}: one label file for {len(found)} scans", "give --labels a folder, one file per scan"
        )

    def labels_of(scan: "Scan") -> "Source | None":
        return None if labels is None else find_labels(labels, scan.name, scan.path, single)

    output = stage.output(None, device=device if labels is None else "cpu")
    if labels is None:
        check_ready(mode, device)
    if single:
        _check_headers(found[0], labels_of(found[0]))
    if stage.dry_run:
        failed = []
        for scan in found:
            try:
                _check_headers(scan, labels_of(scan))
            except FluoroError as error:
                failed.append(error.problem)
        size = sum(scan.path.stat().st_size for scan in found)
        return stage.plan(scans=len(found), input_mb=round(size / 1e6, 1), failed=failed)

    structures = 0
    with output as out:
        for scan in stage.track(found, "segment-ct", len(found), "scans"):
            try:
                source = labels_of(scan)
                if out.resuming and is_finished(out.path, scan, source and source.sha256()):
                    out.skipped += 1
                    continue
                case = write_case(out.path, scan, *_label(scan, source, mode, device))
            except FluoroError as error:
                if single:
                    raise
                out.failed.append(error.problem)
            else:
                structures += len(case.structures)
                out.done += 1
    return {"cases": out.done, "skipped": out.skipped, "structures": structures, "failed": out.failed}


def _mode(labels: Path | None, fast: bool, fastest: bool, device: str) -> "Mode":
    if fast and fastest:
        raise UsageError("--fast and --fastest exclude each other", "give one of them")
    if (fast or fastest) and labels is not None:
        raise UsageError("--fast and --fastest choose a TotalSegmentator model; --labels needs none", "leave one out")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device}: not known", "use auto, cpu, cuda or cuda:N")
    return "fast" if fast else "fastest" if fastest else "total"


def _check_headers(scan: "Scan", source: "Source | None") -> None:
    from fluorosam_cli.ct.labels import check_labels
    from fluorosam_cli.ct.volume import open_nifti, world_from_voxel_of

    image = open_nifti(scan.path)
    if source is not None:
        check_labels(source, image.shape[2::-1], world_from_voxel_of(image), scan.path)


def _label(scan: "Scan", source: "Source | None", mode: "Mode", device: str) -> "tuple[Volume, Volume, Segmenter]":
    """The scan in HU, its labels, and who made them."""
    from fluorosam_cli import __version__
    from fluorosam_cli.contracts import Segmenter
    from fluorosam_cli.ct.labels import read_labels
    from fluorosam_cli.ct.segment import installed_version, segment
    from fluorosam_cli.ct.volume import read_nifti, to_hu

    ct = to_hu(read_nifti(scan.path), str(scan.path))
    if source is None:
        task = "total" if mode == "total" else f"total --{mode}"
        segmenter = Segmenter(name="TotalSegmentator", version=installed_version() or "unknown", task=task)
        return ct, segment(ct, mode, device), segmenter
    task = "structure masks" if source.is_masks else "label volume"
    segmenter = Segmenter(name="imported", version=__version__, task=task, source_sha256=source.sha256())
    return ct, read_labels(source, ct, scan.path), segmenter

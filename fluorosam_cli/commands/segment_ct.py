"""`fluoro segment-ct`: scans -> cases (CT in HU, labels, header)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command, log
from fluorosam_cli.devices import choose_devices
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.ct.batch import Recipe
    from fluorosam_cli.ct.scans import Scan, Skipped
    from fluorosam_cli.ct.segment import Mode

Scans = Annotated[
    list[Path],
    typer.Argument(help="CT scans: DICOM folders, NIfTI, NRRD, MHA/MHD, zip archives; files, folders, globs."),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Existing labels: a label volume, a DICOM SEG, a TotalSegmentator or MOOSE folder, an nnU-Net data set, "
        "or a folder with one of these per scan, by name. Ids are named by the file's own table, by a labels.json, "
        "CSV or dataset.json beside it, or are TotalSegmentator's `total`.",
        show_default=False,
    ),
]
LabelsMapFile = Annotated[
    Path | None,
    typer.Option(
        "--labels-map",
        help='TOML of what labels mean: 1 = "spleen", "left renal cyst" = "kidney_cyst_left", 7 = "" to leave out.',
        show_default=False,
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task", help="A further TotalSegmentator task; repeatable. Later ones win overlaps.", show_default=False
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", help="Only these structures or groups; the scan is cropped to them. Repeatable.", show_default=False
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes, one per GPU; with --device cpu or --labels, on the CPU.", show_default="1 if any"
    ),
]


def register(app: typer.Typer) -> None:
    command(app, "segment-ct", default_out="ct")(segment_ct)


def segment_ct(
    stage: Stage,
    scans: Scans,
    series: Annotated[
        str | None,
        typer.Option(
            help="DICOM series: number, end of UID or part of description. Default: every axial CT.", show_default=False
        ),
    ] = None,
    labels: Labels = None,
    labels_map: LabelsMapFile = None,
    task: Tasks = None,
    only: Only = None,
    fast: Annotated[bool, typer.Option("--fast", help="TotalSegmentator at 3 mm instead of 1.5.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="TotalSegmentator at 6 mm.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    gpus: Gpus = None,
    keep_table: Annotated[
        bool, typer.Option("--keep-table", help="Leave the table and the air around the body as scanned.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="3/16: the third of 16 parts of the list, for 16 machines.", show_default=False)
    ] = None,
) -> dict[str, object]:
    """Turn CT scans into cases: label them with TotalSegmentator, or import labels that exist."""
    from fluorosam_cli.ct.batch import Outcome, Recipe, is_done, label_scan, make_cases, parse_shard, save
    from fluorosam_cli.ct.label_names import read_labels_map
    from fluorosam_cli.ct.scans import find_scans
    from fluorosam_cli.ct.segment import check_ready, count_gpus, plan_runs, unknown_classes

    mode = _mode(labels, labels_map, task, only, fast, fastest)
    devices = choose_devices(device if labels is None else "cpu", gpus, count_gpus)
    part = None if shard is None else parse_shard(shard)
    names = read_labels_map(labels_map) if labels_map else None
    stage.resolved.pop("gpus")  # how many work on it changes nothing
    stage.resolved["device"] = devices[0].partition(":")[0] if labels is None else None
    output = stage.output(
        None,
        inputs=[labels_map] if labels_map else [],
        device=devices[0],
        part=part.name if part else None,
        private=("scans", "labels"),
    )
    runs, left_out = ((), []) if labels is not None else plan_runs(mode, task or (), only or ())
    found, skipped = find_scans(scans, series, [stage.folder, *([labels] if labels else [])], stage.track)
    foreign = sum(not entry.damaged for entry in skipped)
    for entry in skipped:
        if not entry.damaged:
            log.info("skipped: %s: %s", entry.subject, entry.reason)
        log.debug("%s: %s", entry.subject, _places(entry.files))
    if labels is not None and labels.is_file() and len(found) > 1:
        raise UsageError(
            f"{labels}: one label file for {len(found)} scans", "give --labels a folder, one file per scan"
        )
    single = len(found) == 1
    recipe = Recipe(stage.folder, labels, names, runs, keep_table, single)
    if part:
        found = part.of(found)
    for scan in found:
        log.debug("%s: %s", scan.name, _places(scan.files))
    damaged = [entry for entry in skipped if entry.damaged] if part is None or part.number == 1 else []
    failed = [f"{entry.subject}: {entry.reason}{_where(entry)}" for entry in damaged]
    if labels is None:
        check_ready(runs)
        for remark in [*left_out, *unknown_classes(runs)]:
            log.info("%s", remark)
    if stage.dry_run:
        size_mb = round(sum(scan.size_bytes for scan in found) / 1e6, 1)
        failed += _problems(found, recipe)
        return stage.plan(scans=len(found), not_scans=foreign, input_mb=size_mb, failed=failed)

    todo = found
    if output.resuming:
        todo = [scan for scan in stage.track(found, "comparing", len(found), "scans") if not is_done(scan, recipe)]
    only_one = label_scan(todo[0], recipe, devices[0]) if single and todo else None  # an error leaves the folder alone
    structures = 0
    with output as out:
        out.skipped = len(found) - len(todo)
        out.failed += [entry.reason for entry in damaged]
        if only_one is not None:
            outcomes = [Outcome(todo[0], save(todo[0], recipe, only_one), only_one.notes)]
        else:
            outcomes = stage.track(make_cases(todo, recipe, devices), "segment-ct", len(todo), "scans") if todo else ()
        for outcome in outcomes:
            if outcome.stops:
                raise FluoroError(outcome.notes[0], "mend that, and continue with --resume")
            if outcome.case is None:
                failed += outcome.notes
                out.failed.append(outcome.recorded)
                continue
            for note in outcome.notes:
                log.info("%s", note)
            structures += len(outcome.case.structures)
            out.done += 1
        out.failed.sort()
        quality = stage.folder / (f"quality-{part.name}.csv" if part else "quality.csv")
        suspicious = _summarise(found, quality) if out.done or out.skipped else 0
    return {
        "cases": out.done,
        "skipped": out.skipped,
        "not_scans": foreign,
        "structures": structures,
        "suspicious": suspicious,
        "failed": sorted(failed),
    }


def _mode(
    labels: Path | None,
    labels_map: Path | None,
    task: list[str] | None,
    only: list[str] | None,
    fast: bool,
    fastest: bool,
) -> "Mode":
    if fast and fastest:
        raise UsageError("--fast and --fastest exclude each other", "give one of them")
    if labels is not None:
        for option, given in (("--fast", fast), ("--fastest", fastest), ("--task", task), ("--only", only)):
            if given:
                raise UsageError(f"{option} is for TotalSegmentator, which --labels replaces", "leave one out")
        if not labels.exists():
            raise FluoroError(f"{labels}: no such file or folder", "check the path after --labels")
    elif labels_map is not None:
        raise UsageError("--labels-map is for imported labels", "give --labels too")
    return "fast" if fast else "fastest" if fastest else "total"


def _where(entry: "Skipped") -> str:
    return "" if entry.subject in map(str, entry.files) else "; --verbose says where"


def _places(files: tuple[Path, ...], limit: int = 5) -> str:
    """Where files lie, for `--verbose` only: the one place that may name a person."""
    if len(files) <= limit:
        return ", ".join(map(str, files))
    folders = dict.fromkeys(str(file.parent) for file in files)
    return f"{len(files)} files in {', '.join(list(folders)[:limit])}{' and others' * (len(folders) > limit)}"


def _problems(found: "list[Scan]", recipe: "Recipe") -> list[str]:
    """What headers and names alone tell will fail."""
    from fluorosam_cli.ct.batch import labels_of
    from fluorosam_cli.ct.scans import scan_grid

    problems = []
    for scan in found:
        try:
            scan_grid(scan)
            labels_of(scan, recipe)
        except FluoroError as error:
            problems.append(error.problem)
    return problems


def _summarise(found: "list[Scan]", file: Path) -> int:
    """Write the CSV file over the cases that are there, show it, and count the suspicious ones."""
    import csv
    import io

    from fluorosam_cli.artefacts import read_header, write_bytes
    from fluorosam_cli.contracts import Case
    from fluorosam_cli.ct.cases import HEADER
    from fluorosam_cli.ct.quality import COLUMNS, summary_row, summary_table

    headers = [file.parent / scan.name / HEADER for scan in found]
    rows = [summary_row(read_header(header, Case)) for header in headers if header.is_file()]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(file, text.getvalue().encode())
    for line in summary_table(rows, file.name):
        log.info("%s", line)
    return sum(bool(row["findings"]) for row in rows)

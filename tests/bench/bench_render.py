"""`fluoro render` from end to end, with its default settings, against the projection of the same views alone."""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from tests.bench.bench import Bench, Failed, alone, alone_in_python, say
from tests.bench.contenders import THREADS
from tests.bench.rows import Row

VIEWS = 20
FLUORO = (sys.executable, "-m", "fluorosam_cli")


def rows(bench: Bench) -> list[Row]:
    size, views = bench.scale.detector_px, VIEWS
    ratio = "end to end over the projection of the same views"
    try:
        case = case_of(bench)
        alone_s, through, with_integrals = _measure(bench, case, views)
    except Failed as failed:
        return [Row(ratio, None, "x", value_at_most=1.7, note=str(failed))]
    what = f"fluoro render, {size} px"
    table = [
        Row(ratio, through[0] / alone_s, "x", value_at_most=1.7, note=f"projection alone {alone_s:.3g} s/view"),
        Row(what, 1 / through[0], "images/s"),
        Row(f"{what}, stored", through[1], "bytes/image"),
    ]
    seconds, stored, reason = with_integrals
    table.append(Row(f"{what}, --integrals", 1 / seconds if seconds else None, "images/s", note=reason))
    table.append(Row(f"{what}, --integrals, stored", stored, "bytes/image", note=reason))
    return table


def _measure(
    bench: Bench, case: Path, views: int
) -> tuple[float, tuple[float, float], tuple[float | None, float | None, str]]:
    """Seconds per view of the projection; seconds and bytes per image without and with integrals."""
    projections, plain, integrals = [], [], []
    bytes_plain, bytes_integrals, reason = 0.0, None, ""
    for number in range(bench.scale.rounds):
        say(f"fluoro render, round {number + 1} of {bench.scale.rounds}")
        seconds, bytes_plain = _render(bench, case, views, f"plain-{number}")
        plain.append(seconds)
        found = alone_in_python("tests.bench.bench_render", case, bench.folder / f"plain-{number}")
        projections.append(found["seconds_per_view"])
        if not reason:
            try:
                seconds, bytes_integrals = _render(bench, case, views, f"integrals-{number}", "--integrals")
            except Failed as failed:
                reason = str(failed)
            else:
                integrals.append(seconds)
    return median(projections), (median(plain), bytes_plain), (_median(integrals), bytes_integrals, reason)


def _median(values: list[float]) -> float | None:
    return median(values) if values else None


def _render(bench: Bench, case: Path, views: int, name: str, *options: str) -> tuple[float, float]:
    """Seconds and bytes of one further image: what `views` + 1 take longer than 1, start and loading left out."""
    taken = []
    for count in (1, views + 1):
        out = bench.folder / (name if count > 1 else f"{name}-one")
        command = (*FLUORO, "render", case, "--views", count, "--size", bench.scale.detector_px, "-o", out, *options)
        start = time.perf_counter()
        alone(*command)
        taken.append(time.perf_counter() - start)
    stored = sum(file.stat().st_size for file in out.rglob("*") if file.is_file() and file.suffix != ".json")
    if taken[1] <= taken[0]:
        raise Failed(f"{views} further views took no time: they drown in the start's own variation")
    return (taken[1] - taken[0]) / views, stored / (views + 1)


def case_of(bench: Bench) -> Path:
    """The scene as a case."""
    import nibabel

    from fluorosam_cli.ct.volume import LPS_FROM_RAS

    scene, out = bench.scene(), bench.folder / "case"
    if out.exists():
        return out
    say("writing the volume as a case")
    affine = LPS_FROM_RAS @ bench.scale.world_from_voxel
    scan, labels = bench.folder / "torso.nii", bench.folder / "labels.nii"
    nibabel.save(nibabel.Nifti1Image(np.load(scene / "hu.npy").T, affine), scan)
    nibabel.save(nibabel.Nifti1Image(np.load(scene / "labels.npy").T, affine), labels)
    alone(*FLUORO, "segment-ct", scan, "--labels", labels, "-o", out)
    return out


def project_again(case: Path, views: Path) -> dict[str, float]:
    """Seconds per view of projecting the image and all masks of a folder's views, all but the first."""
    from fluorosam_cli.artefacts import find_artefacts, read_header, read_lines
    from fluorosam_cli.contracts import Case, View, Views
    from fluorosam_cli.render.masks import mask_outputs
    from fluorosam_cli.render.materials import kinds_of_labels, material_table, set_rows
    from fluorosam_cli.render.projector import EVERYWHERE, Projector
    from tests.volumes import read_nifti

    ((folder, known),) = find_artefacts(case, "case.json", Case)
    ct, labels = read_nifti(folder / known.ct), read_nifti(folder / known.labels)
    set_rows(ct.array, labels.array, kinds_of_labels({one.label_id: one.name for one in known.structures}))
    outputs = [(output.name, output.label_ids) for output in mask_outputs(known)]
    projector = Projector(ct.array, labels.array, ct.world_from_voxel, outputs, material_table(), threads=THREADS)
    shown = read_header(views / "views.json", Views)
    records = list(read_lines(views / shown.views, View))
    start = 0.0
    for number, view in enumerate(records):
        if number == 1:
            start = time.perf_counter()
        depths = view.nearest_mm, EVERYWHERE[1] if view.farthest_mm is None else view.farthest_mm
        camera = np.array(view.intrinsic), np.array(view.camera_from_world)
        projector.project(*camera, view.width, view.height, depths)
    return {"seconds_per_view": (time.perf_counter() - start) / (len(records) - 1)}


if __name__ == "__main__":
    case_folder, views_folder = sys.argv[1:]
    sys.stdout.write(json.dumps(project_again(Path(case_folder), Path(views_folder))) + "\n")

"""Scans in, cases out: which files are scans, what a case is called, and the writing of one case folder."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.artefacts import TEMPORARY, read_header, sha256_of, write_json
from fluorosam_cli.contracts import Case, CaseStructure, Segmenter
from fluorosam_cli.ct.labels import stem_of
from fluorosam_cli.ct.volume import (
    LPS_FROM_RAS,
    NIFTI_SUFFIXES,
    Direction,
    Volume,
    border_directions,
    label_counts,
    write_nifti,
)
from fluorosam_cli.errors import FluoroError, UsageError

HEADER = "case.json"
CT_FILES = tuple("ct" + suffix for suffix in NIFTI_SUFFIXES)


@dataclass(frozen=True)
class Scan:
    name: str  # of the case it becomes
    path: Path


def find_scans(paths: Iterable[Path], labels: Path | None = None) -> list[Scan]:
    """The scans at `paths`, sorted by case name.

    Each path is a NIfTI file, a glob, a case folder (with `ct.nii.gz`), or a folder of NIfTI files and case folders.
    What lies at `labels`, a file or folder among the scans, is no scan. Raises FluoroError when there is none, or
    two would get the same name.
    """
    paths = list(paths)
    files = [file for path in paths for file in _files_at(path)]
    if labels is not None and not (len(paths) == 1 and paths[0].is_file()):
        files = [file for file in files if not any(_is_label(file, labels, path) for path in paths)]
    if not files:
        raise FluoroError(f"{', '.join(map(str, paths))}: no .nii or .nii.gz file", "give NIfTI scans, or their folder")
    scans: dict[str, Scan] = {}
    for file in sorted(set(files)):
        scan = Scan(case_name(file), file)
        if scan.name in scans:
            raise UsageError(
                f"{scans[scan.name].path} and {file} would both be called {scan.name}",
                "rename one, or give each its own output folder",
            )
        scans[scan.name] = scan
    return sorted(scans.values(), key=lambda scan: scan.name)


def case_name(path: Path) -> str:
    """The file's name, or its folder's when the file is just called `ct`, in letters, digits, `.`, `_` and `-`."""
    stem = stem_of(path)
    word = path.resolve().parent.name if stem.lower() == "ct" else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", word).lstrip("._-") or "case"


def write_case(out: Path, scan: Scan, ct: Volume, labels: Volume, segmenter: Segmenter) -> Case:
    """Write the folder `out/NAME` whole or not at all, replacing an earlier one; its header is written last."""
    folder = out / scan.name
    growing = out / (TEMPORARY + scan.name)
    shutil.rmtree(growing, ignore_errors=True)
    try:
        write_nifti(growing / "ct.nii.gz", ct)
        write_nifti(growing / "labels.nii.gz", labels)
        case = Case(
            name=scan.name,
            shape_zyx=ct.array.shape,  # pyright: ignore[reportArgumentType]
            spacing_zyx_mm=tuple(float(value) for value in ct.spacing_xyz_mm[::-1]),  # pyright: ignore[reportArgumentType]
            world_from_voxel=_as_stored(ct.world_from_voxel).tolist(),
            source_sha256=sha256_of(scan.path),
            ct_sha256=sha256_of(growing / "ct.nii.gz"),
            labels_sha256=sha256_of(growing / "labels.nii.gz"),
            segmenter=segmenter,
            structures=describe_structures(labels),
        )
        write_json(growing / HEADER, case)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(growing, folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return case


def is_finished(out: Path, scan: Scan, labels_sha256: str | None) -> bool:
    """Whether an earlier run wrote this case from the same scan and the same imported labels."""
    header = out / scan.name / HEADER
    if not header.is_file():
        return False
    case = read_header(header, Case)
    return case.segmenter.source_sha256 == labels_sha256 and case.source_sha256 == sha256_of(scan.path)


def describe_structures(labels: Volume) -> list[CaseStructure]:
    """What a label volume of our ids holds: volumes, and the borders of the scan that each structure touches."""
    counts = label_counts(labels.array)
    touched: dict[Direction, set[int]] = {
        direction: set(np.unique(labels.array.take(index, axis=axis)).tolist())
        for (axis, index), direction in border_directions(labels.world_from_voxel).items()
    }
    return [
        CaseStructure(
            label_id=structure.label_id,
            name=structure.name,
            snomed_ct=structure.snomed_ct,
            volume_ml=round(float(counts[structure.label_id]) * labels.voxel_volume_ml, 3),
            cut_by=[direction for direction in sorted(touched) if structure.label_id in touched[direction]],
        )
        for structure in structures()
        if counts[structure.label_id]
    ]


def _as_stored(world_from_voxel: np.ndarray) -> np.ndarray:
    """The matrix as it comes back from the NIfTI file, which holds it in single precision."""
    return LPS_FROM_RAS @ (LPS_FROM_RAS @ world_from_voxel).astype(np.float32).astype(np.float64)


def _files_at(path: Path) -> list[Path]:
    if path.is_file():
        _refuse_dicom(path)
        return [path]
    if path.is_dir():
        case = [path / name for name in CT_FILES if (path / name).is_file()]
        if case:
            return case[:1]
        entries = sorted(path.iterdir())
        found = [entry for entry in entries if entry.is_file() and entry.name.endswith(NIFTI_SUFFIXES)]
        for entry in entries:
            found += [entry / name for name in CT_FILES if (entry / name).is_file()][:1]
        if not found:
            for entry in entries[:20]:  # enough to recognise a folder of slices
                _refuse_dicom(entry)
        return found
    if any(character in str(path) for character in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        matches = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
        return [file for match in matches for file in _files_at(match)]
    raise FluoroError(f"{path}: no such file or folder", "check the path")


def _refuse_dicom(path: Path) -> None:
    if not path.is_file() or path.name.endswith(NIFTI_SUFFIXES):
        return
    with open(path, "rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM" or path.suffix.lower() in {".dcm", ".ima"}
    if is_dicom:
        raise FluoroError(f"{path}: is DICOM, NIfTI is needed", f"convert it first: dcm2niix -z y {path.parent}")


def _is_label(file: Path, labels: Path, scans: Path) -> bool:
    file, labels = file.resolve(), labels.resolve()
    return file == labels or (labels in file.parents and scans.resolve() in labels.parents)

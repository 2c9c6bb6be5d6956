"""What a case is: one scan, its labels and what they are, in a folder written whole or not at all."""

import os
import shutil
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.artefacts import TEMPORARY, read_header, sha256_of, write_json
from fluorosam_cli.contracts import Case, CaseQuality, CaseStructure, Segmenter
from fluorosam_cli.ct.scans import Scan
from fluorosam_cli.ct.volume import (
    LPS_FROM_RAS,
    Direction,
    Volume,
    border_directions,
    label_counts,
    write_nifti,
)

HEADER = "case.json"


def write_case(
    out: Path,
    scan: Scan,
    ct: Volume,
    labels: Volume,
    segmenter: Segmenter,
    found: list[CaseStructure],
    quality: CaseQuality | None = None,
) -> Case:
    """Write the folder `out/NAME` whole or not at all, replacing an earlier one; its header is written last.

    `found` are its structures as `describe_structures` has them.
    """
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
            source_sha256=scan.sha256(),
            ct_sha256=sha256_of(growing / "ct.nii.gz"),
            labels_sha256=sha256_of(growing / "labels.nii.gz"),
            segmenter=segmenter,
            structures=found,
            quality=quality,
        )
        write_json(growing / HEADER, case)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(growing, folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return case


def is_finished(out: Path, scan: Scan, segmenter: Segmenter) -> bool:
    """Whether an earlier run wrote this case from the same scan in the same way; other versions count as the same."""
    header = out / scan.name / HEADER
    if not header.is_file():
        return False
    case = read_header(header, Case)
    same = case.segmenter.model_copy(update={"version": segmenter.version}) == segmenter
    return same and case.source_sha256 == scan.sha256()


def describe_structures(labels: Volume, borders: dict[Direction, np.ndarray] | None = None) -> list[CaseStructure]:
    """What a label volume of our ids holds: volumes, and the borders of the scan that each structure touches.

    `borders` are the scan's, as `Volume.borders` has them.
    """
    counts = label_counts(labels.array)
    at_borders: dict[Direction, np.ndarray] = (
        {direction: labels.array.take(voxels) for direction, voxels in borders.items()}
        if borders
        else {
            direction: labels.array.take(index, axis=axis)
            for (axis, index), direction in border_directions(labels.world_from_voxel).items()
        }
    )
    touched: dict[Direction, set[int]] = {
        direction: set(np.unique(ids).tolist()) for direction, ids in at_borders.items()
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

"""A schematic chest as a case, and what a rendered folder holds."""

import hashlib
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_lines, sha256_of, write_json
from fluorosam_cli.contracts import Case, CaseStructure, Segmenter, View
from fluorosam_cli.ct.volume import Volume, write_nifti

SPACING_MM = 8.0
ORIGIN_LPS_MM = (-124.0, -80.0, 1000.0)
BLOCKS = {  # slices z, y, x of a box of 32 x 20 x 32 voxels: a chest with its left lung larger, and a marked heart
    "lung_upper_lobe_left": (slice(16, 30), slice(4, 16), slice(18, 29)),
    "lung_lower_lobe_left": (slice(2, 16), slice(4, 16), slice(18, 29)),
    "lung_upper_lobe_right": (slice(16, 30), slice(4, 16), slice(4, 13)),
    "lung_lower_lobe_right": (slice(2, 16), slice(4, 16), slice(4, 13)),
    "heart": (slice(4, 12), slice(3, 8), slice(14, 20)),
    "vertebrae_T8": (slice(14, 17), slice(14, 18), slice(14, 18)),
    "vertebrae_T9": (slice(10, 13), slice(14, 18), slice(14, 18)),
    "aorta": (slice(0, 20), slice(12, 14), slice(15, 17)),
}
HU = {"lung": -850, "soft": 40, "bone": 500, "air": -1000}


def write_body(folder: Path, name: str, blocks: dict = BLOCKS) -> Path:
    hu = np.full((32, 20, 32), -1000, np.int16)
    hu[:, 2:18, 2:30] = 20
    labels = np.zeros(hu.shape, np.uint8)
    for structure_name, block in blocks.items():
        known = structure(structure_name)
        hu[block], labels[block] = HU[known.material], known.label_id
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = ORIGIN_LPS_MM
    case = folder / name
    write_nifti(case / "ct.nii.gz", Volume(hu, affine))
    write_nifti(case / "labels.nii.gz", Volume(labels, affine))
    write_json(
        case / "case.json",
        Case(
            name=name,
            shape_zyx=(32, 20, 32),
            spacing_zyx_mm=(SPACING_MM,) * 3,
            world_from_voxel=affine.tolist(),
            source_sha256=hashlib.sha256(name.encode()).hexdigest(),
            ct_sha256=sha256_of(case / "ct.nii.gz"),
            labels_sha256=sha256_of(case / "labels.nii.gz"),
            segmenter=Segmenter(name="phantom", version="1", task="test"),
            structures=[
                CaseStructure(
                    label_id=structure(name).label_id,
                    name=name,
                    snomed_ct=None,
                    volume_ml=1.0,
                    cut_by=["inferior"] if name == "aorta" else [],
                )
                for name in blocks
            ],
        ),
    )
    return case


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but those of the one file that may differ."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def views_of(folder: Path) -> list[View]:
    return list(read_lines(folder / "views.jsonl", View))

"""Tiny scans of noise and their labels, as NIfTI files for tests."""

from pathlib import Path

import nibabel
import numpy as np

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import sha256_of

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])  # voxel x grows to the patient's left, y to posterior, z to superior
SHAPE = (8, 9, 10)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def hu(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def ids() -> np.ndarray:
    """Spleen inside, liver at the left border, left femur at the right, anterior and inferior borders."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:5, 3:5, 3:5] = structure("spleen").label_id
    labels[6:8, 3:5, 3:5] = structure("liver").label_id
    labels[0:2, 0:2, 0:2] = structure("femur_left").label_id
    return labels


def contents(folder: Path) -> dict[str, str]:
    """Every file but run.json and the like, which hold the time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("run"))
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}

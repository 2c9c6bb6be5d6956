from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.ct.phantom import make_phantom
from fluorosam_cli.ct.volume import HU_MIN, Volume, standardise
from tests.ct import label_volumes, labelled_scans
from tests.volumes import read_nifti


@pytest.fixture(scope="session")
def torso() -> tuple[Volume, Volume]:
    """The scan of a phantom without table, and its labels."""
    return on_standard_grid("torso")


@pytest.fixture(scope="session")
def legs() -> tuple[Volume, Volume]:
    return on_standard_grid("legs")


def on_standard_grid(region: str) -> tuple[Volume, Volume]:
    made = make_phantom(0, 0, region, 5.0)
    return standardise(made.scan, fill=HU_MIN), standardise(made.labels, fill=0, nearest=True)


@pytest.fixture
def scans(tmp_path) -> Path:
    """Three scans and their labels: `scans/{a,b,c}.nii.gz`, `scans/labels/{a,b,c}.nii.gz`."""
    for seed, name in enumerate("abc"):
        labelled_scans.save(tmp_path / "scans" / f"{name}.nii.gz", labelled_scans.hu(seed))
        labelled_scans.save(tmp_path / "scans" / "labels" / f"{name}.nii.gz", labelled_scans.ids())
    return tmp_path / "scans"


@pytest.fixture
def ct(tmp_path) -> Volume:
    """A scan for the label volumes below."""
    path = label_volumes.save(tmp_path / "ct.nii.gz", np.full(label_volumes.SHAPE, -50, np.int16))
    return standardise(read_nifti(path), fill=0)


@pytest.fixture
def ids() -> np.ndarray:
    """Ids 0, 1, 2, 3 in some pattern."""
    return (np.arange(np.prod(label_volumes.SHAPE)).reshape(label_volumes.SHAPE) % 4).astype(np.uint8)

from pathlib import Path

import pytest

from fluorosam_cli.ct.phantom import make_phantom
from fluorosam_cli.ct.volume import HU_MIN, Volume, standardise
from tests.ct.labelled_scans import hu, ids, save


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
        save(tmp_path / "scans" / f"{name}.nii.gz", hu(seed))
        save(tmp_path / "scans" / "labels" / f"{name}.nii.gz", ids())
    return tmp_path / "scans"

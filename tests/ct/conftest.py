import pytest

from fluorosam_cli.ct.phantom import make_phantom
from fluorosam_cli.ct.volume import HU_MIN, Volume, standardise


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

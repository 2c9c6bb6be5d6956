"""What a tilted gantry's slices cut: the scan ends at their borders, not at those of the straightened grid."""

from itertools import product

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Case
from fluorosam_cli.ct.cases import describe_structures
from fluorosam_cli.ct.volume import LPS_FROM_RAS, Volume, standardise
from tests.ct.labelled_scans import save

SHAPE = (12, 14, 30)  # x, y, z
AT = {  # x, y, z
    "spleen": (slice(4, 8), slice(5, 9), slice(10, 20)),
    "liver": (slice(4, 8), slice(0, 3), slice(10, 20)),
    "stomach": (slice(4, 8), slice(11, 14), slice(10, 20)),
    "pancreas": (slice(0, 3), slice(5, 9), slice(10, 20)),
    "colon": (slice(9, 12), slice(5, 9), slice(10, 20)),
    "aorta": (slice(5, 7), slice(10, 11), slice(0, 4)),
    "trachea": (slice(5, 7), slice(3, 4), slice(26, 30)),
}
CUT_BY = {
    "spleen": [],
    "liver": ["anterior"],
    "stomach": ["posterior"],
    "pancreas": ["right"],
    "colon": ["left"],
    "aorta": ["inferior"],
    "trachea": ["superior"],
}


def tilted(tilt_deg: float) -> np.ndarray:
    """Slices of 2 mm pixels turned about x, 3 mm apart along z, in LPS."""
    matrix = np.diag([2.0, 2, 3, 1])
    matrix[1:3, 1] = 2 * np.cos(np.radians(tilt_deg)), 2 * np.sin(np.radians(tilt_deg))
    return matrix


def ids() -> np.ndarray:
    """(x, y, z)"""
    array = np.zeros(SHAPE, np.uint8)
    for name, block in AT.items():
        array[block] = structure(name).label_id
    return array


def cut_by(found) -> dict[str, list[str]]:
    return {entry.name: entry.cut_by for entry in found}


@pytest.mark.parametrize("tilt_deg", [0, 4, 15, -25])
def test_what_the_slices_cut_is_cut(fluoro, tmp_path, tilt_deg):
    affine = LPS_FROM_RAS @ tilted(tilt_deg)
    hu = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)
    save(tmp_path / "a.nii.gz", hu, affine)
    save(tmp_path / "l.nii.gz", ids(), affine)
    words = ["--labels", tmp_path / "l.nii.gz", "--keep-table", "-o", tmp_path / "ct"]
    code, _, err = fluoro("segment-ct", tmp_path / "a.nii.gz", *words)
    assert code == 0, err
    assert cut_by(read_header(tmp_path / "ct" / "a" / "case.json", Case).structures) == CUT_BY


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_it_is_so_however_the_axes_are_stored(order):
    for flipped in product([False, True], repeat=3):
        moved = np.eye(4)[:, [*order, 3]]
        array = ids().transpose(order)
        for axis in np.flatnonzero(flipped):
            array = np.flip(array, axis)
            moved = moved @ _mirror(axis, array.shape[axis])
        matrix = tilted(15) @ moved
        straight = standardise(Volume(array.T, matrix), fill=0, nearest=True)
        assert cut_by(describe_structures(straight, straight.borders)) == CUT_BY


def _mirror(axis: int, size: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, size - 1
    return matrix


def test_a_straight_scan_has_the_borders_of_its_grid():
    assert standardise(Volume(ids().T, tilted(0)), fill=0).borders is None

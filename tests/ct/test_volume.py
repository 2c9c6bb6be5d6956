"""HU, NIfTI out, handedness of borders and corners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluorosam_cli.ct.volume import (
    HU_MAX,
    HU_MIN,
    Volume,
    border_directions,
    check_grid,
    check_hu,
    corner_distance_mm,
    label_counts,
    plane_to_hu,
    write_nifti,
)
from fluorosam_cli.errors import FluoroError
from tests.volumes import read_nifti


def ramp(shape=(4, 5, 6), dtype=np.int16) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) - 60).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16])
def test_a_volume_is_read_back_as_it_was_written(tmp_path, dtype):
    volume = Volume(ramp(dtype=dtype), np.diag([-0.7, 0.8, 2.5, 1.0]))
    write_nifti(tmp_path / "a.nii.gz", volume)
    again = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.array.dtype == dtype
    np.testing.assert_allclose(again.world_from_voxel, volume.world_from_voxel, atol=1e-6)


def test_equal_volumes_give_equal_bytes(tmp_path):
    volume = Volume(ramp(), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_scan_has_no_more_voxels_than_the_projector_numbers():
    check_grid("a", (1024, 1024, 2047), np.eye(4))
    with pytest.raises(FluoroError, match="1024x1024x2048 voxels, at most 2147483647"):
        check_grid("a", (1024, 1024, 2048), np.eye(4))


def test_hu_are_rounded_clipped_and_freed_of_nan():
    hu = plane_to_hu(np.array([[-3000, -1000.4, 0.6, np.nan, 9000, np.inf, -np.inf]]))
    assert hu.dtype == np.int16
    assert hu.ravel().tolist() == [HU_MIN, -1000, 1, HU_MIN, HU_MAX, HU_MAX, HU_MIN]


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2), np.uint8), ramp(dtype=np.uint16) % 117, np.ones((2, 2, 2))])
def test_a_label_volume_or_an_mri_is_not_taken_for_a_ct(array):
    with pytest.raises(FluoroError, match=r"scan: values run from .* a CT in HU has some below 0"):
        check_hu(plane_to_hu(array), "scan")


def test_label_counts_are_numpys():
    array = np.random.default_rng(0).integers(0, 300, (3, 4, 5)).astype(np.uint16)
    counts = label_counts(array)
    np.testing.assert_array_equal(counts[:300], np.bincount(array.ravel(), minlength=300))
    assert counts.sum() == array.size


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_the_corners_of_a_shifted_grid_are_the_shift_apart():
    shifted = np.eye(4)
    shifted[:3, 3] = [0, 3, 4]
    assert corner_distance_mm(np.eye(4), shifted, (5, 6, 7)) == pytest.approx(5)


def test_the_corners_of_a_stretched_grid_differ_at_the_far_end():
    assert corner_distance_mm(np.eye(4), np.diag([1, 1, 1.01, 1]), (101, 6, 7)) == pytest.approx(1.0)


@given(order=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([-1, 1])] * 3), tilt=st.floats(-0.3, 0.3))
@settings(max_examples=60, deadline=None)
def test_borders_are_named_for_the_patient_in_every_orientation(order, signs, tilt):
    """A corner voxel lies further that way than the centre does, for the direction that its border is named."""
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    world_from_voxel = np.eye(4)
    world_from_voxel[:3, :3] = turn @ (np.eye(3)[:, order] * signs)
    towards = {"left": [1, 0, 0], "posterior": [0, 1, 0], "superior": [0, 0, 1]}
    towards |= {"right": [-1, 0, 0], "anterior": [0, -1, 0], "inferior": [0, 0, -1]}
    borders = border_directions(world_from_voxel)
    assert set(borders.values()) == set(towards)
    for (axis, index), direction in borders.items():
        step = world_from_voxel[:3, 2 - axis] * (1 if index == -1 else -1)
        assert step @ towards[direction] > 0.9

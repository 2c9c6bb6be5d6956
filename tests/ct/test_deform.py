"""Deformed bodies stay bodies: nothing folds, labels follow the tissue, sides stay sides."""

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.ct.deform import BEND_MM, SCALE, Deformation, deformed, draw_deformation
from fluorosam_cli.ct.phantom import make_phantom
from fluorosam_cli.ct.volume import Volume

CHEST_MM = (1400.0, 1150.0, 1000.0)


@pytest.fixture(scope="module")
def chest():
    phantom = make_phantom(0, 0, "chest", 6.0)
    return phantom.scan, phantom.labels.array


def displacement_mm(volume: Volume, deformation: Deformation) -> np.ndarray:
    """(3, z, y, x) at every voxel: what a volume that holds its own heights, say, has become."""
    axes = np.indices(volume.array.shape)[::-1].astype(np.float64)
    world = (
        np.tensordot(volume.world_from_voxel[:3, :3], axes, axes=1) + volume.world_from_voxel[:3, 3, None, None, None]
    )
    no_labels = np.zeros(volume.array.shape, np.uint8)
    moved = []
    for axis in world:
        low, step = axis.min(), np.ptp(axis) / 4000  # as int16, to a fraction of a mm
        coded = Volume(np.rint((axis - low) / step - 1000).astype(np.int16), volume.world_from_voxel)
        moved.append((deformed(coded, no_labels, deformation)[0].array + 1000) * step + low - axis)
    return np.array(moved)


def test_no_displacement_and_no_scale_change_nothing(chest):
    ct, labels = chest
    none = Deformation(np.ones(3), np.zeros((3, 2, 2, 2)), np.zeros(len(labels)))
    new, new_labels = deformed(ct, labels, none)
    np.testing.assert_array_equal(new.array, ct.array)
    np.testing.assert_array_equal(new_labels, labels)
    np.testing.assert_array_equal(new.world_from_voxel, ct.world_from_voxel)


def test_a_displacement_takes_each_voxel_from_where_it_says(chest):
    ct, labels = chest
    shift = np.array([12.0, -6.0, 18.0])  # LPS mm, whole voxels of 6 mm
    bend = np.broadcast_to(shift[:, None, None, None], (3, 2, 2, 2))
    new, new_labels = deformed(ct, labels, Deformation(np.ones(3), bend, np.zeros(len(labels))))
    steps = np.rint(np.linalg.solve(ct.world_from_voxel[:3, :3], shift)).astype(int)[::-1]
    there = tuple(slice(abs(n), -abs(n)) for n in steps)
    rolled = tuple(-steps)
    np.testing.assert_array_equal(new.array[there], np.roll(ct.array, rolled, (0, 1, 2))[there])
    np.testing.assert_array_equal(new_labels[there], np.roll(labels, rolled, (0, 1, 2))[there])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "chest_mm",
    [CHEST_MM, (1160.0, 1150.0, 1000.0), (1160.0, 1150.0, 1140.0), (1400.0, 1150.0, 1149.0), (1400.0, 1150.0, 1300.0)],
    ids=["whole", "lung bases and pelvis", "lung bases alone", "pelvis at the lungs", "pelvis among the lungs"],
)
def test_nothing_folds(chest, seed, chest_mm):
    ct, _ = chest
    deformation = draw_deformation(np.random.default_rng(seed), ct, chest_mm)
    inside = np.s_[4:-4, 8:-8, 8:-8]  # borders are repeated
    moved = displacement_mm(ct, deformation)
    assert 0.3 * BEND_MM < moved[:2].std() < 2 * BEND_MM
    spacing = ct.spacing_xyz_mm[0]
    slopes = [[np.gradient(u, spacing, axis=axis)[inside] for axis in (2, 1, 0)] for u in moved]
    jacobian = np.moveaxis(np.array(slopes), (0, 1), (-2, -1)) * np.sign(np.diag(ct.world_from_voxel)[:3]) + np.eye(3)
    volume = np.linalg.det(jacobian)
    assert volume.min() > 0.25
    assert volume.max() < 3


def test_labels_follow_their_tissue_and_sides_stay(chest):
    ct, labels = chest
    painted = Volume((labels.astype(np.int16) * 20), ct.world_from_voxel)
    for seed in range(3):
        deformation = draw_deformation(np.random.default_rng(seed), ct, CHEST_MM)
        new, new_labels = deformed(painted, labels, deformation)
        same = np.abs(new.array - new_labels.astype(np.int16) * 20) <= 10
        assert same[new_labels > 0].mean() > 0.5  # voxels between two labels hold a mixture
        ratio = np.diag(new.world_from_voxel)[:3] / np.diag(ct.world_from_voxel)[:3]
        assert ((ratio >= SCALE[0]) & (ratio <= SCALE[1])).all()
        x = {}
        for name in ("lung_upper_lobe_left", "lung_upper_lobe_right", "heart"):
            voxels = np.argwhere(new_labels == structure(name).label_id)[:, ::-1]
            x[name] = (voxels @ new.world_from_voxel[:3, :3].T + new.world_from_voxel[:3, 3])[:, 0].mean()
        assert x["lung_upper_lobe_right"] < x["heart"] < x["lung_upper_lobe_left"]  # LPS: left is positive


def test_breathing_moves_the_base_of_the_lungs_and_not_the_pelvis(chest):
    ct, _ = chest
    none = draw_deformation(np.random.default_rng(1), ct, None)
    some = draw_deformation(np.random.default_rng(1), ct, CHEST_MM)
    height = ct.world_from_voxel[2, 3] + ct.world_from_voxel[2, 2] * np.arange(len(ct.array))
    assert not none.breath_mm.any()
    assert abs(height[np.abs(some.breath_mm).argmax()] - CHEST_MM[1]) < 6
    assert not some.breath_mm[(height <= CHEST_MM[2]) | (height >= CHEST_MM[0])].any()

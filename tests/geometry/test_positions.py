"""Positions from a label volume: exact boxes, sampled voxels, and the heights where the scan cuts the body off."""

import numpy as np

from fluorosam_cli.geometry.positions import MAX_SAMPLES, anatomy_of

WORLD = np.array([[1.0, 0, 0, -20], [0, 1, 0, -30], [0, 0, 2, 100], [0, 0, 0, 1]])


def volume() -> np.ndarray:
    labels = np.zeros((40, 60, 50), np.uint8)
    labels[10:30, 20:40, 5:45] = 1
    labels[0:4, 2:4, 2:4] = 2
    return labels


def test_boxes_are_exact_and_points_lie_in_the_structure():
    labels = volume()
    found = anatomy_of(labels, WORLD, [("a", (1,)), ("both", (1, 2)), ("absent", (9,))])
    assert found.positions.keys() == {"a", "both"}
    here = found.positions["a"]
    assert np.array_equal(here.low, [-20 + 4.5, -30 + 19.5, 100 + 2 * 9.5])
    assert np.array_equal(here.high, [-20 + 44.5, -30 + 39.5, 100 + 2 * 29.5])
    voxels = np.rint((here.points - WORLD[:3, 3]) / np.diag(WORLD)[:3]).astype(int)
    assert (labels[tuple(voxels.T[::-1])] == 1).all()
    assert len(here.points) <= MAX_SAMPLES
    assert np.allclose(here.centre, (here.low + here.high) / 2, atol=1)
    assert np.array_equal(found.positions["both"].low, [-18.5, -28.5, 99])


def test_a_single_voxel_has_a_place():
    labels = np.zeros((40, 60, 50), np.uint16)
    labels[20, 50, 30] = 300
    place = anatomy_of(labels, WORLD, [("speck", (300,))]).positions["speck"]
    assert np.array_equal(place.points, [[10, 20, 140]])


def test_the_scan_ends_only_where_a_structure_touches_its_border():
    low, high = anatomy_of(volume(), WORLD, []).z_range_mm
    assert (low, high) == (99, np.inf)


def test_the_scans_end_is_found_on_flipped_and_turned_grids():
    labels = volume()
    flipped = WORLD.copy()
    flipped[2, 2], flipped[2, 3] = -2, 178
    assert anatomy_of(labels, flipped, []).z_range_mm == (-np.inf, 179)
    # the second voxel axis points to the head
    turned = np.array([[1.0, 0, 0, -20], [0, 0, 2, 100], [0, 1, 0, -30], [0, 0, 0, 1]])
    assert anatomy_of(labels, turned, []).z_range_mm == (-np.inf, np.inf)
    assert anatomy_of(labels.transpose(1, 0, 2), turned, []).z_range_mm == (-30.5, np.inf)

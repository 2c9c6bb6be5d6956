"""Solids against their formulas."""

import numpy as np
import pytest

from fluorosam_cli.tools import shapes


def test_round_solids_have_their_volumes():
    assert shapes.cylinder(3, 1, 11, segments=256).volume() == pytest.approx(np.pi * 90, rel=1e-3)
    assert shapes.ball(5, segments=128).volume() == pytest.approx(4 / 3 * np.pi * 125, rel=3e-3)
    assert shapes.ring(10, 2, 192, 96).volume() == pytest.approx(2 * np.pi**2 * 10 * 4, rel=2e-3)
    assert shapes.tube(4, 3, 0, 10, 256).volume() == pytest.approx(np.pi * 70, rel=1e-3)


def test_a_closed_sweep_is_a_torus_and_does_not_twist_open():
    angle = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    wobbly = np.stack([20 * np.cos(angle), 20 * np.sin(angle), 4 * np.sin(3 * angle)], 1)
    swept = shapes.sweep(wobbly, 1.5, closed=True, segments=48)
    length = np.linalg.norm(np.roll(wobbly, -1, 0) - wobbly, axis=1).sum()
    assert swept.volume() == pytest.approx(np.pi * 1.5**2 * length, rel=5e-3)
    assert swept.genus() == 1


def test_a_sweep_runs_from_end_to_end():
    path = shapes.arc((0, 0, 0), 30, 0, 120, 80)
    swept = shapes.sweep(path, 2, segments=48)
    assert swept.volume() == pytest.approx(np.pi * 4 * 30 * np.radians(120), rel=5e-3)


@pytest.mark.parametrize(("normal", "thick", "flat"), [("z", 2, (0, 1)), ("y", 1, (0, 2)), ("x", 0, (1, 2))])
def test_extrusion_keeps_the_outline_and_its_handedness(normal, thick, flat):
    solid = shapes.extrude(shapes.outline([(0, 0), (10, 0), (10, 4)]), 1, 3, normal)
    low, high = np.array(solid.bounding_box()).reshape(2, 3)
    assert (low[thick], high[thick]) == (1, 3)
    assert (low[list(flat)] == 0).all()
    assert tuple(high[list(flat)]) == (10, 4)
    assert solid.volume() == pytest.approx(40)
    corner = shapes.arrays_of(solid)[0]
    assert not ((corner[:, flat[0]] < 1) & (corner[:, flat[1]] > 3)).any()


def test_a_thread_is_right_handed():
    vertices, _ = shapes.arrays_of(shapes.threaded([(0, 2, 3), (20, 2, 3)], 4.0, segments=32))
    radius, angle = np.hypot(vertices[:, 0], vertices[:, 1]), np.arctan2(vertices[:, 1], vertices[:, 0])
    crest = (radius > 2.99) & (vertices[:, 2] > 4) & (vertices[:, 2] < 16)
    turns = (vertices[crest, 2] / 4.0 - angle[crest] / (2 * np.pi)) % 1
    assert np.ptp(turns) < 0.2  # all on one helix that rises with the angle


def test_bending_keeps_volume_and_stays_near_the_line():
    angle = np.linspace(0, np.pi / 2, 60)
    line = shapes.Line(np.stack([80 * np.cos(angle), 0 * angle, 80 * np.sin(angle)], 1))
    straight = shapes.tube(2, 1.5, 0, line.length_mm, 48)
    bent = line.bend(straight)
    assert bent.volume() == pytest.approx(straight.volume(), rel=2e-3)
    distance = np.hypot(*shapes.arrays_of(bent)[0][:, [0, 2]].T)
    assert 77.9 < distance.min() < distance.max() < 82.1


def test_placing_keeps_a_part_rigid_and_turns_its_axis_along_the_line():
    line = shapes.Line(np.linspace([0, 0, 0], [100, 0, 0], 5))
    placed = line.place(shapes.cylinder(1, 0, 10), 40)
    low, high = np.array(placed.bounding_box()).reshape(2, 3)
    assert (low[0], high[0]) == pytest.approx((40, 50))
    assert placed.volume() == pytest.approx(shapes.cylinder(1, 0, 10).volume())

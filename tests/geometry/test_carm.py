"""The C-arm's matrices: rigid, aimed, and never mirrored without saying so."""

from dataclasses import replace

import numpy as np
import pytest

from fluorosam_cli.geometry.carm import CArm, camera_axes, positioner_angles, project_points

ISOCENTER = (12.0, -30.0, 400.0)
AP = CArm(1000, 700, 180, 0, 101, 81, 2.0, ISOCENTER, "source")
PA = replace(AP, positioner_primary_angle_deg=0, seen_from="detector")


def seen_at(carm: CArm, *offsets_lps_mm: tuple[float, float, float]) -> np.ndarray:
    points = np.asarray(ISOCENTER) + np.asarray(offsets_lps_mm, float)
    return project_points(carm.intrinsic, carm.camera_from_world, points)


@pytest.mark.parametrize("primary", [-180, -90, -33, 0, 45, 90, 170])
@pytest.mark.parametrize("secondary", [-90, -40, 0, 25, 90])
def test_camera_is_a_rigid_motion_aimed_at_the_isocenter(primary, secondary):
    carm = replace(AP, positioner_primary_angle_deg=primary, positioner_secondary_angle_deg=secondary)
    rotation = carm.camera_from_world[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    in_camera = carm.camera_from_world @ [*ISOCENTER, 1]
    assert np.allclose(in_camera[:3], [0, 0, carm.source_to_isocenter_mm])
    assert np.allclose(carm.camera_from_world @ [*carm.source_lps_mm, 1], [0, 0, 0, 1])
    assert np.allclose(seen_at(carm, (0, 0, 0)), [[50, 40]])


def test_dicom_angles_say_where_the_detector_stands():
    """LAO +90: at the patient's left; 0: at the chest; CRA +90: at the head."""
    for primary, secondary, direction in [
        (0, 0, (0, -1, 0)),
        (90, 0, (1, 0, 0)),
        (-90, 0, (-1, 0, 0)),
        (180, 0, (0, 1, 0)),
        (0, 90, (0, 0, 1)),
        (0, -90, (0, 0, -1)),
    ]:
        carm = replace(AP, positioner_primary_angle_deg=primary, positioner_secondary_angle_deg=secondary)
        assert np.allclose(carm.beam_lps, direction)


@pytest.mark.parametrize("carm", [AP, PA], ids=["ap", "pa"])
def test_frontal_views_show_the_patients_left_on_the_right_and_the_head_on_top(carm):
    left, right, head, feet = seen_at(carm, (50, 0, 0), (-50, 0, 0), (0, 0, 50), (0, 0, -50))
    assert left[0] > 50 > right[0]
    assert head[1] < 40 < feet[1]


def test_left_lateral_shows_the_chest_on_the_left():
    """The usual hanging, patient facing left: as if standing where the detector is, at the patient's left side."""
    lateral = replace(PA, positioner_primary_angle_deg=90)
    front, back, head = seen_at(lateral, (0, -50, 0), (0, 50, 0), (0, 0, 50))
    assert front[0] < 50 < back[0]
    assert head[1] < 40


def test_seen_from_the_other_side_is_the_mirror_image_of_the_same_camera():
    other = replace(AP, seen_from="detector")
    offsets = np.random.default_rng(0).uniform(-60, 60, (50, 3))
    here, there = seen_at(AP, *offsets), seen_at(other, *offsets)
    assert np.array_equal(AP.camera_from_world, other.camera_from_world)
    assert np.allclose(here[:, 0] + there[:, 0], AP.detector_width_px - 1)
    assert np.allclose(here[:, 1], there[:, 1])


def test_magnification_is_source_to_detector_over_source_to_object():
    (x0, _), (x1, _) = seen_at(AP, (0, 0, 0), (10, 0, 0))
    assert (x1 - x0) * AP.pixel_spacing_mm == pytest.approx(10 * 1000 / 700)
    (x0, _), (x1, _) = seen_at(AP, (0, -100, 0), (10, -100, 0))  # nearer to the source of an AP view
    assert (x1 - x0) * AP.pixel_spacing_mm == pytest.approx(10 * 1000 / 600)


@pytest.mark.parametrize("primary", [-180, -90, 0, 37, 150])
@pytest.mark.parametrize("secondary", [-130, -90, -20, 0, 45, 90])
@pytest.mark.parametrize("rotation", [0, -75, 180])
def test_angles_come_back_from_the_axes(primary, secondary, rotation):
    """Not the numbers themselves (a secondary angle beyond 90 has another name), but the same camera."""
    axes = camera_axes(primary, secondary, rotation)
    found = positioner_angles(axes)
    assert np.allclose(camera_axes(*found), axes)
    assert -90 <= found[1] <= 90


def test_an_image_turned_by_90_has_at_its_top_what_lay_on_the_right():
    (left,) = seen_at(replace(AP, image_rotation_deg=90), (50, 0, 0))
    assert np.allclose(left[0], 50)
    assert left[1] < 40

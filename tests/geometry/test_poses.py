"""Poses from a file: a view's own matrices come back exactly, and what is wrong with a pose is said by its name."""

import json

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import CArm, project_points
from fluorosam_cli.geometry.poses import poses_of, read_poses

CARM = CArm(1100, 700, 37, -21, 320, 240, 0.9, (12.0, -30.0, 400.0), "detector", 12.0)


def good(**changes) -> dict:
    pose = {
        "name": "knee_1",
        "intrinsic": CARM.intrinsic.tolist(),
        "camera_from_world": CARM.camera_from_world.tolist(),
        "width": 320,
        "height": 240,
        "source_to_detector_mm": 1100,
    }
    return pose | changes


def write(folder, *poses: dict):
    path = folder / "poses.json"
    path.write_text(json.dumps({"format": "fluoro.poses/1", "poses": poses}))
    return path


def test_a_views_own_matrices_give_the_same_view(tmp_path):
    (camera,) = read_poses(write(tmp_path, good(kvp=60, mas=2.5)))
    points = np.random.default_rng(0).uniform(-100, 100, (1000, 3)) + CARM.isocenter_lps_mm
    ours = project_points(CARM.intrinsic, CARM.camera_from_world, points)
    assert np.array_equal(ours, project_points(camera.intrinsic, camera.camera_from_world, points))
    assert (camera.detector_width_px, camera.detector_height_px) == (320, 240)
    assert (camera.kvp, camera.mas) == (60, 2.5)
    assert camera.pixel_spacing_mm == pytest.approx(0.9)
    for name in ("positioner_primary_angle_deg", "positioner_secondary_angle_deg", "image_rotation_deg"):
        assert getattr(camera, name) == pytest.approx(getattr(CARM, name))


def test_the_isocentre_is_as_deep_as_the_bodys_middle_unless_the_file_says(tmp_path):
    plain, told = read_poses(write(tmp_path, good(), good(source_to_isocenter_mm=600)))
    around = plain.around(np.array(CARM.isocenter_lps_mm))
    assert around.source_to_isocenter_mm == pytest.approx(CARM.source_to_isocenter_mm)
    assert told.around(np.array(CARM.isocenter_lps_mm)).source_to_isocenter_mm == 600
    beyond = np.array(CARM.isocenter_lps_mm) + 5000 * np.array(CARM.beam_lps)
    assert plain.around(beyond).source_to_isocenter_mm == plain.source_to_detector_mm


def test_poses_may_be_meant_for_one_case(tmp_path):
    cameras = read_poses(write(tmp_path, good(), good(case="a"), good(case="b")))
    assert [camera.case for camera in poses_of(cameras, "b")] == [None, "b"]


MIRRORED = (np.diag([-1.0, 1, 1, 1]) @ CARM.camera_from_world).tolist()
SCALED = (np.diag([2.0, 2, 2, 1]) @ CARM.camera_from_world).tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"camera_from_world": MIRRORED}, "mirrors the patient"),
        ({"camera_from_world": SCALED}, "no rigid motion"),
        ({"camera_from_world": CARM.camera_from_world.T.tolist()}, "last row"),
        ({"camera_from_world": CARM.camera_from_world[:3].tolist()}, "3 x 4, expected 4 x 4"),
        ({"camera_from_world": [[1, 2], [3]]}, "expected 4 x 4"),
        ({"intrinsic": [[5, 0, 160], [0, 5, 120], [0, 0, 1]]}, "focal lengths are 5 and 5"),
        ({"intrinsic": [[1e6, 0, 160], [0, 1e6, 120], [0, 0, 1]]}, "focal lengths"),
        ({"intrinsic": [[900, 0, 160], [0, -900, 120], [0, 0, 1]]}, "second focal length"),
        ({"intrinsic": [[900, 0, 160], [0, 880, 120], [0, 0, 1]]}, "square pixels are needed"),
        ({"intrinsic": [[900, 0, 90000], [0, 900, 120], [0, 0, 1]]}, "central ray"),
        ({"intrinsic": [[900, 300, 160], [0, 900, 120], [0, 0, 1]]}, "skewed"),
        ({"width": 0}, "width"),
        ({"kvp": 900}, "kvp"),
        ({"fov": 3}, "fov"),
        ({"nearest_mm": 500, "farthest_mm": 400}, "farthest_mm"),
    ],
)
def test_what_is_wrong_is_said_by_the_poses_name(tmp_path, change, said):
    with pytest.raises(FluoroError, match=r"pose 2 \(bad\)") as raised:
        read_poses(write(tmp_path, good(), good(name="bad", **change)))
    assert said in raised.value.problem
    assert raised.value.hint
    assert "\n" not in raised.value.problem


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "fluoro.views/1"}', '{"format": "fluoro.poses/1"}'])
def test_a_file_that_is_no_poses_file_is_an_error_in_words(tmp_path, text):
    path = tmp_path / "poses.json"
    path.write_text(text)
    with pytest.raises(FluoroError, match=r"poses\.json"):
        read_poses(path)
    with pytest.raises(FluoroError, match="No such file"):
        read_poses(tmp_path / "absent.json")

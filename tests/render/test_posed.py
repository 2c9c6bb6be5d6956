"""`fluoro render --poses`: a pose that sees nothing of the body is told of before any picture is taken."""

import json

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.poses import Camera, read_poses
from tests.render.chest import ORIGIN_LPS_MM, SPACING_MM, views_of

BOX = (32, 16, 28)  # z, y, x: what is not air of the chest
FROM_VOXEL = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
FROM_VOXEL[:3, 3] = np.array(ORIGIN_LPS_MM) + SPACING_MM * np.array([2, 2, 0])
MIDDLE = (FROM_VOXEL @ [13.5, 7.5, 15.5, 1])[:3]
FROM_THE_FRONT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # rows: right, down, to the detector


def pose(name: str, rotation: np.ndarray = FROM_THE_FRONT, middle_mm=(0, 0, 700), **changes) -> dict:
    """A pose whose camera has the body's middle at `middle_mm`."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.array(middle_mm) - rotation @ MIDDLE
    made = {"name": name, "intrinsic": [[100, 0, 19.5], [0, 100, 15.5], [0, 0, 1]], "width": 40, "height": 32}
    return made | {"camera_from_world": matrix.tolist()} | changes


def write(path, *poses: dict):
    path.write_text(json.dumps({"format": "fluoro.poses/1", "poses": poses}))
    return path


def camera(folder, **changes) -> Camera:
    (read,) = read_poses(write(folder / "poses.json", pose("one", **changes)))
    return read


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"middle_mm": (0, 0, -700)}, "the whole body of chest lies behind the source"),
        ({"middle_mm": (500, 0, 700)}, r"no ray meets the body of chest, whose middle is at \(500, 0, 700\) mm"),
        ({"middle_mm": (0, 400, 700)}, "no ray meets the body"),
        ({"middle_mm": (150, 0, 0)}, "no ray meets the body"),  # the source beside the skin
        ({"nearest_mm": 900}, "no ray meets the body"),
        ({"farthest_mm": 500}, "no ray meets the body"),
        ({"intrinsic": [[100, 0, 150], [0, 100, 15.5], [0, 0, 1]]}, "no ray meets the body"),
    ],
)
def test_a_camera_that_sees_nothing_of_the_body_is_refused(tmp_path, changes, said):
    blind = camera(tmp_path, **changes)
    with pytest.raises(FluoroError, match=rf"poses\.json: pose 1 \(one\): {said}") as raised:
        blind.check_meets(BOX, FROM_VOXEL, "chest")
    assert raised.value.hint
    assert points_seen(blind) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"middle_mm": (0, 0, 0)},  # the source inside the body
        {"middle_mm": (0, 0, -60)},  # which lies behind it but for a little
        {"middle_mm": (240, 0, 700)},  # the edge of the picture
        {"nearest_mm": 690, "farthest_mm": 710},
        {"width": 1, "height": 1, "intrinsic": [[5, 0, 0], [0, 5, 0], [0, 0, 1]]},
        {"intrinsic": [[-100, 0, 19.5], [0, 100, 15.5], [0, 0, 1]]},
    ],
)
def test_a_camera_that_sees_some_of_it_is_not(tmp_path, changes):
    seen = camera(tmp_path, **changes)
    seen.check_meets(BOX, FROM_VOXEL, "chest")
    assert points_seen(seen) > 0


def points_seen(camera: Camera) -> int:
    """How many corners and centres of voxels, and points halfway between them, the picture shows."""
    z, y, x = np.indices([2 * size + 1 for size in BOX]).reshape(3, -1) / 2 - 0.5
    points = (camera.camera_from_world @ FROM_VOXEL @ [x, y, z, np.ones_like(x)])[:3]
    points = points[:, (points[2] > camera.nearest_mm) & (points[2] < camera.farthest_mm)]
    column, row, depth = camera.intrinsic @ points
    width, height = camera.detector_width_px, camera.detector_height_px
    across, down = column / depth - (width - 1) / 2, row / depth - (height - 1) / 2
    return int(((np.abs(across) < width / 2) & (np.abs(down) < height / 2)).sum())


def test_a_pose_that_looks_away_is_one_error_before_any_picture(cases, tmp_path, fluoro):
    away = np.diag([1.0, -1, -1]) @ FROM_THE_FRONT  # y up and z to the viewer, as OpenGL has it
    good = write(tmp_path / "good.json", pose("front"))
    bad = write(tmp_path / "bad.json", pose("front"), pose("away", away, (0, 0, -700)))
    code, _, err = fluoro("render", cases / "one", "--poses", good, "-o", tmp_path / "good")
    assert code == 0, err
    (view,) = views_of(tmp_path / "good")
    assert view.structures
    assert view.source_to_isocenter_mm == pytest.approx(700, abs=1)
    code, _, err = fluoro("render", cases / "one", "--poses", bad, "-o", tmp_path / "bad")
    assert code == 1
    assert "bad.json: pose 2 (away): the whole body of one lies behind the source" in err.splitlines()[-2]
    assert err.splitlines()[-1].startswith("hint: ")
    assert not list((tmp_path / "bad").rglob("*.png"))

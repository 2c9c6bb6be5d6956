"""What the options of `fluoro render` do, and refuse."""

import json

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Views
from fluorosam_cli.render import TERMS
from tests.render.chest import views_of


def test_views_asked_for_that_a_case_does_not_allow_are_listed(cases, tmp_path, fluoro):
    words = ("--view", "chest_pa", "--view", "knee_ap_left", "--views", 2, "--size", 48, "-o", tmp_path / "views")
    code, _, err = fluoro("render", cases / "one", *words)
    assert code == 1
    assert "one: no view knee_ap_left: for want of" in err
    assert {view.view for view in views_of(tmp_path / "views")} == {"chest_pa"}


def test_random_views_beside_named_ones(cases, tmp_path, fluoro):
    words = ("--view", "chest_pa", "--random-share", 0.5, "--views", 12, "--size", 16, "-o", tmp_path / "views")
    code, _, err = fluoro("render", cases / "one", *words)
    assert code == 0, err
    names = [view.view for view in views_of(tmp_path / "views")]
    assert set(names) == {"chest_pa", "random"}
    assert 3 <= names.count("random") <= 9


def test_poses_are_rendered_as_given(cases, tmp_path, fluoro):
    assert fluoro("render", cases / "one", "--views", 1, "--size", 48, "-o", tmp_path / "views")[0] == 0
    (view,) = views_of(tmp_path / "views")
    pose = {"name": "mine", "intrinsic": view.intrinsic, "camera_from_world": view.camera_from_world, "kvp": 77}
    poses = tmp_path / "poses.json"
    poses.write_text(json.dumps({"format": "fluoro.poses/1", "poses": [pose | {"width": 48, "height": 40}]}))
    code, _, err = fluoro(
        "render", cases / "one", "--poses", poses, "-o", tmp_path / "posed", "--without", "collimation"
    )
    assert code == 0, err
    (posed,) = views_of(tmp_path / "posed")
    assert (posed.view, posed.kvp, posed.width, posed.height) == ("mine", 77, 48, 40)
    assert posed.camera_from_world == view.camera_from_world
    assert Image.open(tmp_path / "posed" / posed.image).size == (48, 40)


@pytest.mark.parametrize(
    "option",
    [
        ("--views", 10),
        ("--size", 512),
        ("--view", "chest_pa"),
        ("--random-share", 0.0),
        ("--augment-anatomy", 1),
    ],
)
def test_poses_leave_nothing_to_be_aimed(cases, tmp_path, fluoro, option):
    code, _, err = fluoro("render", cases / "one", "--poses", "nowhere.json", "-o", tmp_path / "views", *option)
    assert code == 2
    assert f"--poses and {option[0]} exclude each other\nhint:" in err


def test_poses_that_are_not_there_are_said_so(cases, tmp_path, fluoro):
    code, _, err = fluoro("render", cases / "one", "--poses", "nowhere.json", "-o", tmp_path / "views")
    assert code == 1
    assert "nowhere.json: No such file" in err


def test_a_dry_run_counts_the_pixels_of_poses(cases, tmp_path, fluoro):
    pose = {"intrinsic": [[900, 0, 500], [0, 900, 250], [0, 0, 1]], "width": 1000, "height": 500}
    pose["camera_from_world"] = np.diag([1.0, 1, 1, 1]).tolist()
    (tmp_path / "poses.json").write_text(json.dumps({"format": "fluoro.poses/1", "poses": [pose, pose]}))
    code, printed, _ = fluoro("render", cases, "--poses", tmp_path / "poses.json", "--dry-run", "--json")
    assert code == 0
    assert json.loads(printed)["pixels_mb"] == 4.0  # two cases, two poses, two bytes a pixel


def test_the_defaults_given_are_the_defaults(cases, tmp_path, fluoro):
    words = ("render", cases / "one", "-o", tmp_path / "views")
    assert fluoro(*words, "--size", 32)[0] == 0
    assert len(views_of(tmp_path / "views")) == 10
    assert fluoro(*words, "--size", 32, "--views", 10, "--gpus", 0, "--resume")[0] == 0
    assert fluoro(*words, "--resume")[0] == 1, "512 is another size"


def test_tools_on_more_pixels_than_they_can_be_projected_on_are_refused_before_anything_is_made(
    cases, tmp_path, fluoro
):
    tools = ("--tools-per-view", "0-4", "-o", tmp_path / "views", "--dry-run")
    pose = {"intrinsic": [[9000, 0, 4000], [0, 9000, 1000], [0, 0, 1]], "width": 8192, "height": 2049}
    pose["camera_from_world"] = np.eye(4).tolist()
    (tmp_path / "poses.json").write_text(json.dumps({"format": "fluoro.poses/1", "poses": [pose]}))
    for words, found in ((("--size", 5000), "5000 x 5000"), (("--poses", tmp_path / "poses.json"), "8192 x 2049")):
        code, _, err = fluoro("render", cases, *words, *tools)
        assert code == 2
        assert f"{found} pixels: with tools at most 16777216 fit, 4096 x 4096\nhint: take a smaller size" in err
    assert fluoro("render", cases, "--size", 4096, *tools)[0] == 0


def test_a_pose_for_a_case_that_is_not_there_is_refused(cases, tmp_path, fluoro):
    pose = {"case": "nobody", "intrinsic": [[900, 0, 20], [0, 900, 20], [0, 0, 1]], "width": 40, "height": 40}
    pose["camera_from_world"] = np.diag([1.0, 1, 1, 1]).tolist()
    (tmp_path / "poses.json").write_text(json.dumps({"format": "fluoro.poses/1", "poses": [pose]}))
    code, _, err = fluoro("render", cases, "--poses", tmp_path / "poses.json", "-o", tmp_path / "views")
    assert code == 2
    assert "no case is called nobody" in err


def test_with_deepdrr_the_header_says_so_and_what_it_leaves_out(cases, tmp_path, fluoro, monkeypatch):
    class StandIn:
        def __init__(self, *_):
            self.close = list

        def transmission(self, intrinsic, camera_from_world, width, height, *_):
            return np.ones((height, width), np.float32)

    monkeypatch.setattr("fluorosam_cli.render.deepdrr.require_deepdrr", lambda: None)
    monkeypatch.setattr("fluorosam_cli.render.body.DeepDrr", StandIn)
    monkeypatch.setattr("fluorosam_cli.render.render.version", {"deepdrr": "1.2.3"}.get)
    words = ("--projector", "deepdrr", "--views", 2, "--size", 32, "--device", "cpu", "-o", tmp_path / "views")
    assert fluoro("render", cases / "one", *words)[0] == 0
    header = read_header(tmp_path / "views" / "views.json", Views)
    assert (header.projector.name, header.projector.version, header.without) == ("deepdrr", "1.2.3", sorted(TERMS))
    assert header.projector.materials == ["air", "soft tissue", "bone"]
    pose = {"intrinsic": [[100, 0, 16], [0, 100, 16], [0, 0, 1]], "width": 32, "height": 32, "farthest_mm": 900}
    pose |= {"name": "mine", "camera_from_world": np.eye(4).tolist()}
    (tmp_path / "poses.json").write_text(json.dumps({"format": "fluoro.poses/1", "poses": [pose]}))
    for views, said in (
        (("--view", "chest_pa", "--view", "hand_pa_left"), "hand_pa_left"),
        (("--poses", tmp_path / "poses.json"), f"{tmp_path}/poses.json: pose 1 (mine)"),
    ):
        code, _, err = fluoro("render", cases, "--projector", "deepdrr", "--dry-run", *views)
        assert code == 2
        assert f"error: --projector deepdrr shows the body at every depth, unlike {said}\nhint:" in err


def test_what_is_left_out_is_not_in_the_record_either(cases, tmp_path, fluoro):
    words = ("--views", 8, "--size", 32, "--without", "collimation", "--without", "grid", "--without", "heel")
    assert fluoro("render", cases / "one", *words, "-o", tmp_path / "views")[0] == 0
    assert fluoro("render", cases / "one", *words[:4], "-o", tmp_path / "all")[0] == 0
    for view in views_of(tmp_path / "views"):
        assert (view.collimation, view.grid_ratio, view.anode_side) == (None, 0.0, None)
    whole = views_of(tmp_path / "all")
    assert any(view.collimation for view in whole)
    assert all(view.anode_side for view in whole)


def test_finished_views_are_left_alone(cases, tmp_path, fluoro):
    words = ("render", cases / "one", "--views", 1, "--size", 32, "-o", tmp_path / "views")
    assert fluoro(*words)[0] == 0
    written = (tmp_path / "views" / "views.json").stat().st_mtime_ns
    assert fluoro(*words, "--resume")[0] == 0
    assert (tmp_path / "views" / "views.json").stat().st_mtime_ns == written


def test_the_raw_intensity_is_a_share_of_the_open_beam(cases, tmp_path, fluoro):
    words = ("--view", "chest_pa", "--views", 1, "--size", 64, "--raw", "--without", "noise", "--without", "scatter")
    code, _, err = fluoro("render", cases / "one", *words, "-o", tmp_path / "views")
    assert code == 0, err
    (view,) = views_of(tmp_path / "views")
    raw = np.asarray(Image.open(tmp_path / "views" / view.raw))
    assert (raw.dtype, raw.shape) == (np.float32, (64, 64))
    assert 0 <= raw.min() < 0.5 < raw.max() < 1.15  # more than the central ray gets, at the cathode side
    assert read_header(tmp_path / "views" / "views.json", Views).without == ["noise", "scatter"]


def test_only_the_tools_named_are_shown(cases, tmp_path, fluoro):
    words = (
        "--views",
        6,
        "--size",
        32,
        "--tools-per-view",
        "1-2",
        "--tools",
        "clothing_and_jewellery",
        "--tools",
        "ECG lead",
    )
    code, _, err = fluoro("render", cases / "one", *words, "-o", tmp_path / "views")
    assert code == 0, err
    shown = [tool for view in views_of(tmp_path / "views") for tool in view.tools]
    assert shown
    assert all(tool.family == "clothing_and_jewellery" or tool.name.startswith("ecg_lead") for tool in shown)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tools-per-view", "many"), "not a number of tools"),
        (("--tools-per-view", "4-2"), "not a number of tools"),
        (("--tools-per-view", "1", "--tools", "femur"), "neither a folder nor a tool of the catalogue"),
        (("--look", "pretty"), "'pretty' is not one of"),
        (("--without", "gravity"), "not a term of the physics"),
        (("--contrast", "liver"), "no liver to fill"),
        (("--contrast", "xyzzy"), "--contrast xyzzy: no known structure"),
        (("--gpus", "2", "--device", "cuda:1"), "exclude each other"),
        (("--integrals-size", "64"), "--integrals-size needs --integrals"),
        (("--tools-per-view", "²"), "not a number of tools"),
        (("--tools-per-view", "4-"), "not a number of tools"),
    ],
)
def test_options_that_make_no_sense_are_refused(cases, tmp_path, fluoro, words, message):
    code, _, err = fluoro("render", cases / "one", "--views", 1, "--size", 32, "-o", tmp_path / "views", *words)
    assert code in (1, 2)
    assert message in err
    assert "hint:" in err
    assert not (tmp_path / "views" / "views.json").exists()

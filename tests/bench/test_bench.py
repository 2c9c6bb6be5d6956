"""The benchmark's own arithmetic and geometry; the peers are only run by `make bench`."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fluorosam_cli.geometry.carm import project_points
from tests.bench import contenders
from tests.bench.rows import Row, keep, table
from tests.bench.scene import LABELS, SMALL, body, rays_of, write_scene

ABOUT = {"scale": "small", "cpu": "abacus"}


def test_a_goal_is_met_or_missed_or_unknown():
    faster = Row("a", 0.5, "s", "peer", 6.0, ratio_at_least=10)
    assert faster.ratio == 12
    assert (faster.goal, faster.met) == ("ratio >= 10", True)
    assert replace(faster, peer_value=4.0).met is False
    assert replace(faster, peer_value=None).met is None
    assert Row("b", 26.0, "%", value_at_most=25).met is False
    assert Row("c", None, "%", value_at_most=25).met is None
    assert "NO" in table([faster, Row("b", 26.0, "%", value_at_most=25)])


def test_rows_not_measured_again_stay_unless_scale_or_machine_changed(tmp_path):
    file = tmp_path / "bench.json"
    keep(file, [Row("a", 1.0, "s"), Row("b", 2.0, "s")], ABOUT)
    keep(file, [Row("b", 3.0, "s")], ABOUT)
    assert {row["name"]: row["value"] for row in json.loads(file.read_text())["rows"]} == {"a": 1.0, "b": 3.0}
    keep(file, [Row("c", 4.0, "s")], {**ABOUT, "cpu": "slide rule"})
    assert [row["name"] for row in json.loads(file.read_text())["rows"]] == ["c"]


def test_every_label_is_in_the_body():
    hu, labels = body(SMALL)
    assert np.array_equal(np.unique(labels), np.arange(LABELS + 1))
    assert hu.dtype == np.int16
    assert np.array_equal(body(SMALL)[0], hu)


@pytest.mark.parametrize("view", SMALL.views)
def test_the_peers_rays_end_in_the_pixels_of_our_matrices(view):
    rows = np.array([0, 17, 127])
    targets = rays_of(view).targets(128, rows)
    expected = np.stack(np.meshgrid(np.arange(128), rows), axis=-1).reshape(-1, 2)
    assert np.allclose(
        project_points(view.intrinsic, view.camera_from_world, targets.reshape(-1, 3)), expected, atol=1e-9
    )
    assert np.allclose(rays_of(view).source, view.source_lps_mm)


def test_a_contender_answers_and_one_that_cannot_start_says_why(tmp_path):
    write_scene(tmp_path, SMALL)
    ours, other = (contenders.Contender(name, tmp_path, "small") for name in ("siddon", "unheard of"))
    for contender in (ours, other):
        contender.wait_until_ready()
    seconds = ours.seconds(3)
    assert seconds is not None
    assert seconds > 0
    assert ours.picture(3).shape == (128, 128)
    assert ours.failure is None
    assert other.seconds(3) is None
    assert other.failure == "KeyError: 'unheard of'"
    for contender in (ours, other):
        contender.close()

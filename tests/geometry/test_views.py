"""Standard views lie where their structures are; random ones within reach; all of them follow from the seed."""

import numpy as np
import pytest

from fluorosam_cli.anatomy import structures
from fluorosam_cli.errors import UsageError
from fluorosam_cli.geometry.carm import project_points
from fluorosam_cli.geometry.views import (
    RANDOM,
    RANDOM_SECONDARY_DEG,
    Box,
    check_names,
    draw_view,
    jittered,
    placed,
    possible_views,
    random_view,
    standard_views,
)

HIPS = {
    "hip_left": Box(np.array([20.0, -60, 0]), np.array([160.0, 80, 210])),
    "hip_right": Box(np.array([-160.0, -60, 0]), np.array([-20.0, 80, 210])),
}
FEMUR = {"femur_left": Box(np.array([60.0, -40, -400]), np.array([150.0, 40, 40]))}
TIBIA = {"tibia_left": Box(np.array([60.0, -40, -800]), np.array([150.0, 40, -402]))}


def test_the_table_speaks_of_known_structures_and_sound_geometry():
    known = set(structures.names())
    names = [view.name for view in standard_views()]
    assert len(set(names)) == len(names)
    for view in standard_views():
        assert {*view.target, *view.needs} <= known
        assert 0 < view.isocenter_to_detector_mm < view.source_to_detector_mm / 2
        assert view.seen_from == ("source" if abs(view.primary_deg) > 90 else "detector"), (
            "hung as if facing the patient"
        )


def test_left_and_right_views_mirror_each_other():
    by_name = {view.name: view for view in standard_views()}
    for name, view in by_name.items():
        if name.endswith("_left") and name.removesuffix("_left") + "_right" in by_name:
            other = by_name[name.removesuffix("_left") + "_right"]
            assert np.isclose(np.cos(np.radians(view.primary_deg)), np.cos(np.radians(other.primary_deg)))
            assert np.isclose(np.sin(np.radians(view.primary_deg)), -np.sin(np.radians(other.primary_deg)))
            assert set(map(structures.mirrored, view.target)) == set(other.target)


def test_a_view_is_possible_only_with_all_its_structures():
    assert {"pelvis_ap", "pelvis_inlet"} <= {view.name for view in possible_views(HIPS)}
    assert not possible_views({"hip_left": HIPS["hip_left"]})
    assert "knee_ap_left" not in {view.name for view in possible_views(FEMUR)}
    assert "knee_ap_left" in {view.name for view in possible_views(FEMUR | TIBIA)}
    assert [view.name for view in possible_views(HIPS | FEMUR, ["pelvis_ap"])] == ["pelvis_ap"]


def test_a_stump_is_not_a_bone():
    stump = {"femur_left": Box(np.array([60.0, -40, 0]), np.array([150.0, 40, 40]))}
    assert "femur_ap_left" in {view.name for view in possible_views(FEMUR)}
    assert "femur_ap_left" not in {view.name for view in possible_views(stump)}


def test_views_are_centred_on_their_anchor():
    (pelvis,) = possible_views(HIPS, ["pelvis_ap"])
    assert placed(pelvis, HIPS, 256).isocenter_lps_mm == (0, 10, 105)
    (knee,) = possible_views(FEMUR | TIBIA, ["knee_ap_left"])
    assert placed(knee, FEMUR | TIBIA, 256).isocenter_lps_mm == (105, 0, -400 + knee.offset_z_mm)


def test_the_field_is_that_of_the_table_at_every_size():
    (pelvis,) = possible_views(HIPS, ["pelvis_ap"])
    for size in (64, 1000):
        carm = placed(pelvis, HIPS, size)
        assert carm.pixel_spacing_mm * size == pytest.approx(pelvis.field_mm)
        assert carm.detector_width_px == carm.detector_height_px == size


def test_jitter_stays_within_its_bounds_and_the_detector_behind_the_body():
    (view,) = possible_views(HIPS, ["pelvis_ap"])
    exact = placed(view, HIPS, 256)
    for seed in range(200):
        carm = jittered(np.random.default_rng(seed), exact, view)
        assert np.abs(np.subtract(carm.isocenter_lps_mm, exact.isocenter_lps_mm)).max() <= view.jitter_mm + 1e-3
        turned = (carm.positioner_primary_angle_deg - 180 + 180) % 360 - 180
        assert abs(turned) <= view.jitter_deg + 1e-3
        assert -180 <= carm.positioner_primary_angle_deg < 180
        assert carm.source_to_detector_mm - carm.source_to_isocenter_mm == pytest.approx(
            view.isocenter_to_detector_mm, abs=0.01
        )


def test_random_views_aim_into_a_structure_and_cover_all_directions():
    carms = [random_view(np.random.default_rng(seed), [FEMUR["femur_left"]], 128) for seed in range(400)]
    for carm in carms:
        assert (FEMUR["femur_left"].low <= carm.isocenter_lps_mm).all()
        assert (carm.isocenter_lps_mm <= FEMUR["femur_left"].high).all()
        assert abs(carm.positioner_secondary_angle_deg) <= RANDOM_SECONDARY_DEG
        beside = np.add(carm.isocenter_lps_mm, [[5, 0, 0], [-5, 0, 0]])
        left, right = project_points(carm.intrinsic, carm.camera_from_world, beside)
        assert left[0] > right[0], "the patient's left on the right"
    primary = np.array([carm.positioner_primary_angle_deg for carm in carms])
    assert np.histogram(primary, bins=8, range=(-180, 180))[0].min() > 25


def test_the_share_of_random_views_is_the_one_asked_for():
    possible = possible_views(HIPS)

    def share(wanted: float) -> float:
        names = [draw_view(np.random.default_rng([seed, 0]), HIPS, possible, wanted, 64)[0] for seed in range(500)]
        return names.count(RANDOM) / len(names)

    assert share(0) == 0
    assert share(1) == 1
    assert share(0.4) == pytest.approx(0.4, abs=0.07)


def test_equal_seeds_give_equal_views_and_unequal_ones_do_not():
    possible = possible_views(HIPS)
    views = [draw_view(np.random.default_rng([1, 2, i]), HIPS, possible, 0.4, 64) for i in (3, 3, 4)]
    assert views[0] == views[1] != views[2]


def test_an_unknown_view_is_named_with_its_neighbours():
    with pytest.raises(UsageError, match="chest_ab: not a known view") as raised:
        check_names(["chest_ab"])
    assert "chest_ap" in raised.value.hint
    check_names(["chest_pa", RANDOM])

"""Standard views lie where their structures are; random ones within reach; all of them follow from the seed."""

import numpy as np
import pytest

from fluorosam_cli.anatomy import structures
from fluorosam_cli.errors import UsageError
from fluorosam_cli.geometry.carm import CArm, project_points
from fluorosam_cli.geometry.parts import PARTS, part_axes
from fluorosam_cli.geometry.positions import Anatomy
from fluorosam_cli.geometry.views import (
    MAX_OUTSIDE_SHARE,
    RANDOM,
    RANDOM_SECONDARY_DEG,
    check_names,
    covered_share,
    draw_view,
    impossible_views,
    placed,
    possible_views,
    random_view,
    shows_something,
    standard_views,
    view_rows,
    why_not,
)
from tests.geometry.bodies import ARM, LEG, anatomy, box, limb

HIPS = {"hip_left": box((20, -60, 0), (160, 80, 210)), "hip_right": box((-160, -60, 0), (-20, 80, 210))}
FEMUR = {"femur_left": box((60, -40, -400), (150, 40, 40))}
BODY = anatomy(
    HIPS
    | limb(ARM, "left")
    | limb(ARM, "right")
    | limb({name: points for name, points in LEG.items() if name != "hip"}, "left")
    | limb({name: points for name, points in LEG.items() if name != "hip"}, "right")
)
VIEWS = {view.name: view for view in standard_views()}


def seen(carm: CArm, *points: np.ndarray) -> np.ndarray:
    """Where points lie in the image, in shares of its side from the top left."""
    pixels = project_points(carm.intrinsic, carm.camera_from_world, np.array(points))
    return (pixels + 0.5) / [carm.detector_width_px, carm.detector_height_px]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_speaks_of_known_structures_and_sound_geometry():
    known = set(structures.names())
    assert len(VIEWS) == len(standard_views())
    for view in standard_views():
        assert {*view.target, *view.needs} <= known
        assert view.part in PARTS
        assert 0 < view.isocenter_to_detector_mm < view.source_to_detector_mm / 2


USUAL = """
    chest_pa chest_ap chest_lateral_left chest_lateral_right chest_lao chest_rao chest_supine_portable skull_pa
    skull_lateral skull_towne skull_waters skull_caldwell cervical_ap cervical_lateral cervical_oblique_left
    thoracic_ap thoracic_lateral thoracic_oblique_right lumbar_ap lumbar_lateral lumbar_oblique_left
    shoulder_ap_left shoulder_grashey_right shoulder_scapular_y_left elbow_ap_left elbow_lateral_left
    elbow_oblique_left wrist_pa_left wrist_lateral_left wrist_oblique_left hand_pa_left hand_lateral_left
    hand_oblique_left abdomen_ap pelvis_ap pelvis_inlet pelvis_outlet pelvis_judet_iliac_left
    pelvis_judet_obturator_left hip_ap_left hip_frog_left hip_cross_table_left femur_ap_left femur_lateral_left
    knee_ap_left knee_lateral_left knee_sunrise_left ankle_ap_left ankle_mortise_left ankle_lateral_left
    foot_dp_left foot_oblique_left foot_lateral_left cardiac_lao_cranial cardiac_lao_caudal cardiac_rao_cranial
    cardiac_rao_caudal angio_head_ap
"""


def test_the_usual_radiographs_are_there():
    assert set(USUAL.split()) <= VIEWS.keys()


def test_the_listing_says_of_every_view_what_it_needs():
    rows = {row[0]: row for row in view_rows()}
    assert rows.keys() == {*VIEWS, RANDOM}
    assert "tarsal_left" in rows["ankle_mortise_left"][1]
    assert "cannot be spread" in rows["hip_frog_left"][4]
    assert all("\t" not in word and "\n" not in word for row in view_rows() for word in row)


def test_right_views_of_a_mirrored_body_are_the_mirror_images_of_left_ones():
    for name, view in VIEWS.items():
        if name.endswith("_left") and name.removesuffix("_left") + "_right" in VIEWS and why_not(view, BODY) is None:
            other = VIEWS[name.removesuffix("_left") + "_right"]
            here, there = placed(view, BODY, 100), placed(other, BODY, 100)
            points = np.random.default_rng(0).uniform(-60, 60, (20, 3)) + here.isocenter_lps_mm
            ours, theirs = seen(here, *points), seen(there, *(points * [-1, 1, 1]))
            assert np.allclose(ours[:, 0] + theirs[:, 0], 1, atol=1e-3), name
            assert np.allclose(ours[:, 1], theirs[:, 1], atol=1e-3), name


# --- what they show ---------------------------------------------------------------------------------------------------


def test_frontal_views_show_the_patients_left_on_the_right():
    for view in standard_views():
        if view.part == "body" and abs(np.cos(np.radians(view.primary_deg))) > 0.5 and why_not(view, BODY) is None:
            carm = placed(view, BODY, 64)
            left, right, head = seen(carm, *(np.array([(30, 0, 0), (-30, 0, 0), (0, 0, 30)]) + carm.isocenter_lps_mm))
            assert left[0] > right[0], view.name
            assert head[1] < 0.5, view.name


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "turn", [np.eye(3), [[0, 0, -1], [0, 1, 0], [1, 0, 0]], [[-1, 0, 0], [0, 1, 0], [0, 0, -1]]], ids=["", "out", "up"]
)
def test_a_hand_has_its_fingers_up_and_its_thumb_outside_however_the_arm_lies(side, turn):
    scan = anatomy(limb(ARM, side, np.array(turn, float), (30, -40, 500)))
    carm = placed(VIEWS[f"hand_pa_{side}"], scan, 200)
    at = {name: seen(carm, scan.positions[f"{name}_{side}"].centre)[0] for name in ARM}
    assert at["phalanges_hand"][1] < at["metacarpal"][1] < at["carpal"][1] < at["ulna"][1]
    thumb = seen(carm, scan.positions[f"phalanges_hand_{side}"].points[-1])[0]
    assert (thumb[0] > 0.5) == (side == "left"), "a left hand seen on its back, fingers up, has its thumb on the right"
    lateral = placed(VIEWS[f"hand_lateral_{side}"], scan, 200)
    beam = (np.array(turn, float) @ [1, 0, 0]) * (-1 if side == "left" else 1)
    assert np.dot(lateral.beam_lps, beam) > 0.97, "from the thumb's side"


def test_without_a_forearm_the_thumb_tells_the_hands_sides():
    whole = anatomy(limb(ARM))
    forearm = ("radius", "ulna", "humerus")
    alone = anatomy({name: place for name, place in whole.positions.items() if not name.startswith(forearm)})
    here, there = (placed(VIEWS["hand_pa_left"], scan, 64) for scan in (whole, alone))
    assert np.allclose(here.camera_from_world, there.camera_from_world, atol=0.05)


def test_elbow_and_knee_are_seen_from_the_front_however_the_limb_is_turned():
    for angle in (-40, 0, 40):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        arm, leg = anatomy(limb(ARM, turn=turn)), anatomy(limb(LEG, turn=turn))
        for scan, names in ((arm, ["elbow_ap_left"]), (leg, ["knee_ap_left", "femur_ap_left"])):
            for name in names:
                carm = placed(VIEWS[name], scan, 64)
                assert np.dot(carm.beam_lps, turn @ [0, 1, 0]) > 0.98, (name, angle)


def test_a_mortise_view_is_square_to_the_malleoli_and_an_ap_view_is_not():
    scan = anatomy(limb(LEG))
    line = part_axes("ankle", "left", scan.positions)[:, 0]
    assert abs(np.dot(placed(VIEWS["ankle_mortise_left"], scan, 64).beam_lps, line)) < 1e-3
    off = np.degrees(np.arcsin(np.dot(placed(VIEWS["ankle_ap_left"], scan, 64).beam_lps, line)))
    assert off == pytest.approx(16, abs=0.1), "the foot straight ahead; the mortise needs it turned in by that much"


def test_judet_views_turn_the_right_way():
    """Iliac oblique: the side named lies on the detector; obturator oblique: it is raised."""
    here = np.array(HIPS["hip_left"].centre)
    for name, nearer in (("pelvis_judet_iliac_left", True), ("pelvis_judet_obturator_left", False)):
        carm = placed(VIEWS[name], anatomy(HIPS), 64)
        depth = (carm.camera_from_world @ [*here, 1])[2] - (carm.camera_from_world @ [*HIPS["hip_right"].centre, 1])[2]
        assert (depth > 0) == nearer
        assert carm.beam_lps[1] > 0, "patient supine, tube in front"


def test_inlet_looks_down_and_outlet_up():
    assert placed(VIEWS["pelvis_inlet"], anatomy(HIPS), 64).beam_lps[2] < -0.5
    assert placed(VIEWS["pelvis_outlet"], anatomy(HIPS), 64).beam_lps[2] > 0.5


def test_the_body_behind_a_limb_is_not_in_the_beam():
    carm = placed(VIEWS["elbow_lateral_left"], BODY, 64)
    at = (carm.camera_from_world @ [*BODY.positions["hip_left"].centre, 1])[2]
    assert carm.nearest_mm == 0
    assert carm.source_to_isocenter_mm < carm.farthest_mm <= carm.source_to_detector_mm < at + 1000
    assert placed(VIEWS["pelvis_ap"], BODY, 64).farthest_mm == np.inf


# --- which are possible -----------------------------------------------------------------------------------------------


def test_a_view_is_possible_only_with_all_its_structures():
    assert {"pelvis_ap", "pelvis_inlet"} <= {view.name for view in possible_views(anatomy(HIPS))}
    assert "pelvis_ap" not in {view.name for view in possible_views(anatomy({"hip_left": HIPS["hip_left"]}))}
    assert [view.name for view in possible_views(anatomy(HIPS | FEMUR), ["pelvis_ap"])] == ["pelvis_ap"]


def test_the_reason_is_given_for_each_view_that_is_not():
    stump = {"femur_left": box((60, -40, 0), (150, 40, 40))}
    reasons = impossible_views(anatomy(HIPS | stump), ["pelvis_ap", "femur_ap_left", "knee_ap_left", RANDOM])
    assert reasons == {
        "femur_ap_left": "only 90 mm of femur_left in the scan, 200 mm are needed",
        "knee_ap_left": "for want of tibia_left",
    }


def test_views_are_centred_on_their_anchor():
    assert placed(VIEWS["pelvis_ap"], anatomy(HIPS), 256).isocenter_lps_mm == (0, 10, 105)
    leg = anatomy(limb(LEG))
    assert np.allclose(placed(VIEWS["knee_ap_left"], leg, 256).isocenter_lps_mm, (98.5, 0, 460), atol=3)
    assert placed(VIEWS["hip_ap_left"], leg, 256).isocenter_lps_mm[2] == pytest.approx(870, abs=3)


def test_the_field_is_that_of_the_table_at_every_size():
    for size in (64, 1000):
        carm = placed(VIEWS["pelvis_ap"], anatomy(HIPS), size)
        assert carm.pixel_spacing_mm * size == pytest.approx(430, rel=1e-3)
        assert carm.detector_width_px == carm.detector_height_px == size


def heights(carm: CArm) -> tuple[float, float]:
    """The heights at the isocentre of the lower and the upper edge of an upright view's field."""
    half = (
        carm.pixel_spacing_mm * carm.detector_height_px * carm.source_to_isocenter_mm / carm.source_to_detector_mm / 2
    )
    return carm.isocenter_lps_mm[2] - half, carm.isocenter_lps_mm[2] + half


def test_a_view_moves_away_from_where_the_scan_ends_and_then_collimates():
    pelvis = VIEWS["pelvis_ap"]
    free = heights(placed(pelvis, anatomy(HIPS), 64))
    below_cut = placed(pelvis, anatomy(HIPS, low=-40), 64)
    assert heights(below_cut)[0] == pytest.approx(-40, abs=0.1)
    assert heights(below_cut)[1] - heights(below_cut)[0] == pytest.approx(free[1] - free[0], abs=0.1)
    both = placed(pelvis, anatomy(HIPS, low=-70, high=280), 64)
    assert heights(both)[0] >= -70.1
    assert heights(both)[1] <= 280.1
    assert covered_share(both, HIPS["hip_left"]) > 0.1


@pytest.mark.parametrize("parts", [("lung",), ("lung_upper_lobe", "lung_lower_lobe")], ids=["whole lungs", "lobes"])
def test_a_view_that_would_be_mostly_empty_is_given_up(parts):
    chest = {
        f"{part}_{side}": box((x, -80, 0), (x + 120, 80, 210))
        for part in parts
        for side, x in (("left", 20), ("right", -140))
    }
    assert why_not(VIEWS["chest_pa"], anatomy(chest, 0, 230)) is None
    reason = why_not(VIEWS["chest_pa"], anatomy(chest, 0, 120))
    assert reason is not None
    assert "the scan ends within its field" in reason


# --- draws ------------------------------------------------------------------------------------------------------------


def test_jitter_stays_within_its_bounds_and_the_detector_behind_the_body():
    view, scan = VIEWS["pelvis_ap"], anatomy(HIPS)
    exact = placed(view, scan, 256)
    carms = [placed(view, scan, 256, np.random.default_rng(seed)) for seed in range(200)]
    for carm in carms:
        assert np.abs(np.subtract(carm.isocenter_lps_mm, exact.isocenter_lps_mm)).max() <= view.jitter_mm + 1e-3
        turned = (carm.positioner_primary_angle_deg - 180 + 180) % 360 - 180
        assert abs(turned) <= view.jitter_deg + 1e-3
        assert -180 <= carm.positioner_primary_angle_deg < 180
        behind = carm.source_to_detector_mm - carm.source_to_isocenter_mm
        assert behind == pytest.approx(view.isocenter_to_detector_mm, abs=0.01)
    for varied in ("source_to_detector_mm", "pixel_spacing_mm", "positioner_secondary_angle_deg"):
        assert len({getattr(carm, varied) for carm in carms}) > 150


def test_random_views_aim_at_a_structure_and_cover_all_directions():
    femur = FEMUR["femur_left"]
    carms = [random_view(np.random.default_rng(seed), anatomy(FEMUR), 128) for seed in range(400)]
    for carm in carms:
        assert (femur.low <= np.add(carm.isocenter_lps_mm, 1e-3)).all()
        assert (np.subtract(carm.isocenter_lps_mm, 1e-3) <= femur.high).all()
        assert abs(carm.positioner_secondary_angle_deg) <= RANDOM_SECONDARY_DEG
        assert shows_something(carm, anatomy(FEMUR))
        left, right = seen(carm, *np.add(carm.isocenter_lps_mm, [[5, 0, 0], [-5, 0, 0]]))
        assert left[0] > right[0], "the patient's left on the right"
    primary = np.array([carm.positioner_primary_angle_deg for carm in carms])
    assert np.histogram(primary, bins=8, range=(-180, 180))[0].min() > 25


def test_random_views_are_drawn_again_until_they_show_something():
    """Of a speck alone nothing useful is seen; beside a femur, every view is one of the femur."""
    speck = {"gallbladder": box((0, 0, 700), (4, 4, 704))}
    assert not shows_something(random_view(np.random.default_rng(0), anatomy(speck), 64), anatomy(speck))
    for seed in range(30):
        carm = random_view(np.random.default_rng(seed), anatomy(speck | FEMUR), 64)
        assert covered_share(carm, FEMUR["femur_left"]) >= 0.01


def test_random_views_stay_in_the_scan():
    scan = anatomy(FEMUR, low=-400, high=40)
    for seed in range(40):
        low, high = heights(random_view(np.random.default_rng(seed), scan, 64))
        outside = max(0, -400 - low) + max(0, high - 40)
        assert outside <= (MAX_OUTSIDE_SHARE + 0.1) * (high - low)


def test_the_share_of_random_views_is_the_one_asked_for():
    scan: Anatomy = anatomy(HIPS)
    possible = possible_views(scan)

    def share(wanted: float) -> float:
        names = [draw_view(np.random.default_rng([seed, 0]), scan, possible, wanted, 64)[0] for seed in range(300)]
        return names.count(RANDOM) / len(names)

    assert share(0) == 0
    assert share(1) == 1
    assert share(0.4) == pytest.approx(0.4, abs=0.09)


def test_equal_seeds_give_equal_views_and_unequal_ones_do_not():
    scan = anatomy(HIPS)
    views = [draw_view(np.random.default_rng([1, 2, i]), scan, possible_views(scan), 0.4, 64) for i in (3, 3, 4)]
    assert views[0] == views[1] != views[2]


def test_an_unknown_view_is_named_with_its_neighbours():
    with pytest.raises(UsageError, match="chest_ab: not a known view") as raised:
        check_names(["chest_ab"])
    assert "chest_ap" in raised.value.hint
    check_names(["chest_pa", RANDOM])

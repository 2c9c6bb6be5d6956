from dataclasses import dataclass

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import names, side_of, structures
from fluorosam_cli.dataset.mirror import Mirror, telling_sides

ALL = [*names(), "femoral_nail"]
MIRROR = Mirror(ALL)


@dataclass
class View:
    structures: np.ndarray
    absent: np.ndarray


def view(*present: str, unknown: tuple[str, ...] = ()) -> View:
    there = {ALL.index(name) for name in present}
    not_known = there | {ALL.index(name) for name in unknown}
    return View(np.array(sorted(there)), np.array([i for i in range(len(ALL)) if i not in not_known]))


def test_sides_exchange_their_names():
    pairs = {"femur_left": "femur_right", "hand_right": "hand_left", "vertebrae_L3": "vertebrae_L3", "skin": "skin"}
    for name, other in {**pairs, "rib_left_5": "rib_right_5", "femoral_nail": "femoral_nail"}.items():
        assert MIRROR.other(np.array([ALL.index(name)])) == ALL.index(other)


def test_what_has_no_mirror_image_is_not_asked_for():
    alone = ["lung_middle_lobe_right", "atrial_appendage_left"]
    for name in [*alone, "colon", "small_bowel"]:
        assert MIRROR.allows(view("femur_left", name)) == (name not in alone)
        if name not in alone:
            assert MIRROR.other(np.array([ALL.index(name)])) == -1


def test_a_hand_may_be_flipped_and_a_chest_never():
    assert MIRROR.allows(view("radius_left", "hand_left", "skin", "femoral_nail"))
    assert MIRROR.allows(view("hip_left", "hip_right", "colon", "urinary_bladder"))
    for organ in ("liver", "heart", "spleen", "stomach", "aorta", "lungs", "lung_above_diaphragm_left", "kidney_left"):
        assert not MIRROR.allows(view("femur_left", organ))


def test_what_nobody_looked_for_may_be_there():
    assert not MIRROR.allows(view("clavicula_left", unknown=("heart",)))
    assert not Mirror(["clavicula_left", "clavicula_right"]).allows(View(np.array([0]), np.array([1])))


@pytest.mark.parametrize("material", ["lung", "air"])
def test_lungs_and_airways_tell_sides(material):
    assert {s.name for s in structures() if s.material == material} <= telling_sides()


def test_no_flipped_view_can_put_an_unpaired_organ_on_the_wrong_side():
    """Whatever a flipped view asks for is bone, or soft tissue with a partner or in the midline."""
    telling = telling_sides()
    for structure in structures():
        asked = MIRROR.other(np.array([ALL.index(structure.name)]))[0]
        if structure.name in telling:
            assert not MIRROR.allows(view(structure.name))
        elif asked >= 0 and side_of(structure.name):
            assert side_of(ALL[asked]) not in (None, side_of(structure.name))

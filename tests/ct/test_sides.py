"""Left and right told apart: limbs by their femur or their place, lungs and kidneys even where they touch."""

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import label_ids, structure, structures
from fluorosam_cli.ct.label_names import PAIRED, label_id_of
from fluorosam_cli.ct.sides import tell_sides
from fluorosam_cli.ct.volume import Volume

LIMB_BONES = range(118, 140)


def unsided(labels: Volume) -> Volume:
    table = np.arange(256, dtype=np.uint8)
    for entry in structures():
        if entry.label_id in LIMB_BONES:
            table[entry.label_id] = structure(entry.name.rpartition("_")[0]).label_id
    return Volume(table[labels.array], labels.world_from_voxel)


def only(labels: Volume, wanted) -> Volume:
    return Volume(np.where(np.isin(labels.array, list(wanted)), labels.array, 0), labels.world_from_voxel)


def test_limb_bones_get_the_side_of_the_femur_they_hang_on(legs):
    ct, labels = legs
    told = tell_sides(unsided(labels), ct)
    bones = ("tibia", "fibula", "patella", "tarsal")
    sided = np.isin(
        labels.array, [structure(f"{bone}_{side}").label_id for bone in bones for side in ("left", "right")]
    )
    assert sided.any()
    np.testing.assert_array_equal(told.array[sided], labels.array[sided])


def test_without_femora_the_body_s_middle_tells_the_legs_apart(legs):
    ct, labels = legs
    bones = only(labels, LIMB_BONES)
    np.testing.assert_array_equal(tell_sides(unsided(bones), ct).array, bones.array)


def test_one_leg_alone_has_no_side(legs):
    """Not even the scan tells, when it shows nothing else."""
    ct, labels = legs
    left = only(labels, [e.label_id for e in structures() if e.label_id in LIMB_BONES and e.side == "left"])
    hu = np.where(left.array > 0, ct.array, -1000)
    told = tell_sides(unsided(left), Volume(hu, ct.world_from_voxel))
    for name in ("tibia", "fibula"):
        assert (told.array == structure(name).label_id).any()
    assert not np.isin(told.array, [structure("tibia_right").label_id, structure("fibula_right").label_id]).any()


@pytest.mark.parametrize(("bone", "at"), [("ulna", 42), ("radius", 18), ("tibia", 40), ("fibula", 18)])
def test_a_bone_beside_the_middle_of_its_own_limb_has_no_side(bone, at):
    y, x = np.mgrid[:60, :60]
    shaft = np.broadcast_to(np.hypot(x - at, y - 30) < 6, (20, 60, 60))
    hu = np.where(shaft, 700, np.where(np.hypot(x - 30, y - 30) < 28, 40, -1000)).astype(np.int16)
    matrix = np.diag([2.0, 2, 2, 1])
    labels = np.where(shaft, structure(bone).label_id, 0).astype(np.uint8)
    told = tell_sides(Volume(labels, matrix), Volume(hu, matrix))
    np.testing.assert_array_equal(told.array, labels)


@pytest.mark.parametrize(("pair", "one"), [("lungs", "lung"), ("kidneys", "kidney")])
@pytest.mark.parametrize("with_spine", [True, False])
def test_a_pair_of_organs_is_told_apart(torso, pair, one, with_spine):
    ct, labels = torso
    array = np.where(np.isin(labels.array, label_ids("spine")) & with_spine, labels.array, 0)
    array[np.isin(labels.array, label_ids(pair))] = PAIRED[pair]
    told = tell_sides(Volume(array, labels.world_from_voxel), ct).array
    for side in ("left", "right"):
        expected = np.isin(labels.array, label_ids(f"{one}_{side}"))
        assert expected.any()
        wrong = np.count_nonzero((told == structure(f"{one}_{side}").label_id) != expected)
        assert wrong <= (0.01 * expected.sum() if one == "lung" else 0)  # where the lungs touch, some may go over


def test_organs_that_are_one_are_cut_at_the_middle():
    array = np.zeros((12, 12, 24), np.uint8)
    array[4:8, 4:8, 2:22] = PAIRED["kidneys"]
    matrix = np.diag([4.0, 4, 4, 1])  # x grows to the patient's left
    told = tell_sides(Volume(array, matrix), Volume(np.zeros(array.shape, np.int16), matrix)).array
    assert (told[5, 5, 2:12] == structure("kidney_right").label_id).all()
    assert (told[5, 5, 12:22] == structure("kidney_left").label_id).all()


@pytest.mark.parametrize(
    ("word", "name"),
    [("lung", "lungs"), ("Lungs", "lungs"), ("kidney", "kidneys"), ("both lungs", "lungs")],
)
def test_words_for_both(word, name):
    assert label_id_of(word) == PAIRED[name]


@pytest.mark.parametrize(
    ("word", "name"), [("Lung_L", "lung_left"), ("Kidney_R", "kidney_right"), ("right lung", "lung_right")]
)
def test_words_for_one(word, name):
    assert label_id_of(word) == structure(name).label_id


def test_labels_that_have_their_sides_are_passed_on(torso):
    ct, labels = torso
    assert tell_sides(labels, ct) is labels


def test_a_kidney_that_falls_between_the_voxels_of_the_coarse_grid_is_told():
    array = np.zeros((1, 60, 60), np.uint8)
    array[0, 9:12, 41:44] = PAIRED["kidneys"]
    volume = Volume(array, np.diag([0.7, 0.7, 5.0, 1.0]))
    told = tell_sides(volume, Volume(np.zeros(array.shape, np.int16), volume.world_from_voxel)).array
    np.testing.assert_array_equal(told == structure("kidney_left").label_id, array > 0)

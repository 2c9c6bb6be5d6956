import pytest

from fluorosam_cli.anatomy.structures import (
    display_name,
    groups,
    label_ids,
    mirrored,
    names,
    outlines,
    side_of,
    structure,
    structures,
)
from fluorosam_cli.errors import FluoroError


def test_ids_are_one_to_161_in_order_and_names_unique():
    assert [s.label_id for s in structures()] == list(range(1, 162))
    assert len({s.name for s in structures()}) == 161
    assert len(set(names())) == len(names())


def test_every_name_has_its_own_display_name():
    shown = [display_name(name) for name in names()]
    assert all(text and text == text.strip() for text in shown)
    assert len(set(shown)) == len(shown)


def test_sides_are_said_in_names_and_display_names():
    for name in names():
        said = [side for side in ("left", "right") if side in name.split("_")]
        assert [side_of(name)] == (said or [None])
        assert [word for word in ("left", "right") if word in display_name(name).split()] == said


def test_members_of_a_sided_group_lie_on_its_side():
    for group, members in groups().items():
        sides = {structure(member).side for member in members}
        if side_of(group):
            assert sides == {side_of(group)}
        elif sides - {None}:
            assert sides >= {"left", "right"}, group


def test_levels():
    assert structure("vertebrae_L3").level == "L3"
    assert structure("rib_right_7").level == "7"
    assert {s.level for s in structures() if s.name.startswith("rib_left")} == {str(n) for n in range(1, 13)}


def test_mirroring_twice_gives_the_name_back_and_keeps_the_groups():
    for name in names():
        assert mirrored(mirrored(name)) == name
    swapped = {"left": "right", "right": "left", None: None}
    for name in ("femur_left", "rib_right_3", "lung_left", "hand_right", "lung_upper_lobe_left"):
        assert side_of(mirrored(name)) == swapped[side_of(name)]
    assert {mirrored(member) for member in groups()["ribs_left"]} == set(groups()["ribs_right"])
    assert mirrored("spleen") == "spleen"


def test_a_group_is_its_members_and_an_unsided_bone_or_whole_lung_also_itself():
    assert label_ids("kidneys") == (2, 3)
    assert label_ids("lung_left") == (160, 10, 11)
    assert label_ids("lungs") == (10, 11, 12, 13, 14, 160, 161)
    assert set(label_ids("tibia")) == {118, 129, 149}
    assert label_ids("femur_left") == (75,)


def test_both_sides_carry_the_code_of_the_same_concept():
    for item in structures():
        assert (item.snomed_ct is None) == (item.snomed_term is None)
        if item.snomed_ct:
            assert item.snomed_ct.isdigit()
            assert verhoeff_is_valid(item.snomed_ct), item
        assert structure(mirrored(item.name)).snomed_ct == item.snomed_ct
    assert structure("femur_left").snomed_ct == "71341001"


def verhoeff_is_valid(digits: str) -> bool:
    """The check digit that ends every SNOMED CT identifier (Verhoeff 1969, the dihedral group of order ten)."""

    def product(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    def turned(digit: int, times: int) -> int:
        for _ in range(times):
            digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
        return digit

    total = 0
    for position, digit in enumerate(reversed(digits)):
        total = product(total, turned(int(digit), position % 8))
    return total == 0


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(FluoroError, match="femur_lef") as caught:
        structure("femur_lef")
    assert "femur_left" in caught.value.hint


def test_an_outline_is_drawn_from_known_structures_on_its_side():
    known = {item.name for item in structures()} | groups().keys()
    for name, sources in outlines().items():
        assert name not in known
        assert set(sources) <= known
        assert {side_of(source) for source in sources} == {side_of(name)}
        assert mirrored(name) in outlines()
    assert label_ids("lung_visible_left") == label_ids("lung_left")
    assert set(label_ids("mediastinum")) == {51, 52, 62}

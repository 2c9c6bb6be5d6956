import re
from collections import defaultdict

import pytest

from fluorosam_cli.anatomy import lexicon as anatomy
from fluorosam_cli.anatomy.wording import content_bag
from fluorosam_cli.text.phrases import matches, names, phrases_of, resolve
from fluorosam_cli.text.tool_words import (
    ambiguous_tools,
    base_words,
    designs,
    general_words,
    sized_words,
    use_words,
    words,
)
from fluorosam_cli.tools.catalogue import catalogue, families

FAMILY_MINIMUM, TOOL_MINIMUM = 12, 10  # phrases besides variants
TOOLS = general_words() | sized_words()
PHRASES = [(name, phrase) for name, phrases in TOOLS.items() for phrase in phrases]


def test_every_tool_design_and_family_has_enough_phrases():
    assert set(TOOLS) >= {*families(), *designs(), *(tool.name for tool in catalogue())}
    for name, phrases in TOOLS.items():
        least = FAMILY_MINIMUM if name in families() else TOOL_MINIMUM
        assert len({content_bag(phrase.text) for phrase in phrases}) >= least, name


def test_families_designs_and_tools_start_with_their_words():
    for family, name in families().items():
        assert phrases_of(family)[0].text == name
    for tool in catalogue():
        if tool.size:
            assert phrases_of(tool.name)[0].text == tool.display_name
            assert tool.size not in base_words(tool)


def test_no_name_is_both_anatomy_and_tool():
    assert len(names()) == len(set(names()))


def test_no_phrase_names_two_things_in_any_variant():
    owners = defaultdict(set)
    for name, phrase in PHRASES:
        owners[content_bag(phrase.text)].add(name)
    for name, phrases in anatomy.lexicon().items():
        for phrase in phrases:
            owners[content_bag(phrase.text)].add(name)
    assert {bag: found for bag, found in owners.items() if len(found) > 1} == {}
    for text, meant in ambiguous_tools().items():
        assert content_bag(text) not in owners, text
        assert len(set(meant)) > 1, text
        assert set(meant) <= set(general_words()), text


def test_no_test_phrase_is_a_variant_of_a_train_phrase():
    for phrases in TOOLS.values():
        train = {content_bag(phrase.text) for phrase in phrases if phrase.split == "train"}
        assert not [p for p in phrases if p.split == "test" and content_bag(p.text) in train]


def test_held_out_share():
    assert 0.12 < sum(phrase.split == "test" for _, phrase in PHRASES) / len(PHRASES) < 0.18
    assert all(any(phrase.split == "test" for phrase in phrases) for phrases in TOOLS.values())


def test_phrases_are_well_formed():
    for _, phrase in PHRASES:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ,.'/&()-]*", phrase.text), phrase
        assert "  " not in phrase.text


def test_a_tool_of_one_size_says_it_in_every_phrase():
    for tool in catalogue():
        digits = set(re.findall(r"\d+(?:\.\d+)?", tool.size))
        for phrase in phrases_of(tool.name) if tool.size else ():
            assert digits <= set(re.findall(r"\d+(?:\.\d+)?", phrase.text)), phrase


def test_the_table_knows_every_material_and_place():
    assert {material for tool in catalogue() for material in tool.materials.values()} == set(words()["materials"])
    assert {tool.placement for tool in catalogue()} == set(words()["places"])
    assert set(words()["families"]) <= set(families())


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("replaces a worn hip: stem, head", "that replaces a worn hip"),
        ("buried in small bones", "that is buried in small bones"),
        ("placed first, its head added later", "that is placed first"),
        ("a wire that does not slide back", "as a wire that does not slide back"),
        ("contraception", "for contraception"),
        ("in a pocket", "in a pocket"),
        ("", ""),
    ],
)
def test_uses_are_put_into_phrases(use, said):
    assert use_words(use) == said


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pedicle screw", "pedicle_screws"),
        ("any pedicle screw", "pedicle_screws"),
        ("the bone plates", "plates"),
        ("K-wire", "kirschner_wire"),
        ("Kirschner wires", "kirschner_wire"),
        ("DHS", "dynamic_hip_screw"),
        ("2.5mm drill bit", "drill_bit_2_5_mm"),
        ("drill bit, 2.5 mm", "drill_bit_2_5_mm"),
        ("retractor", "retractors"),
        ("left femur", "femur_left"),
    ],
)
def test_words_people_use(text, name):
    assert matches(text, 1)[0].name == name


def test_screws_are_ambiguous_between_families():
    assert resolve("screws") is None
    assert {match.name for match in matches("any screw", 2)} == {"bone_screws", "pedicle_screws"}
    assert {match.score for match in matches("any screw", 2)} == {matches("any screw", 1)[0].score}

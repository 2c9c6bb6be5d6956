import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.resources import files

import pytest

from fluorosam_cli.anatomy.lexicon import ambiguous, lexicon, split_of
from fluorosam_cli.anatomy.marks import marks
from fluorosam_cli.anatomy.structures import display_name, names, side_of, structures
from fluorosam_cli.anatomy.wording import FILES, content_bag, normalised, table

MIN_PHRASES = 12
PHRASES = [(name, phrase) for name, phrases in lexicon().items() for phrase in phrases]


def test_every_name_has_enough_phrases_besides_variants_and_starts_with_its_display_name():
    assert tuple(lexicon()) == names()
    for name, phrases in lexicon().items():
        assert len({content_bag(phrase.text) for phrase in phrases}) >= MIN_PHRASES, name
        assert (phrases[0].text, phrases[0].kind, phrases[0].split) == (display_name(name), "name", "train")


def test_every_name_has_lay_and_latin_words():
    for name, phrases in lexicon().items():
        assert {"lay", "latin"} <= {phrase.kind for phrase in phrases}, name


def test_the_table_describes_known_names_only():
    known = set(names())
    assert set(table()["plain"]) <= known
    for base in table()["sided"]:
        assert {f"{base}_left", f"{base}_right"} & known, base


def test_no_phrase_names_two_structures_in_any_variant():
    owners = defaultdict(set)
    for name, phrase in PHRASES:
        owners[content_bag(phrase.text)].add(name)
    assert {bag: found for bag, found in owners.items() if len(found) > 1} == {}
    for text, meant in ambiguous().items():
        assert content_bag(text) not in owners, text
        assert len(meant) > 1, text
        assert set(meant) <= set(names()), text


def test_no_entry_is_in_two_files_and_old_words_have_a_source():
    entries = [
        (group, name)
        for file in FILES
        for group, rows in tomllib.loads((files("fluorosam_cli.anatomy") / file).read_text()).items()
        if group in ("plain", "sided")
        for name in rows
    ]
    assert len(entries) == len(set(entries))
    assert {phrase.source is not None for _, phrase in PHRASES if phrase.kind in ("official", "latin")} == {True}
    sources = {phrase.text: phrase.source for _, phrase in PHRASES}
    assert sources["omoplata sinistra"] == "older Latin (Basle Nomina Anatomica 1895 and before)"
    assert sources["os femoris dextrum"] == "Terminologia Anatomica, 2nd edition (FIPAT 2019)"
    assert sources["left kidney"] is None


def test_each_phrase_is_there_once_and_well_formed():
    for phrases in lexicon().values():
        assert len({normalised(phrase.text) for phrase in phrases}) == len(phrases)
    for _, phrase in PHRASES:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ,'-]*", phrase.text), phrase


def test_phrases_say_the_right_side_number_and_region():
    levels = {s.name: s.level for s in structures() if s.level}
    for name, phrase in PHRASES:
        stated = marks(phrase.text)
        if side_of(name) and phrase.kind != "abbreviation":
            assert stated.sides == {side_of(name)} or phrase.text == "middle lobe", phrase
        if name in levels and stated.numbers:
            assert stated.numbers == {int(levels[name].lstrip("CTLS"))}, phrase
        if name.startswith("vertebrae") and stated.regions:
            assert stated.regions == {levels[name][0]} | (stated.regions & {"S"}), phrase


def test_held_out_share():
    test = sum(phrase.split == "test" for _, phrase in PHRASES)
    assert 0.12 < test / len(PHRASES) < 0.18
    assert all(any(phrase.split == "test" for phrase in phrases) for phrases in lexicon().values())


def test_no_test_phrase_is_a_train_phrase_in_another_case_word_order_or_spelling():
    for phrases in lexicon().values():
        train = {content_bag(phrase.text) for phrase in phrases if phrase.split == "train"}
        assert not [p for p in phrases if p.split == "test" and content_bag(p.text) in train]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left kidney", "Kidney, LEFT"),
        ("left kidney", "lt kidney"),
        ("left kidney", "kidney of the left side"),
        ("left-sided kidney", "kidney on the left"),
        ("fifth left rib", "rib 5L"),
        ("costa quinta sinistra", "costa V sinistra"),
        ("T5 vertebra", "vertebra Th-5"),
        ("fifth thoracic vertebra", "thoracic vertebra V"),
        ("oesophageal canal", "esophageal canal"),
        ("shoulder blade of the right side", "right shoulderblade"),
        ("intervertebral disks", "intervertebral disc"),
        ("3.5 x 12 mm screw", "screw, 3.5x12mm"),
        ("12 Fr tube", "tube of 12 French"),
    ],
)
def test_variants_share_a_content_bag(one, other):
    assert content_bag(one) == content_bag(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left rib 5", "right rib 5"),
        ("left rib 5", "left rib 6"),
        ("C5", "L5"),
        ("D5", "L5"),
        ("L-plate", "left plate"),
        ("l-spine", "left spine"),
        ("3.5 mm screw", "5.3 mm screw"),
        ("thumb side of the forearm", "forearm and thumb"),
    ],
)
def test_other_meanings_do_not(one, other):
    assert content_bag(one) != content_bag(other)


def test_the_split_is_the_same_in_another_process():
    code = (
        "from fluorosam_cli.anatomy.lexicon import lexicon\n"
        "print([p.text for phrases in lexicon().values() for p in phrases if p.split == 'test'])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str([phrase.text for _, phrase in PHRASES if phrase.split == "test"])


def test_a_new_phrase_around_a_held_out_one_is_held_out():
    held_out = next(phrase for phrase in lexicon()["femur_left"] if phrase.split == "test")
    assert split_of("femur_left", lexicon()["femur_left"], f"show me the {held_out.text}") == "test"
    assert split_of("femur_left", lexicon()["femur_left"], "LEFT FEMUR") == "train"


def test_marks():
    def stated(text):
        found = marks(text)
        return (sorted(found.sides), sorted(found.numbers), sorted(found.regions))

    assert stated("lt 5th rib") == (["left"], [5], [])
    assert stated("costa decima dextra") == (["right"], [10], [])
    assert stated("L-3") == stated("l3 vertebra") == stated("third bone of the lower back") == ([], [3], ["L"])
    assert stated("L femur") == (["left"], [], [])
    assert stated("rib 5R") == (["right"], [5], [])
    assert stated("both femora on this X-ray") == (["left", "right"], [], [])
    assert stated("both bones of the left forearm") == (["left"], [], [])
    assert stated("left rib X") == (["left"], [10], [])
    assert stated("spleen") == ([], [], [])
    assert marks("left rib 5").vector() == (1, 0, *(n == 5 for n in range(1, 13)), 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lfet femur", "left femur"),
        ("rigth kidney", "right kidney"),
        ("seocnd rib on the lft", "second rib on the left"),
        ("costa quata sinstra", "costa quarta sinistra"),
        ("twelth thorasic vertebra", "twelfth thoracic vertebra"),
        ("let me see the light leaf stent in the teeth", "the"),
        ("weight-bearing bone", "bone"),
    ],
)
def test_marks_with_one_letter_wrong(typed, meant):
    assert marks(typed) == marks(meant)

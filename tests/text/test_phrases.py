"""What phrases mean, tools and anatomy together."""

import pytest

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.anatomy.matching import SAME_WORDS
from fluorosam_cli.anatomy.structures import names
from fluorosam_cli.text.phrases import _anatomy, _index, matches, meanings, resolve, respelt

GIVEN_TO_OUTLINES = {  # their words mean what a radiologist draws
    "lung_left": "lung_above_diaphragm_left",
    "lung_right": "lung_above_diaphragm_right",
    "lungs": "lungs_above_diaphragm",
}


def nearest(text: str, n: int = 3) -> list[str]:
    return [match.name for match in matches(text, n)]


def test_ambiguous_phrases_mean_all_they_may_mean():
    assert resolve("forearm") is None
    assert set(nearest("forearm", 2)) == {"forearm_left", "forearm_right"}
    assert set(nearest("the vena cava", 2)) == {"superior_vena_cava", "inferior_vena_cava"}


def test_resolve_finds_every_phrase_however_it_is_typed():
    for name, phrase in ((name, phrase) for name, phrases in lexicon().items() for phrase in phrases):
        assert resolve(phrase.text) == name
        assert resolve(f"  The patient's {phrase.text.upper().replace(' ', '  ')}. ") == name
    for name in names():
        assert resolve(name) == GIVEN_TO_OUTLINES.get(name, name)
    assert resolve("œsophagus of a plesiosaur") is None
    assert resolve("") is None


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("oesophagus", "esophagus"),
        ("femur left", "femur_left"),
        ("Left Fifth Rib", "rib_left_5"),
        ("rib 5 left", "rib_left_5"),
        ("5th rib on the left", "rib_left_5"),
        ("the right collarbone", "clavicula_right"),
        ("C6", "vertebrae_C6"),
        ("sixth cervical vertebra", "vertebrae_C6"),
        ("atlas", "vertebrae_C1"),
        ("os femoris dextrum", "femur_right"),
        ("lobus inferior pulmonis sinistri", "lung_lower_lobe_left"),
        ("RML", "lung_middle_lobe_right"),
        ("left lung", "lung_above_diaphragm_left"),
        ("Lung, left", "lung_above_diaphragm_left"),
        ("right lung field", "lung_above_diaphragm_right"),
        ("pulmo dexter", "lung_above_diaphragm_right"),
        ("lungs", "lungs_above_diaphragm"),
        ("whole left lung", "lung_left"),
        ("left lung including behind the heart and the diaphragm", "lung_left"),
        ("visible lung fields", "lungs_visible"),
        ("heart", "heart"),
        ("heart shadow", "cardiac_silhouette"),
        ("cardiomediastinal silhouette", "mediastinum"),
        ("windpipe", "trachea"),
        ("backbone", "spine"),
        ("shinbone", "tibia"),
    ],
)
def test_words_people_use(words, name):
    assert resolve(words) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("left femer", "femur_left"),
        ("L33", "vertebrae_L3"),
        ("thirax trachea", "trachea"),
        ("colar bone left", "clavicula_left"),
    ],
)
def test_nearest(words, name):
    assert name in nearest(words)
    assert len(nearest(words, n=2)) <= 2


@pytest.mark.parametrize("words", ["sinus", "edema", "scar", "T13", "left 15th rib", "hart attack"])
def test_other_words_are_no_misspellings(words):
    assert respelt(words) is None or not meanings(respelt(words))


@pytest.mark.parametrize("words", ["bilateral femora", "femurs bilaterally"])
def test_both_sides_are_the_pair(words):
    (match,) = matches(words, 1)
    assert (match.name, match.score) == ("femora", SAME_WORDS)


@pytest.mark.parametrize(("words", "name"), [("hart", "heart"), ("rihgt lnug", "lung_above_diaphragm_right")])
def test_misspellings_are_mended(words, name):
    assert meanings(respelt(words)) == (name,)


def test_no_tool_owns_or_shares_a_phrase_of_anatomy():
    everything = _index().typed
    assert all(everything[typed] == (name,) for typed, name in _anatomy().items())

import pytest

from fluorosam_cli.anatomy.matching import EXACT, LEAST, SAME_WORDS, index_of, ranked

INDEX = index_of(
    [
        ("femur_left", "left femur"),
        ("femur_left", "left thigh bone"),
        ("femur_right", "right femur"),
        ("femora", "femora"),
        ("femora", "thigh bones on both sides"),
        ("rib_left_5", "left fifth rib"),
        ("rib_left_6", "left sixth rib"),
        ("hand_left", "hand"),  # an ambiguous phrase
        ("hand_right", "hand"),
    ]
)


def test_exact_then_same_words_then_alike():
    assert ranked(INDEX, "The LEFT femur!", 1)[0].score == EXACT
    assert ranked(INDEX, "femur of the left side", 1)[0].score == SAME_WORDS
    misspelt = ranked(INDEX, "left femr", 1)[0]
    assert misspelt.name == "femur_left"
    assert LEAST < misspelt.score < SAME_WORDS


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("please segment the left femur", "femur_left"),
        ("lft femur", "femur_left"),
        ("rigth femur", "femur_right"),
        ("5th rib left", "rib_left_5"),
        ("left fith rib", "rib_left_5"),
        ("left thihg bone", "femur_left"),
    ],
)
def test_the_best_name(text, name):
    assert ranked(INDEX, text, 1)[0].name == name


def test_scores_fall_and_lie_between_0_and_1():
    scores = [match.score for match in ranked(INDEX, "left femur bone", 9)]
    assert scores == sorted(scores, reverse=True)
    assert all(LEAST <= score <= 1 for score in scores)


def test_ambiguous_phrases_give_all_names_the_same_score():
    assert {(match.name, match.score) for match in ranked(INDEX, "hand")} == {("hand_left", 1), ("hand_right", 1)}


@pytest.mark.parametrize("text", ["", " ?! ", "banana", "left banana", "the", "12345", "☠"])
def test_nonsense_means_nothing(text):
    assert ranked(INDEX, text) == []


def test_a_contradicted_side_or_number_counts_against_a_phrase():
    names = [match.name for match in ranked(INDEX, "left femur", 9)]
    assert names[0] == "femur_left"
    assert "femur_right" not in names
    assert "rib_left_6" not in [match.name for match in ranked(INDEX, "left fifth rib", 9)]

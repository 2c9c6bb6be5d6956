import re

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.anatomy.wording import normalised
from fluorosam_cli.commands.describe import MOST_REQUESTS
from fluorosam_cli.text.grammar import requests
from fluorosam_cli.text.phrases import resolve


def test_requests_hold_the_phrase_and_are_different():
    made = requests("left femur", "name", MOST_REQUESTS, 0)
    assert len(set(made)) == MOST_REQUESTS
    assert all("left femur" in text for text in made)
    assert not any(re.search(r"[{}]|  ", text) for text in made)
    assert not any(resolve(text) for text in made)


def test_the_seed_decides_and_more_requests_begin_with_fewer():
    assert requests("left femur", "name", 5, 1) == requests("left femur", "name", 9, 1)[:5]
    assert requests("left femur", "name", 5, 1) != requests("left femur", "name", 5, 2)
    assert requests("left femur", "name", 5, 1) != requests("right femur", "name", 5, 1)


def test_articles_and_verbs_agree():
    def questions(phrase, kind="name"):
        return {text for text in requests(phrase, kind, MOST_REQUESTS, 0) if text.startswith("where ")}

    assert any(text.startswith("where is the pelvis") for text in questions("pelvis"))
    assert any(text.startswith("where are the ribs") for text in questions("ribs"))
    assert all(
        text.startswith(("where are both lungs", "where exactly are both lungs")) for text in questions("both lungs")
    )
    assert not any("the T5" in text for text in questions("T5", "abbreviation"))


def test_a_request_adds_no_side_and_no_number():
    for name in ("femur_left", "rib_right_5", "vertebrae_L3"):
        phrase = lexicon()[name][0]
        for text in requests(phrase.text, phrase.kind, MOST_REQUESTS, 3):
            rest = normalised(text).replace(normalised(phrase.text), " ")
            assert not {"left", "right"} & set(rest.split())
            assert not re.search(r"\d", rest)

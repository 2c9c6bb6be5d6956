"""What `predict` makes of words: lists of them, words that name nothing, and what the masks are called."""

import json

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Checkpoint, Prompt
from fluorosam_cli.dataset.user_images import structure_of
from fluorosam_cli.model.checkpoint import HEADER, find_checkpoint
from fluorosam_cli.prediction.understanding import mask_stem, parted, understand
from fluorosam_cli.prediction.write import mask_names
from fluorosam_cli.text.phrases import names


@pytest.fixture(autouse=True)
def in_a_folder_with_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 97), dtype=np.uint8)).save("img.png")


@pytest.mark.parametrize(
    ("typed", "files"),
    [
        ("heart and liver", ["heart", "liver"]),
        ("L1, L2; spleen", ["spleen", "vertebrae_L1", "vertebrae_L2"]),
        ("left and right femur", ["femora"]),  # a name of its own
        ("elephant and heart", ["elephant_and_heart"]),
        ("left kidney and lung", ["kidney_left", "lung_above_diaphragm_left"]),  # whose side is the whole list's
        ("right femur, 5th rib and liver", ["femur_right", "liver", "rib_right_5"]),
        ("heart and left kidney", ["heart", "kidney_left"]),
        ("left and right femur and heart", ["femora", "heart"]),  # what is a name only together stays together
        ("femur, left; femur, right", ["femur_left", "femur_right"]),
        ("left femur, right femur, heart", ["femur_left", "femur_right", "heart"]),
    ],
)
def test_a_list_of_known_phrases_is_as_many_masks(fluoro, tiny_checkpoint, tmp_path, typed, files):
    code, _, err = fluoro("predict", "img.png", typed, "--model", tiny_checkpoint, "-o", "p")
    assert code == 0, err
    assert sorted(path.stem for path in (tmp_path / "p").glob("*.png")) == sorted([*files, "overlay"])


def test_a_file_of_prompts_is_read_as_the_command_line_is(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "p.json").write_text('[{"text": "heart and liver"}, {"text": "spleen", "points_xy": [[5, 5]]}]')
    code, _, err = fluoro("predict", "img.png", "--prompts", "p.json", "--model", tiny_checkpoint, "-o", "p")
    assert code == 0, err
    assert sorted(path.stem for path in (tmp_path / "p").glob("*.png")) == ["heart", "liver", "overlay", "spleen"]


@pytest.mark.parametrize("words", ["left", " Right", ";", "?!", "he\udcffart", "\x1b[31mheart"])
def test_words_that_name_nothing_are_refused(fluoro, tiny_checkpoint, tmp_path, words):
    (tmp_path / "p.json").write_text(json.dumps([{"text": words}]))
    for line in ((words,), ("--prompts", "p.json")):
        code, _, err = fluoro("predict", "img.png", *line, "--model", tiny_checkpoint, "-o", "p")
        assert code in (1, 2)
        assert "unexpected" not in err
        assert "\x1b" not in err
        assert not (tmp_path / "p").exists()


def test_a_side_of_the_picture_is_not_the_patients(fluoro, tiny_checkpoint):
    said = "sides are the patient's, whose left is on the right of a frontal image"
    for words, expected in (("lung on the left of the image", said), ("left lung", ""), ("heart in the film", "")):
        code, _, err = fluoro("predict", "img.png", words, "--model", tiny_checkpoint, "-o", "p", "--overwrite")
        assert (code, said in err) == (0, bool(expected)), err


@pytest.mark.parametrize(
    ("words", "known"),
    [("5th left rib", True), ("twelve left ribs", False), ("five metatarsals", True), ("fifth metatarsal", False)],
)
def test_how_many_is_not_which(words, known):
    assert (understand(words).how == "known") == known


def test_what_the_model_has_not_learnt_is_said(fluoro, tmp_path):
    code, _, err = fluoro("predict", "img.png", "mandible", "heart", "-o", "p")
    assert code == 0, err
    assert '"mandible": this model has not been trained on it' in err
    assert '"heart": this model' not in err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("left femur and tibia", ["femur_left", "tibia_left"]),
        ("segment the left femur and tibia", ["femur_left", "tibia_left"]),
        ("femur left, tibia", ["femur_left", "tibia"]),
        ("left femur, right tibia and fibula", ["femur_left", "tibia_right", "fibula"]),
        ("left and right femur and tibia", ["femora", "tibia"]),
        ("left femur and bilateral tibia", ["femur_left", "tibia"]),
        ("left femur and both tibiae", ["femur_left", "tibia"]),
        ("femur and left tibia", ["femora", "tibia_left"]),
        ("both hands", ["hand_left", "hand_right"]),
        ("bilateral tibia and fibula", ["lower_leg_left", "lower_leg_right"]),
        ("heart and both forearms", ["heart", "forearm_left", "forearm_right"]),
    ],
)
def test_a_lists_side_is_nobody_elses(typed, meant):
    assert [understand(part).structures for part in parted(typed)] == [(name,) for name in meant]


@pytest.mark.parametrize(("words", "how"), [("right left lung", "unknown"), ("left and right lung", "known")])
def test_both_sides_have_to_be_meant(words, how):
    assert understand(words).how == how


def test_mask_names():
    def prompt(text, box=None):
        return Prompt(text=text, points_xy=[], point_labels=[], box_xyxy=box)

    prompts = [prompt("Left femur"), prompt("ÄÖ / ..\\x"), prompt(None, (0, 0, 1, 1)), prompt("overlay"), prompt("?!")]
    names = mask_names(prompts, ["femur_left", None, None, None, None])
    assert names == ["femur_left.png", "äö_x.png", "box.png", "mask-overlay.png", "points.png"]
    assert mask_names([prompt("heart")] * 3, ["heart"] * 3) == ["heart.png", "heart-2.png", "heart-3.png"]


def test_pack_reads_a_mask_as_the_structure_that_it_was_written_for():
    trained = read_header(find_checkpoint("builtin") / HEADER, Checkpoint).structures
    read = {name: structure_of(mask_stem(name)) for name in (*names(), *trained)}
    assert {name for name in read if read[name] != name} == set()
    assert mask_stem("lung_left") == "whole_left_lung"  # lung_left.png is the outline that radiologists draw

"""The checkpoint that the package carries does what the README promises, on a phantom that it has never seen."""

import json

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.artefacts import read_lines
from fluorosam_cli.contracts import View
from fluorosam_cli.model.checkpoint import HEADER, find_checkpoint, load_checkpoint
from fluorosam_cli.prediction.predictor import Predictor
from fluorosam_cli.render.masks import decode

MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def chest(tmp_path_factory) -> dict:
    """A frontal chest radiograph: `image` (its path), and `masks` by structure."""
    from fluorosam_cli import cli

    folder = tmp_path_factory.mktemp("chest")
    phantom, ct, views = folder / "phantom", folder / "ct", folder / "views"
    for words in (
        ("phantom", phantom, "--region", "chest", "--spacing", 4, "--seed", 909),
        ("segment-ct", phantom / "scans", "--labels", phantom / "labels", "-o", ct),
        ("render", ct, "--views", 1, "--view", "chest_pa", "--size", 256, "-o", views),
    ):
        assert cli.run([str(word) for word in words]) == 0
    (view,) = read_lines(views / "views.jsonl", View)
    return {"image": views / view.image, "masks": {mask.name: decode(mask.rle) for mask in view.structures}}


@pytest.fixture(scope="module")
def predictor(chest) -> Predictor:
    return Predictor.from_checkpoint("builtin").set_image(np.asarray(Image.open(chest["image"])))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_it_is_whole_and_small():
    folder = find_checkpoint("builtin")
    model, header = load_checkpoint(folder)  # checks the sha256
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    assert {path.name for path in folder.iterdir()} == {HEADER, header.weights}
    assert header.model.preset == "small"
    assert not model.training


@pytest.mark.parametrize("side", ["left", "right"])
def test_lungs_are_found_by_words_on_their_own_side(chest, predictor, side):
    found = predictor.predict(text=f"{side} lung")
    other = "right" if side == "left" else "left"
    assert found.presence > 0.5
    assert dice(found.mask, chest["masks"][f"lung_above_diaphragm_{side}"]) > 0.8
    assert dice(found.mask, chest["masks"][f"lung_above_diaphragm_{other}"]) < 0.1


@pytest.mark.parametrize("phrase", ["lt lung", "pulmo sinister", "left lnug", "lung on the left"])
def test_other_words_draw_the_same_lung(predictor, phrase):
    assert dice(predictor.predict(text=phrase).mask, predictor.predict(text="left lung").mask) > 0.98


@pytest.mark.parametrize("phrase", ["left femur", "right kneecap", "urinary bladder"])
def test_what_is_not_there_is_refused(predictor, phrase):
    assert predictor.predict(text=phrase).presence < 0.5


def test_a_click_inside_helps(chest, predictor):
    real = chest["masks"]["liver"]
    rows, columns = np.nonzero(real)
    middle = len(rows) // 2
    alone = predictor.predict(text="liver")
    clicked = predictor.predict(text="liver", points_xy=[[columns[middle], rows[middle]]])
    assert dice(clicked.mask, real) >= dice(alone.mask, real) - 0.02


def test_the_command_needs_no_model(fluoro, chest, tmp_path):
    answers = []
    for name in ("a", "b"):
        code, _, err = fluoro("predict", chest["image"], "left lung", "--point", "170,100", "-o", tmp_path / name)
        assert code == 0, err
        answers.append(json.loads((tmp_path / name / "prediction.json").read_text())["masks"])
    assert answers[0] == answers[1]

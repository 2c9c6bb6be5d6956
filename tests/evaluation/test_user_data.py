"""Folders and COCO files of a user's own: what is asked, what is skipped, what is named as bad."""

import json

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Metrics
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation import sources
from fluorosam_cli.evaluation.sources import open_source, read_prompts
from fluorosam_cli.prediction.images import read_radiograph
from tests.shapes import draw

QUICK = ("--prompts", "text,box", "--noc", 0)


def png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(2):
        image, masks = draw(np.random.default_rng(number), 48)
        png(tmp_path / f"own/images/p{number}.png", (image >> 8).astype(np.uint8))
        for name in ("heart", "lung_left"):
            png(tmp_path / f"own/masks/p{number}/{name}.png", masks[name].astype(np.uint8) * 255)
    return tmp_path / "own"


def test_a_folder_of_radiographs(fluoro, tiny_checkpoint, folder, tmp_path):
    png(folder / "masks/p0/widget.png", np.zeros((48, 48), np.uint8))
    png(folder / "masks/p1/liver.png", np.zeros((48, 48), np.uint8))  # empty: looked for and not there
    code, _, err = fluoro("eval", tiny_checkpoint, folder, *QUICK, "-o", tmp_path / "out")
    assert code == 0, err
    assert "widget (1)" in err
    metrics = read_header(tmp_path / "out/metrics.json", Metrics)
    assert metrics.data.unknown_names == {"widget": 1}
    assert (metrics.data.kind, metrics.data.cases, metrics.surface_unit) == ("images", 2, "px")
    assert {s.structure for s in metrics.structures} == {"heart", "lung_above_diaphragm_left"}
    assert open_source(folder, None)[1].absent == ["liver"]
    code, _, err = fluoro("eval", tiny_checkpoint, folder, "--prompts", "presence", "-o", tmp_path / "presence")
    assert code == 0, err
    presence = read_header(tmp_path / "presence/metrics.json", Metrics).presence
    assert presence is not None
    assert presence.absent == 1


def test_bad_masks_are_named_and_the_rest_is_scored(fluoro, tiny_checkpoint, folder, tmp_path):
    png(folder / "masks/p0/heart.png", np.zeros((20, 48), np.uint8))
    png(folder / "masks/p1/heart.png", np.arange(48 * 48, dtype=np.uint8).reshape(48, 48))
    png(folder / "images/p2.png", np.zeros((48, 48), np.uint8))
    words = ("eval", tiny_checkpoint, folder, *QUICK)
    code, _, err = fluoro(*words, "-o", tmp_path / "out")
    assert code == 1
    assert "p0/heart.png: is 48x20, its image 48x48" in err
    assert "p1/heart.png: not binary" in err
    assert "p2.png: no masks" in err
    metrics = read_header(tmp_path / "out/metrics.json", Metrics)
    assert len(metrics.data.problems) == 3
    assert {s.structure for s in metrics.structures} == {"lung_above_diaphragm_left"}
    code, _, _ = fluoro(*words, "-o", tmp_path / "out", "--resume")
    assert code == 1
    code, _, err = fluoro(*words, "-o", tmp_path / "strict", "--strict")
    assert code == 1
    assert "--strict" in err
    assert not (tmp_path / "strict/metrics.json").exists()


def test_an_image_that_could_not_be_read_is_tried_again(fluoro, tiny_checkpoint, folder, tmp_path, monkeypatch):
    def without_extra(path):
        if path.stem == "p0":
            raise FluoroError(f"{path}: needs an extra", "install it")
        return read_radiograph(path)

    words = ("eval", tiny_checkpoint, folder, *QUICK, "-o")
    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_radiograph", without_extra)
        assert fluoro(*words, tmp_path / "resumed")[0] == 1
    assert fluoro(*words, tmp_path / "resumed", "--resume")[0] == 0
    assert fluoro(*words, tmp_path / "whole")[0] == 0
    for name in ("samples.csv", "metrics.json", "report.html"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_coco_gives_what_the_folder_gives(folder, tmp_path):
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    data = {
        "images": [{"id": 1, "file_name": "p0.png", "width": 48, "height": 48}],
        "categories": [{"id": 7, "name": "left lung"}, {"id": 8, "name": "gizmo"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "segmentation": square},
            {"id": 2, "image_id": 1, "category_id": 8, "segmentation": square},
        ],
    }
    (folder / "coco.json").write_text(json.dumps(data))
    source = open_source(folder / "coco.json", None)
    scene = source[0]
    assert source.unknown_names == {"gizmo": 1}
    assert list(scene.masks) == ["lung_above_diaphragm_left"]
    assert scene.masks["lung_above_diaphragm_left"].sum() == 400
    elsewhere = tmp_path / "elsewhere/deeper/coco.json"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(json.dumps(data))
    with pytest.raises(FluoroError, match=r"p0\.png: no such image beside the COCO file"):
        open_source(elsewhere, None)


def test_phrases_of_the_users_own(folder, tmp_path):
    (tmp_path / "words.csv").write_text("structure,phrase\nlung_left,the airy one\nheart,pump\nwidget,x\n")
    (tmp_path / "words.json").write_text(json.dumps({"heart": ["pump"], "left lung": ["the airy one"]}))
    expected = {"heart": ["pump"], "lung_above_diaphragm_left": ["the airy one"]}
    for name in ("words.csv", "words.json"):
        assert read_prompts(tmp_path / name, open_source(folder, None).structures) == expected


@pytest.mark.parametrize("phrases", ["pump", [None, "pump"], [5], {"pump": 1}, None])
def test_phrases_that_are_no_list_of_texts_are_refused(folder, tmp_path, phrases):
    (tmp_path / "words.json").write_text(json.dumps({"heart": phrases}))
    with pytest.raises(FluoroError, match="nor JSON of names and lists of phrases"):
        read_prompts(tmp_path / "words.json", ["heart"])


def test_a_stack_is_named_and_not_scored_by_its_first_image(folder):
    page = Image.open(folder / "images/p0.png")
    (folder / "images/p0.png").unlink()
    page.save(folder / "images/p0.tif", save_all=True, append_images=[page])
    scene = open_source(folder, None)[0]
    assert not scene.masks
    assert scene.problems == [f"{folder / 'images/p0.tif'}: holds 2 frames, one image is expected"]


def test_phrases_for_what_the_data_lack_are_named(fluoro, tiny_checkpoint, folder, tmp_path):
    (tmp_path / "words.csv").write_text("structure,phrase\nheart,pump\nwidget,x\n")
    words = ("--prompt-file", tmp_path / "words.csv", "--prompts", "text", "--noc", 0, "-o", tmp_path / "out")
    code, _, err = fluoro("eval", tiny_checkpoint, folder, *words)
    assert code == 0, err
    assert "words.csv: widget: no structure of the data" in err


def test_two_evaluations_side_by_side(fluoro, tiny_checkpoint, folder, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        assert fluoro("eval", tiny_checkpoint, folder, *QUICK, "--seed", seed, "-o", tmp_path / name)[0] == 0
    code, out, err = fluoro("eval", "--compare", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "c", "--json")
    assert code == 0, err
    assert json.loads(out)["iou_difference"]["box"] == 0  # boxes do not depend on the seed
    assert "<svg" in (tmp_path / "c/report.html").read_text()

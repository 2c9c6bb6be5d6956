"""`predict` on several images: folders, films and stacks, what fails among them, and what is resumed."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.artefacts import read_header, write_json
from fluorosam_cli.contracts import Prediction
from fluorosam_cli.errors import UsageError
from fluorosam_cli.prediction.batch import names_of, parse_frames
from tests.ct.dicom_files import SYNTAXES, compress
from tests.prediction.dicom_images import write_cine
from tests.prediction.test_dicom_images import picture, write


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (61, 97), dtype=np.uint8)
    Image.fromarray(pixels).save("img.png")


def test_stacks_need_frames(fluoro, tiny_checkpoint, tmp_path):
    pages = [Image.open("img.png"), Image.open("img.png").rotate(180)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
    line = ("predict", "pages.tif", "heart", "--model", tiny_checkpoint, "-o", "out")
    code, _, err = fluoro(*line)
    assert (code, (tmp_path / "out").exists()) == (1, False)
    assert "holds 2 pages or slices" in err
    assert fluoro(*line, "--frames", "2-1")[0] == 2
    assert fluoro(*line, "--frames", "3")[0] == 1
    code, _, err = fluoro(*line, "--frames", "2", "--tta")
    assert code == 0, err
    assert read_header(tmp_path / "out/prediction.json", Prediction).frame == 2
    code, _, err = fluoro(*line[:-1], "both", "--frames", "all")
    assert code == 0, err
    folders = ["pages-frame-0001", "pages-frame-0002"]
    assert sorted(p.parent.name for p in (tmp_path / "both").glob("*/prediction.json")) == folders


def test_a_folder_gives_a_folder_each(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "b.jpg"):
        Image.open("img.png").save(tmp_path / "images" / name)
    (tmp_path / "images/bad.png").write_text("not an image")
    (tmp_path / "images/readme.txt").write_text("passed over")
    code, out, err = fluoro("predict", "images", "heart", "--model", tiny_checkpoint)
    assert code == 1
    assert "bad.png: not a readable" in err
    folder = tmp_path / "predictions/images-001"
    assert out.strip() == "predictions/images-001"
    assert sorted(p.parent.name for p in folder.glob("*/prediction.json")) == ["a", "b.jpg", "b.png"]
    code, out, err = fluoro("predict", "images/*.png", "heart", "--model", tiny_checkpoint, "-o", "some")
    assert code == 1
    assert (tmp_path / "some/a/prediction.json").read_bytes() == (folder / "a/prediction.json").read_bytes()
    (tmp_path / "images/bad.png").unlink()
    (tmp_path / "some/b/prediction.json").unlink()
    code, out, err = fluoro("predict", "images", "heart", "--model", tiny_checkpoint, "-o", "some", "--resume")
    assert code == 1
    assert "image = 'images/*.png', now 'images'" in err


def everything_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path: path.read_bytes() for path in paths}


def test_a_resumed_call_writes_what_an_unbroken_one_does(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abc":
        shutil.copy("img.png", f"images/{name}.png")
    line = ("predict", "images", "heart", "--model", tiny_checkpoint, "-o", "out", "--format", "coco")
    assert fluoro(*line)[0] == 0
    whole = everything_in(tmp_path / "out")
    for name in ("b/prediction.json", "c/heart.png", "c/prediction.json", "coco.json"):
        (tmp_path / "out" / name).unlink()
    code, out, err = fluoro(*line, "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 2
    assert everything_in(tmp_path / "out") == whole


@pytest.mark.parametrize("syntax", [None, *SYNTAXES])
def test_of_dicom_images_only_what_is_not_done_is_read_again(fluoro, tiny_checkpoint, tmp_path, syntax):
    for number, name in enumerate("abc"):
        write(tmp_path / "images" / f"{name}.dcm", np.roll(picture(), 9 * number, axis=1))
    if syntax:
        compress(tmp_path / "images", SYNTAXES[syntax])
    line = ("predict", "images", "heart", "--model", tiny_checkpoint, "-o", "out", "--threshold", 1e-6)
    assert fluoro(*line)[0] == 0
    whole = everything_in(tmp_path / "out")
    shutil.rmtree(tmp_path / "out/c")
    code, _, err = fluoro(*line, "--resume")
    assert code == 0, err
    assert everything_in(tmp_path / "out") == whole
    alone = ("predict", "images/a.dcm", *line[2:-4], "-o", "alone")
    assert [fluoro(*alone)[0], fluoro(*alone, "--resume")[0]] == [0, 0]


def test_what_has_changed_since_is_done_again(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for name in "ab":
        shutil.copy("img.png", f"images/{name}.png")
    (tmp_path / "images/c.png").write_text("no image")
    line = ("predict", "images", "--all", "--model", tiny_checkpoint, "-o", "out", "--format", "coco")
    assert fluoro(*line)[0] == 1
    Image.open("img.png").rotate(180).save("images/b.png")
    shutil.copy("images/b.png", "images/c.png")
    (tmp_path / "out/b/masks.npz").touch()
    header = read_header(tmp_path / "out/b/prediction.json", Prediction)
    write_json(tmp_path / "out/b/prediction.json", header.model_copy(update={"files": ["masks.npz"]}))
    code, out, err = fluoro(*line, "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 2
    assert fluoro(*line[:-4], "-o", "fresh", "--format", "coco")[0] == 0
    resumed, fresh = (everything_in(tmp_path / name) for name in ("out", "fresh"))
    assert {path.relative_to(tmp_path / "out"): data for path, data in resumed.items()} == {
        path.relative_to(tmp_path / "fresh"): data for path, data in fresh.items()
    }


def test_what_the_system_refuses_is_one_image_less(fluoro, tiny_checkpoint, tmp_path, monkeypatch):
    """Permissions, but for root: opening and looking at a file fail as they would."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "IM1"):
        shutil.copy("img.png", tmp_path / "images" / name)

    def refused(function):
        def wrapped(file, *words, **options):
            if str(file).endswith(("b.png", "IM1")):
                raise PermissionError(13, "Permission denied", str(file))
            return function(file, *words, **options)

        return wrapped

    monkeypatch.setattr("builtins.open", refused(open))
    code, _, err = fluoro("predict", "images", "heart", "--model", tiny_checkpoint, "-o", "out")
    assert code == 1
    for name in ("b.png", "IM1"):
        assert f"failed: images/{name}: permission denied" in err
    assert [path.parent.name for path in (tmp_path / "out").glob("*/prediction.json")] == ["a"]


def test_names_stay_apart():
    paths = [Path(name) for name in ("a/x.png", "b/x.png", "x.jpg", "y.png")]
    assert names_of(paths) == ["x.png-1", "x.png-2", "x.jpg", "y"]


@pytest.mark.parametrize("text", ["5-", "1-", "-5", "2-1", "0", "1,,2", "", "x"])
def test_frames_that_mean_nothing_are_refused(text):
    with pytest.raises(UsageError, match="not of the form"):
        parse_frames(text)


def test_a_name_that_is_no_text_is_refused(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    for name in (b"a.png", b"b\xff.png", b'c "d"\n.png'):
        shutil.copy("img.png", os.fsencode(tmp_path / "images") + b"/" + name)
    code, _, err = fluoro("predict", "images", "heart", "--model", tiny_checkpoint, "-o", "out")
    assert code == 1
    assert "b?.png: its name is not UTF-8" in err
    assert "Traceback" not in err
    there = sorted((tmp_path / "out").glob("*/prediction.json"))
    assert [read_header(path, Prediction).image for path in there] == ["a.png", 'c "d"\n.png']


def test_two_images_whose_results_would_be_called_alike(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    write_cine(tmp_path / "in" / "film.dcm", 2, (40, 40))
    shutil.copy("img.png", tmp_path / "in" / "film-frame-0002.png")
    code, _, err = fluoro("predict", "in", "heart", "--model", tiny_checkpoint, "-o", "p")
    assert code == 1
    assert "film-frame-0002" in err
    assert not (tmp_path / "p").exists()


def test_where_no_image_can_be_written_there_is_no_folder(fluoro, tiny_checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        shutil.copy("img.png", tmp_path / "in" / f"{name}.png")
    code, out, err = fluoro(
        "predict", "in", "heart", "--format", "dicom-seg", "--model", tiny_checkpoint, "-o", "p", "--json"
    )
    assert (code, out) == (1, "")
    assert "none of its images" in err
    assert not (tmp_path / "p").exists()

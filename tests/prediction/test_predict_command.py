import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Prediction, Prompt
from fluorosam_cli.prediction.overlay import Layer, draw
from fluorosam_cli.prediction.write import largest_part
from tests.prediction.dicom_images import write_cine


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (61, 97), dtype=np.uint8)
    Image.fromarray(pixels).save("img.png")


def test_the_users_line(fluoro, tiny_checkpoint, tmp_path):
    line = ("predict", "img.png", "left femur", "--point", "12,30", "--model", tiny_checkpoint)
    code, out, err = fluoro(*line)
    assert code == 0, err
    assert out.strip() == "predictions/img-001"
    header = read_header(tmp_path / "predictions/img-001/prediction.json", Prediction)
    assert header.prompts == [Prompt(text="left femur", points_xy=[(12, 30)], point_labels=[1], box_xyxy=None)]
    assert (header.width, header.height) == (97, 61)
    (mask,) = header.masks
    assert (mask.structure, mask.mask) == ("femur_left", "femur_left.png")
    pixels = np.asarray(Image.open(tmp_path / "predictions/img-001" / mask.mask))
    assert pixels.shape == (61, 97)
    assert set(np.unique(pixels)) <= {0, 255}
    decoded = coco.decode({"size": list(mask.rle.size), "counts": mask.rle.counts.encode()})
    np.testing.assert_array_equal(decoded == 1, pixels == 255)
    assert mask.area_px == (pixels == 255).sum()
    assert Image.open(tmp_path / "predictions/img-001/overlay.png").mode == "RGB"
    code, out, err = fluoro(*line, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["output"] == "predictions/img-002"
    again = Prediction.model_validate(json.loads((tmp_path / "predictions/img-002/prediction.json").read_text()))
    assert again == header
    assert answer["predictions"] == [json.loads(header.model_dump_json())]


def test_points_and_box_go_with_every_phrase(fluoro, tiny_checkpoint, tmp_path):
    code, _, err = fluoro(
        "predict", "img.png", "heart", "liver", "heart", "--point", "5,6", "--point", "7.5,8,0", "--box", "1,2,30,40",
        "--model", tiny_checkpoint, "-o", "out",
    )  # fmt: skip
    assert code == 0, err
    header = read_header(tmp_path / "out/prediction.json", Prediction)
    assert [p.text for p in header.prompts] == ["heart", "liver", "heart"]
    assert all(p.points_xy == [(5, 6), (7.5, 8)] and p.point_labels == [1, 0] for p in header.prompts)
    assert all(p.box_xyxy == (1, 2, 30, 40) for p in header.prompts)
    assert [m.mask for m in header.masks] == ["heart.png", "liver.png", "heart-2.png"]
    assert header.masks[0].rle == header.masks[2].rle
    assert all(m.presence is not None for m in header.masks)


def test_points_alone(fluoro, tiny_checkpoint, tmp_path):
    code, _, err = fluoro("predict", "img.png", "--point", "5,6", "--model", tiny_checkpoint, "-o", "out")
    assert code == 0, err
    (mask,) = read_header(tmp_path / "out/prediction.json", Prediction).masks
    assert (mask.structure, mask.mask, mask.presence) == (None, "points.png", None)


def test_unknown_words_are_warned_about_and_still_segmented(fluoro, tiny_checkpoint, tmp_path):
    code, _, err = fluoro("predict", "img.png", "left fermur", "--model", tiny_checkpoint, "-o", "out")
    assert code == 0, err
    assert 'warning: "left fermur": understood as "left femur"' in err
    (mask,) = read_header(tmp_path / "out/prediction.json", Prediction).masks
    assert (mask.structure, mask.understood, mask.asked) == ("femur_left", "respelt", "left femur")
    code, _, err = fluoro("predict", "img.png", "screw in left femur", "leg", "--model", tiny_checkpoint, "-o", "more")
    assert code == 0, err
    assert "no known name of a structure; the nearest are left femur" in err
    assert '"leg": may mean femora, ' in err
    unknown, leg = read_header(tmp_path / "more/prediction.json", Prediction).masks
    assert (unknown.structure, unknown.understood, unknown.mask) == (None, "unknown", "screw_in_left_femur.png")
    assert leg.understood == "ambiguous"
    assert leg.structure in ("femora", "lower_leg_left", "lower_leg_right")
    code, _, err = fluoro("predict", "img.png", "blue bicycle", "--model", tiny_checkpoint, "-o", "none")
    assert code == 0, err
    nearest = re.search(r"no known name of a structure; the nearest are (.+), (.+), (.+?) \(known", err)
    assert nearest
    assert set(nearest.groups()) < {"heart", "liver", "whole left lung", "whole right lung"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("img.png", "other.png", "heart"), "other.png: is a file, a phrase is expected"),
        (("img.png", "left", "lung"), "left: a side alone names nothing"),
        (("", "heart"), "the image's path is empty"),
        (("img.png", "--prompts", "wrong.json"), "hint: a list such as"),
        (("bad", "heart", "-o", "kept", "--overwrite"), "none of its 2 images can be read"),
    ],
)
def test_slips_of_the_keyboard_are_said_and_cost_nothing(fluoro, tiny_checkpoint, tmp_path, words, said):
    shutil.copy("img.png", "other.png")
    Path("wrong.json").write_text('[{"text": "heart", "pts": [[1, 2]]}]')
    Path("bad").mkdir()
    Path("bad/a.png").write_bytes(b"")
    Path("bad/b.png").write_text("no image")
    fluoro("predict", "img.png", "heart", "--model", tiny_checkpoint, "-o", "kept")
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = fluoro("predict", *words, "--model", tiny_checkpoint)
    assert code in (1, 2)
    assert said in err
    assert out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "kept/prediction.json").is_file()


def test_all_structures_with_their_scores(fluoro, tiny_checkpoint, tmp_path):
    code, _, err = fluoro("predict", "img.png", "--all", "--model", tiny_checkpoint, "-o", "out")
    assert code == 0, err
    header = read_header(tmp_path / "out/prediction.json", Prediction)
    found = {mask.structure: mask.presence for mask in header.masks}
    assert {*found, *header.absent} == {"heart", "liver", "lung_left", "lung_right"}
    assert all(presence >= 0.5 for presence in found.values() if presence is not None)
    assert all(presence < 0.5 for presence in header.absent.values())


def test_prompts_from_a_file_answer_as_those_typed(fluoro, tiny_checkpoint, tmp_path):
    rough = np.zeros((61, 97), np.uint8)
    rough[10:40, 20:70] = 255
    (tmp_path / "in").mkdir()
    Image.fromarray(rough).save("in/rough.png")
    one = {"text": "heart", "points_xy": [[5, 6]], "box_xyxy": [1, 2, 30, 40], "mask": "rough.png"}
    (tmp_path / "in/prompts.json").write_text(json.dumps([one]))
    (tmp_path / "in/more.json").write_text(json.dumps({"format": "fluoro.prompts/1", "prompts": [one]}))
    typed = ("heart", "--point", "5,6", "--box", "1,2,30,40", "--mask", "in/rough.png")
    lines = (typed, ("--prompts", "in/prompts.json"), ("--prompts", "in/more.json"))
    found = []
    for number, words in enumerate((*lines, typed[:-2])):
        code, _, err = fluoro("predict", "img.png", *words, "--model", tiny_checkpoint, "-o", f"out{number}")
        assert code == 0, err
        found.append(read_header(tmp_path / f"out{number}/prediction.json", Prediction).masks[0])
    assert found[0] == found[1] == found[2]
    assert found[3].score != found[0].score


def test_stdin_is_an_image_like_others(fluoro, tiny_checkpoint, tmp_path, monkeypatch):
    import io
    import sys

    for name, data in (("a", (tmp_path / "img.png").read_bytes()), ("b", b"")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code, _, err = fluoro("predict", "-", "heart", "--model", tiny_checkpoint, "-o", name)
        assert code == (0 if data else 1), err
    assert "stdin: is empty" in err
    assert not (tmp_path / "b").exists()
    fluoro("predict", "img.png", "heart", "--model", tiny_checkpoint, "-o", "c")
    piped, read = (read_header(tmp_path / name / "prediction.json", Prediction) for name in "ac")
    assert piped.model_copy(update={"image": read.image}) == read


def test_a_piped_image_is_resumed(fluoro, tiny_checkpoint, tmp_path, monkeypatch):
    import io
    import sys

    data = (tmp_path / "img.png").read_bytes()
    for words, skipped in (((), 0), (("--resume",), 1)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code, _, err = fluoro("predict", "-", "heart", "--model", tiny_checkpoint, "-o", "out", *words)
        assert code == 0, err
        assert json.loads((tmp_path / "out/run.json").read_text())["skipped"] == skipped


def test_a_header_means_that_everything_is_there(fluoro, tiny_checkpoint, tmp_path, monkeypatch):
    """A kill before the header: whatever the header would promise has been written."""

    def killed(path, model):
        raise KeyboardInterrupt

    monkeypatch.setattr("fluorosam_cli.prediction.write.write_json", killed)
    line = ("predict", "img.png", "heart", "--format", "coco", "--model", tiny_checkpoint)
    code, _, err = fluoro(*line, "-o", "out")
    assert (code, (tmp_path / "out/coco.json").is_file()) == (130, True)
    assert "hint: run the same command with --resume" in err
    assert "hint" not in fluoro(*line)[2]  # another call would get another folder


def test_what_is_odd_about_an_image_is_in_its_prediction(fluoro, tiny_checkpoint, tmp_path):
    write_cine(tmp_path / "a.dcm", 2, (40, 40), PatientOrientation=["R", "F"])
    code, out, err = fluoro("predict", "a.dcm", "heart", "--model", tiny_checkpoint, "-o", "out", "--json")
    assert code == 0, err
    for prediction in json.loads(out)["predictions"]:
        (remark,) = prediction["remarks"]
        assert "its right is the patient's right" in remark
    header = read_header(tmp_path / "out/a-frame-0002/prediction.json", Prediction)
    assert header.remarks == [remark]


def test_other_formats_hold_the_same_masks(fluoro, tiny_checkpoint, tmp_path):
    import nibabel
    from pycocotools.coco import COCO

    formats = [word for kind in ("coco", "npz", "nifti") for word in ("--format", kind)]
    words = ("heart", "liver", "--threshold", 1e-6, "--model", tiny_checkpoint)
    code, _, err = fluoro("predict", "img.png", *words, "-o", "out", *formats)
    assert code == 0, err
    pictures = [np.asarray(Image.open(tmp_path / "out" / name)) == 255 for name in ("heart.png", "liver.png")]
    with np.load("out/masks.npz") as found:
        np.testing.assert_array_equal(found["masks"], pictures)
        assert found["names"].tolist() == ["heart", "liver"]
    stack = np.asarray(nibabel.load("out/masks.nii.gz").dataobj)
    np.testing.assert_array_equal(stack[:, :, 0, 1].T, pictures[1])
    index = COCO("out/coco.json")
    shown = [mask.presence >= 0.5 for mask in read_header(tmp_path / "out/prediction.json", Prediction).masks]
    assert len(index.getAnnIds()) == sum(shown)
    for annotation in index.loadAnns(index.getAnnIds()):
        name = index.loadCats(annotation["category_id"])[0]["name"]
        np.testing.assert_array_equal(index.annToMask(annotation) == 1, pictures[["heart", "liver"].index(name)])


def test_masks_of_a_slice_lie_in_its_place(fluoro, tiny_checkpoint, tmp_path):
    import nibabel

    volume = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    affine = np.array([[0.0, 0, 3, 5], [2, 0, 0, 6], [0, 2, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "stack.nii.gz")
    words = ("heart", "--frames", 3, "--format", "nifti", "--model", tiny_checkpoint)
    code, _, err = fluoro("predict", "stack.nii.gz", *words, "-o", "out")
    assert code == 0, err
    written = nibabel.load("out/masks.nii.gz").affine
    np.testing.assert_allclose(written @ [10, 20, 0, 1], affine @ [10, 20, 2, 1])


def test_the_largest_part_is_kept():
    mask = np.zeros((20, 30), bool)
    mask[2:5, 2:5] = mask[5, 5] = mask[10:12, 10:12] = mask[15, 20:25] = True
    kept = largest_part(mask)
    assert kept.sum() == 10  # corners touch
    assert kept[5, 5]
    assert not largest_part(np.zeros((5, 5), bool)).any()


def test_absence_is_said(fluoro, tiny_checkpoint, tmp_path):
    """Whatever the random weights answer, stderr says what prediction.json says."""
    code, _, err = fluoro("predict", "img.png", "heart", "liver", "spine", "--model", tiny_checkpoint, "-o", "out")
    assert code == 0, err
    header = read_header(tmp_path / "out/prediction.json", Prediction)
    for mask in header.masks:
        text = header.prompts[mask.prompt].text
        said = f'"{text}": not in this image (presence {mask.presence:.2f})' in err
        assert said == (mask.presence < 0.5)


def test_an_earlier_result_stays_when_the_next_cannot_be_made(fluoro, tiny_checkpoint, tmp_path):
    line = ("predict", "img.png", "--model", tiny_checkpoint, "-o", "out")
    assert fluoro(*line, "heart")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert fluoro(*line, "heart", "--point", "900,9", "--overwrite")[0] == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_dry_run_writes_nothing(fluoro, tiny_checkpoint, tmp_path):
    code, out, err = fluoro("predict", "img.png", "heart", "liver", "--model", tiny_checkpoint, "--dry-run", "--json")
    assert code == 0, err
    assert {"dry_run": True, "images": 1, "prompts": 2}.items() <= json.loads(out).items()
    assert [p.name for p in tmp_path.iterdir()] == ["img.png"]
    for words, problem in ((("--threshold", 2), "threshold 2"), (("--mask", "none.png"), "none.png")):
        code, out, err = fluoro("predict", "img.png", "heart", *words, "--model", tiny_checkpoint, "--dry-run")
        assert code != 0
        assert problem in err


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["img.png"], 2, "nothing to segment is named"),
        (["img.png", " "], 2, "a phrase is empty"),
        (["img.png", "--point", "12"], 2, "--point 12: not of the form"),
        (["img.png", "--point", "1,nan"], 2, "--point 1,nan: not of the form"),
        (["img.png", "--point", "1,2,3"], 2, "third number"),
        (["img.png", "--box", "1,2,3"], 2, "--box 1,2,3: not of the form"),
        (["img.png", "heart", "--resume"], 2, "--resume without -o"),
        (["img.png", "heart", "--threshold", "2"], 2, "threshold 2"),
        (["img.png", "heart", "--device", "tpu"], 2, "--device tpu"),
        (["img.png", "heart", "--point", "900,10"], 1, "point 900,10: outside the image of 97x61"),
        (["img.png", "--box", "5,5,500,9"], 1, "box 5,5,500,9: outside the image of 97x61"),
        (["none.png", "heart"], 1, "none.png: no such image"),
        (["text.png", "heart"], 1, "text.png: not a readable PNG"),
        (["scan.dcm", "heart"], 1, "scan.dcm: not a readable DICOM"),
        (["img.png", "heart", "--format", "svg"], 2, "--format svg"),
        (["img.png", "heart", "--all"], 2, "exclude each other"),
        (["img.png", "--prompts", "text.png"], 1, "not valid JSON"),
        (["img.png", "heart", "--mask", "small.png"], 1, "mask: is 20x20, the image is 97x61"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(fluoro, tiny_checkpoint, tmp_path, words, code, problem):
    (tmp_path / "text.png").write_text("a text")
    (tmp_path / "scan.dcm").write_text("a text")
    Image.fromarray(np.eye(20, dtype=np.uint8)).save("small.png")
    found, out, err = fluoro("predict", *words, "--model", tiny_checkpoint)
    assert (found, out) == (code, ""), err
    assert problem in err
    assert "hint: " in err
    assert "Traceback" not in err
    assert not (tmp_path / "predictions").exists()


def test_checkpoints_that_do_not_fit(fluoro, tiny_checkpoint, tmp_path):
    def complaint(*options):
        code, out, err = fluoro("predict", "img.png", "heart", *options)
        assert (code, out) == (1, ""), err
        assert "Traceback" not in err
        assert not (tmp_path / "predictions").exists()
        return err

    assert "no such checkpoint" in complaint("--model", "nowhere")
    assert "holds no checkpoint.json" in complaint("--model", ".")
    shutil.copytree(tiny_checkpoint, "newer")
    header = json.loads((tmp_path / "newer/checkpoint.json").read_text())
    (tmp_path / "newer/checkpoint.json").write_text(json.dumps({**header, "format": "fluoro.checkpoint/9"}))
    assert "format is 'fluoro.checkpoint/9'" in complaint("--model", "newer")
    other = {**header, "text_encoder": {**header["text_encoder"], "revision": "another"}}
    (tmp_path / "newer/checkpoint.json").write_text(json.dumps(other))
    assert "the checkpoint needs another" in complaint("--model", "newer")
    shutil.copytree(tiny_checkpoint, "damaged")
    with open(tmp_path / "damaged" / header["weights"], "r+b") as weights:
        weights.seek(-4, 2)
        weights.write(b"\xff\xff\xff\xff")
    assert "its sha256 differs" in complaint("--model", "damaged")


def test_the_builtin_checkpoint_is_the_default(fluoro, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("fluorosam_cli.model.checkpoint.SHIPPED", tmp_path / "shipped")
    code, out, err = fluoro("predict", "img.png", "heart")
    assert (code, out) == (1, ""), err
    assert "no built-in checkpoint is shipped with this version" in err
    shutil.copytree(tiny_checkpoint, "shipped")
    Path("builtin").mkdir()  # ./builtin would be this one
    assert "holds no checkpoint.json" in fluoro("predict", "img.png", "heart", "--model", "./builtin")[2]
    found = []
    for name, words in (("a", ()), ("b", ("--model", "builtin")), ("c", ("--model", tiny_checkpoint))):
        assert fluoro("predict", "img.png", "heart", *words, "-o", name)[0] == 0
        found.append((tmp_path / name / "prediction.json").read_bytes())
    assert found[0] == found[1] == found[2]


def test_overlay_marks_the_mask_and_nothing_else():
    image = np.full((60, 100), 1000, np.uint16)
    mask = np.zeros((60, 100), bool)
    mask[20:40, 10:50] = True
    drawn = draw(image, [Layer(mask, colour=(255, 0, 0))])
    scale = drawn.shape[1] / 100
    coloured = (drawn.max(axis=2) != drawn.min(axis=2))[:: int(scale), :: int(scale)]
    rows, columns = np.nonzero(drawn.max(axis=2) != drawn.min(axis=2))
    np.testing.assert_allclose(
        [rows.min() / scale, (rows.max() + 1) / scale, columns.min() / scale, (columns.max() + 1) / scale],
        [20, 40, 10, 50],
        atol=0.3,
    )
    assert coloured.any()
    for size in ((16, 16), (30, 3000)):  # the smallest, and one with no room for a name
        assert draw(np.zeros(size), [Layer(np.ones(size, bool), "a long name for a small picture")]).dtype == np.uint8

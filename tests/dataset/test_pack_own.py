"""`fluoro pack` of users' own radiographs and masks: folders by patient, and COCO files."""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fluorosam_cli.artefacts import write_json
from fluorosam_cli.contracts import Description, Descriptions
from fluorosam_cli.dataset.shards import ShardReader

RADIOGRAPH = (np.add.outer(np.arange(50), np.arange(40)) * 2).astype(np.uint8)
LEFT, HEART = np.zeros((2, 50, 40), np.uint8)
LEFT[10:30, 22:36] = HEART[25:40, 15:28] = 255


@pytest.fixture
def own_words(tmp_path):
    folder = tmp_path / "own_words"
    folder.mkdir()
    names = ("lung_above_diaphragm_left", "lung_above_diaphragm_right", "heart")
    lines = [Description(name=n, text=n, kind="name", split="train", source="lexicon") for n in names]
    (folder / "descriptions.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in lines))
    write_json(folder / "descriptions.json", Descriptions(count=3, names=3, seed=0))
    return folder


def test_own_radiographs_with_masks_pack_by_patient(fluoro, own_words, tmp_path):
    own = tmp_path / "own"
    for number in range(4):
        (own / "masks" / f"x{number}").mkdir(parents=True)
        Image.fromarray(LEFT).save(own / f"masks/x{number}/lung_left.png")
    (own / "images").mkdir()
    Image.fromarray(RADIOGRAPH).save(own / "images/x0.png")
    Image.fromarray(RADIOGRAPH.astype(np.uint16) * 16).save(own / "images/x1.png")
    Image.fromarray(RADIOGRAPH).save(own / "images/x2.tif")
    Image.fromarray(RADIOGRAPH).save(own / "images/x3.jpg", quality=95)
    Image.fromarray(HEART).save(own / "masks/x1/Heart.png")
    Image.fromarray(HEART).save(own / "masks/x1/gizmo.png")
    Image.fromarray(0 * HEART).save(own / "masks/x2/heart.png")  # looked for, and not there
    (tmp_path / "patients.csv").write_text("image,patient\nx0,p\nx1.png,p\nx2,p\n")
    command = ["pack", own, "--descriptions", own_words, "--size", 50, "--patients", tmp_path / "patients.csv"]
    code, _, err = fluoro(*command, "--test", 0.5, "--val", 0, "-o", tmp_path / "shards")
    assert code == 0, err
    assert "gizmo" in err
    Image.fromarray(LEFT).save(own / "masks/x3/heart.png")  # shards that are there are not of these masks
    code, _, err = fluoro(*command, "--test", 0.5, "--val", 0, "-o", tmp_path / "shards", "--resume")
    assert code == 1
    assert "images_sha256" in err
    (own / "masks/x3/heart.png").unlink()
    (tmp_path / "patients.csv").write_text("image,patient\nx0,p\nx0,q\n")
    code, _, err = fluoro(*command, "-o", tmp_path / "others")
    assert (code, "x0 is of p and of q" in err) == (1, True)
    (tmp_path / "patients.csv").write_text("image,patient\nimages/x0.png,p\n")
    code, _, err = fluoro(*command, "-o", tmp_path / "others")
    assert code == 1
    assert "names none of the images" in err
    samples = {s.view: s for split in ("train", "test") for s in ShardReader(tmp_path / "shards", split)}
    assert {s.case for s in samples.values()} == {"p", "x3"}
    assert {s.case for s in ShardReader(tmp_path / "shards", "test")} in ({"p"}, {"x3"})
    names = ShardReader(tmp_path / "shards", "train").header.structures
    assert names == ["heart", "lung_above_diaphragm_left"]
    for view, sample in samples.items():
        assert np.array_equal(sample.mask(list(sample.structures).index(1))[:, :40], LEFT > 0)
        assert list(sample.absent) == ([0] if view == "x2" else [])
        assert abs(sample.image[:50, :40] / 65535 - RADIOGRAPH / RADIOGRAPH.max()).max() < 0.03


def test_a_stack_of_images_is_refused(fluoro, own_words, tmp_path):
    own = tmp_path / "own"
    (own / "masks/x").mkdir(parents=True)
    (own / "images").mkdir()
    Image.fromarray(LEFT).save(own / "masks/x/lung_left.png")
    page = Image.fromarray(RADIOGRAPH)
    page.save(own / "images/x.tif", save_all=True, append_images=[page])
    code, _, err = fluoro("pack", own, "--descriptions", own_words, "--val", 0, "-o", tmp_path / "shards")
    assert code == 1
    assert "x.tif: holds 2 frames, one image is expected" in err


def test_coco_polygons_and_run_lengths_pack(fluoro, own_words, tmp_path):
    (tmp_path / "own/images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(RADIOGRAPH).save(tmp_path / "own/images" / name)
    code = coco.encode(np.asfortranarray(HEART))
    runs = {"size": [50, 40], "counts": code["counts"].decode()}
    box = [22, 10, 36, 10, 36, 30, 22, 30]
    data = {
        "images": [{"id": i, "file_name": f"{name}.png", "width": 40, "height": 50} for i, name in enumerate("ab")],
        "categories": [{"id": 1, "name": "Left Lung"}, {"id": 2, "name": "heart"}, {"id": 3, "name": "gizmo"}],
        "annotations": [
            {"image_id": 0, "category_id": 1, "segmentation": [box]},
            {"image_id": 0, "category_id": 2, "segmentation": runs, "iscrowd": 1},
            {"image_id": 1, "category_id": 1, "segmentation": [box]},
            {"image_id": 1, "category_id": 3, "segmentation": [box]},
        ],
    }
    file = tmp_path / "own/coco.json"
    file.write_text(json.dumps(data))
    command = ["pack", file, "--descriptions", own_words, "--size", 50, "--val", 0]
    code, _, err = fluoro(*command, "-o", tmp_path / "shards")
    assert code == 0, err
    assert "gizmo" in err
    first, second = ShardReader(tmp_path / "shards", "train")
    assert np.array_equal(first.mask(list(first.structures).index(0))[:, :40], HEART > 0)
    assert np.array_equal(second.mask(0)[:, :40], LEFT > 0)
    assert not len(second.absent)
    data["images"][0]["width"] = 41
    file.write_text(json.dumps(data))
    code, _, err = fluoro(*command, "-o", tmp_path / "again")
    assert code == 1
    assert "a.png" in err
    assert not (tmp_path / "again/shards.json").exists()


def annotated(folder, names, prefix=""):
    """A COCO file of images with hearts."""
    data = {
        "images": [{"id": i, "file_name": f"{prefix}{name}"} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "heart"}],
        "annotations": [
            {"image_id": i, "category_id": 1, "segmentation": [[15, 25, 28, 25, 28, 40, 15, 40]]}
            for i in range(len(names))
        ],
    }
    file = folder / f"{prefix.replace('/', '_')}coco.json"
    file.write_text(json.dumps(data))
    return file


def test_copies_of_an_image_are_one_case_whatever_they_are_called(fluoro, own_words, tmp_path):
    own = tmp_path / "own"
    (own / "images").mkdir(parents=True)
    for number in range(6):
        (own / f"masks/x{number}").mkdir(parents=True)
        Image.fromarray(LEFT).save(own / f"masks/x{number}/lung_left.png")
        Image.fromarray(np.roll(RADIOGRAPH, number % 5, 0)).save(own / f"images/x{number}.png")  # the last is the first
    files = [annotated(own, [f"x{number}.png" for number in range(6)], prefix) for prefix in ("", "images/")]
    out = tmp_path / "shards"
    code, _, err = fluoro(
        "pack", own, *files, "--descriptions", own_words, "--size", 50, "--val", 0.4, "--test", 0.2, "-o", out
    )
    assert code == 0, err
    seen = {split: {sample.image.tobytes() for sample in ShardReader(out, split)} for split in ("train", "val", "test")}
    assert sum(len(ShardReader(out, split)) for split in seen) == 18
    assert sorted(len(images) for images in seen.values()) == [1, 2, 2]
    assert len(set().union(*seen.values())) == 5


def test_patients_and_spacings_of_niftis(fluoro, own_words, tmp_path):
    own = tmp_path / "own"
    (own / "images").mkdir(parents=True)
    for name, spacing in (("a", (0.5, 0.5, 1)), ("b", (0.2, 0.5, 1))):
        (own / f"masks/{name}").mkdir(parents=True)
        Image.fromarray(LEFT).save(own / f"masks/{name}/lung_left.png")
        image = nibabel.Nifti1Image(RADIOGRAPH.T[..., None].astype(np.int16), np.diag([*spacing, 1]))
        nibabel.save(image, own / f"images/{name}.nii.gz")
    table = tmp_path / "patients.csv"
    table.write_text("image,patient\na.nii.gz,p\nb.nii.gz,p\n")
    command = ("pack", own, "--descriptions", own_words, "--size", 50, "--val", 0, "-o", tmp_path / "shards")
    code, _, err = fluoro(*command, "--patients", table)
    assert code == 0, err
    a, b = ShardReader(tmp_path / "shards", "train")
    assert (a.case, b.case) == ("p", "p")
    assert a.pixel_spacing_mm == 0.5
    assert np.isnan(b.pixel_spacing_mm)

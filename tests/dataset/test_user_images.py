"""Users' images with masks as they really come: other tools' exports, other systems' paths, careless names."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.dataset.user_images import find_user_images, read_masks
from fluorosam_cli.errors import FluoroError

SHAPE = (20, 30)
INSIDE = np.zeros(SHAPE, bool)
INSIDE[5:12, 8:20] = True


def png(path, array=np.uint8(255) * INSIDE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    png(tmp_path / "images/p.png")
    png(tmp_path / "masks/p/heart.png")
    return tmp_path


@pytest.mark.parametrize(
    ("colour", "alpha"),
    [
        (np.full(SHAPE, 255), INSIDE * 255),  # a brush on a transparent layer
        (np.zeros(SHAPE), INSIDE * 255),
        (INSIDE * 255, np.full(SHAPE, 255)),
        (INSIDE * 255, INSIDE * 255),
    ],
)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_may_be_what_is_not_transparent(folder, colour, alpha, mode):
    layers = [colour] * (3 if mode == "RGBA" else 1) + [alpha]
    png(folder / "masks/p/heart.png", np.stack(layers, axis=-1).astype(np.uint8))
    masks, problems = read_masks(find_user_images(folder).images[0], SHAPE)
    assert not problems
    np.testing.assert_array_equal(masks["heart"], INSIDE)


def test_palettes_of_greys_mean_their_greys_and_coloured_ones_their_numbers(folder):
    greys, colours = (Image.fromarray(numbers.astype(np.uint8)).convert("P") for numbers in (~INSIDE, INSIDE))
    greys.putpalette([255, 255, 255, 0, 0, 0])  # as of `quantize(2)`
    colours.putpalette([0, 0, 0, 128, 0, 0])
    for picture in (greys, colours):
        picture.save(folder / "masks/p/heart.png")
        masks, problems = read_masks(find_user_images(folder).images[0], SHAPE)
        assert not problems
        np.testing.assert_array_equal(masks["heart"], INSIDE)


def test_a_mask_of_the_whole_image_is_none(folder):
    png(folder / "masks/p/heart.png", np.full(SHAPE, 255, np.uint8))
    masks, problems = read_masks(find_user_images(folder).images[0], SHAPE)
    assert not masks
    assert problems == ["p/heart.png: covers the whole image, as no structure does"]


def test_masks_that_are_no_png_are_named_and_capitals_do_not_matter(folder):
    png(folder / "masks/p/liver.PNG")
    png(folder / "masks/p/spleen.tif")
    found = find_user_images(folder)
    assert set(found.images[0].masks) == {"heart", "liver"}
    assert found.problems == ["masks/p/spleen.tif: is no PNG, as masks have to be"]


def test_names_with_dots_and_files_that_are_no_images(folder):
    (folder / "images/Thumbs.db").write_bytes(b"no image")
    (folder / "masks/Thumbs").mkdir()
    (folder / "images/scan.1.nii.gz").write_bytes(b"")
    png(folder / "masks/scan.1/heart.png")
    found = find_user_images(folder)
    assert [image.name for image in found.images] == ["p", "scan.1"]
    assert found.problems == ["masks/Thumbs: no image of that name in images/"]


def test_two_images_of_one_name_are_refused(folder):
    png(folder / "images/p.jpg")
    with pytest.raises(FluoroError, match=r"p\.jpg and p\.png are both p"):
        find_user_images(folder)


def coco(folder, images):
    square = [[8, 5, 20, 5, 20, 12, 8, 12]]
    annotations = [{"image_id": i["id"], "category_id": 1, "segmentation": square} for i in images]
    data = {"images": images, "categories": [{"id": 1, "name": "heart"}], "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(data))
    return find_user_images(folder / "coco.json")


@pytest.mark.parametrize("name", ["sub\\q.png", "C:\\export\\q.png", "/data/upload/1/q.png", "../elsewhere/q.png"])
def test_paths_of_other_machines(folder, name):
    place = folder / ("images/sub/q.png" if name.startswith("sub") else "images/q.png")
    png(place)
    found = coco(folder, [{"id": 1, "file_name": name, "width": None, "height": None}])
    assert [image.path for image in found.images] == [place]
    masks, problems = read_masks(found.images[0], SHAPE)
    assert not problems
    np.testing.assert_array_equal(masks["heart"], INSIDE)


def test_names_with_dots_in_a_coco_file(folder):
    for name in ("scan.1.nii.gz", "1.2.840"):
        (folder / name).write_bytes(b"")
    found = coco(folder, [{"id": i, "file_name": name} for i, name in enumerate(("scan.1.nii.gz", "1.2.840"))])
    assert [image.name for image in found.images] == ["1.2.840", "scan.1"]


def test_a_long_coco_file_is_read_in_time_by_its_length(folder):
    many = range(15_000)
    png(folder / "z.png")
    data = {
        "images": [{"id": -1, "file_name": "z.png"}, *({"id": i, "file_name": "p.png"} for i in many)],
        "categories": [{"id": 1, "name": "heart"}],
        "annotations": [{"image_id": -1, "category_id": 1, "segmentation": [[8, 5, 20, 5, 20, 12]]} for _ in many],
    }
    (folder / "coco.json").write_text(json.dumps(data))
    began = time.process_time()
    found = find_user_images(folder / "coco.json")
    assert (len(found.images), len(found.problems)) == (1, len(many))
    assert time.process_time() - began < 3  # ten and more where each image looks through all annotations


def test_one_file_listed_twice_and_one_id_given_twice(folder):
    found = coco(folder, [{"id": 1, "file_name": "p.png"}, {"id": 2, "file_name": "/other/p.png"}])
    assert len(found.images) == 1
    assert found.problems == ["p.png: is listed twice; the masks of image 2 are left out"]
    with pytest.raises(FluoroError, match="id 1 is given twice"):
        coco(folder, [{"id": 1, "file_name": "p.png"}, {"id": 1, "file_name": "q.png"}])

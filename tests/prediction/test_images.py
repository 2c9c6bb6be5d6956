import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.images import find_images, read_image, to_grey

GREY = np.random.default_rng(3).integers(0, 256, (21, 34), dtype=np.uint8)
DEEP = np.random.default_rng(4).integers(0, 65536, (21, 34), dtype=np.uint16)


def test_grey_images_keep_their_values(tmp_path):
    for name, array in (("a.png", GREY), ("b.png", DEEP), ("c.tif", GREY), ("d.tiff", DEEP)):
        Image.fromarray(array).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), array)
    Image.fromarray(GREY).save(tmp_path / "e.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "e.jpg").astype(int) - GREY).max() <= 3


def test_grey_stored_as_colour_is_the_same_grey(tmp_path):
    for mode in ("RGB", "RGBA", "LA", "P"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(GREY).convert(mode).save(path)
        np.testing.assert_array_equal(read_image(path), GREY)


def test_transparent_parts_are_black(tmp_path):
    rgba = np.full((20, 30, 4), 200, np.uint8)
    rgba[:, :15, 3], rgba[:, 15:, 3] = 0, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    grey = read_image(tmp_path / "a.png")
    assert (grey[:, :15] == 0).all()
    assert (grey[:, 15:] == 200).all()


@pytest.mark.parametrize(
    ("tag", "turned"), [(1, GREY), (3, GREY[::-1, ::-1]), (6, np.rot90(GREY, -1)), (2, GREY[:, ::-1])]
)
def test_exif_rotation_is_applied(tmp_path, tag, turned):
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), turned)


def test_colour_arrays_become_luma():
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[..., 1] = 100
    np.testing.assert_allclose(to_grey(rgb), 58.7, rtol=1e-6)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 2)), np.zeros(5), np.full((9, 9), np.nan), np.zeros((0, 4)), np.array("x")]
)
def test_arrays_that_are_no_image(array):
    with pytest.raises(FluoroError, match="image"):
        to_grey(array)


def test_what_is_no_image_says_so(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "scan.dcm").write_bytes(b"x")
    (tmp_path / "hidden_dicom").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "ct.nii.gz").write_bytes(b"x")
    Image.fromarray(GREY[:5, :5]).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((20, 10_001), np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.gif")
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "nan.tif")
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(GREY).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    for name, problem in {
        "text.png": "not a readable",
        "empty.png": "not a readable",
        "cut.png": "not a readable",
        "a.gif": "not a readable",
        "scan.dcm": "DICOM images are not read yet",
        "hidden_dicom": "DICOM images are not read yet",
        "ct.nii.gz": "NIfTI images are not read yet",
        "small.png": "is 5x5",
        "wide.png": "is 10001x20",
        "nan.tif": "NaN",
        "pages.tif": "holds 2 pages",
    }.items():
        with pytest.raises(FluoroError, match=problem) as caught:
            read_image(tmp_path / name)
        assert name in caught.value.problem
        assert "\n" not in caught.value.problem


def test_find_images(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images(str(tmp_path))] == ["a.JPG", "b.png"]
    assert [p.name for p in find_images(str(tmp_path / "*.png"))] == ["b.png"]
    assert find_images(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]
    (tmp_path / "none").mkdir()
    for nothing in ("none", "c.png", "*.tif"):
        with pytest.raises(FluoroError):
            find_images(str(tmp_path / nothing))


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a[1].png")
    assert find_images(str(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.dataset.image_files import stem_of
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.images import find_images, probe, read_image, read_radiograph, to_grey
from fluorosam_cli.prediction.polarity import is_bone_bright
from fluorosam_cli.prediction.radiograph import inverted

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
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", invert=False), turned)


@pytest.mark.parametrize("array", [GREY, DEEP])
def test_exif_rotation_of_raw_tiffs(tmp_path, array):
    Image.fromarray(array).save(tmp_path / "a.tif", tiffinfo={274: 6})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", invert=False), np.rot90(array, -1))


def test_one_transparent_value_of_a_deep_image_stays(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "a.png", transparency=300)
    assert "transparency" in Image.open(tmp_path / "a.png").info
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", invert=False), DEEP)


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


def test_deep_tiffs(tmp_path):
    """32 bits, signed, unsigned and floating; white-is-zero of any depth is turned."""
    import tifffile

    rng = np.random.default_rng(5)
    for name, array in {
        "u4": rng.integers(0, 2**32, GREY.shape, dtype=np.uint32),
        "i4": rng.integers(-(2**31), 2**31, GREY.shape, dtype=np.int32),
        "f4": rng.normal(size=GREY.shape).astype(np.float32),
        "i2": rng.integers(-(2**15), 2**15, GREY.shape, dtype=np.int16),
        "i1": rng.integers(-(2**7), 2**7, GREY.shape, dtype=np.int8),
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif", invert=False), array)
    for name, array in {"a.tif": GREY, "b.tif": DEEP, "c.tif": DEEP.astype(np.float32)}.items():
        tifffile.imwrite(tmp_path / name, array, photometric="miniswhite")
        read = read_image(tmp_path / name, invert=False).astype(int)
        assert len(np.unique(read + array.astype(int))) == 1


def test_of_a_phones_picture_and_its_thumbnail_the_picture_counts(tmp_path):
    picture, thumbnail = Image.fromarray(GREY), Image.fromarray(GREY[:8, :8])
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[thumbnail], quality=100)
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    assert probe(tmp_path / "a.jpg") == (1, False)
    assert np.abs(read_radiograph(tmp_path / "a.jpg").pixels.astype(int) - GREY).max() <= 3


def test_volume_files_are_pictures_of_rows_and_columns(tmp_path):
    """As SimpleITK writes a picture, which stores columns fastest."""
    sitk = pytest.importorskip("SimpleITK")
    picture = sitk.GetImageFromArray(DEEP)
    picture.SetSpacing((0.2, 0.3))
    stack = sitk.GetImageFromArray(np.stack([DEEP, DEEP + 1]).astype(np.int16))
    for name in ("a.nii.gz", "a.nii", "a.nrrd"):
        sitk.WriteImage(picture, str(tmp_path / name))
        shown = read_radiograph(tmp_path / name, invert=False)
        np.testing.assert_array_equal(shown.pixels, DEEP)
        assert shown.spacing is not None
        np.testing.assert_allclose([shown.spacing.row_mm, shown.spacing.column_mm], [0.3, 0.2], rtol=1e-6)
        assert shown.spacing.plane == "unknown"
        sitk.WriteImage(stack, str(tmp_path / name), useCompression=True)
        assert probe(tmp_path / name) == (2, False)
        np.testing.assert_array_equal(
            read_radiograph(tmp_path / name, 2, invert=False).pixels, (DEEP + 1).astype(np.int16)
        )


@pytest.mark.parametrize(
    ("to_right", "to_bottom", "said"),
    [
        ("L", "I", ""),
        ("R", "I", "mirror the image first"),
        ("R", "S", "turn it by half first"),
        ("L", "S", "turn it by half and mirror it first"),
        ("R", "A", ""),  # what writers put that know nothing: no radiograph shows this plane
        ("L", "P", ""),
        ("P", "I", ""),  # lateral
    ],
)
def test_volume_files_that_hang_otherwise_are_told_of(tmp_path, to_right, to_bottom, said):
    import nibabel

    towards = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    rows, columns = towards[to_right], towards[to_bottom]
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([rows, columns, np.cross(rows, columns)])
    nibabel.save(nibabel.Nifti1Image(DEEP.T[..., None], affine), tmp_path / "a.nii.gz")
    lps = (np.diag([-1, -1, 1]) @ affine[:3, :2]).T
    directions = " ".join(f"({','.join(map(str, axis))})" for axis in lps)
    lines = ("NRRD0005", "type: uint16", "dimension: 2", f"sizes: {DEEP.shape[1]} {DEEP.shape[0]}", "encoding: raw")
    more = ("endian: little", "space: left-posterior-superior", f"space directions: {directions}")
    (tmp_path / "a.nrrd").write_bytes("\n".join((*lines, *more, "", "")).encode() + DEEP.astype("<u2").tobytes())
    for name in ("a.nii.gz", "a.nrrd"):
        read = read_radiograph(tmp_path / name, invert=False)
        np.testing.assert_array_equal(read.pixels, DEEP)
        assert [remark.endswith(said) for remark in read.remarks] == [True] * bool(said)


@pytest.mark.parametrize(("skip", "before"), [("-1", b"of another format"), ("3", b"abc")])
def test_a_header_may_lie_beside_its_pixels_and_skip_bytes(tmp_path, skip, before):
    (tmp_path / "a.bin").write_bytes(before + DEEP.astype("<u2").tobytes())
    sizes = " ".join(map(str, DEEP.shape[::-1]))
    lines = ("NRRD0004", "# no colon here", "type: uint16", "dimension: 2", f"sizes: {sizes}", "encoding: raw")
    more = ("endian: little", f"byte skip: {skip}", "data file: a.bin")
    (tmp_path / "a.nhdr").write_text("\n".join((*lines, *more)) + "\n\n")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "a.nhdr", invert=False).pixels, DEEP)


def test_colour_photographs_of_films(tmp_path):
    """Turned by EXIF, with a colour cast: the film's grey comes out in order."""
    ramp = np.tile(np.arange(20, 220, 2, dtype=np.uint8), (60, 1))
    photo = np.stack([ramp * 0.8, ramp * 0.9 + 10, ramp], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(np.rot90(photo, -1)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    grey = read_image(tmp_path / "a.jpg", invert=False)
    assert grey.shape == (60, 100)
    assert np.corrcoef(grey[30], ramp[30])[0, 1] > 0.999


def chest(rng):
    """A body with a bright spine between dark lungs, no air around: what films of chests look like."""
    y, x = np.mgrid[0:200, 0:180]
    lungs = sum(np.exp(-(((x - c) / 35) ** 2) - ((y - 90) / 60) ** 2) for c in (45, 135))
    return (200 - 150 * lungs + rng.normal(0, 5, y.shape)).clip(0, 255).astype(np.uint8)


def test_polarity_is_detected_and_never_depends_on_range(tmp_path):
    rng = np.random.default_rng(0)
    for image in (chest(rng), chest(rng).astype(np.uint16) * 200, np.float32(chest(rng)) / 7 - 3):
        assert is_bone_bright(image)
        assert not is_bone_bright(inverted(image))
        np.testing.assert_allclose(inverted(inverted(image)), image, atol=1e-5)
    for flat in (np.zeros((30, 40)), rng.normal(size=(17, 300)), np.eye(16)):
        assert is_bone_bright(flat)  # left alone


@pytest.mark.data
def test_polarity_of_real_films(shared_data):
    films = sorted((shared_data / "real_xrays" / "images").glob("*.jpg"))
    assert len(films) == 14
    upright = [read_radiograph(path) for path in films]
    assert all(film.bone_bright for film in upright)
    assert sum(not is_bone_bright(inverted(film.pixels)) for film in upright) >= 13


def bomb(path):
    """A PNG of 30,000 x 30,000 pixels in a few bytes."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))))


def test_what_is_no_image_says_so(tmp_path):
    import nibabel

    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "scan.dcm").write_bytes(b"x")
    (tmp_path / "hidden_dicom").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "ct.nii.gz").write_bytes(b"x")
    (tmp_path / "a.nrrd").write_text("NRRD0004\ntype: short\nsizes: 20 20\nencoding: raw\nendian: little\n\nshort")
    bomb(tmp_path / "bomb.png")
    bomb_nifti = nibabel.Nifti1Image(np.zeros((2, 2), np.uint8), np.eye(4))
    bomb_nifti.header.set_data_shape((30_000, 30_000))
    (tmp_path / "bomb.nii").write_bytes(bomb_nifti.header.binaryblock + bytes(500))
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 20, 3, 2), np.uint8), np.eye(4)), tmp_path / "four.nii")
    Image.fromarray(GREY[:5, :5]).save(tmp_path / "small.png")
    Image.fromarray(GREY[:1, :1]).save(tmp_path / "dot.png")
    Image.fromarray(np.zeros((20, 10_001), np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.gif")
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "nan.tif")
    Image.fromarray(GREY).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    for name, problem in {
        "text.png": "not a readable",
        "empty.png": "is empty",
        "cut.png": "not a readable",
        "a.gif": "not a readable",
        "scan.dcm": "not a readable DICOM",
        "hidden_dicom": "not a readable DICOM",
        "ct.nii.gz": "not a readable NIfTI",
        "a.nrrd": "end early",
        "bomb.png": "far too large",
        "bomb.nii": "is 30000x30000",
        "four.nii": "its shape is",
        "small.png": "is 5x5",
        "dot.png": "is 1x1",
        "wide.png": "is 10001x20",
        "nan.tif": "NaN",
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
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "deep" / "LICENCE").touch()
    assert [p.name for p in find_images(str(tmp_path / "deep"))] == ["IM0001"]
    assert [p.name for p in find_images(str(tmp_path / "**" / "IM*"))] == ["IM0001"]
    assert [stem_of(p) for p in map(Path, ("a.nii.gz", "1.2.840.dcm", "IM0001", "b.PNG"))] == [
        "a", "1.2.840", "IM0001", "b",
    ]  # fmt: skip
    (tmp_path / "none").mkdir()
    for nothing in ("none", "c.png", "*.tif"):
        with pytest.raises(FluoroError):
            find_images(str(tmp_path / nothing))


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a[1].png")
    assert find_images(str(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]

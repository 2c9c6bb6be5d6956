"""NIfTI files as our reader sees them: values, handedness, and what is refused. The other formats: test_scans.py."""

import contextlib
import gzip
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fluorosam_cli.ct.layout import read_hu, read_layout
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError

AFFINE_RAS = np.array([[0.7, 0, 0, -90], [0, 0.8, 0, -60], [0, 0, 2.5, -200], [0, 0, 0, 1]])


def save(path, array, affine=AFFINE_RAS):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def ramp(shape=(4, 5, 6), dtype=np.int16) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) - 60).astype(dtype)


def read(path: Path) -> Volume:
    return read_hu(read_layout(Source(path), str(path)), str(path))


def test_a_voxel_keeps_its_value_and_its_place_in_the_patient(tmp_path):
    stored = ramp()
    volume = read(save(tmp_path / "a.nii.gz", stored))
    assert volume.array.shape == (6, 5, 4)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, stored.T)
    ras = AFFINE_RAS @ [3, 1, 2, 1]
    np.testing.assert_allclose(volume.world_from_voxel @ [3, 1, 2, 1], [-ras[0], -ras[1], ras[2], 1])
    np.testing.assert_allclose(volume.spacing_xyz_mm, [0.7, 0.8, 2.5])
    assert volume.voxel_volume_ml == pytest.approx(0.7 * 0.8 * 2.5 / 1000)


def test_a_scale_in_the_header_is_applied(tmp_path):
    (tmp_path / "a.nii").write_bytes(raw_header(scl_slope=2, scl_inter=-900))
    np.testing.assert_allclose(read(tmp_path / "a.nii").array, ramp().T * 2.0 - 900)


def test_a_fourth_axis_of_one_is_dropped(tmp_path):
    assert read(save(tmp_path / "a.nii", ramp()[..., None])).array.shape == (6, 5, 4)


def raw_header(**fields) -> bytes:
    """A NIfTI file in memory with header fields set as they are, sound or not."""
    image = nibabel.Nifti1Image(ramp(), AFFINE_RAS)
    data = bytearray(image.to_bytes())
    header = np.frombuffer(data, dtype=image.header.template_dtype, count=1)
    header.flags.writeable = True
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


def colour() -> np.ndarray:
    return np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


BAD_FILES = {
    "text": (b"this is no image\n", "not a readable NIfTI"),
    "empty": (b"", "not a readable NIfTI"),
    "truncated": (raw_header()[:500], "promises 240 bytes of voxels, the file has 148|voxels end early"),
    "only a header": (raw_header()[:348], "promises 240 bytes of voxels, the file has 0|voxels end early"),
    "wrong magic": (raw_header(magic=b"abc"), "not a readable NIfTI"),
    "4D": (nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), AFFINE_RAS).to_bytes(), "3D volume is needed"),
    "2D": (nibabel.Nifti1Image(np.zeros((4, 5), np.int16), AFFINE_RAS).to_bytes(), "3D volume is needed"),
    "NaN affine": (raw_header(srow_x=[np.nan, 0, 0, 0]), "affine is not finite"),
    "flat affine": (raw_header(srow_z=[0, 0, 0, 0]), "not invertible"),
    "metres": (raw_header(srow_x=[7e-4, 0, 0, 0]), "voxel spacing is 0.0007 x"),
    "negative shape": (raw_header(dim=[3, 4, -5, 6, 1, 1, 1, 1]), "NIfTI|shape"),
    "huge shape": (raw_header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "voxels, at most"),
    "large shape": (raw_header(dim=[3, 1000, 1000, 1000, 1, 1, 1, 1]), r"promises 2000000\d{3} bytes"),
    "unknown type": (raw_header(datatype=77), "not a readable NIfTI"),
    "far offset": (raw_header(vox_offset=1e9), r"promises \d+ bytes of voxels, the file has (0|\d{3})$"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_error_in_words(tmp_path, kind, suffix):
    data, words = BAD_FILES[kind]
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    with pytest.raises(FluoroError, match=words) as caught:
        read(path)
    assert caught.value.problem.startswith(str(path))
    assert "\n" not in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("keep", [4, 40, 400, 440])
def test_a_gzip_cut_short_is_not_readable(tmp_path, keep):
    noise = np.random.default_rng(0).integers(-1000, 1000, (9, 9, 9)).astype(np.int16)
    save(tmp_path / "a.nii.gz", noise)
    (tmp_path / "a.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:keep])
    with pytest.raises(FluoroError, match="not a readable NIfTI"):
        read(tmp_path / "a.nii.gz")


def test_plain_text_under_a_gzip_name_is_not_readable(tmp_path):
    (tmp_path / "a.nii.gz").write_text("this is no image\n" * 50)
    with pytest.raises(FluoroError, match="not a readable NIfTI"):
        read(tmp_path / "a.nii.gz")


def test_colour_is_no_ct(tmp_path):
    with pytest.raises(FluoroError, match="voxel type is colour"):
        read(save(tmp_path / "a.nii.gz", colour()))


def test_flipped_header_bytes_are_read_or_refused_but_never_crash(tmp_path):
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(raw_header(), np.uint8).copy()
        data[rng.integers(0, 352, 4)] = rng.integers(0, 256, 4)
        (tmp_path / "a.nii").write_bytes(data.tobytes())
        with contextlib.suppress(FluoroError):
            found.append(read(tmp_path / "a.nii"))
    assert 20 < len(found) < 100
    assert all(np.isfinite(volume.world_from_voxel).all() and volume.array.dtype == np.int16 for volume in found)


def test_headers_are_read_without_the_weight_of_pydicom(tmp_path):
    save(tmp_path / "ct.nii.gz", ramp())
    script = f"""
import sys
from pathlib import Path
from fluorosam_cli.ct.layout import read_layout
from fluorosam_cli.ct.sources import Source
path = Path({str(tmp_path / "ct.nii.gz")!r})
read_layout(Source(path), str(path))
assert not [name for name in sys.modules if name.startswith("pydicom")]
import pydicom.pixels
"""
    subprocess.run([sys.executable, "-c", script], check=True)

"""NIfTI in and out: values, handedness, borders, and what is refused."""

import contextlib
import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluorosam_cli.ct.volume import (
    HU_MAX,
    HU_MIN,
    Volume,
    border_directions,
    corner_distance_mm,
    label_counts,
    open_nifti,
    read_nifti,
    to_hu,
    write_nifti,
)
from fluorosam_cli.errors import FluoroError

AFFINE_RAS = np.array([[0.7, 0, 0, -90], [0, 0.8, 0, -60], [0, 0, 2.5, -200], [0, 0, 0, 1]])


def save(path, array, affine=AFFINE_RAS):
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def ramp(shape=(4, 5, 6), dtype=np.int16) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) - 60).astype(dtype)


def test_a_voxel_keeps_its_value_and_its_place_in_the_patient(tmp_path):
    stored = ramp()
    volume = read_nifti(save(tmp_path / "a.nii.gz", stored))
    assert volume.array.shape == (6, 5, 4)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, stored.T)
    ras = AFFINE_RAS @ [3, 1, 2, 1]
    np.testing.assert_allclose(volume.world_from_voxel @ [3, 1, 2, 1], [-ras[0], -ras[1], ras[2], 1])
    np.testing.assert_allclose(volume.spacing_xyz_mm, [0.7, 0.8, 2.5])
    assert volume.voxel_volume_ml == pytest.approx(0.7 * 0.8 * 2.5 / 1000)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16])
def test_a_volume_is_read_back_as_it_was_written(tmp_path, dtype):
    volume = Volume(ramp(dtype=dtype), np.diag([-0.7, 0.8, 2.5, 1.0]))
    write_nifti(tmp_path / "a.nii.gz", volume)
    again = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.array.dtype == dtype
    np.testing.assert_allclose(again.world_from_voxel, volume.world_from_voxel, atol=1e-6)


def test_equal_volumes_give_equal_bytes(tmp_path):
    volume = Volume(ramp(), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_scale_in_the_header_is_applied(tmp_path):
    (tmp_path / "a.nii").write_bytes(raw_header(scl_slope=2, scl_inter=-1000))
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").array, ramp().T * 2.0 - 1000)


def test_a_fourth_axis_of_one_is_dropped(tmp_path):
    assert read_nifti(save(tmp_path / "a.nii", ramp()[..., None])).array.shape == (6, 5, 4)


def test_hu_are_rounded_clipped_and_freed_of_nan():
    values = np.array([[[-3000, -1000.4, 0.6, np.nan, 9000, np.inf, -np.inf]]])
    hu = to_hu(Volume(values, np.eye(4)), "a")
    assert hu.array.dtype == np.int16
    assert hu.array.ravel().tolist() == [HU_MIN, -1000, 1, HU_MIN, HU_MAX, HU_MAX, HU_MIN]


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2), np.uint8), ramp(dtype=np.uint16) % 117, np.ones((2, 2, 2))])
def test_a_label_volume_or_an_mri_is_not_taken_for_a_ct(array):
    with pytest.raises(FluoroError, match=r"scan: values run from .* a CT in HU has some below 0"):
        to_hu(Volume(array, np.eye(4)), "scan")


def test_label_counts_are_numpys():
    array = np.random.default_rng(0).integers(0, 300, (3, 4, 5)).astype(np.uint16)
    counts = label_counts(array)
    np.testing.assert_array_equal(counts[:300], np.bincount(array.ravel(), minlength=300))
    assert counts.sum() == array.size


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_the_corners_of_a_shifted_grid_are_the_shift_apart():
    shifted = np.eye(4)
    shifted[:3, 3] = [0, 3, 4]
    assert corner_distance_mm(np.eye(4), shifted, (5, 6, 7)) == pytest.approx(5)


def test_the_corners_of_a_stretched_grid_differ_at_the_far_end():
    assert corner_distance_mm(np.eye(4), np.diag([1, 1, 1.01, 1]), (101, 6, 7)) == pytest.approx(1.0)


@given(order=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([-1, 1])] * 3), tilt=st.floats(-0.3, 0.3))
@settings(max_examples=60, deadline=None)
def test_borders_are_named_for_the_patient_in_every_orientation(order, signs, tilt):
    """A corner voxel lies further that way than the centre does, for the direction that its border is named."""
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    world_from_voxel = np.eye(4)
    world_from_voxel[:3, :3] = turn @ (np.eye(3)[:, order] * signs)
    towards = {"left": [1, 0, 0], "posterior": [0, 1, 0], "superior": [0, 0, 1]}
    towards |= {"right": [-1, 0, 0], "anterior": [0, -1, 0], "inferior": [0, 0, -1]}
    borders = border_directions(world_from_voxel)
    assert set(borders.values()) == set(towards)
    for (axis, index), direction in borders.items():
        step = world_from_voxel[:3, 2 - axis] * (1 if index == -1 else -1)
        assert step @ towards[direction] > 0.9


# --- refused ----------------------------------------------------------------------------------------------------------


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
    "truncated": (raw_header()[:500], "not a readable NIfTI"),
    "only a header": (raw_header()[:348], "not a readable NIfTI"),
    "wrong magic": (raw_header(magic=b"abc"), "not a readable NIfTI"),
    "4D": (nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), AFFINE_RAS).to_bytes(), "3D volume is needed"),
    "2D": (nibabel.Nifti1Image(np.zeros((4, 5), np.int16), AFFINE_RAS).to_bytes(), "3D volume is needed"),
    "one slice": (nibabel.Nifti1Image(np.zeros((4, 5, 1), np.int16), AFFINE_RAS).to_bytes(), "3D volume is needed"),
    "NaN affine": (raw_header(srow_x=[np.nan, 0, 0, 0]), "affine is not finite"),
    "flat affine": (raw_header(srow_z=[0, 0, 0, 0]), "not invertible"),
    "metres": (raw_header(srow_x=[7e-4, 0, 0, 0]), "voxel spacing is 0.0007 x"),
    "negative shape": (raw_header(dim=[3, 4, -5, 6, 1, 1, 1, 1]), "NIfTI|shape"),
    "huge shape": (raw_header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "voxels, at most"),
    "large shape": (raw_header(dim=[3, 1000, 1000, 1000, 1, 1, 1, 1]), "promises 2000000000 bytes"),
    "unknown type": (raw_header(datatype=77), "not a readable NIfTI"),
    "far offset": (raw_header(vox_offset=1e9), "not a readable NIfTI"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_error_in_words(tmp_path, kind, suffix):
    data, words = BAD_FILES[kind]
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    with pytest.raises(FluoroError, match=words) as caught:
        read_nifti(path)
    assert caught.value.problem.startswith(str(path))
    assert "\n" not in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("keep", [4, 40, 400, 440])
def test_a_gzip_cut_short_is_not_readable(tmp_path, keep):
    noise = np.random.default_rng(0).integers(-1000, 1000, (9, 9, 9)).astype(np.int16)
    save(tmp_path / "a.nii.gz", noise)
    (tmp_path / "a.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:keep])
    with pytest.raises(FluoroError, match="not a readable NIfTI"):
        read_nifti(tmp_path / "a.nii.gz")


def test_plain_text_under_a_gzip_name_is_not_readable(tmp_path):
    (tmp_path / "a.nii.gz").write_text("this is no image\n" * 50)
    with pytest.raises(FluoroError, match="not a readable NIfTI"):
        read_nifti(tmp_path / "a.nii.gz")


def test_colour_is_no_ct(tmp_path):
    volume = read_nifti(save(tmp_path / "a.nii.gz", colour()))
    with pytest.raises(FluoroError, match="voxel type is colour"):
        to_hu(volume, "a")


@pytest.mark.parametrize("name", ["a.mha", "a.dcm", "a"])
def test_another_kind_of_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FluoroError, match="NIfTI file by its name"):
        open_nifti(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FluoroError, match="no such file"):
        open_nifti(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("seed", range(100))
def test_flipped_header_bytes_are_read_or_refused_but_never_crash(tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = np.frombuffer(raw_header(), np.uint8).copy()
    data[rng.integers(0, 352, 4)] = rng.integers(0, 256, 4)
    (tmp_path / "a.nii").write_bytes(data.tobytes())
    with contextlib.suppress(FluoroError):
        to_hu(read_nifti(tmp_path / "a.nii"), "a")

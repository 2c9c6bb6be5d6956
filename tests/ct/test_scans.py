"""Scans of every format: one phantom comes out the same, however it is stored and wherever it lies."""

import gzip
import struct
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fluorosam_cli.ct.scans import case_name, find_scans, read_scan, scan_grid
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import HU_MIN, LPS_FROM_RAS, Volume, standard_grid, standardise
from fluorosam_cli.errors import FluoroError, UsageError
from tests.ct.dicom_files import enhanced, save, series_of
from tests.ct.scan_files import MATRIX, SHAPE, assert_phantom, phantom, write, zipped

ORIENTATIONS = [  # of the voxel axes x, y, z: which standard axis, and its direction
    ((0, 1, 2), (1, 1, 1)),
    ((0, 1, 2), (-1, -1, 1)),
    ((0, 2, 1), (1, -1, 1)),
    ((1, 2, 0), (1, 1, -1)),
    ((2, 0, 1), (-1, 1, -1)),
    ((2, 1, 0), (-1, -1, -1)),
]


def turned(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same patient stored along other axes: voxel axis i runs along standard axis order[i]."""
    array = volume.array.T.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    matrix = volume.world_from_voxel.copy()
    for voxel, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[:3, voxel] = sign * volume.world_from_voxel[:3, axis]
        if sign < 0:
            matrix[:3, 3] += volume.world_from_voxel[:3, axis] * (array.shape[voxel] - 1)
    return Volume(np.ascontiguousarray(array.T), matrix)


def read(*paths) -> Volume:
    scans, _ = find_scans(list(paths))
    assert len(scans) == 1
    return read_scan(scans[0])


# --- one phantom, every way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".NRRD"])
@pytest.mark.parametrize("number", range(6))
def test_six_orientations_in_every_format_come_out_identical(tmp_path, number, suffix):
    path = write(tmp_path / f"scan1{suffix.lower()}", turned(phantom(), *ORIENTATIONS[number]), packed=number % 2 > 0)
    if suffix.isupper():
        path = path.rename(tmp_path / f"scan1{suffix}")
    assert_phantom(read(path))
    shape, matrix = scan_grid(find_scans([path])[0][0])
    assert shape == SHAPE
    np.testing.assert_allclose(matrix, MATRIX, atol=1e-4)


@pytest.mark.parametrize("number", range(6))
def test_six_orientations_as_dicom_come_out_identical(tmp_path, number):
    stored = turned(phantom(), *ORIENTATIONS[number])
    save(series_of(stored), tmp_path)
    assert_phantom(read_scan(find_scans([tmp_path], series="2")[0][0]))


def test_a_volume_and_its_flipped_copies_share_one_standard_grid():
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        stored = turned(phantom(), order, signs)
        again = standardise(stored, fill=HU_MIN)
        assert_phantom(again)
        shape, matrix = standard_grid(stored.array.shape, stored.world_from_voxel)
        assert shape == SHAPE
        np.testing.assert_allclose(matrix, again.world_from_voxel)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_oblique_voxels_are_where_simpleitk_puts_them(tmp_path, suffix):
    matrix = MATRIX.copy()
    angles = (0.3, -0.2, 0.4)
    for axis, angle in enumerate(angles):
        turn = np.eye(4)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    path = write(tmp_path / f"a{suffix}", turned(Volume(phantom().array, matrix), *ORIENTATIONS[4]))
    volume, reference = read(path), sitk.ReadImage(str(path))
    to_voxel = np.linalg.inv(volume.world_from_voxel)
    for index in np.random.default_rng(0).integers(0, reference.GetSize(), (50, 3)).tolist():
        x, y, z = np.rint((to_voxel @ [*reference.TransformIndexToPhysicalPoint(index), 1])[:3]).astype(int)
        assert volume.array[z, y, x] == reference[index]


@pytest.mark.parametrize("kind", ["float", "double", "int32", "scaled uint16", "big endian"])
def test_other_voxel_types_are_the_same_hu(tmp_path, kind):
    array, affine = phantom().array.T, LPS_FROM_RAS @ MATRIX
    path = tmp_path / "a.nii.gz"
    if kind == "scaled uint16":
        image = nibabel.Nifti1Image((array + 1024).astype(np.uint16), affine)
        image.header.set_slope_inter(1, -1024)
        path.write_bytes(gzip.compress(image.to_bytes()))
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[112:120] = struct.pack("<ff", 1, -1024)
        path.write_bytes(gzip.compress(bytes(data)))
    elif kind == "big endian":
        nibabel.save(nibabel.Nifti1Image(array, affine, nibabel.Nifti1Header(endianness=">")), path)
    else:
        nibabel.save(nibabel.Nifti1Image(array.astype(kind if kind != "float" else "f4"), affine), path)
    assert_phantom(read(path))


def test_a_gzip_of_several_members_is_read_to_its_end(tmp_path):
    data = gzip.decompress(write(tmp_path / "a.nii.gz", phantom()).read_bytes())
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(data[i : i + 999]) for i in range(0, len(data), 999)))
    assert_phantom(read(tmp_path / "a.nii.gz"))


def test_a_sheared_grid_keeps_labels_with_their_scan():
    sheared = MATRIX.copy()
    sheared[1, 2] = 0.5
    labels = Volume((phantom().array > 500).astype(np.uint8), sheared)
    hu, ours = standardise(Volume(phantom().array, sheared), HU_MIN), standardise(labels, 0, nearest=True)
    assert hu.array.shape == ours.array.shape
    np.testing.assert_array_equal(hu.world_from_voxel, ours.world_from_voxel)
    assert ours.array.sum() == labels.array.sum()
    assert (hu.array[ours.array > 0].mean() - hu.array[ours.array == 0].mean()) > 500


# --- archives, folders, globs -----------------------------------------------------------------------------------------


def test_archives_are_read_in_place(tmp_path):
    save(series_of(phantom()), tmp_path / "dicom" / "JANE DOE")
    save([enhanced(phantom(1), list(range(12)))], tmp_path / "dicom" / "enhanced")
    write(tmp_path / "files" / "p1" / "imaging.nii.gz", phantom(2))
    write(tmp_path / "files" / "b.mhd", phantom(3))
    write(tmp_path / "files" / "c.nrrd", phantom(4))
    plain, _ = find_scans([tmp_path / "dicom", tmp_path / "files"])
    archives = [zipped(tmp_path / f"{name}.zip", tmp_path / name) for name in ("dicom", "files")]
    packed, skipped = find_scans(archives)
    assert skipped == []
    assert [scan.name for scan in packed] == [scan.name for scan in plain]
    assert {"b", "c", "p1"} < {scan.name for scan in packed}
    for one, other in zip(plain, packed, strict=True):
        np.testing.assert_array_equal(read_scan(one).array, read_scan(other).array)
        assert one.sha256() == other.sha256()
        assert set(other.files) <= set(archives)


def test_folders_globs_and_files_name_the_same_scans(tmp_path):
    for name in ("a.nii.gz", "deep/b.nrrd", "deep/deeper/c.mha"):
        write(tmp_path / name, phantom())
    (tmp_path / "deep" / "up").symlink_to(tmp_path, target_is_directory=True)
    expected = find_scans([tmp_path])
    assert [scan.name for scan in expected[0]] == ["a", "b", "c"]
    assert [scan.name for scan in find_scans([tmp_path / "*"])[0]] == ["a", "b", "c"]
    files = [tmp_path / "deep" / "deeper" / "c.mha", tmp_path / "a.nii.gz", tmp_path / "deep" / "b.nrrd"]
    assert find_scans(files) == expected


def test_masks_and_excluded_labels_are_no_scans(tmp_path):
    mask = Volume((phantom().array > 0).astype(np.uint8), MATRIX)
    write(tmp_path / "a.nii.gz", phantom())
    write(tmp_path / "a_seg.nii.gz", mask)
    write(tmp_path / "labels" / "a.nii.gz", Volume(mask.array.astype(np.int16), MATRIX))
    write(tmp_path / "s1" / "ct.nii.gz", phantom())
    write(tmp_path / "s1" / "segmentations" / "spleen.nii.gz", mask)
    scans, skipped = find_scans([tmp_path], exclude=[tmp_path / "labels"])
    assert [scan.name for scan in scans] == ["a", "s1"]
    assert [(entry.subject, entry.reason.partition(",")[0]) for entry in skipped] == [
        (str(tmp_path / "a_seg.nii.gz"), "its voxel type has no values below 0")
    ]


def test_two_scans_of_one_name_are_wrong_usage(tmp_path):
    for side in ("x", "y"):
        write(tmp_path / side / "a.nii.gz", phantom())
    with pytest.raises(UsageError, match="would both be called a"):
        find_scans([tmp_path])


@pytest.mark.parametrize(
    ("path", "member", "name"),
    [
        ("x/lung 01 (v2).nii.gz", "", "lung_01_v2_"),
        ("x/.hidden.nii", "", "hidden"),
        ("x/a.b.NRRD", "", "a.b"),
        ("x/---.mha", "", "case"),
        ("case 7/ct.nii.gz", "", "case_7"),
        ("x/Müller_1.nii.gz", "", "Muller_1"),
        ("x/Größe.nii.gz", "", "Grosse"),
        ("x/胸 1.nii.gz", "", "1-e5b8a56f"),
        ("x/all.zip", "case 8/imaging.nii.gz", "case_8"),
        ("x/all.zip", "ct.nii.gz", "all"),
    ],
)
def test_a_case_name_is_safe_in_a_path(tmp_path, path, member, name):
    assert case_name(Source(tmp_path / path, member)) == name


def test_nothing_to_take_is_said_in_words(tmp_path):
    with pytest.raises(FluoroError, match="no CT scan"):
        find_scans([tmp_path])
    with pytest.raises(FluoroError, match="no such file or folder"):
        find_scans([tmp_path / "absent"])
    with pytest.raises(FluoroError, match="no CT scan"):
        find_scans([tmp_path / "*.dcm"])

"""Scans of every format: one phantom comes out the same, nothing of a patient comes out, bad files are one error."""

import gzip
import io
import os
import struct
import time
import zipfile
import zlib
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.ct.scans import case_name, find_scans, read_scan, scan_grid
from fluorosam_cli.ct.sources import Source, members
from fluorosam_cli.ct.volume import HU_MIN, LPS_FROM_RAS, Volume, read_nifti, standard_grid, standardise
from fluorosam_cli.errors import FluoroError, UsageError
from tests.ct.dicom_files import SYNTAXES, compress, enhanced, save, series_of

MATRIX = np.array([[0.8, 0, 0, -7.5], [0, 0.7, 0, 12], [0, 0, 2.5, -100], [0, 0, 0, 1.0]])
SHAPE = (12, 14, 16)
ORIENTATIONS = [  # of the voxel axes x, y, z: which standard axis, and its direction
    ((0, 1, 2), (1, 1, 1)),
    ((0, 1, 2), (-1, -1, 1)),
    ((0, 2, 1), (1, -1, 1)),
    ((1, 2, 0), (1, 1, -1)),
    ((2, 0, 1), (-1, 1, -1)),
    ((2, 1, 0), (-1, -1, -1)),
]


def phantom(seed: int = 0, shape=SHAPE) -> Volume:
    return Volume(np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16), MATRIX)


def turned(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same patient stored along other axes: voxel axis i runs along standard axis order[i]."""
    array = volume.array.T.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    matrix = volume.world_from_voxel.copy()
    for voxel, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[:3, voxel] = sign * volume.world_from_voxel[:3, axis]
        if sign < 0:
            matrix[:3, 3] += volume.world_from_voxel[:3, axis] * (array.shape[voxel] - 1)
    return Volume(np.ascontiguousarray(array.T), matrix)


def write(path, volume: Volume, packed: bool = True):
    """With a reference writer: nibabel for NIfTI, SimpleITK for NRRD and MetaImage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = volume.world_from_voxel
    if ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(volume.array.T, LPS_FROM_RAS @ matrix), path)
        return path
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing_xyz_mm.tolist())
    image.SetDirection((matrix[:3, :3] / volume.spacing_xyz_mm).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def read(*paths) -> Volume:
    scans, _ = find_scans(list(paths))
    assert len(scans) == 1
    return read_scan(scans[0])


def assert_phantom(volume: Volume) -> None:
    np.testing.assert_array_equal(volume.array, phantom().array)
    np.testing.assert_allclose(volume.world_from_voxel, MATRIX, atol=1e-4)


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


def zipped(path, folder):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


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


# --- anonymous --------------------------------------------------------------------------------------------------------

PATIENT = {
    "PatientName": "QXNAME^Q",
    "PatientID": "QXID",
    "PatientBirthDate": "19010203",
    "PatientSex": "O",
    "PatientAge": "077Y",
    "PatientAddress": "QXSTREET",
    "OtherPatientIDs": "QXOTHER",
    "PatientComments": "QXCOMMENT",
    "StudyDate": "19110203",
    "SeriesDate": "19120203",
    "AcquisitionDate": "19130203",
    "ContentDate": "19140203",
    "StudyTime": "112233",
    "AccessionNumber": "QXACC",
    "StudyID": "QXSTUDY",
    "InstitutionName": "QXHOSPITAL",
    "InstitutionAddress": "QXTOWN",
    "StationName": "QXSTATION",
    "DeviceSerialNumber": "QXSERIAL",
    "Manufacturer": "QXMAKER",
    "ReferringPhysicianName": "QXREFERRER",
    "PerformingPhysicianName": "QXPHYSICIAN",
    "OperatorsName": "QXOPERATOR",
    "StudyDescription": "QXSTUDYDESC",
    "SeriesDescription": "QXSERIESDESC",
    "ProtocolName": "QXPROTOCOL",
    "ImageComments": "QXIMAGE",
    "StudyInstanceUID": "1.2.826.98765.1",
    "SeriesInstanceUID": "1.2.826.98765.2",
    "FrameOfReferenceUID": "1.2.826.98765.3",
    "ConvolutionKernel": "QXKERNEL",
    "AcquisitionNumber": "71717171",
}


def patient_files(folder):
    """A series full of names, in files and folders called after the patient, with a localiser and a damaged file."""
    for volume, number, options in (
        (phantom(), 3, {}),
        (phantom(1), 1, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    ):
        files = series_of(volume, SeriesNumber=number, **PATIENT | options)
        for index, data in enumerate(files):
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.98765.{number}.{index}"
            data.private_block(0x0099, "QXPRIVATE", create=True).add_new(1, "LO", "QXPRIVATEVALUE")
            data.preamble = b"QXPREAMBLE".ljust(128, b"\0")
        save(files, folder / "QXFOLDER" / f"QXSERIES{number}", suffix="-QXFILE.dcm")
    (folder / "QXFOLDER" / "QXBROKEN.dcm").write_bytes(bytes(128) + b"DICM" + b"QXGARBAGE" * 50)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_no_patient_field_reaches_an_artefact_or_the_log(fluoro, tmp_path, packed):
    folder = patient_files(tmp_path / "in")
    (tmp_path / "labels").mkdir()
    given = zipped(tmp_path / "in.zip", folder) if packed else folder
    name = find_scans([given])[0][0].name
    labels = Volume(np.full(SHAPE, structure("spleen").label_id, np.uint8), MATRIX)
    write(tmp_path / "labels" / f"{name}.nii.gz", labels)
    code, out, err = fluoro("segment-ct", given, "--labels", tmp_path / "labels", "-o", tmp_path / "ct", "--json")
    assert code == 1
    assert err.count("failed: ") == err.count("failed: DICOM without a series number: damaged DICOM") == 1
    assert_phantom(read_nifti(tmp_path / "ct" / name / "ct.nii.gz"))
    texts = {"stdout": out.encode(), "stderr": err.encode()}
    for path in (tmp_path / "ct").rglob("*"):
        texts[f"name of {path}"] = path.name.encode()
        if path.is_file():
            data = path.read_bytes()
            texts[str(path)] = gzip.decompress(data) if path.suffix == ".gz" else data
    assert any("run.json" in key for key in texts)
    forbidden = {b"QX", b"98765", *(str(value).encode() for value in PATIENT.values() if len(str(value)) > 3)}
    for where, data in texts.items():
        assert not [word for word in forbidden if word in data], where


def test_a_failure_and_a_dry_run_name_nobody_either(fluoro, tmp_path):
    folder = patient_files(tmp_path / "in")
    next((folder / "QXFOLDER" / "QXSERIES3").glob("IM0005*")).unlink()
    for words in ((), ("--dry-run",)):
        code, out, err = fluoro("segment-ct", folder, "--labels", folder, "-o", tmp_path / "ct", *words)
        assert code == 1
        assert "QX" not in out + err
        assert "not evenly spaced" in out + err or "no labels for ct-" in out + err


# --- files that mean harm ---------------------------------------------------------------------------------------------


def mha(**fields) -> bytes:
    values = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
        "ElementSpacing": "1 1 1", "DimSize": "16 14 12", "ElementType": "MET_SHORT",
    } | fields  # fmt: skip
    values |= {"ElementDataFile": values.pop("ElementDataFile", "LOCAL")}
    text = "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)
    return text.encode() + phantom().array.tobytes()


def nrrd(**fields) -> bytes:
    values = {
        "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "16 14 12",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)", "endian": "little", "encoding": "raw", "space origin": "(0,0,0)",
    } | {key.replace("_", " "): value for key, value in fields.items()}  # fmt: skip
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in values.items() if value is not None) + "\n"
    return text.encode() + phantom().array.tobytes()


def nifti(**fields) -> bytes:
    data = bytearray(nibabel.Nifti1Image(phantom().array.T, LPS_FROM_RAS @ MATRIX).to_bytes())
    header = np.frombuffer(data, dtype=nibabel.Nifti1Header.template_dtype, count=1)
    header.flags.writeable = True
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def zip_promising(size: int) -> bytes:
    """An archive whose directory says that its one member unpacks to `size` bytes."""
    data = bytearray(zip_of(("a.nii", nifti())))
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(zip_of(("a.nii", nifti())))
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def cut(data: bytes, keep: float) -> bytes:
    return data[: int(len(data) * keep)]


def bomb() -> bytes:
    """A gzip of a header that promises 2e9 voxels and as many zeros as make the file long enough to be believed."""
    header = nifti(dim=[3, 2000, 1000, 1000, 1, 1, 1, 1])[:352]
    return gzip.compress(header + bytes(2**20))


VOLUMES = {
    "empty.nii": b"",
    "text.nii.gz": b"this is no image",
    "zeros.nii": bytes(1000),
    "header only.nii": nifti()[:352],
    "cut header.nii": nifti()[:200],
    "half.nii": cut(nifti(), 0.5),
    "last byte.nii": nifti()[:-1],
    "half.nii.gz": cut(gzip.compress(nifti()), 0.5),
    "tail.nii.gz": gzip.compress(nifti())[:-9],
    "wrong crc.nii.gz": gzip.compress(nifti())[:-8] + bytes(8),
    "magic.nii": nifti(magic=b"abc"),
    "pair magic.nii": nifti(magic=b"ni1"),
    "4D.nii": nifti(dim=[4, 16, 14, 6, 2, 1, 1, 1]),
    "2D.nii": nifti(dim=[2, 16, 14, 1, 1, 1, 1, 1]),
    "0 slices.nii": nifti(dim=[3, 16, 14, 0, 1, 1, 1, 1]),
    "9 slices.nii": nifti(dim=[3, 16, 14, 9, 1, 1, 1, 1]),
    "negative.nii": nifti(dim=[3, 16, -14, 12, 1, 1, 1, 1]),
    "30000 cubed.nii.gz": gzip.compress(nifti(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])),
    "1200 cubed.nii": nifti(dim=[3, 1200, 1200, 1200, 1, 1, 1, 1]),
    "1200 cubed.nii.gz": gzip.compress(nifti(dim=[3, 1200, 1200, 1200, 1, 1, 1, 1])),
    "bomb.nii.gz": bomb(),
    "nan affine.nii": nifti(srow_x=[np.nan, 0, 0, 0]),
    "inf affine.nii": nifti(srow_y=[0, np.inf, 0, 0]),
    "flat affine.nii": nifti(srow_z=[0, 0, 0, 0]),
    "sheared affine.nii": nifti(srow_x=[0.8, 0.7, 0, 0], srow_y=[0, 0.7, 0, 0]),
    "metres.nii": nifti(srow_x=[8e-4, 0, 0, 0]),
    "kilometres.nii": nifti(srow_x=[8e6, 0, 0, 0]),
    "no orientation.nii": nifti(sform_code=0, qform_code=0),
    "far offset.nii": nifti(vox_offset=1e9),
    "far offset.nii.gz": gzip.compress(nifti(vox_offset=1e30)),
    "nan offset.nii": nifti(vox_offset=np.nan),
    "unknown type.nii": nifti(datatype=77),
    "complex.nii": nifti(datatype=32, bitpix=64),
    "colour.nii": nifti(datatype=128, bitpix=24),
    "infinite intercept.nii": nifti(scl_slope=1, scl_inter=np.inf),
    "infinite slope.nii": nifti(scl_slope=np.inf),
    "all zero.nii": nifti()[:352] + bytes(2 * 16 * 14 * 12),
    "constant.nii": nifti()[:352] + b"\x18\xfc" * (16 * 14 * 12),
    "empty.mha": b"",
    "text.mha": b"this is no image\nat all\n",
    "binary.mha": bytes(range(256)) * 20,
    "one long line.mha": b"A" * 3_000_000,
    "cut.mha": cut(mha(), 0.7),
    "no data.mha": mha()[:200],
    "4D.mha": mha(NDims="4", DimSize="16 14 6 2"),
    "0 slices.mha": mha(DimSize="16 14 0"),
    "negative.mha": mha(DimSize="16 -14 12"),
    "huge.mha": mha(DimSize="1000000 1000000 1000000"),
    "huge number.mha": mha(DimSize="9" * 400 + " 1 1"),
    "fraction.mha": mha(DimSize="16.5 14 12"),
    "words.mha": mha(DimSize="a b c"),
    "two sizes.mha": mha(DimSize="16 14"),
    "spacing.mha": mha(ElementSpacing="1e30 1 1"),
    "nan spacing.mha": mha(ElementSpacing="nan 1 1"),
    "no spacing.mha": mha(ElementSpacing=None),
    "zero matrix.mha": mha(TransformMatrix="0 0 0 0 0 0 0 0 0"),
    "short matrix.mha": mha(TransformMatrix="1 0 0"),
    "type.mha": mha(ElementType="MET_STRING"),
    "channels.mha": mha(ElementNumberOfChannels="3"),
    "ascii.mha": mha(BinaryData="False"),
    "not deflated.mha": mha(CompressedData="True"),
    "deflated bomb.mha": mha(CompressedData="True", DimSize="1200 1200 1200")[:400] + zlib.compress(bytes(10**6)),
    "elsewhere.mhd": mha(ElementDataFile="../../../../etc/passwd"),
    "absolute.mhd": mha(ElementDataFile="/etc/passwd"),
    "absent.mhd": mha(ElementDataFile="absent.raw"),
    "list.mhd": mha(ElementDataFile="LIST"),
    "pattern.mhd": mha(ElementDataFile="slice%03d.raw 1 12 1"),
    "itself.mhd": mha(ElementDataFile="itself.mhd", HeaderSize="999999999"),
    "empty.nrrd": b"",
    "text.nrrd": b"this is no image",
    "cut.nrrd": cut(nrrd(), 0.7),
    "header only.nrrd": b"NRRD0004\ntype: short\n",
    "dimension.nrrd": nrrd(dimension="4", sizes="16 14 6 2"),
    "huge.nrrd": nrrd(sizes="99999 99999 99999"),
    "zero.nrrd": nrrd(sizes="16 14 0"),
    "no space.nrrd": nrrd(space=None),
    "other space.nrrd": nrrd(space="scanner-xyz"),
    "nan.nrrd": nrrd(space_directions="(nan,0,0) (0,1,0) (0,0,1)"),
    "none.nrrd": nrrd(space_directions="none (0,1,0) (0,0,1)"),
    "words.nrrd": nrrd(space_directions="(a,b,c) (d,e,f) (g,h,i)"),
    "type.nrrd": nrrd(type="block"),
    "endian.nrrd": nrrd(endian=None),
    "encoding.nrrd": nrrd(encoding="hex"),
    "not gzip.nrrd": nrrd(encoding="gzip"),
    "skip.nrrd": nrrd(byte_skip="99999999999"),
    "negative skip.nrrd": nrrd(byte_skip="-7"),
    "elsewhere.nhdr": nrrd(data_file="../../../../etc/passwd"),
    "absent.nhdr": nrrd(data_file="absent.raw"),
    "empty.zip": b"",
    "text.zip": b"PK this is no archive",
    "nothing.zip": zip_of(),
    "only text.zip": zip_of(("readme.txt", b"hello")),
    "cut.zip": cut(zip_of(("a.nii", nifti())), 0.6),
    "traversal.zip": zip_of(("../../evil.nii", nifti())),
    "absolute.zip": zip_of(("/tmp/evil.nii", nifti())),
    "backslash.zip": zip_of(("..\\..\\evil.nii", nifti())),
    "encrypted.zip": encrypted_zip(),
    "bomb.zip": zip_of(("a.nii", nifti()[:352] + bytes(300 * 2**20))),
    "promise.zip": zip_promising(2**32 - 2),
    "bad inside.zip": zip_of(("a.nii", b"no image")),
    "nested.zip": zip_of(("inner.zip", zip_of(("a.nii", nifti())))),
    "wrong crc.zip": (lambda data: data.replace(nifti()[400:420], b""))(zip_of(("a.nii", nifti())))[:-40] + bytes(40),
    "plain.txt": b"hello",
    "noise": np.random.default_rng(0).bytes(5000),
    "noise.dcm": np.random.default_rng(1).bytes(5000),
    "mark only.dcm": bytes(128) + b"DICM",
    "mark and noise": bytes(128) + b"DICM" + np.random.default_rng(2).bytes(5000),
}


def refused(fluoro, tmp_path, path) -> str:
    """The one error line of a run that must leave nothing."""
    labels = write(tmp_path / "labels.nii.gz", Volume(np.ones(SHAPE, np.uint8), MATRIX))
    started = time.monotonic()
    code, out, err = fluoro("segment-ct", path, "--labels", labels, "-o", tmp_path / "ct")
    assert time.monotonic() - started < 10
    assert code == 1, err
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert not (tmp_path / "ct").exists()
    return errors[0]


@pytest.fixture
def little_memory():
    """At most 1.5 GB more address space than now: what asks for more fails instead of filling the machine."""
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", VOLUMES)
def test_a_bad_file_is_one_error_and_leaves_nothing(fluoro, tmp_path, little_memory, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(VOLUMES[name])
    error = refused(fluoro, tmp_path, tmp_path / "in" / name)
    assert name in error
    assert sorted(os.listdir(tmp_path)) == ["in", "labels.nii.gz"]
    assert "memory" not in error


def test_an_archive_is_refused_for_what_it_is(tmp_path):
    words = {"traversal": "outside", "absolute": "outside", "backslash": "outside", "encrypted": "encrypted"}
    for name, expected in (words | {"bomb": "would unpack to", "promise": "would unpack to", "text": "zip"}).items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(VOLUMES[f"{name}.zip"])
        with pytest.raises(FluoroError, match=expected):
            members(path)


def spoilt_series(kind: str, folder):
    """A whole DICOM series, each file spoilt in the same way."""
    save(series_of(phantom()), folder, suffix="")
    if kind.startswith("jpeg"):
        compress(folder, SYNTAXES[kind.split(":")[0]])
    rng = np.random.default_rng(sum(map(ord, kind)))
    for path in folder.iterdir():
        data = path.read_bytes()
        at = data.rindex(b"\xe0\x7f\x10\x00")
        if kind == "cut":
            data = data[: at + 40]
        elif kind == "length":
            data = data[: at + 8] + b"\xf0\xff\xff\x7f" + data[at + 12 :]
        elif kind == "odd length":
            data = data[: at + 8] + b"\x01\x00\x00\x00" + data[at + 12 :]
        elif kind == "rows":
            data = data.replace(b"\x28\x00\x10\x00US\x02\x00\x0e\x00", b"\x28\x00\x10\x00US\x02\x00\xff\xff")
        elif kind == "zero rows":
            data = data.replace(b"\x28\x00\x10\x00US\x02\x00\x0e\x00", b"\x28\x00\x10\x00US\x02\x00\x00\x00")
        elif kind == "bits":
            data = data.replace(b"\x28\x00\x00\x01US\x02\x00\x10\x00", b"\x28\x00\x00\x01US\x02\x00\x07\x00")
        elif kind == "syntax":
            data = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
        elif kind == "deflated bomb":
            start = 144 + struct.unpack("<I", data[140:144])[0]
            meta = data[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
            meta = meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:]
            at = meta.index(b"\x02\x00\x10\x00UI")
            meta = meta[: at + 6] + struct.pack("<H", 22) + meta[at + 8 :]
            packer = zlib.compressobj(9, wbits=-15)
            block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
            path.write_bytes(meta + 300 * block + packer.flush())
            for other in list(folder.iterdir()):
                if other != path:
                    other.unlink()
            return
        elif kind.endswith(":size"):
            marker = data.rindex(b"\xff\x4f\xff\x51") if "2000" in kind else None
            if marker is not None:
                data = data[: marker + 8] + struct.pack(">II", 60000, 60000) + data[marker + 16 :]
            else:
                marker = max(data.rfind(b"\xff\xc3"), data.rfind(b"\xff\xf7"))
                data = data[: marker + 5] + struct.pack(">HH", 60000, 60000) + data[marker + 9 :]
        elif kind.endswith(":cut"):
            data = data[: at + (len(data) - at) // 2]
        elif kind.endswith(":noise"):
            spoilt = bytearray(data)
            for place in rng.integers(at + 60, len(data), 40):
                spoilt[place] = rng.integers(256)
            data = bytes(spoilt)
        path.write_bytes(data)


SERIES = [
    "cut", "length", "odd length", "rows", "zero rows", "bits", "syntax", "deflated bomb",
    *(f"{syntax}:{how}" for syntax in ("jpeg lossless", "jpeg-ls", "jpeg 2000") for how in ("size", "cut")),
]  # fmt: skip


@pytest.mark.parametrize("kind", SERIES)
def test_a_bad_series_is_one_error_and_leaves_nothing(fluoro, tmp_path, little_memory, kind):
    spoilt_series(kind, tmp_path / "in")
    refused(fluoro, tmp_path, tmp_path / "in")


def test_there_are_a_hundred_bad_inputs():
    assert len(VOLUMES) + len(SERIES) >= 100


def test_a_bad_scan_stops_no_batch(fluoro, tmp_path):
    for name in ("4D.nii", "nan affine.nii", "cut.mha", "huge.nrrd", "traversal.zip", "mark and noise"):
        (tmp_path / "in" / "bad").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "bad" / name).write_bytes(VOLUMES[name])
    spoilt_series("cut", tmp_path / "in" / "series")
    write(tmp_path / "in" / "good.nii.gz", phantom())
    write(tmp_path / "labels" / "good.nii.gz", Volume(np.full(SHAPE, 1, np.uint8), MATRIX))
    code, _, err = fluoro("segment-ct", tmp_path / "in", "--labels", tmp_path / "labels", "-o", tmp_path / "ct")
    assert code == 1
    assert [path.name for path in (tmp_path / "ct").iterdir() if path.is_dir()] == ["good"]
    assert err.count("failed: ") == 7

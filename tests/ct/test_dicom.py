"""DICOM series in: order, duplicates, phases, tilt, compression, multi-frame; what is left out and what is refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmwrite
from pydicom.uid import generate_uid

from fluorosam_cli.ct.scans import MIN_SLICES, find_scans, read_scan, scan_grid
from fluorosam_cli.ct.volume import HU_MIN, Volume, write_nifti
from fluorosam_cli.errors import FluoroError
from tests.ct.dicom_files import SYNTAXES, compress, data_set, enhanced, save, series_of, set_pixels
from tests.ct.scan_files import MATRIX, phantom


def only(folder, **options):
    scans, _ = find_scans([folder], **options)
    assert len(scans) == 1
    return scans[0]


def assert_same(read: Volume, expected: Volume) -> None:
    np.testing.assert_array_equal(read.array, expected.array)
    np.testing.assert_allclose(read.world_from_voxel, expected.world_from_voxel, atol=1e-5)


def tilted(tilt_deg: float) -> np.ndarray:
    """Slices tilted about x, the table moving along z: neither orthogonal to the other."""
    matrix = MATRIX.copy()
    matrix[:3, 1] = 0.7 * np.array([0, np.cos(np.radians(tilt_deg)), -np.sin(np.radians(tilt_deg))])
    return matrix


# --- a volume from slices ---------------------------------------------------------------------------------------------


def test_files_in_any_order_without_extension_are_the_volume(tmp_path):
    save(series_of(phantom()), tmp_path / "deep" / "deeper", suffix="")
    (tmp_path / "notes.txt").write_text("not a scan")
    scan = only(tmp_path)
    assert_same(read_scan(scan), phantom())
    shape, matrix = scan_grid(scan)
    assert shape == (12, 14, 16)
    np.testing.assert_allclose(matrix, MATRIX, atol=1e-6)


def test_a_slope_and_signed_values_are_applied(tmp_path):
    even = Volume((phantom().array // 2 * 2).astype(np.int16), MATRIX)
    assert_same(read_scan(only(save(series_of(even, slope=2, intercept=-2000), tmp_path / "a"))), even)
    signed = series_of(phantom(), RescaleIntercept=0)
    for data, plane in zip(signed, phantom().array, strict=True):
        set_pixels(data, plane)
    assert_same(read_scan(only(save(signed, tmp_path / "b"))), phantom())


PADDING = {
    "high": (np.uint16, 63536, {"PixelPaddingValue": ("US", 63536)}),
    "signed": (np.int16, -2000, {"PixelPaddingValue": ("SS", -2000)}),
    "signed, header unsigned": (np.int16, -2000, {"PixelPaddingValue": ("US", 63536)}),
    "range": (np.uint16, 63537, {"PixelPaddingValue": ("US", 63536), "PixelPaddingRangeLimit": ("US", 63540)}),
    "range downwards": (np.int16, 9001, {"PixelPaddingValue": ("SS", 9003), "PixelPaddingRangeLimit": ("SS", 9000)}),
}


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("kind", PADDING)
def test_padding_is_air(tmp_path, kind, implicit):
    dtype, value, elements = PADDING[kind]
    padded = np.zeros((14, 16), bool)
    padded[:2], padded[:, -3:] = True, True
    files = series_of(phantom())
    for data, plane in zip(files, phantom().array, strict=True):
        set_pixels(data, np.where(padded, value, plane.astype(np.int32) + 1024).astype(dtype))
        for keyword, (vr, number) in elements.items():
            data.add_new(keyword, vr, number)
        if implicit:
            data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    for number, data in enumerate(files):
        dcmwrite(tmp_path / str(number), data, implicit_vr=implicit, little_endian=True)
    assert_same(read_scan(only(tmp_path)), Volume(np.where(padded, HU_MIN, phantom().array), MATRIX))


def test_every_slice_has_a_padding_of_its_own(tmp_path):
    array = phantom().array.copy()
    array[3:5, 2:6] = 976
    files = series_of(Volume(array, MATRIX))
    files[3].add_new("PixelPaddingValue", "US", 2000)
    array[3, 2:6] = HU_MIN
    assert_same(read_scan(only(save(files, tmp_path))), Volume(array, MATRIX))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_files_are_the_same_volume_of_the_same_name(tmp_path, syntax):
    plain = only(save(series_of(phantom()), tmp_path / "a"))
    compress(save(series_of(phantom()), tmp_path / "b"), SYNTAXES[syntax])
    packed = only(tmp_path / "b")
    assert_same(read_scan(packed), phantom())
    assert packed.name == plain.name
    assert packed.sha256() != plain.sha256()


@pytest.mark.parametrize("kind", ["implicit", "big endian", "deflated"])
def test_the_other_plain_syntaxes_are_read(tmp_path, kind):
    uid = {"implicit": "1.2.840.10008.1.2", "big endian": "1.2.840.10008.1.2.2", "deflated": "1.2.840.10008.1.2.1.99"}
    files = series_of(phantom())
    for data in files:
        data.file_meta.TransferSyntaxUID = uid[kind]
        if kind == "big endian":
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    folder = tmp_path / "a"
    folder.mkdir()
    for number, data in enumerate(files):
        dcmwrite(folder / str(number), data, implicit_vr=kind == "implicit", little_endian=kind != "big endian")
    assert_same(read_scan(only(folder)), phantom())


def test_frames_of_an_enhanced_ct_are_sorted_by_position(tmp_path):
    order = np.random.default_rng(3).permutation(12).tolist()
    save([enhanced(phantom(), order)], tmp_path)
    assert_same(read_scan(only(tmp_path)), phantom())


def test_a_slice_that_is_there_twice_counts_once(tmp_path):
    files = series_of(phantom())
    save(files, tmp_path / "a")
    save(files[2:7], tmp_path / "copy")
    for data in files[4:6]:
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    save(files[4:6], tmp_path / "sent again")
    assert_same(read_scan(only(tmp_path)), phantom())


def test_a_tilted_gantry_is_straightened(tmp_path):
    """A ball of known centre, cut by tilted slices, comes out at its place; the grid is orthogonal and holds it all."""
    matrix = tilted(20)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (40, 60, 20)), indexing="ij"), -1)  # x, y, z
    world = index @ matrix[:3, :3].T + matrix[:3, 3]
    centre = world[20, 30, 10]
    hu = np.where(np.linalg.norm(world - centre, axis=-1) < 10, 500, -1000).astype(np.int16).T
    volume = read_scan(only(save(series_of(Volume(hu, matrix)), tmp_path)))
    unit = volume.world_from_voxel[:3, :3] / volume.spacing_xyz_mm
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-6)
    inside = np.argwhere(volume.array > 0)[:, ::-1]
    found = (inside @ volume.world_from_voxel[:3, :3].T + volume.world_from_voxel[:3, 3]).mean(0)
    np.testing.assert_allclose(found, centre, atol=0.3)
    assert len(inside) * volume.voxel_volume_ml == pytest.approx(4 / 3 * np.pi, rel=0.05)
    assert volume.array.shape[1] > 60
    assert HU_MIN in (volume.array[0, 0, 0], volume.array[0, -1, 0])


@pytest.mark.parametrize("turn", ["feet first prone", "coronal", "sagittal", "oblique"])
def test_every_voxel_is_where_simpleitk_puts_it(tmp_path, turn):
    matrix = {
        "feet first prone": np.diag([1, -1, -1]),
        "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
        "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]),
        "oblique": np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]),
    }[turn]
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = matrix * [0.8, 0.7, 2.5], [-7.5, 12, -100]
    save(series_of(phantom(matrix=world)), tmp_path)
    volume = read_scan(only(tmp_path, series="2"))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    reference = reader.Execute()
    to_voxel = np.linalg.inv(volume.world_from_voxel)
    for index in np.random.default_rng(0).integers(0, [16, 14, 12], (50, 3)).tolist():
        x, y, z = np.rint((to_voxel @ [*reference.TransformIndexToPhysicalPoint(index), 1])[:3]).astype(int)
        assert volume.array[z, y, x] == reference[index]


# --- which series -----------------------------------------------------------------------------------------------------


def tree(folder):
    """Two good series, a coronal one, a localiser, a short one, a dose sheet, a capture, an MR and a DICOMDIR."""
    save(series_of(phantom(1), SeriesNumber=2, SeriesDescription="Thorax soft"), folder / "a")
    save(series_of(phantom(2), SeriesNumber=3, SeriesDescription="Thorax bone"), folder / "a" / "b", suffix="")
    coronal = MATRIX.copy()
    coronal[:3, :3] = coronal[:3, :3] @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    save(series_of(phantom(3, matrix=coronal), SeriesNumber=4, SeriesDescription="Thorax coronal"), folder / "c")
    save(series_of(phantom(4), SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2], folder / "d")
    save(series_of(phantom(5), SeriesNumber=5)[: MIN_SLICES - 1], folder / "e")
    for number, sop_class in ((6, "1.2.840.10008.5.1.4.1.1.88.67"), (7, "1.2.840.10008.5.1.4.1.1.7")):
        save([data_set(sop_class, SeriesNumber=number, SeriesInstanceUID=generate_uid())], folder / str(number))
    mr = series_of(phantom(6), SeriesNumber=8)
    for data in mr:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    save(mr, folder / "mr")
    save([data_set("1.2.840.10008.1.3.10")], folder, suffix="")
    (folder / "IM0000").rename(folder / "DICOMDIR")
    return folder


def test_the_default_takes_every_axial_ct_and_lists_the_rest(tmp_path):
    scans, skipped = find_scans([tree(tmp_path)])
    assert sorted(scan.series.id.number for scan in scans) == [2, 3]
    assert [scan.name for scan in scans] == sorted(scan.name for scan in scans)
    assert {entry.subject: entry.reason for entry in skipped} == {
        "DICOM series 1": "localiser (2 files)",
        "DICOM series 4": "12 slices, not axial; --series takes it",
        "DICOM series 5": "9 slices, at least 10 are needed",
        "DICOM series 6": "X-Ray Radiation Dose SR Storage, CT Image Storage is needed (1 file)",
        "DICOM series 7": "Secondary Capture Image Storage, CT Image Storage is needed (1 file)",
        "DICOM series 8": "MR Image Storage, CT Image Storage is needed (12 files)",
    }


def test_names_come_from_the_pixels_alone(tmp_path):
    """Another patient, another study, another place on disk: the same name. Other pixels: another."""
    first = only(save(series_of(phantom(), PatientName="A", SeriesNumber=7), tmp_path / "a"))
    again = only(save(series_of(phantom(), PatientName="B"), tmp_path / "b", seed=5))
    other = only(save(series_of(phantom(9), PatientName="A"), tmp_path / "c"))
    assert first.name == again.name != other.name
    assert first.name.startswith("ct-")
    scans, skipped = find_scans([tmp_path])
    assert sorted(scan.name for scan in scans) == sorted([first.name, other.name])
    assert [entry.reason for entry in skipped] == [f"12 slices, the same as {first.name}"]


def test_series_are_picked_by_number_uid_name_or_description(tmp_path):
    scans, _ = find_scans([tree(tmp_path)])
    by_number = {scan.series.id.number: scan for scan in scans}
    uid = by_number[3].series.id.uid
    for wanted in ("3", uid, uid.rpartition(".")[2], by_number[3].name, "bone"):
        assert [scan.series.id.number for scan in find_scans([tmp_path], series=wanted)[0]] == [3], wanted
    assert [scan.series.id.number for scan in find_scans([tmp_path], series="4")[0]] == [4]
    assert len(find_scans([tmp_path], series="thorax")[0]) == 3
    write_nifti(tmp_path / "x.nii.gz", phantom())
    with pytest.raises(FluoroError, match=r"--series 99: no such CT series; there are the numbers 2, 3, 4, 5"):
        find_scans([tmp_path], series="99")


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "KVP", "ImageType"])
def test_phases_of_one_series_become_scans_of_their_own(tmp_path, keyword):
    uid = generate_uid()
    values = (["ORIGINAL", "PRIMARY", "A"], ["ORIGINAL", "PRIMARY", "B"]) if keyword == "ImageType" else (80, 140)
    for number, value in enumerate(values):
        save(series_of(phantom(number), SeriesInstanceUID=uid, **{keyword: value}), tmp_path / str(number))
    volumes = [read_scan(scan) for scan in find_scans([tmp_path])[0]]
    assert len(volumes) == 2
    assert {volume.array.tobytes() for volume in volumes} == {phantom(i).array.tobytes() for i in (0, 1)}


def test_a_localiser_inside_the_series_is_left_out(tmp_path):
    uid = generate_uid()
    save(series_of(phantom(), SeriesInstanceUID=uid), tmp_path)
    save(
        series_of(phantom(1), SeriesInstanceUID=uid, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:1], tmp_path / "l"
    )
    assert_same(read_scan(only(tmp_path)), phantom())


# --- refused ----------------------------------------------------------------------------------------------------------


def gap(files):
    del files[6]


def jump(files):
    files[3].ImagePositionPatient = [-7.5, 12, -92.9]


def aside(files):
    files[3].ImagePositionPatient = [-3.5, 12, -92.5]


def two_at_one_place(files):
    files += series_of(phantom(8), SeriesInstanceUID=files[0].SeriesInstanceUID)


def steep(files):
    files[:] = series_of(phantom(matrix=tilted(50)))


def wide(files):
    for data in files:
        data.PixelSpacing = [700, 700]


def tiny(files):
    for data in files:
        data.PixelSpacing = [7e-4, 8e-4]


def no_air(files):
    for data in files:
        data.RescaleIntercept = 0


def optical_density(files):
    for data in files:
        data.RescaleType = "OD"


def short(files):
    files[5].PixelData = files[5].PixelData[:-20]


def nan_slope(files):
    for data in files:
        data.RescaleSlope = "nan"


def colour(files):
    for data in files:
        data.SamplesPerPixel = 3


def no_position(files):
    for data in files:
        del data.ImagePositionPatient


def crooked(files):
    for data in files:
        data.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


REFUSED = {
    gap: r"slices are not evenly spaced, 2.50 mm but for 5.00 mm between slices 6 and 7",
    jump: "not evenly spaced",
    aside: "not evenly spaced",
    two_at_one_place: "several slices at one position",
    steep: "sheared by 50 degrees",
    wide: "voxel spacing is 700 x 700 x 2.5",
    tiny: "voxel spacing is 0.0008 x 0.0007 x 2.5",
    no_air: "a CT in HU has some below 0",
    optical_density: "no HU: its RescaleType",
    short: r"pixels of file 6 of 12 are damaged",
    nan_slope: "damaged|no rescale slope",
    colour: "colour, no CT",
    no_position: "no position",
    crooked: "no pair of orthogonal directions",
}


@pytest.mark.parametrize("spoil", REFUSED)
def test_a_series_that_makes_no_volume_is_refused_with_the_reason(tmp_path, spoil):
    files = series_of(phantom())
    spoil(files)
    save(files, tmp_path)
    with pytest.raises(FluoroError, match=REFUSED[spoil]) as caught:
        read_scan(only(tmp_path, series="2" if spoil is steep else None))
    assert "\n" not in caught.value.problem
    assert str(tmp_path) not in caught.value.problem


def test_positions_rounded_to_a_tenth_are_evenly_spaced(tmp_path):
    fine = MATRIX.copy()
    fine[2, 2] = 0.625
    files = series_of(phantom(matrix=fine))
    for data in files:
        data.ImagePositionPatient = [round(float(v), 1) for v in data.ImagePositionPatient]
    assert read_scan(only(save(files, tmp_path))).spacing_xyz_mm[2] == pytest.approx(0.625, abs=0.01)

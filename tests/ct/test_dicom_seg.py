"""DICOM segmentation objects, written with highdicom, come out as the labels that went in."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.ct.label_names import LabelsMap
from fluorosam_cli.ct.labels import find_labels, read_labels
from fluorosam_cli.ct.scans import find_scans, read_scan
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError
from tests.ct import dicom_files

SHAPE = (12, 15, 13)  # z, y, x: frames of 195 pixels, which are bits, end within a byte
SEGMENTS = {  # words, SNOMED CT code and side -> ours
    1: ("liver", "10200004", None, "liver"),
    2: ("Left kidney", "64033007", "7771000", "kidney_left"),
    3: ("organ 3", "64033007", "24028007", "kidney_right"),
    4: ("organ 4", "71341001", "7771000", "femur_left"),
}


@pytest.fixture
def series(tmp_path):
    """A DICOM series of an upside-down, oblique volume: its folder, its data sets and what `read_scan` makes of it."""
    angle = 0.2
    turned = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turned @ np.diag([1.5, 1.5, 2.0]), [10, -20, 30]
    hu = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    files = complete(dicom_files.series_of(Volume(hu, matrix), PatientID="p", StudyID="1", StudyDate="", StudyTime=""))
    dicom_files.save(files, tmp_path / "scans" / "s1")
    (scan,), _ = find_scans([tmp_path / "scans"])
    return files, scan, read_scan(scan)


def complete(files):
    """What highdicom wants of the scan besides."""
    for data in files:
        data.PatientName = data.PatientBirthDate = data.PatientSex = data.AccessionNumber = ""
        data.FrameOfReferenceUID = "1.2.3"
        data.SliceThickness = 2
        data.ReferringPhysicianName = ""
    return files


def labels_on_slices() -> np.ndarray:
    """Ids 1-4 on the series' own slices; nothing on the first and the last two."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 2:5, 3:9] = 1
    labels[4:9, 8:12, 2:5] = 2
    labels[3:5, 8:12, 8:12] = 3
    labels[8:10, 2:9, 9:13] = 4
    return labels


def write_seg(files, path: Path, kind: str, labels: np.ndarray | None = None) -> Path:
    import highdicom
    from pydicom.sr.coding import Code

    labels = labels_on_slices() if labels is None else labels
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=words,
            segmented_property_category=Code("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=Code(code, "SCT", "x"),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, (words, code, _, _) in SEGMENTS.items()
    ]
    for description, (_, _, side, _) in zip(descriptions, SEGMENTS.values(), strict=True):
        if side:
            modifier = highdicom.sr.CodedConcept(side, "SCT", "side")
            kind_of = description.SegmentedPropertyTypeCodeSequence[0]
            kind_of.SegmentedPropertyTypeModifierCodeSequence = [modifier]
    pixels = labels if kind != "FRACTIONAL" else np.stack([labels == number for number in SEGMENTS], -1).astype(float)
    seg = highdicom.seg.Segmentation(
        source_images=files,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=7,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return path


def on_scan(ct: Volume, files) -> np.ndarray:
    """The labels as they have to come out: found through the position of every voxel, our ids."""
    first = files[0]
    row, column = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
    stack = np.eye(4)
    step = np.array(files[1].ImagePositionPatient, float) - np.array(first.ImagePositionPatient, float)
    spacing = [float(value) for value in first.PixelSpacing]
    stack[:3, 0], stack[:3, 1], stack[:3, 2] = row * spacing[1], column * spacing[0], step
    stack[:3, 3] = [float(value) for value in first.ImagePositionPatient]
    expected = np.zeros(ct.array.shape, np.uint8)
    to_stack = np.linalg.inv(stack) @ ct.world_from_voxel
    ours = {number: structure(name).label_id for number, (*_, name) in SEGMENTS.items()}
    labels = labels_on_slices()
    for z, y, x in np.ndindex(*ct.array.shape):
        i, j, k = (to_stack @ [x, y, z, 1])[:3].round().astype(int)
        expected[z, y, x] = ours.get(int(labels[k, j, i]), 0)
    return expected


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_comes_out_as_it_went_in(series, tmp_path, kind):
    files, scan, ct = series
    source = find_labels(write_seg(files, tmp_path / "seg.dcm", kind), scan)
    assert source.form == "DICOM SEG"
    labels, notes = read_labels(source, ct)
    np.testing.assert_array_equal(labels.array, on_scan(ct, files))
    assert notes == []


@pytest.mark.parametrize("slices", [[2, 4], [2, 4, 7], [3, 6, 9]])
@pytest.mark.parametrize("stated", ["SpacingBetweenSlices", "SliceThickness"])
def test_slices_without_frames_stay_empty(series, tmp_path, slices, stated):
    files, scan, ct = series
    labels = np.zeros(SHAPE, np.uint8)
    labels[slices, 3:9, 4:8] = 1
    path = write_seg(files, tmp_path / "labels" / "a.dcm", "BINARY", labels)
    data = dcmread(path)
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for name in {"SpacingBetweenSlices", "SliceThickness"} - {stated}:
        if name in measures:
            delattr(measures, name)
    setattr(measures, stated, 2)
    data.save_as(path)
    found, _ = read_labels(find_labels(path, scan), ct)
    assert (found.array != 0).sum() == (labels != 0).sum()


def test_on_a_tilted_gantry_the_labels_stay_on_the_anatomy(tmp_path):
    """Slices shifted against each other are straightened, scan and labels alike."""
    tilt = np.radians(20)
    matrix = np.diag([1.5, 1.5, 2.0, 1.0])
    matrix[:3, 1] = 1.5 * np.array([0, np.cos(tilt), -np.sin(tilt)])
    marked = np.zeros(SHAPE, np.uint8)
    marked[3:9, 4:10, 5:9] = 1
    hu = np.where(marked, 500, -900).astype(np.int16)
    files = complete(dicom_files.series_of(Volume(hu, matrix), PatientID="p", StudyID="1", StudyDate="", StudyTime=""))
    dicom_files.save(files, tmp_path / "scan")
    path = write_seg(files, tmp_path / "seg.dcm", "BINARY", marked)
    (scan,), _ = find_scans([tmp_path / "scan"])
    ct = read_scan(scan)
    labels, _ = read_labels(find_labels(path, scan), ct)
    inside = labels.array > 0
    assert inside.sum() == marked.sum()
    assert ct.array[inside].mean() > 350  # voxels at an edge are half air


def test_a_segmentation_is_found_by_the_series_it_belongs_to(series, tmp_path):
    files, scan, _ = series
    path = write_seg(files, tmp_path / "results" / "deep" / "x.dcm", "BINARY")
    assert find_labels(tmp_path / "results", scan).files == (path,)


def test_the_command_takes_series_and_segmentation_from_one_tree(fluoro, series, tmp_path):
    files, *_ = series
    write_seg(files, tmp_path / "scans" / "s1" / "seg.dcm", "BINARY")
    code, _, err = fluoro("segment-ct", tmp_path / "scans", "--labels", tmp_path / "scans", "-o", tmp_path / "ct")
    assert code == 0, err


def test_a_segment_that_is_not_known_is_named(series, tmp_path):
    files, scan, ct = series
    path = write_seg(files, tmp_path / "seg.dcm", "BINARY")
    source = find_labels(path, scan)
    labels, _ = read_labels(source, ct, LabelsMap(names={"organ_3": "spleen", "liver": ""}))
    assert structure("spleen").label_id in labels.array
    assert structure("liver").label_id not in labels.array
    import pydicom

    data = pydicom.dcmread(path)
    data.SegmentSequence[0].SegmentLabel = "my tumour"
    data.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "108369006"
    data.save_as(path)
    with pytest.raises(FluoroError, match="not known structures: my tumour"):
        read_labels(source, ct)


def test_a_damaged_segmentation_is_refused_and_nothing_of_its_header_is_said(series, tmp_path, capfd):
    files, scan, ct = series
    path = write_seg(files, tmp_path / "seg.dcm", "BINARY")
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    with pytest.raises(FluoroError, match=r"seg\.dcm: not a readable DICOM segmentation"):
        read_labels(find_labels(path, scan), ct)
    path.write_bytes(whole.replace(b"1.5", b"SEC"))
    with pytest.raises(FluoroError, match=r"seg\.dcm: not a readable DICOM segmentation \(\w+\)$") as caught:
        read_labels(find_labels(path, scan), ct)
    assert "SEC" not in str(caught.value) + "".join(capfd.readouterr())


def test_slices_at_odd_places_are_refused(series, tmp_path):
    import pydicom

    files, scan, ct = series
    path = write_seg(files, tmp_path / "seg.dcm", "BINARY")
    data = pydicom.dcmread(path)
    place = data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient
    for wrong, words in ((0.8, "not evenly spaced"), (1e9, "not evenly spaced|voxels|extent")):
        place[2] = float(place[2]) + wrong
        data.save_as(path)
        with pytest.raises(FluoroError, match=words):
            read_labels(find_labels(path, scan), ct)

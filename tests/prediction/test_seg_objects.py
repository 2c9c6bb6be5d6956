"""DICOM segmentations of radiographs: read back with pydicom, by what the standard says they hold."""

import numpy as np
import pytest
from pydicom import dcmread

from fluorosam_cli.anatomy.structures import structure
from tests.prediction.test_dicom_images import DX, SHAPE, XA, picture, write

highdicom = pytest.importorskip("highdicom", reason="needs the extra dicom")

STUDY = {
    "StudyID": "1",
    "StudyDate": "20200101",
    "StudyTime": "120000",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PatientSex": "O",
    "InstanceNumber": 1,
    "SeriesNumber": 1,
    "Modality": "DX",
}


def code_of(segment):
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    return kind.CodeValue, [modifier.CodeValue for modifier in modifiers]


def test_a_segment_for_each_mask(fluoro, tiny_checkpoint, tmp_path):
    path = write(tmp_path / "a.dcm", picture(), DX, ImagerPixelSpacing=[0.2, 0.2], PixelSpacing=[0.1, 0.1], **STUDY)
    code, _, err = fluoro(
        "predict", path, "left femur", "heart", "a nonsense of words", "--model", tiny_checkpoint,
        "--format", "dicom-seg", "--format", "npz", "--threshold", 1e-6, "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    found = dcmread(tmp_path / "out/masks.dcm")
    with np.load(tmp_path / "out/masks.npz") as written:
        np.testing.assert_array_equal(found.pixel_array.reshape(-1, *SHAPE), written["masks"])
    assert [code_of(segment) for segment in found.SegmentSequence] == [
        (structure("femur_left").snomed_ct, ["7771000"]),
        (structure("heart").snomed_ct, []),
        ("123037004", []),
    ]
    assert highdicom.seg.segread(tmp_path / "out/masks.dcm").number_of_segments == 3
    source = dcmread(path)
    assert (found.PatientID, found.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    referenced = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referenced.ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_the_same_call_gives_the_same_object_and_another_one_another(fluoro, tiny_checkpoint, tmp_path):
    path = write(tmp_path / "a.dcm", picture(), DX, **STUDY)
    found = []
    for number, threshold in enumerate((1e-6, 1e-6, 0.5)):
        words = ("--box", "5,5,30,30", "--threshold", threshold, "--format", "dicom-seg", "-o", tmp_path / str(number))
        assert fluoro("predict", path, *words, "--model", tiny_checkpoint)[0] == 0
        found.append(tmp_path / str(number) / "masks.dcm")
    assert found[0].read_bytes() == found[1].read_bytes()
    one, other = dcmread(found[0]), dcmread(found[2])
    assert (one.ContentDate, one.ContentTime) == (STUDY["StudyDate"], STUDY["StudyTime"])
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


def test_one_object_for_each_frame_of_a_film(fluoro, tiny_checkpoint, tmp_path):
    path = write(tmp_path / "a.dcm", picture(12, 3), XA, **STUDY)
    code, _, err = fluoro(
        "predict", path, "--box", "5,5,30,30", "--model", tiny_checkpoint, "--format", "dicom-seg",
        "--threshold", 1e-6, "--frames", "1,3", "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-frame-0001", "a-frame-0003", "run.json"]
    found = dcmread(tmp_path / "out/a-frame-0003/masks.dcm")
    referenced = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert (referenced.ReferencedFrameNumber, referenced.ReferencedSOPClassUID) == (3, XA)


def test_only_the_segmentation_knows_the_patient(fluoro, tiny_checkpoint, tmp_path):
    path = write(tmp_path / "a.dcm", picture(), DX, **STUDY)
    code, out, err = fluoro(
        "predict", path, "heart", "--model", tiny_checkpoint, "-o", tmp_path / "out", "--json", "--threshold", 1e-6,
        *(word for kind in ("coco", "nifti", "npz", "dicom-seg") for word in ("--format", kind)),
    )  # fmt: skip
    assert code == 0, err
    knowing = [file.name for file in (tmp_path / "out").iterdir() if b"SECRET" in file.read_bytes().upper()]
    assert knowing == ["masks.dcm"]
    assert "SECRET" not in (out + err).upper()


def test_what_cannot_be_one(fluoro, tiny_checkpoint, tmp_path):
    from PIL import Image

    Image.fromarray(picture(8).astype(np.uint8)).save(tmp_path / "a.png")
    bare = write(tmp_path / "bare.dcm", picture())
    for image, problem in ((tmp_path / "a.png", "is no DICOM image"), (bare, "does not suffice")):
        code, _, err = fluoro(
            "predict", image, "heart", "--model", tiny_checkpoint, "--format", "dicom-seg", "--threshold", 1e-6,
            "-o", tmp_path / image.stem,
        )  # fmt: skip
        assert code == 1
        assert problem in err
        assert "SECRET" not in err.upper()
        assert not (tmp_path / image.stem).exists()

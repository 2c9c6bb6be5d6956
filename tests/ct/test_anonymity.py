"""Nothing of a patient gets into an artefact, a message or `run.json`."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.ct.scans import find_scans
from fluorosam_cli.ct.volume import Volume
from tests.ct import labelled_scans
from tests.ct.dicom_files import save, series_of
from tests.ct.scan_files import MATRIX, SHAPE, assert_phantom, phantom, write, zipped
from tests.volumes import read_nifti

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


def test_folders_which_may_name_a_person_are_not_recorded(fluoro, scans, tmp_path, monkeypatch):
    """Neither as typed, nor as resolved, nor in what failed."""
    monkeypatch.chdir(tmp_path)
    typed = []
    for name in "abc":
        typed.append(f"JANE_DOE/{name}.nii.gz")
        labelled_scans.save(Path(typed[-1]), labelled_scans.hu())
    Path(typed[1]).write_text("no image")
    labelled_scans.save(Path("JANE_SEG/c.nii.gz"), labelled_scans.ids() * np.float32(0.3))
    for name in "ab":
        labelled_scans.save(Path(f"JANE_SEG/{name}.nii.gz"), labelled_scans.ids())
    words = ["segment-ct", *typed, "--labels", "JANE_SEG", "-o", "ct"]
    monkeypatch.setattr("sys.argv", ["fluoro", *words])
    code, _, err = fluoro(*words)
    assert code == 1
    assert "JANE_DOE/b.nii.gz: not a readable" in err
    text = Path("ct/run.json").read_text()
    assert "JANE" not in text
    run = json.loads(text)
    assert run["argv"] == ["segment-ct", "(3 not recorded)", "--labels", "(1 not recorded)", "-o", "ct"]
    assert (run["config"]["scans"], run["config"]["labels"]) == ("not recorded", "not recorded")
    assert [problem.partition(" (")[0] for problem in run["failed"]] == [
        "b: not a readable NIfTI, NRRD or MetaImage file",
        "c: holds 22.5, labels are whole numbers",
    ]

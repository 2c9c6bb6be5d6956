"""`fluoro segment-ct --labels`: which files are scans, what a case holds, batches, bad input."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header, sha256_of
from fluorosam_cli.contracts import Case, Run
from fluorosam_cli.ct.cases import case_name, find_scans
from fluorosam_cli.ct.volume import read_nifti
from fluorosam_cli.errors import FluoroError, UsageError

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])  # voxel x grows to the patient's left, y to posterior, z to superior
SHAPE = (8, 9, 10)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def hu(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def ids() -> np.ndarray:
    """Spleen inside, liver at the left border, left femur at the right, anterior and inferior borders."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:5, 3:5, 3:5] = structure("spleen").label_id
    labels[6:8, 3:5, 3:5] = structure("liver").label_id
    labels[0:2, 0:2, 0:2] = structure("femur_left").label_id
    return labels


@pytest.fixture
def scans(tmp_path) -> Path:
    """Three scans and their labels: `scans/{a,b,c}.nii.gz`, `scans/labels/{a,b,c}.nii.gz`."""
    for seed, name in enumerate("abc"):
        save(tmp_path / "scans" / f"{name}.nii.gz", hu(seed))
        save(tmp_path / "scans" / "labels" / f"{name}.nii.gz", ids())
    return tmp_path / "scans"


def contents(folder: Path) -> dict[str, str]:
    """Every file but run.json, which holds the time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.json")
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


# --- a case -----------------------------------------------------------------------------------------------------------


def test_a_case_holds_the_scan_the_labels_and_what_they_are(fluoro, scans, tmp_path):
    source = scans / "a.nii.gz"
    code, _, err = fluoro("segment-ct", source, "--labels", scans / "labels" / "a.nii.gz", "-o", tmp_path / "ct")
    assert code == 0, err
    folder = tmp_path / "ct" / "a"
    assert {path.name for path in folder.iterdir()} == {"case.json", "ct.nii.gz", "labels.nii.gz"}
    case = read_header(folder / "case.json", Case)
    ct, labels = read_nifti(folder / case.ct), read_nifti(folder / case.labels)
    np.testing.assert_array_equal(ct.array, hu().T)
    np.testing.assert_array_equal(labels.array, ids().T)
    assert (ct.array.dtype, labels.array.dtype) == (np.int16, np.uint8)
    assert case.shape_zyx == ct.array.shape
    assert case.spacing_zyx_mm == (3, 2, 2)
    np.testing.assert_array_equal(case.world_from_voxel, np.diag([2, 2, 3, 1]))
    np.testing.assert_array_equal(case.world_from_voxel, ct.world_from_voxel)
    assert case.source_sha256 == sha256_of(source)
    assert case.ct_sha256 == sha256_of(folder / case.ct)
    assert case.labels_sha256 == sha256_of(folder / case.labels)
    assert case.segmenter.name == "imported"
    found = {entry.name: entry for entry in case.structures}
    assert list(found) == ["spleen", "liver", "femur_left"]
    assert found["spleen"].volume_ml == pytest.approx(8 * 12 / 1000)
    assert found["spleen"].snomed_ct == structure("spleen").snomed_ct
    assert found["spleen"].cut_by == []
    assert found["liver"].cut_by == ["left"]
    assert found["femur_left"].cut_by == ["anterior", "inferior", "right"]


def test_hu_outside_12_bits_are_clipped_and_fractions_rounded(fluoro, tmp_path):
    values = hu().astype(np.float32)
    values[0, 0, :4] = [-3024, 5000, np.nan, 10.4]
    save(tmp_path / "a.nii.gz", values)
    save(tmp_path / "l.nii.gz", ids())
    code, _, err = fluoro("segment-ct", tmp_path / "a.nii.gz", "--labels", tmp_path / "l.nii.gz", "-o", tmp_path / "ct")
    assert code == 0, err
    ct = read_nifti(tmp_path / "ct" / "a" / "ct.nii.gz").array
    assert ct.dtype == np.int16
    assert ct[:4, 0, 0].tolist() == [-1024, 3071, -1024, 10]


# --- which scans ------------------------------------------------------------------------------------------------------


def test_a_folder_a_glob_and_a_list_name_the_same_scans(scans):
    expected = find_scans([scans])
    assert [scan.name for scan in expected] == ["a", "b", "c"]
    assert find_scans([scans / "*.nii.gz"]) == expected
    assert find_scans([scans / f"{name}.nii.gz" for name in "cab"]) == expected


def test_labels_among_the_scans_are_no_scans(tmp_path):
    save(tmp_path / "a.nii.gz", hu())
    save(tmp_path / "seg.nii.gz", ids())
    assert [scan.name for scan in find_scans([tmp_path], tmp_path / "seg.nii.gz")] == ["a"]


def test_a_file_given_as_scan_and_as_labels_is_refused_for_what_it_is(fluoro, tmp_path):
    save(tmp_path / "a.nii.gz", hu())
    save(tmp_path / "l.nii.gz", ids())
    for file, words in ((tmp_path / "a.nii.gz", "labels are whole numbers"), (tmp_path / "l.nii.gz", "a CT in HU")):
        assert words in refused(fluoro, tmp_path, file, file)


def test_folders_with_a_ct_in_them_are_scans_named_for_the_folder(tmp_path):
    save(tmp_path / "s0001" / "ct.nii.gz", hu())
    save(tmp_path / "s0001" / "segmentations" / "spleen.nii.gz", ids())
    save(tmp_path / "s0002" / "ct.nii", hu())
    found = find_scans([tmp_path], tmp_path)
    assert [(scan.name, scan.path.name) for scan in found] == [("s0001", "ct.nii.gz"), ("s0002", "ct.nii")]
    assert find_scans([tmp_path / "s0001"]) == found[:1]
    assert find_scans([tmp_path / "*"]) == found


def test_two_scans_of_one_name_are_wrong_usage(tmp_path):
    files = [save(tmp_path / side / "a.nii.gz", hu()) for side in ("x", "y")]
    with pytest.raises(UsageError, match="would both be called a"):
        find_scans(files)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("x/lung 01 (v2).nii.gz", "lung_01_v2_"),
        ("x/.hidden.nii", "hidden"),
        ("x/a.b.nii.gz", "a.b"),
        ("x/---.nii.gz", "case"),
        ("case 7/ct.nii.gz", "case_7"),
    ],
)
def test_a_case_name_is_safe_in_a_path(path, name):
    assert case_name(Path(path)) == name


def test_an_empty_folder_and_dicom_are_refused(tmp_path):
    with pytest.raises(FluoroError, match=r"no \.nii"):
        find_scans([tmp_path])
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(FluoroError, match="is DICOM, NIfTI is needed") as caught:
        find_scans([tmp_path])
    assert "dcm2niix" in caught.value.hint


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_bad_scan_is_listed_and_the_others_are_done(fluoro, scans, tmp_path):
    (scans / "b.nii.gz").write_text("no image")
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct"]
    code, out, err = fluoro(*words, "--json")
    assert code == 1
    summary = json.loads(out)
    assert (summary["cases"], len(summary["failed"])) == (2, 1)
    assert "b.nii.gz: not a readable NIfTI" in summary["failed"][0]
    assert {path.name for path in (tmp_path / "ct").iterdir()} == {"a", "c", "run.json"}
    assert str(tmp_path) not in (tmp_path / "ct" / "run.json").read_text()
    save(scans / "b.nii.gz", hu(1))
    code, out, err = fluoro(*words, "--resume", "--json")
    assert code == 0, err
    assert {key: json.loads(out)[key] for key in ("cases", "skipped", "failed")} == {
        "cases": 1,
        "skipped": 2,
        "failed": [],
    }


def test_a_killed_run_continues_to_the_same_bytes(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o"]
    assert fluoro(*words, tmp_path / "whole")[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "c")
    (tmp_path / "killed" / "b").rename(tmp_path / "killed" / ".tmp-b")
    (tmp_path / "killed" / ".tmp-b" / "case.json").unlink()
    code, _, err = fluoro(*words, tmp_path / "killed", "--resume")
    assert code == 0, err
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert read_header(tmp_path / "killed" / "run.json", Run).skipped == 1


@pytest.mark.parametrize("changed", ["a.nii.gz", "labels/a.nii.gz"])
def test_resume_does_a_case_again_whose_source_has_changed(fluoro, scans, tmp_path, changed):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--json"]
    assert fluoro(*words)[0] == 0
    save(scans / changed, hu(7) if changed == "a.nii.gz" else ids()[::-1].copy())
    code, out, err = fluoro(*words, "--resume")
    assert code == 0, err
    assert json.loads(out)["skipped"] == 2
    case = read_header(tmp_path / "ct" / "a" / "case.json", Case)
    assert case.source_sha256 == sha256_of(scans / "a.nii.gz")
    assert case.segmenter.source_sha256 == sha256_of(scans / "labels" / "a.nii.gz")


def test_a_dry_run_counts_and_writes_nothing(fluoro, scans, tmp_path):
    save(scans / "labels" / "b.nii.gz", ids()[:, :, :-1])
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--dry-run", "--json"]
    code, out, _ = fluoro(*words)
    assert code == 1
    summary = json.loads(out)
    assert summary["scans"] == 3
    assert "b.nii.gz: shape is 8x9x9, b.nii.gz is 8x9x10" in summary["failed"][0]
    assert not (tmp_path / "ct").exists()


# --- bad input --------------------------------------------------------------------------------------------------------


BAD_SCANS = {
    "text": lambda path: path.write_text("no image"),
    "truncated": lambda path: path.write_bytes(save(path, hu()).read_bytes()[:600]),
    "4D": lambda path: save(path, np.zeros((4, 4, 4, 3), np.int16)),
    "colour": lambda path: save(path, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
    "labels as scan": lambda path: save(path, ids()),
    "missing": lambda path: None,
}
BAD_LABELS = {
    "text": lambda path: path.write_text("no image"),
    "other shape": lambda path: save(path, ids()[1:]),
    "other place": lambda path: save(path, ids(), AFFINE + np.eye(4, k=3) * 9),
    "fractions": lambda path: save(path, ids() * np.float32(0.3)),
    "unknown ids": lambda path: save(path, ids().astype(np.uint16) * 300),
    "missing": lambda path: None,
}


def refused(fluoro, tmp_path, scan: Path, labels: Path) -> str:
    code, out, err = fluoro("segment-ct", scan, "--labels", labels, "-o", tmp_path / "ct")
    assert code == 1
    assert out == ""
    lines = err.splitlines()
    assert [line.partition(":")[0] for line in lines[-2:]] == ["error", "hint"], err
    assert "Traceback" not in err
    assert not (tmp_path / "ct").exists()
    return lines[-2]


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_a_bad_scan_is_one_error_and_leaves_nothing(fluoro, tmp_path, kind):
    BAD_SCANS[kind](tmp_path / "a.nii.gz")
    save(tmp_path / "l.nii.gz", ids())
    assert "a.nii.gz: " in refused(fluoro, tmp_path, tmp_path / "a.nii.gz", tmp_path / "l.nii.gz")


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_one_error_and_leave_nothing(fluoro, tmp_path, kind):
    save(tmp_path / "a.nii.gz", hu())
    BAD_LABELS[kind](tmp_path / "l.nii.gz")
    assert "l.nii.gz: " in refused(fluoro, tmp_path, tmp_path / "a.nii.gz", tmp_path / "l.nii.gz")


def test_a_bad_scan_leaves_what_overwrite_would_have_replaced(fluoro, scans, tmp_path):
    words = ["--labels", scans / "labels", "-o", tmp_path / "ct"]
    assert fluoro("segment-ct", scans / "a.nii.gz", *words)[0] == 0
    before = contents(tmp_path / "ct")
    (scans / "b.nii.gz").write_text("no image")
    assert fluoro("segment-ct", scans / "b.nii.gz", *words, "--overwrite")[0] == 1
    assert contents(tmp_path / "ct") == before


def test_one_label_file_for_several_scans_is_wrong_usage(fluoro, scans, tmp_path):
    code, _, err = fluoro("segment-ct", scans, "--labels", scans / "labels" / "a.nii.gz", "-o", tmp_path / "ct")
    assert code == 2
    assert "one label file for 3 scans" in err


def test_an_output_that_cannot_be_written_is_an_error(fluoro, scans, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o"]
    for out in (tmp_path / "file" / "ct", "/proc/ct"):
        code, _, err = fluoro(*words, out)
        assert code == 1
        assert err.splitlines()[-2].startswith("error: ")
        assert "Traceback" not in err


# --- real scans -------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_a_real_scan_has_its_organs_on_their_sides(fluoro, shared_data, tmp_path):
    folder = shared_data / "abdomen_pelvis_ct"
    code, _, err = fluoro("segment-ct", folder, "--labels", folder / "seg.nii.gz", "-o", tmp_path / "ct")
    assert code == 0, err
    case = read_header(tmp_path / "ct" / "abdomen_pelvis_ct" / "case.json", Case)
    found = {entry.name: entry for entry in case.structures}
    assert len(found) == 61
    labels = read_nifti(tmp_path / "ct" / "abdomen_pelvis_ct" / "labels.nii.gz")

    def centre(name: str) -> np.ndarray:
        z, y, x = np.argwhere(labels.array == structure(name).label_id).mean(0)
        return (labels.world_from_voxel @ [x, y, z, 1])[:3]

    assert centre("liver")[0] < centre("vertebrae_L1")[0] < centre("spleen")[0]
    assert centre("femur_right")[0] < centre("femur_left")[0]
    assert centre("vertebrae_L5")[2] < centre("vertebrae_L1")[2]
    assert centre("vertebrae_L3")[1] > centre("aorta")[1]
    assert found["femur_left"].cut_by == ["inferior"]
    assert found["liver"].cut_by == ["superior"]
    assert found["urinary_bladder"].cut_by == []

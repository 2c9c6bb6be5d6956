"""`fluoro segment-ct --labels`: what a case holds, and what bad input makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header, sha256_of
from fluorosam_cli.contracts import Case
from fluorosam_cli.ct.volume import Volume, standardise, write_nifti
from tests.ct import dicom_files
from tests.ct.labelled_scans import AFFINE, SHAPE, contents, hu, ids, save
from tests.volumes import read_nifti

# --- a case -----------------------------------------------------------------------------------------------------------


def test_a_case_holds_the_scan_the_labels_and_what_they_are(fluoro, scans, tmp_path):
    source = scans / "a.nii.gz"
    words = ["--labels", scans / "labels" / "a.nii.gz", "--keep-table", "-o", tmp_path / "ct"]
    code, _, err = fluoro("segment-ct", source, *words)
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
    words = ["--labels", tmp_path / "l.nii.gz", "--keep-table", "-o", tmp_path / "ct"]
    code, _, err = fluoro("segment-ct", tmp_path / "a.nii.gz", *words)
    assert code == 0, err
    ct = read_nifti(tmp_path / "ct" / "a" / "ct.nii.gz").array
    assert ct.dtype == np.int16
    assert ct[:4, 0, 0].tolist() == [-1024, 3071, -1024, 10]


def test_whole_lungs_of_either_kind_become_a_left_and_a_right_one(fluoro, tmp_path):
    save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(-900, -700, (20, 12, 12)).astype(np.int16))
    lungs = np.zeros((20, 12, 12), np.uint8)
    lungs[1:8, 2:9, 2:9], lungs[12:18, 2:9, 2:9] = 1, 1
    for name, table in (("both", {"1": "Lungs"}), ("each", {"1": "Lung_R", "2": "Lung_L"})):
        folder = tmp_path / name
        numbers = np.where(np.arange(20) < 10, 1, 2 if name == "each" else 1).astype(np.uint8)
        save(folder / "l.nii.gz", lungs * numbers[:, None, None])
        (folder / "l.json").write_text(json.dumps(table))
        code, _, err = fluoro("segment-ct", tmp_path / "a.nii.gz", "--labels", folder / "l.nii.gz", "-o", folder / "ct")
        assert code == 0, err
        case = read_header(folder / "ct" / "a" / "case.json", Case)
        volumes = {entry.name: entry.volume_ml for entry in case.structures}
        assert volumes == {"lung_left": 6 * 49 * 0.012, "lung_right": 7 * 49 * 0.012}


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
    "4D": lambda path: save(path, np.zeros((*SHAPE, 3), np.uint8)),
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


@pytest.mark.parametrize("kind", ["glob", "config"])
def test_overwrite_keeps_what_the_command_reads(fluoro, scans, tmp_path, kind):
    out = tmp_path / "ct"
    assert fluoro("segment-ct", scans / "a.nii.gz", "--labels", scans / "labels", "-o", out)[0] == 0
    (out / "my.toml").write_text("seed = 1\n")
    before = contents(out)
    given = [out / "*" / "ct.nii.gz"] if kind == "glob" else [scans / "a.nii.gz", "--config", out / "my.toml"]
    code, _, err = fluoro("segment-ct", *given, "--labels", scans / "labels", "-o", out, "--overwrite")
    assert (code, "which --overwrite would empty" in err) == (2, True)
    assert contents(out) == before


def test_a_volume_of_one_slice_is_no_ct(fluoro, scans, tmp_path):
    save(scans / "localiser.nii.gz", hu()[:, :, :1])
    _, _, err = fluoro("segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--verbose")
    assert "localiser.nii.gz: 1 slice, at least 10 are needed" in err


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


REAL = {"chest_ct": 89, "abdomen_pelvis_ct": 61, "head_ct": 1}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_a_real_scan_is_the_same_case_as_nifti_and_as_a_dicom_series(fluoro, shared_data, tmp_path, name):
    """Every fourth row and column, to be quick; the head has no labels, so its skull is what is denser than bone."""
    ct = standardise(read_nifti(shared_data / name / "ct.nii.gz"), fill=-1024)
    if name == "head_ct":
        labels = Volume(np.where(ct.array > 300, structure("skull").label_id, 0).astype(np.uint8), ct.world_from_voxel)
    else:
        labels = standardise(read_nifti(shared_data / name / "seg.nii.gz"), fill=0, nearest=True)
    fourth = ct.world_from_voxel @ np.diag([4.0, 4, 1, 1])
    ct, labels = (Volume(np.ascontiguousarray(volume.array[:, ::4, ::4]), fourth) for volume in (ct, labels))
    write_nifti(tmp_path / "nifti" / "x.nii.gz", ct)
    write_nifti(tmp_path / "x.nii.gz", labels)
    dicom_files.save(dicom_files.series_of(ct), tmp_path / "dicom")
    cases = {}
    for form in ("nifti", "dicom"):
        out = tmp_path / f"ct_{form}"
        code, _, err = fluoro("segment-ct", tmp_path / form, "--labels", tmp_path / "x.nii.gz", "-o", out)
        assert code == 0, err
        (header,) = out.glob("*/case.json")
        case = read_header(header, Case)
        cases[form] = (
            read_nifti(header.parent / case.ct).array,
            read_nifti(header.parent / case.labels).array,
            np.round(case.world_from_voxel, 3).tolist(),
            case.structures,
            case.quality,
        )
    for of_nifti, of_dicom in zip(cases["nifti"][:2], cases["dicom"][:2], strict=True):
        np.testing.assert_array_equal(of_nifti, of_dicom)
    assert cases["nifti"][2] == cases["dicom"][2]
    assert len(cases["nifti"][3]) == len(cases["dicom"][3]) == REAL[name]
    quality = cases["nifti"][4]
    assert [finding.gate for finding in quality.findings if finding.gate in ("side", "order", "fit")] == []
    assert (quality.metal_ml > 1) == (name != "head_ct")  # a nail in the femur; contrast medium in the veins

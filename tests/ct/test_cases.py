"""`fluoro segment-ct --labels`: what a case holds, batches, shards, bad input."""

import csv
import errno
import json
import multiprocessing
import shutil
import threading
from pathlib import Path

import dicom_files
import nibabel
import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header, sha256_of
from fluorosam_cli.contracts import Case, Run
from fluorosam_cli.ct.batch import Outcome, Recipe, make_cases, shard_of
from fluorosam_cli.ct.scans import find_scans
from fluorosam_cli.ct.volume import Volume, read_nifti, standardise, write_nifti

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
    """Every file but run.json and the like, which hold the time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("run"))
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


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


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_bad_scan_is_listed_and_the_others_are_done(fluoro, scans, tmp_path):
    (scans / "b.nii.gz").write_text("no image")
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct"]
    code, out, err = fluoro(*words, "--json")
    assert code == 1
    summary = json.loads(out)
    assert (summary["cases"], len(summary["failed"])) == (2, 1)
    assert "b.nii.gz: not a readable NIfTI" in summary["failed"][0]
    assert {path.name for path in (tmp_path / "ct").iterdir()} == {"a", "c", "quality.csv", "run.json"}
    assert str(tmp_path) not in (tmp_path / "ct" / "run.json").read_text()
    save(scans / "b.nii.gz", hu(1))
    code, out, err = fluoro(*words, "--resume", "--json")
    assert code == 0, err
    assert {key: json.loads(out)[key] for key in ("cases", "skipped", "failed")} == {
        "cases": 1,
        "skipped": 2,
        "failed": [],
    }


def test_folders_which_may_name_a_person_are_not_recorded(fluoro, scans, tmp_path, monkeypatch):
    """Neither as typed, nor as resolved, nor in what failed."""
    monkeypatch.chdir(tmp_path)
    typed = []
    for name in "abc":
        typed.append(f"JANE_DOE/{name}.nii.gz")
        save(Path(typed[-1]), hu())
    Path(typed[1]).write_text("no image")
    save(Path("JANE_SEG/c.nii.gz"), ids() * np.float32(0.3))
    for name in "ab":
        save(Path(f"JANE_SEG/{name}.nii.gz"), ids())
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


def test_cases_written_among_the_scans_are_no_scans(fluoro, scans):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", scans / "ct", "--json"]
    assert json.loads(fluoro(*words)[1])["cases"] == 3
    summary = json.loads(fluoro(*words, "--resume")[1])
    assert (summary["cases"], summary["skipped"], summary["not_scans"]) == (0, 3, 0)


def test_a_folder_that_has_grown_is_gone_on_with(fluoro, scans, tmp_path):
    words = ["--labels", scans / "labels", "-o", tmp_path / "ct"]
    assert fluoro("segment-ct", scans / "a.nii.gz", *words)[0] == 0
    code, out, err = fluoro("segment-ct", *scans.glob("*.nii.gz"), *words, "--resume", "--json")
    assert code == 0, err
    assert {key: json.loads(out)[key] for key in ("cases", "skipped")} == {"cases": 2, "skipped": 1}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_ends_the_batch(fluoro, scans, tmp_path, monkeypatch, processes):
    """Unlike a bad scan: whoever goes on would work for nothing."""
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct"]
    if processes == 1:
        written = []

        def write(path: Path, volume: Volume) -> None:
            written.append(path)
            if len(written) > 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            write_nifti(path, volume)

        monkeypatch.setattr("fluorosam_cli.ct.cases.write_nifti", write)
    else:
        full = [
            Outcome(scan, None, [f"{scan.subject}: no space left on device"], True) for scan in find_scans([scans])[0]
        ]
        monkeypatch.setattr("fluorosam_cli.ct.batch.make_cases", lambda *_: iter(full))
    code, _, err = fluoro(*words)
    assert code == 1
    assert "nii.gz: no space left on device\nhint: mend that, and continue with --resume" in err
    assert "failed: " not in err
    monkeypatch.undo()
    assert fluoro(*words, *(["--resume"] if processes == 1 else []))[0] == 0


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
    (scans / "labels" / "b.nii.gz").unlink()
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--dry-run", "--json"]
    code, out, _ = fluoro(*words)
    assert code == 1
    summary = json.loads(out)
    assert summary["scans"] == 3
    assert [problem.endswith("labels: no labels for b") for problem in summary["failed"]] == [True]
    assert not (tmp_path / "ct").exists()


def test_a_batch_of_which_all_failed_leaves_nothing_in_the_way(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--json"]
    for name in "abc":
        (scans / "labels" / f"{name}.nii.gz").write_text("no image")
    code, out, _ = fluoro(*words)
    assert code == 1
    assert len(json.loads(out)["failed"]) == 3
    assert not (tmp_path / "ct").exists()
    for name in "abc":
        save(scans / "labels" / f"{name}.nii.gz", ids())
    assert fluoro(*words)[0] == 0


def test_the_summary_has_a_line_per_case(fluoro, scans, tmp_path):
    code, out, err = fluoro("segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--json")
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "ct" / "quality.csv").open()))
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert all("liver has 0.096 ml, 600 to 3500 is plausible" not in row["findings"] for row in rows)  # it is cut
    assert all("spleen has 0.096 ml, 30 to 900 is plausible" in row["findings"] for row in rows)
    assert rows[0]["cut"] == "anterior:1 inferior:1 left:1 right:1"
    assert json.loads(out)["suspicious"] == 3
    assert "a     3           anterior:1 inferior:1 left:1 right:1" in err


# --- many machines and processes --------------------------------------------------------------------------------------


def test_shards_of_one_folder_make_what_one_run_makes(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels"]
    assert fluoro(*words, "-o", tmp_path / "whole")[0] == 0
    for shard in ("2/2", "1/2"):
        code, _, err = fluoro(*words, "-o", tmp_path / "shared", "--shard", shard)
        assert code == 0, err
    whole, shared = contents(tmp_path / "whole"), contents(tmp_path / "shared")
    cases = {name for name in whole if "/" in name}
    assert {name: whole[name] for name in cases} == {name: shared[name] for name in cases}
    assert {name for name in shared if "/" not in name} == {
        "quality-1-of-2.csv",
        "quality-2-of-2.csv",
    }
    runs = [read_header(tmp_path / "shared" / f"run-{part}-of-2.json", Run) for part in (1, 2)]
    assert [run.done for run in runs] == [2, 1]


def test_a_shard_is_resumed_and_overwritten_alone(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--json", "--shard"]
    for shard in ("1/2", "2/2"):
        assert fluoro(*words, shard)[0] == 0
    before = contents(tmp_path / "ct")
    code, _, err = fluoro(*words, "1/2")
    assert code == 1
    assert "not empty" in err
    (tmp_path / "ct" / ".tmp-b").mkdir()  # another shard is at work
    shutil.rmtree(tmp_path / "ct" / "c")
    code, out, err = fluoro(*words, "1/2", "--resume")
    assert (code, json.loads(out)["cases"], json.loads(out)["skipped"]) == (0, 1, 1), err
    assert contents(tmp_path / "ct") == before
    assert json.loads(fluoro(*words, "1/2", "--overwrite")[1])["cases"] == 2
    assert (tmp_path / "ct" / ".tmp-b").is_dir()


def test_a_shard_does_not_mix_with_a_run_of_everything(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct"]
    assert fluoro(*words)[0] == 0
    code, _, err = fluoro(*words, "--shard", "1/2")
    assert code == 1
    assert "not empty" in err


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_wrong_usage(fluoro, scans, tmp_path, shard):
    code, _, err = fluoro("segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--shard", shard)
    assert code == 2
    assert f"--shard {shard}: not a shard" in err


def test_every_scan_is_in_one_shard():
    items = list(range(53))
    parts = [shard_of(items, f"{number}/16")[0] for number in range(1, 17)]
    assert sorted(item for part in parts for item in part) == items
    assert {len(part) for part in parts} == {3, 4}


def test_several_processes_make_the_same_cases(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o"]
    assert fluoro(*words, tmp_path / "one")[0] == 0
    code, _, err = fluoro(*words, tmp_path / "two", "--gpus", 2)
    assert code == 0, err
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert json.loads(fluoro(*words, tmp_path / "two", "--gpus", 3, "--resume", "--json")[1])["skipped"] == 3


def test_a_process_that_dies_fails_its_scan_only(scans, tmp_path):
    """The process is killed, as the system does when memory runs out, before it has done its first scan."""
    found, _ = find_scans([scans], exclude=[scans / "labels"])
    recipe = Recipe(tmp_path / "ct", scans / "labels")

    def kill_first(outcomes):
        timer = threading.Timer(0.2, lambda: [child.kill() for child in multiprocessing.active_children()])
        timer.start()
        yield from outcomes
        timer.cancel()

    outcomes = list(kill_first(make_cases(found, recipe, ["cpu"], isolated=True)))
    assert [outcome.scan.name for outcome in outcomes] == ["a", "b", "c"]
    assert [outcome.case is None for outcome in outcomes] == [True, False, False]
    assert outcomes[0].notes == [f"{found[0].subject}: its process died (exit code -9); short of memory?"]


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

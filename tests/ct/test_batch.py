"""`fluoro segment-ct` over many scans: failures, resuming, shards, processes."""

import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from fluorosam_cli.artefacts import read_header, sha256_of
from fluorosam_cli.contracts import Case, Run
from fluorosam_cli.ct import batch
from fluorosam_cli.ct.batch import Outcome, Recipe, make_case, parse_shard
from fluorosam_cli.ct.scans import Scan
from tests.ct.labelled_scans import contents, hu, ids, save
from tests.groups import has_ended

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


def test_a_full_disk_ends_the_batch(fluoro, scans, tmp_path, monkeypatch):
    """Unlike a bad scan: whoever goes on would work for nothing."""
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct"]

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def here(todo: list[Scan], recipe: Recipe, devices: list[str]) -> Iterator[Outcome]:
        yield from (make_case(scan, recipe, devices[0]) for scan in todo)

    monkeypatch.setattr("fluorosam_cli.ct.cases.write_nifti", write)
    monkeypatch.setattr("fluorosam_cli.ct.batch.make_cases", here)
    code, _, err = fluoro(*words)
    assert code == 1
    assert "nii.gz: no space left on device\nhint: mend that, and continue with --resume" in err
    assert "failed: " not in err
    monkeypatch.undo()
    assert fluoro(*words)[0] == 0


def test_a_killed_run_continues_to_the_same_bytes(fluoro, scans, tmp_path):
    for path, array in ((scans / "b.nii.gz", hu(1)), (scans / "labels" / "b.nii.gz", ids())):
        save(path, np.tile(array, (16, 16, 16)))  # takes long enough to be killed in the middle
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o"]
    assert fluoro(*words, tmp_path / "whole")[0] == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "fluorosam_cli", *map(str, words), str(killed)]
    process = subprocess.Popen(command, start_new_session=True)
    while not (killed / ".tmp-b").is_dir():
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert has_ended(process.pid)
    assert {path.name for path in killed.iterdir()} == {"a", ".tmp-b", "run.json"}
    code, _, err = fluoro(*words, killed, "--resume")
    assert code == 0, err
    assert contents(killed) == contents(tmp_path / "whole")
    assert read_header(killed / "run.json", Run).skipped == 1


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


def test_the_device_may_be_another_when_a_run_goes_on(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--json"]
    assert fluoro(*words, "--device", "cpu")[0] == 0
    code, out, err = fluoro(*words, "--device", "auto", "--resume")
    assert (code, json.loads(out)["skipped"]) == (0, 3), err


def test_a_second_run_does_not_delete_what_the_first_finished_meanwhile(fluoro, scans, tmp_path, monkeypatch):
    words = ["--labels", scans / "labels", "-o", tmp_path / "ct"]
    label_scan = batch.label_scan

    def label(scan: Scan, *rest):
        if scan.name == "b":
            assert fluoro("segment-ct", scans / "a.nii.gz", *words)[0] == 0
        return label_scan(scan, *rest)

    monkeypatch.setattr(batch, "label_scan", label)
    code, _, err = fluoro("segment-ct", scans / "b.nii.gz", *words)
    assert (code, "ct: not empty" in err) == (1, True)
    assert {path.name for path in (tmp_path / "ct").iterdir()} == {"a", "quality.csv", "run.json"}


def test_overwrite_without_shard_names_the_shards(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct"]
    assert fluoro(*words, "--shard", "2/2")[0] == 0
    code, _, err = fluoro(*words, "--overwrite")
    assert (code, "written with another --shard or with none (run-2-of-2.json)" in err) == (1, True)


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
    parts = [parse_shard(f"{number}/16").of(items) for number in range(1, 17)]
    assert sorted(item for part in parts for item in part) == items
    assert {len(part) for part in parts} == {3, 4}


def test_several_processes_make_the_same_cases(fluoro, scans, tmp_path):
    words = ["segment-ct", scans, "--labels", scans / "labels", "-o"]
    assert fluoro(*words, tmp_path / "one")[0] == 0
    code, _, err = fluoro(*words, tmp_path / "two", "--gpus", 2)
    assert code == 0, err
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert json.loads(fluoro(*words, tmp_path / "two", "--gpus", 3, "--resume", "--json")[1])["skipped"] == 3


def test_a_process_that_dies_fails_its_scan_only(fluoro, scans, tmp_path):
    """The process is killed, as the system does when memory runs out, before it has done its first scan."""

    def kill_first():
        deadline = time.monotonic() + 30
        while not (children := multiprocessing.active_children()) and time.monotonic() < deadline:
            time.sleep(0.01)
        children[0].kill()

    killer = threading.Thread(target=kill_first)
    killer.start()
    code, out, err = fluoro("segment-ct", scans, "--labels", scans / "labels", "-o", tmp_path / "ct", "--json")
    killer.join()
    assert code == 1, err
    summary = json.loads(out)
    assert summary["cases"] == 2
    assert summary["failed"] == [f"{scans / 'a.nii.gz'}: its process died (exit code -9); short of memory?"]

"""TotalSegmentator: what it lacks is said before it starts; its real API runs on tiny random networks."""

import json
import socket
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Case
from fluorosam_cli.ct import segment
from fluorosam_cli.ct.segment import LIMBS, TASKS, Run, plan_runs
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError, UsageError
from tests.volumes import read_nifti

needs_it = pytest.mark.skipif(find_spec("totalsegmentator") is None, reason="the extra `totalseg` is not installed")


def save_scan(path: Path, shape=(30, 30, 30), spacing_mm: float = 6.0, seed: int = 0) -> Path:
    hu = np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([spacing_mm, spacing_mm, spacing_mm, 1])), path)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty TotalSegmentator home of our own."""
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    return tmp_path / "home"


def pretend_weights(home: Path, *tasks: str) -> None:
    for task in tasks:
        for name in TASKS[task].weights:
            checkpoint = home / "nnunet" / "results" / name / "trainer" / "fold_0" / "checkpoint_final.pth"
            checkpoint.parent.mkdir(parents=True)
            checkpoint.touch()


def give_licence(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.json").write_text(json.dumps({"license_number": "aca_12345678901234"}))


# --- what is run, and what it needs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "missing", "commands"),
    [
        ([], "Dataset291_TotalSegmentator_part1_organs_1559subj and 4 more", ["total"]),
        (["--fast"], "Dataset297_TotalSegmentator_total_3mm_1559subj", ["total_fast"]),
        (
            ["--fast", "--task", "kidney_cysts"],
            "Dataset297_TotalSegmentator_total_3mm_1559subj and 2 more",
            ["total_fast", "kidney_cysts"],
        ),
        (["--fast", "--only", "pelvis"], "Dataset297_TotalSegmentator_total_3mm_1559subj and 1 more", ["total_fast"]),
    ],
)
def test_missing_weights_are_said_before_any_download(fluoro, tmp_path, home, monkeypatch, words, missing, commands):
    monkeypatch.setattr(segment, "installed_version", lambda: "2.18.0")
    scan = save_scan(tmp_path / "a.nii.gz", (12, 12, 12))
    code, _, err = fluoro("segment-ct", scan, "-o", tmp_path / "ct", *words)
    assert code == 1
    assert f"{home}/nnunet/results: TotalSegmentator's weights {missing} not found" in err
    hint = err.splitlines()[-1]
    assert hint.startswith("hint: " + " && ".join(f"totalseg_download_weights -t {task}" for task in commands) + ";")
    assert f"copy Dataset29{7 if words else 1}" in hint
    assert hint.endswith(f"into {home}/nnunet/results")
    assert not (tmp_path / "ct").exists()
    assert not home.exists()


@pytest.mark.skipif(find_spec("totalsegmentator") is not None, reason="TotalSegmentator is installed")
def test_the_missing_extra_is_named_with_the_command_to_install_it(fluoro, tmp_path):
    scan = save_scan(tmp_path / "a.nii.gz", (12, 12, 12))
    code, _, err = fluoro("segment-ct", scan, "-o", tmp_path / "ct")
    assert code == 1
    assert "TotalSegmentator is not installed" in err
    assert "hint: pip install 'fluorosam-cli[totalseg]'\n" in err
    assert not (tmp_path / "ct").exists()


def test_limb_bones_are_run_where_there_are_licence_and_weights_and_left_out_aloud_otherwise(home):
    runs, left_out = plan_runs("total")
    assert runs == (Run("total"),)
    assert "limb bones left out: appendicular_bones needs a TotalSegmentator licence" in left_out[0]
    give_licence(home)
    runs, left_out = plan_runs("total")
    assert runs == (Run("total"),)
    assert left_out == ["limb bones left out: no weights (totalseg_download_weights -t appendicular_bones)"]
    pretend_weights(home, LIMBS)
    assert plan_runs("total") == ((Run("total"), Run(LIMBS)), [])
    runs, left_out = plan_runs("fast")
    assert runs == (Run("total --fast"),)
    assert left_out == ["limb bones left out with --fast; --task appendicular_bones runs them all the same"]


def test_a_licensed_task_asked_for_without_licence_is_refused(home, monkeypatch):
    monkeypatch.setattr(segment, "installed_version", lambda: "2.18.0")
    runs, _ = plan_runs("total", [LIMBS])
    assert runs == (Run("total"), Run(LIMBS))
    with pytest.raises(FluoroError, match="appendicular_bones: needs a TotalSegmentator licence") as caught:
        segment.check_ready(runs)
    assert caught.value.hint.startswith("totalseg_set_license -l NUMBER")


def test_only_names_structures_and_groups(home):
    (run,), _ = plan_runs("total", only=["thoracic_spine", "heart"])
    assert set(run.only) == {"heart", *(f"vertebrae_T{level}" for level in range(1, 13))}
    assert TASKS["total --fastest"].weights[0] in run.needs
    assert plan_runs("total", [LIMBS], ["tibia"])[0] == (Run(LIMBS),)
    with pytest.raises(FluoroError, match="hart: not a known"):
        plan_runs("total", only=["hart"])
    with pytest.raises(UsageError, match="no task that runs has it"):
        plan_runs("total", only=["skin"])


def test_an_unknown_task_is_wrong_usage(fluoro, tmp_path):
    scan = save_scan(tmp_path / "a.nii.gz", (12, 12, 12))
    code, _, err = fluoro("segment-ct", scan, "--task", "total_mr", "-o", tmp_path / "ct")
    assert code == 2
    assert "--task total_mr: not known here" in err
    assert "craniofacial_structures" in err


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_home(tmp_path_factory) -> Path:
    import tiny_totalseg

    home = tmp_path_factory.mktemp("totalseg")
    for task in ("total", "total --fastest", LIMBS, "kidney_cysts"):
        tiny_totalseg.build(home, task)
    return home


@pytest.fixture
def tiny(tiny_home, monkeypatch) -> Path:
    """The tiny networks, no licence, and a network that fails whoever uses it."""
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tiny_home))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    (tiny_home / "config.json").unlink(missing_ok=True)

    def refuse(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tiny_home


@needs_it
def test_our_table_of_tasks_is_theirs():
    from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
    from totalsegmentator.map_to_binary import class_map, commercial_models

    for name, task in TASKS.items():
        word, _, mode = name.partition(" --")
        config = TASK_CONFIGS[word]
        config = config["sub_modes"][mode or "default"] if "sub_modes" in config else config
        ids = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
        assert task.weights == tuple(TASK_ID_WEIGHTS_CONFIGS[task_id]["foldername"] for task_id in ids)
        assert task.licensed == (word in commercial_models)
        crop = {False: "total --fastest", True: "total --fast"}[config.get("robust_crop", False)]
        assert task.rough == (crop if config.get("crop") else None)
        assert any(segment_name in {s.name for s in _ours()} for segment_name in class_map[word].values()), name
    assert {name: structure(name).label_id for name in class_map["total"].values()} == {
        name: label_id for label_id, name in class_map["total"].items()
    }


@needs_it
def test_classes_that_are_no_structures_of_ours_are_named():
    assert segment.unknown_classes((Run("total"), Run("total --fast"), Run(LIMBS))) == []
    (remark,) = segment.unknown_classes([Run("craniofacial_structures")])
    assert remark.startswith("craniofacial_structures: left out, as they are no structures here: ")
    assert "sinus_maxillary" in remark
    assert "mandible" not in remark


def _ours():
    from fluorosam_cli.anatomy.structures import structures

    return structures()


@needs_it
def test_totalsegmentators_real_api_makes_a_case(fluoro, tiny, tmp_path):
    """A tiny random network: nonsense labels, but ours, on the scan's grid, with nothing printed on stdout."""
    affine = np.array([[0, 6, 0, 5], [-6, 0, 0, 7], [0, 0, 6, 9], [0, 0, 0, 1.0]])  # turned: not RAS
    hu = np.random.default_rng(0).integers(-900, 900, (40, 36, 33)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "a.nii.gz")
    words = ["segment-ct", tmp_path / "a.nii.gz", "--fastest", "--device", "cpu", "-o", tmp_path / "ct", "--json"]
    code, out, err = fluoro(*words)
    assert code == 0, err
    assert json.loads(out)["cases"] == 1
    case = read_header(tmp_path / "ct" / "a" / "case.json", Case)
    assert (case.segmenter.name, case.segmenter.task) == ("TotalSegmentator", "total --fastest")
    assert case.segmenter.version == segment.installed_version()
    labels, ct = (read_nifti(tmp_path / "ct" / "a" / name) for name in ("labels.nii.gz", "ct.nii.gz"))
    assert labels.array.shape == ct.array.shape == (33, 40, 36)
    assert len(case.structures) > 5
    assert all(1 <= entry.label_id <= 117 for entry in case.structures)
    assert not (tiny / "config.json").exists()  # the user's settings are left as they were


@needs_it
def test_kept_networks_give_what_fresh_ones_and_totalsegmentator_itself_give(tiny):
    """The networks are read from disk once, and the labels are those of an unchanged TotalSegmentator."""
    import subprocess
    import sys

    program = (
        "import sys, numpy as np, nibabel\n"
        "if __name__ == '__main__':\n"
        "    from totalsegmentator.python_api import totalsegmentator\n"
        "    hu = np.random.default_rng(int(sys.argv[1])).integers(-900, 900, (30, 30, 30)).astype(np.int16)\n"
        "    image = nibabel.Nifti1Image(hu, np.diag([6.0, 6, 6, 1]))\n"
        "    found = totalsegmentator(image, None, ml=True, fastest=True, device='cpu', quiet=True)\n"
        "    np.save(sys.argv[2], np.asarray(found.dataobj).astype(np.uint8))\n"
    )
    (tiny / "program.py").write_text(program)
    subprocess.run([sys.executable, tiny / "program.py", "1", tiny / "1.npy"], check=True, capture_output=True)
    hu = np.random.default_rng(1).integers(-900, 900, (30, 30, 30)).astype(np.int16)
    ct = Volume(np.ascontiguousarray(hu.T), np.diag([-6.0, -6, 6, 1]))
    for _ in range(2):
        found = segment.segment(ct, (Run("total --fastest"),), "cpu").array
        np.testing.assert_array_equal(found.T, np.load(tiny / "1.npy"))
    (tiny / "config.json").unlink()  # written by TotalSegmentator itself, above
    from totalsegmentator import nnunet

    assert sum("Dataset298" in key[0] for key in nnunet.nnUNetPredictor.kept) == 1


@needs_it
def test_with_a_licence_limb_bones_come_too_and_later_tasks_win(tiny, tmp_path):
    import tiny_totalseg

    tiny_totalseg.give_licence(tiny)
    runs, left_out = plan_runs("total")
    assert (runs, left_out) == ((Run("total"), Run(LIMBS)), [])
    hu = np.random.default_rng(3).integers(-900, 900, (14, 14, 14)).astype(np.int16)
    ct = Volume(hu, np.diag([-3.0, -3, 3, 1]))
    alone = [segment.segment(ct, (run,), "cpu").array for run in runs]
    together = segment.segment(ct, runs, "cpu").array
    limbs = {structure(name).label_id for name in ("tibia", "ulna", "carpal", "patella")}
    assert limbs & set(np.unique(alone[1]).tolist())
    np.testing.assert_array_equal(together, np.where(alone[1] > 0, alone[1], alone[0]))
    assert json.loads((tiny / "config.json").read_text())["send_usage_stats"] is True  # the user's, untouched


@needs_it
def test_a_task_that_crops_first(tiny):
    hu = np.random.default_rng(3).integers(-900, 900, (14, 14, 14)).astype(np.int16)
    ct = Volume(hu, np.diag([-3.0, -3, 3, 1]))
    runs, _ = plan_runs("fastest", ["kidney_cysts"])
    found = segment.segment(ct, runs, "cpu").array
    np.testing.assert_array_equal(found > 0, segment.segment(ct, runs[:1], "cpu").array + found > 0)
    assert segment.describe_runs(runs) == "total --fastest, kidney_cysts"


@needs_it
def test_a_part_of_the_body_alone(tiny):
    hu = np.random.default_rng(3).integers(-900, 900, (20, 20, 20)).astype(np.int16)
    ct = Volume(hu, np.diag([-6.0, -6, 6, 1]))
    runs, _ = plan_runs("fastest", only=["kidneys", "liver"])
    found = {int(label_id) for label_id in np.unique(segment.segment(ct, runs, "cpu").array)}
    assert found <= {0, 2, 3, 5}


@needs_it
def test_usage_statistics_are_off_while_it_runs(tiny):
    from totalsegmentator.config import get_config_key, get_weights_dir, setup_totalseg

    with segment._own_settings():
        setup_totalseg()
        assert get_config_key("send_usage_stats") is False
        assert get_weights_dir() == tiny / "nnunet" / "results"


@needs_it
def test_a_download_that_would_start_all_the_same_is_refused(tiny, monkeypatch):
    """Weights that our own table does not know of: TotalSegmentator asks for them, and is told no."""
    with segment._own_settings():
        _, totalsegmentator = segment._load()
        image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4))
        with pytest.raises(FluoroError, match="weights for 299 not found"):
            totalsegmentator(image, None, ml=True, task="body", device="cpu", quiet=True)


@needs_it
def test_its_sys_exit_becomes_an_error(tiny, monkeypatch):
    from totalsegmentator import python_api

    def leave(*_, **__):
        raise SystemExit(1)

    monkeypatch.setattr(python_api, "totalsegmentator", leave)
    with pytest.raises(FluoroError, match=r"TotalSegmentator stopped at total --fastest \(exit code 1\)"):
        segment.segment(Volume(np.zeros((4, 4, 4), np.int16), np.eye(4)), (Run("total --fastest"),), "cpu")


@needs_it
def test_a_batch_runs_in_processes_that_keep_their_networks(fluoro, tiny, tmp_path):
    for seed, name in enumerate("abc"):
        save_scan(tmp_path / "scans" / f"{name}.nii.gz", (20, 20, 20), seed=seed)
    (tmp_path / "scans" / "d.nii.gz").write_bytes((tmp_path / "scans" / "a.nii.gz").read_bytes()[:5000])
    words = ["segment-ct", tmp_path / "scans", "--fastest", "--device", "cpu", "--gpus", 2, "-o", tmp_path / "ct"]
    code, out, err = fluoro(*words, "--json")
    assert code == 1, err
    summary = json.loads(out)
    assert (summary["cases"], len(summary["failed"])) == (3, 1)
    assert "d.nii.gz: " in summary["failed"][0]
    code, out, err = fluoro(*words, "--json", "--resume")
    assert {key: json.loads(out)[key] for key in ("cases", "skipped")} == {"cases": 0, "skipped": 3}

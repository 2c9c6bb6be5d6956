"""TotalSegmentator: what it lacks is said before it starts; its real API runs on a tiny random network."""

import json
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Case
from fluorosam_cli.ct import segment
from fluorosam_cli.ct.volume import Volume, read_nifti
from fluorosam_cli.errors import FluoroError


@pytest.fixture
def scan(tmp_path) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), -50, np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def test_missing_weights_are_said_before_any_download(fluoro, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "installed_version", lambda: "2.18.0")
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    code, _, err = fluoro("segment-ct", scan, "-o", tmp_path / "ct")
    assert code == 1
    assert f"{tmp_path}/home/nnunet/results: TotalSegmentator's weights Dataset291" in err
    assert "hint: totalseg_download_weights -t total\n" in err
    assert not (tmp_path / "ct").exists()
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(find_spec("totalsegmentator") is not None, reason="TotalSegmentator is installed")
def test_the_missing_extra_is_named_with_the_command_to_install_it(fluoro, scan, tmp_path):
    code, _, err = fluoro("segment-ct", scan, "-o", tmp_path / "ct")
    assert code == 1
    assert "TotalSegmentator is not installed" in err
    assert "hint: pip install 'fluorosam-cli[totalseg]'\n" in err
    assert not (tmp_path / "ct").exists()


@pytest.fixture(scope="module")
def tiny_home(tmp_path_factory) -> Path:
    pytest.importorskip("totalsegmentator", reason="the extra `totalseg` is not installed")
    import tiny_totalseg

    home = tmp_path_factory.mktemp("totalseg")
    tiny_totalseg.build(home)
    return home


def test_totalsegmentators_real_api_makes_a_case(fluoro, tiny_home, tmp_path, monkeypatch):
    """A tiny random network: nonsense labels, but ours, on the scan's grid, with nothing printed on stdout."""
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tiny_home))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
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
    labels = read_nifti(tmp_path / "ct" / "a" / "labels.nii.gz")
    assert labels.array.shape == (33, 36, 40)
    assert len(case.structures) > 5
    assert all(1 <= entry.label_id <= 117 for entry in case.structures)
    assert not (tiny_home / "config.json").exists()  # the user's settings are left as they were


def test_usage_statistics_are_off_while_it_runs(tiny_home, monkeypatch):
    from totalsegmentator.config import get_config_key, get_weights_dir, setup_totalseg

    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tiny_home))
    with segment._own_settings():
        setup_totalseg()
        assert get_config_key("send_usage_stats") is False
        assert get_weights_dir() == tiny_home / "nnunet" / "results"


def test_its_sys_exit_becomes_an_error(tiny_home, monkeypatch):
    from totalsegmentator import python_api

    def leave(*_, **__):
        raise SystemExit(1)

    monkeypatch.setattr(python_api, "totalsegmentator", leave)
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tiny_home))
    with pytest.raises(FluoroError, match=r"TotalSegmentator stopped \(exit code 1\)"):
        segment.segment(Volume(np.zeros((4, 4, 4), np.int16), np.eye(4)), "fastest", "cpu")


def test_totalsegmentators_names_and_ids_are_ours():
    class_map = pytest.importorskip("totalsegmentator.map_to_binary", reason="the extra is not installed").class_map
    assert {name: structure(name).label_id for name in class_map["total"].values()} == {
        name: label_id for label_id, name in class_map["total"].items()
    }


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_gpu_that_is_not_there_is_an_error_and_not_a_slow_cpu(device):
    import torch

    if torch.cuda.device_count() > 7:
        pytest.skip("this machine has eight GPUs")
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(FluoroError, match="no CUDA device"):
        segment._totalsegmentator_device(device)

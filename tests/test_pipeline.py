"""The whole pipeline in miniature, through the command line, on phantoms of 8 mm voxels."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.mark.timeout(900)  # training learns the words of a chest on the way
def test_from_phantom_to_mask(fluoro, folder, monkeypatch):
    """Every stage with its default folders, in one working directory."""
    monkeypatch.chdir(folder)

    def run(*words):
        code, out, err = fluoro(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    run("phantom", "--count", 3, "--region", "chest", "--spacing", 8)
    assert run("segment-ct", "phantom/scans", "--labels", "phantom/labels")["cases"] == 3
    assert run("render", "ct/", "--views", 4, "--size", 64)["views"] == 12
    run("describe", "--templates", 0)
    packed = run("pack", "views/", "--size", 64, "--val", 0.3, "--test", 0.3)
    assert packed["images"] == 12
    assert packed["cases"] == {"train": 1, "val": 1, "test": 1}
    trained = run("train", "shards/", "--preset", "tiny", "--gpus", 0, "--steps", 8, "--batch", 4)
    metrics = run("eval", "runs/tiny", "shards/", "--clicks", 1, "--limit", 2)
    assert (folder / "metrics/report.html").stat().st_size > 1000
    assert trained["checkpoint"].endswith("best")
    image = next((folder / "views/images").rglob("*.png"))
    predicted = run("predict", image, "left lung", "--point", "40,30", "--model", "runs/tiny")
    prediction = json.loads((folder / predicted["output"] / "prediction.json").read_text())
    assert prediction["masks"][0]["structure"] == "lung_above_diaphragm_left"
    mask = np.asarray(Image.open(folder / predicted["output"] / prediction["masks"][0]["mask"]))
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) <= {0, 255}
    assert metrics["images"] == 2


def test_every_stage_leaves_its_run(folder):
    runs = {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("run.json")}
    stages = {run["stage"] for run in runs.values()}
    assert stages >= {"phantom", "segment-ct", "render", "describe", "pack", "train", "eval", "predict"}
    assert all(run["status"] == "done" for run in runs.values())
    assert not any("/tmp" in json.dumps(run) for run in runs.values())

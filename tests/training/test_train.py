import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.checkpoint import load_checkpoint
from fluorosam_cli.training.train import Devices, TrainSettings, choose_devices, launch
from tests.shapes import write_shapes

FEW = ("--preset", "tiny", "--batch", 4, "--prompts", 2, "--gpus", 0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shards"))


def weights(folder):
    return load_checkpoint(folder)[0].state_dict()


def losses(folder):
    with open(folder / "log.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_training_through_the_command_line(fluoro, shards, tmp_path):
    code, out, err = fluoro("train", shards, *FEW, "--steps", 4, "-o", tmp_path / "run", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["steps"] == 4
    assert 0 <= summary["validation_text_iou"] <= 1
    header = load_checkpoint(tmp_path / "run")[1]
    assert header.structures == ["heart", "liver", "lung_left", "lung_right"]
    assert header.metrics["words_train_accuracy"] == 1
    assert len(losses(tmp_path / "run")) == 4
    code, _, err = fluoro("train", shards, *FEW, "--steps", 4, "-o", tmp_path / "run")
    assert code == 1
    assert "not empty" in err


def test_killed_and_resumed_gives_the_same_weights(fluoro, shards, tmp_path):
    words = ["train", shards, *FEW, "--steps", 20, "-o"]
    code, _, err = fluoro(*words, tmp_path / "whole")
    assert code == 0, err
    command = [sys.executable, "-m", "fluorosam_cli", *map(str, words), str(tmp_path / "broken")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken/last/trainer.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    code, _, err = fluoro(*words, tmp_path / "broken", "--resume")
    assert code == 0, err
    whole, broken = weights(tmp_path / "whole/last"), weights(tmp_path / "broken/last")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert (tmp_path / "whole/log.csv").read_text() == (tmp_path / "broken/log.csv").read_text()


def test_two_processes_follow_one(shards, tmp_path):
    settings = TrainSettings(preset="tiny", steps=2, batch=4, prompts=3, validations=1)
    for world in (1, 2):
        launch(shards, tmp_path / str(world), settings, Devices("cpu", world))
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    states = [torch.load(tmp_path / f"{w}/last/trainer.pt", weights_only=True) for w in (1, 2)]
    moments = [state["optimiser"]["state"] for state in states]
    assert len(one) == len(two) == 2
    for key, moment in moments[0].items():  # the first moment is the averaged gradient
        torch.testing.assert_close(moment["exp_avg"], moments[1][key]["exp_avg"], atol=1e-5, rtol=1e-2)


def test_eight_images_are_learnt(shards, tmp_path):
    settings = TrainSettings(
        preset="tiny", steps=60, batch=8, prompts=3, map_prompts=1, rounds=1, learning_rate=2e-3, validations=1
    )
    launch(shards, tmp_path, settings, Devices("cpu", 1))
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["mask"]) for row in rows[-5:]) < 0.6 * sum(float(row["mask"]) for row in rows[:5])
    assert float(rows[-1]["validation_text_iou"]) > 0.5


def test_a_missing_gpu_is_an_error_with_a_way_out(fluoro, shards, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    code, _, err = fluoro("train", shards, "--gpus", 2, "-o", tmp_path / "run")
    assert code == 1
    assert err.startswith("error: no CUDA device; --gpus 2 was requested\nhint: ")
    assert not (tmp_path / "run").exists()
    assert choose_devices(2, "cpu") == Devices("cpu", 2)


def test_damaged_shards_stop_before_anything_is_written(fluoro, shards, tmp_path):
    broken = tmp_path / "shards"
    shutil.copytree(shards, broken)
    path = broken / "train-00000.h5"
    path.write_bytes(path.read_bytes()[:2000])
    code, _, err = fluoro("train", broken, *FEW, "-o", tmp_path / "run")
    assert code == 1
    assert "train-00000.h5" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
    with pytest.raises(FluoroError):
        ShardReader(tmp_path / "nowhere", "train")

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fluorosam_cli import cli
from fluorosam_cli.artefacts import read_header, write_json
from fluorosam_cli.contracts import Checkpoint, Shards
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.checkpoint import load_checkpoint
from fluorosam_cli.training import train
from fluorosam_cli.training import words as training_words
from fluorosam_cli.training.devices import Devices
from fluorosam_cli.training.memory import with_advice
from fluorosam_cli.training.recipe import FLUORO
from fluorosam_cli.training.settings import TrainSettings, choose_precision, excluded
from fluorosam_cli.training.start import Origin
from fluorosam_cli.training.train import Job, launch
from fluorosam_cli.training.words import load_words
from tests.dataset.test_loader import NothingAbsent
from tests.groups import has_ended
from tests.shapes import STRUCTURES, write_shapes

FEW = ("--preset", "tiny", "--batch", 4, "--prompts", 2, "--rounds", 2, "--no-tensorboard", "--augment", "weak")
ON_CPU = (*FEW, "--precision", "fp32", "--device", "cpu", "--workers", 0)
ONE = Devices("cpu", 1)
SMALL = TrainSettings(
    recipe=replace(FLUORO, rounds=2),
    steps=2,
    batch=4,
    prompts=2,
    map_prompts=2,
    augment="weak",
    validations=1,
    validation_images=2,
    precision="fp32",
    workers=0,
    tensorboard=False,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shards):
    """Words learnt from the shards, then two steps in one process."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_words, "FEWEST_STEPS", 60)
        assert cli.run([str(word) for word in ("train", shards, *ON_CPU, "--steps", 2, "-o", folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def words(trained):
    """Learning them takes longer than a few steps, so the other tests start from these."""
    return trained / "words"


@pytest.fixture(scope="module")
def small(words):
    return replace(SMALL, origin=Origin(preset="tiny", words=words))


def weights(folder):
    return load_checkpoint(folder)[0].state_dict()


def rows(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def gradients(folder):
    """All of them in one row, as the optimisers' first moments have them after a step, and averaged after several."""
    saved = torch.load(folder / "last/trainer.pt", weights_only=True, map_location="cpu")["optimiser"]
    states = [saved[part]["state"][key] for part in ("Muon", "AdamW") for key in sorted(saved[part]["state"])]
    return torch.cat([state.get("momentum", state.get("exp_avg")).flatten() for state in states])


def assert_same_gradients(folder, other):
    torch.testing.assert_close(gradients(folder), gradients(other), atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize(
    ("able", "precision"), [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")]
)
def test_a_cpu_trains_in_bfloat16_where_its_hardware_multiplies_it(monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert choose_precision("auto", "cpu") == precision
    assert choose_precision("fp32", "cpu") == "fp32"


def test_training_through_the_command_line(fluoro, shards, trained):
    header = load_checkpoint(trained)[1]
    assert header.structures == ["heart", "liver", "lung_left", "lung_right"]
    assert header.metrics["words_train_accuracy"] == 1
    for name in ("text_iou", "clicks_1_iou", "clicks_3_iou"):
        assert 0 <= header.metrics[f"validation_{name}"] <= 1
    assert header.training["recipe"]["name"] == "fluoro"
    assert header.training["recipe"]["rounds"] == 2
    assert [row["step"] for row in rows(trained)] == ["1", "2"]
    assert "images_per_second" in (trained / "speed.csv").read_text()
    again = ("train", shards, *ON_CPU, "--steps", 2, "-o", trained)
    code, out, err = fluoro(*again, "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 2
    code, _, err = fluoro(*again)
    assert code == 1
    assert "not empty" in err
    code, _, err = fluoro(*again, "--resume", "--recipe", "fluorosam")
    assert code == 1
    assert "begun with recipe = 'fluoro', now 'fluorosam'" in err


def test_a_run_goes_on_in_other_processes_but_not_in_other_arithmetic(fluoro, shards, trained, monkeypatch):
    line = ("train", shards, *ON_CPU, "--steps", 2, "-o", trained, "--resume")
    code, _, err = fluoro(*line, "--gpus", 1)
    assert code == 0, err
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert "begun with precision = 'fp32', now 'bf16'" in fluoro(*line, "--precision", "auto")[2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "begun with device = 'cpu', now 'cuda'" in fluoro(*line, "--device", "auto")[2]


def test_killed_and_resumed_gives_the_same_weights(fluoro, shards, words, tmp_path):
    line = ["train", shards, *ON_CPU, "--words", words, "--steps", 4, "-o"]
    code, _, err = fluoro(*line, tmp_path / "whole")
    assert code == 0, err
    command = [sys.executable, "-m", "fluorosam_cli", *map(str, line), str(tmp_path / "broken")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken/last/trainer.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(rows(tmp_path / "broken")) < 4
    code, _, err = fluoro(*line, tmp_path / "broken", "--resume")
    assert code == 0, err
    whole, broken = weights(tmp_path / "whole/last"), weights(tmp_path / "broken/last")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert (tmp_path / "whole/log.csv").read_text() == (tmp_path / "broken/log.csv").read_text()


def test_processes_end_with_the_one_that_started_them(shards, words, tmp_path):
    """Also where Ctrl-C is ignored, as under nohup."""
    command = [sys.executable, "-m", "fluorosam_cli", "train", shards, *ON_CPU, "--words", words, "--steps", 9999]
    process = subprocess.Popen(
        [*map(str, command), "--gpus", "2", "-o", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/last/trainer.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert has_ended(process.pid)


def test_two_processes_follow_one_however_they_are_started(fluoro, shards, trained, words, tmp_path):
    line = ["train", shards, *ON_CPU, "--words", words, "--steps", 2, "-o"]
    code, _, err = fluoro(*line, tmp_path / "two", "--gpus", 2)
    assert code == 0, err
    assert_same_gradients(trained, tmp_path / "two")
    for one, two in zip(rows(trained), rows(tmp_path / "two"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-5)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launcher, "-m", "fluorosam_cli", *map(str, line), str(tmp_path / "launched")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'launched'}\n"
    assert (tmp_path / "launched/log.csv").read_text() == (tmp_path / "two/log.csv").read_text()


def test_processes_that_do_not_share_the_folder_are_told_so(shards, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "0/run")
    (tmp_path / "1").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    words = ("train", shards, *ON_CPU, "--steps", 2, "-o", "run", "--resume")
    command = [sys.executable, "-m", "fluorosam_cli", *map(str, words)]
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path / rank,
            env=os.environ | meeting | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    for process in processes:
        assert "error: run: its last step is 0 or 2" in process.communicate()[1]
        assert process.returncode == 1


def test_of_a_launchers_processes_the_first_alone_prints_and_draws(fluoro, shards, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        code, out, _ = fluoro("train", shards, *ON_CPU, "--dry-run")
        assert (code, "images: 8" in out) == (0, rank == "0")
        sheet = tmp_path / f"{rank}.png"
        code, out, _ = fluoro("train", shards, *ON_CPU, "--show-augmentations", sheet)
        assert (code, sheet.exists()) == (0, rank == "0")


@pytest.mark.gpu
def test_a_step_on_a_gpu_is_that_of_a_cpu(shards, small, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    settings = replace(small, steps=1, recipe=replace(FLUORO, rounds=1))
    for kind in ("cpu", "cuda"):
        launch(Job(shards, tmp_path / kind, settings, Devices(kind, 1)))
    cpu, cuda = (gradients(tmp_path / kind) for kind in ("cpu", "cuda"))
    assert (cpu - cuda).norm() < 0.02 * cpu.norm()  # TF32 has 10 bits
    assert float(rows(tmp_path / "cpu")[0]["loss"]) == pytest.approx(
        float(rows(tmp_path / "cuda")[0]["loss"]), rel=0.01
    )


def test_a_batch_may_be_taken_in_parts_and_loaded_elsewhere(shards, small, tmp_path):
    launch(Job(shards, tmp_path / "one", small, ONE))
    launch(Job(shards, tmp_path / "parts", replace(small, micro_batch=3), ONE))
    assert_same_gradients(tmp_path / "one", tmp_path / "parts")
    launch(Job(shards, tmp_path / "workers", replace(small, workers=1), ONE))
    assert (tmp_path / "workers/log.csv").read_text() == (tmp_path / "one/log.csv").read_text()


def test_eight_images_are_learnt(shards, small, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "shards")
    header = read_header(folder / "shards.json", Shards)
    learnt = next(shard for shard in header.shards if shard.split == "train")
    again = [learnt, learnt.model_copy(update={"split": "val"})]  # validated on what it is trained on
    write_json(folder / "shards.json", header.model_copy(update={"shards": again}))
    settings = replace(
        small,
        recipe=replace(FLUORO, rounds=1, text=1.0, text_points=0, points=0, box=0, text_box=0, mask=0),
        steps=150,
        batch=8,
        map_prompts=1,
        augment="off",
        validation_images=8,
    )
    metrics = launch(Job(folder, tmp_path / "run", settings, ONE))
    learning = [float(row["mask"]) for row in rows(tmp_path / "run")]
    assert sum(learning[-5:]) < 0.2 * sum(learning[:5])
    assert metrics["validation_text_iou"] > 0.95


def test_fine_tuning_keeps_the_words(fluoro, shards, trained, tmp_path):
    few = ("--batch", 4, "--steps", 1, "--gpus", 0, "--no-tensorboard")
    code, _, err = fluoro("train", shards, *few, "--from", trained, "-o", tmp_path / "tuned")
    assert code == 0, err
    rates = [load_checkpoint(run)[1].training["recipe"]["learning_rate"] for run in (trained, tmp_path / "tuned")]
    assert rates == [FLUORO.learning_rate, FLUORO.tuning_rate]
    before, after = weights(trained), weights(tmp_path / "tuned")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith("text_head") for name in changed)
    code, _, err = fluoro("train", shards, *few, "--from", trained, "--preset", "small", "-o", tmp_path / "other")
    assert (code, "the checkpoint of --from has tiny" in err) == (2, True)
    foreign = shutil.copytree(trained, tmp_path / "foreign")
    header = read_header(foreign / "best/checkpoint.json", Checkpoint)
    encoder = header.text_encoder.model_copy(update={"revision": "older"})
    write_json(foreign / "best/checkpoint.json", header.model_copy(update={"text_encoder": encoder}))
    code, _, err = fluoro("train", shards, *few, "--from", foreign, "-o", tmp_path / "other")
    assert code == 1
    assert "the checkpoint needs older" in err
    assert not (tmp_path / "other").exists()


def test_fine_tuning_forgets_no_name(fluoro, shards, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "before")
    header = read_header(folder / "best/checkpoint.json", Checkpoint)
    names = [name for name in header.structures if name != "liver"]
    write_json(folder / "best/checkpoint.json", header.model_copy(update={"structures": ["femur_left", *names]}))
    line = ("train", shards, "--batch", 4, "--steps", 1, "--gpus", 0, "--no-tensorboard", "--from", folder)
    code, _, err = fluoro(*line, "--exclude-structures", "heart", "-o", tmp_path / "run")
    assert code == 0, err
    assert ": 1 structures are new" in err
    assert load_checkpoint(tmp_path / "run")[1].structures == ["femur_left", "liver", "lung_left", "lung_right"]


def test_a_run_may_begin_with_the_weights_of_another_and_resumes_with_no_others(fluoro, shards, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "before")
    line = ("train", shards, *ON_CPU, "--words", trained / "words", "--init", folder, "--steps", 1)
    code, _, err = fluoro(*line, "-o", tmp_path / "run")
    assert code == 0, err
    assert "loaded" in err
    found = folder / "best" / read_header(folder / "best/checkpoint.json", Checkpoint).weights
    changed = load_file(found)
    changed["mask_decoder.iou_token.weight"] += 1
    save_file(changed, found)
    code, _, err = fluoro(*line, "-o", tmp_path / "run", "--resume")
    assert (code, "its inputs have changed" in err) == (1, True)


def test_what_cannot_work_is_refused_before_the_words_are_learnt(fluoro, shards, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    unvalidated = write_shapes(tmp_path / "unvalidated", splits=("train",))
    missing = shutil.copytree(shards, tmp_path / "missing")
    (missing / "val-00000.h5").unlink()
    for folder, options, said in (
        (shards, ("--init", tmp_path / "other.pth"), "nothing in it fits"),
        (shards, ("--backbone-weights", "ms_in1k"), "tiny has no backbone of timm's"),
        (shards, ("--backbone-weights", tmp_path / "none.pth"), "no such file"),
        (unvalidated, ("--patience", 2), "has no validation images"),
        (missing, (), "val-00000.h5: not found"),
    ):
        code, _, err = fluoro("train", folder, *ON_CPU, *options, "--dry-run", "-o", tmp_path / "run")
        assert (code > 0, said in err) == (True, True), (said, err)


def test_where_nothing_can_be_validated_the_newest_is_the_best(shards, small, tmp_path):
    """Livers alone are asked for, and the first validation image shows none."""
    assert STRUCTURES.index("liver") not in ShardReader(shards, "val")[0].structures
    others = tuple(name for name in STRUCTURES if name != "liver")
    settings = replace(small, exclude=others, validation_images=1, validations=2)
    launch(Job(shards, tmp_path / "run", settings, ONE))
    best, last = (weights(tmp_path / "run" / name) for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)


def test_held_out_structures_are_neither_shown_nor_named(fluoro, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(training_words, "FEWEST_STEPS", 5)
    run = tmp_path / "run"
    line = ("train", shards, *FEW, "--gpus", 0, "--steps", 1, "-o", run)
    code, _, err = fluoro(*line, "--exclude-structures", "heart,liver")
    assert code == 0, err
    header = load_checkpoint(run)[1]
    assert header.structures == ["lung_left", "lung_right"]
    assert header.training["exclude"] == ["heart", "liver"]
    assert load_words(run / "words").names == ["lung_left", "lung_right"]
    code, _, err = fluoro(*line, "--overwrite", "--exclude-structures", "hart")
    assert (code, "hart" in err) == (2, True)
    (tmp_path / "names.txt").write_text("heart\nliver\n", encoding="utf-8-sig")
    assert excluded([str(tmp_path / "names.txt"), "heart,lung_left"]) == ("heart", "liver", "lung_left")
    many = tuple(f"vertebrae_{i:03}" for i in range(99))  # longer than a file's name may be
    assert excluded([",".join(many)]) == many


def test_path_lengths_are_learnt_where_the_shards_have_them(fluoro, shards, words, small, tmp_path):
    code, _, err = fluoro("train", shards, *FEW, "--words", words, "--travel", "-o", tmp_path / "run")
    assert (code, "--travel" in err, (tmp_path / "run").exists()) == (1, True, False)
    measured = write_shapes(tmp_path / "shards", travel_mm=80.0)
    settings = replace(small, steps=8, origin=replace(small.origin, travel=True))
    launch(Job(measured, tmp_path / "run", settings, ONE))
    assert load_checkpoint(tmp_path / "run")[1].model.travel
    losses = [float(row["travel"]) for row in rows(tmp_path / "run")]
    assert 0 < losses[-1] < 0.8 * losses[0]


def test_a_loss_that_is_no_number_names_its_images(shards, small, tmp_path):
    wild = replace(small, steps=9, recipe=replace(FLUORO, rounds=1, learning_rate=1e30))
    with pytest.raises(FluoroError, match=r"loss is (nan|inf) at step \d, from the images train\d/pa"):
        launch(Job(shards, tmp_path, wild, ONE))


def test_the_images_named_are_those_that_were_shown(shards, small, tmp_path, monkeypatch):
    """Not those that gave way to the next, as nothing could be asked of them."""
    monkeypatch.setattr(train, "ShardReader", NothingAbsent)
    exclude = tuple(name for name in STRUCTURES if name != "liver")
    wild = replace(small, steps=9, exclude=exclude, recipe=replace(FLUORO, rounds=1, learning_rate=1e30))
    with pytest.raises(FluoroError, match="from the images") as caught:
        launch(Job(shards, tmp_path, wild, ONE))
    assert "with liver" in caught.value.problem
    assert "without" not in caught.value.problem


def test_a_gradient_that_is_no_number_never_reaches_last(shards, small, tmp_path, monkeypatch):
    norms = iter([torch.tensor(1.0), torch.tensor(torch.inf)])
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: next(norms))
    with pytest.raises(FluoroError, match="the gradient is inf at step 1"):
        launch(Job(shards, tmp_path, replace(small, validations=2), ONE))
    assert load_checkpoint(tmp_path / "last")[1].step == 1


def test_training_stops_when_nothing_gets_better(shards, small, tmp_path):
    idle = replace(small, steps=9, validations=9, patience=2, recipe=replace(FLUORO, rounds=1, learning_rate=1e-30))
    launch(Job(shards, tmp_path, idle, ONE))
    assert 3 <= len(rows(tmp_path)) < 9
    launch(Job(shards, tmp_path, idle, ONE))  # and stays stopped
    assert len(rows(tmp_path)) < 9


def test_a_full_memory_is_answered_with_what_fits():
    def work(images):
        if images > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return images

    assert with_advice(work, 3) == 3
    with pytest.raises(FluoroError, match="16 images at once") as caught:
        with_advice(work, 16)
    assert "--micro-batch 2 " in caught.value.hint
    with pytest.raises(FluoroError, match="one image"):
        with_advice(lambda images: work(99), 8)


def test_a_missing_gpu_is_an_error_with_a_way_out(fluoro, shards, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    code, _, err = fluoro("train", shards, "--gpus", 2, "-o", tmp_path / "run")
    assert code == 1
    assert err.startswith("error: no CUDA device; --gpus 2 was requested\nhint: ")
    assert not (tmp_path / "run").exists()


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

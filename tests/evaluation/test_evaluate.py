import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.spatial import distance

from fluorosam_cli.artefacts import read_header, sha256_of, write_json
from fluorosam_cli.contracts import Metrics, Shards
from fluorosam_cli.dataset.shards import PackedImage, ShardReader, pack_mask, write_shard
from fluorosam_cli.evaluation.evaluate import plan_eval, score_image
from fluorosam_cli.evaluation.samples import Row, RowFile, read_rows
from fluorosam_cli.prediction.predictor import Predictor
from tests.shapes import PHRASES, draw, write_shapes

KINDS = ["text", "text+1", "text+2", "points+1", "points+2", "box"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shards"), images=4, splits=("train", "val", "test"))


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint):
    return Predictor.from_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def evaluated(tiny_checkpoint, shards, tmp_path_factory):
    """The files of one evaluation through the command line."""
    from fluorosam_cli import cli

    folder = tmp_path_factory.mktemp("eval") / "metrics"
    assert cli.run(["eval", str(tiny_checkpoint), str(shards), "--clicks", "2", "-o", str(folder)]) == 0
    return folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("metrics.json", "samples.csv", "report.html")}


def rows_of(folder):
    with open(folder / "samples.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_header_states_what_was_measured(evaluated, shards, tiny_checkpoint):
    metrics = read_header(evaluated / "metrics.json", Metrics)
    assert (metrics.split, metrics.phrases, metrics.images) == ("test", "all", 4)
    assert metrics.checkpoint_sha256 == sha256_of(tiny_checkpoint / "checkpoint.json")
    assert metrics.data_sha256 == sha256_of(shards / "shards.json")
    assert [scores.prompt for scores in metrics.prompts] == KINDS


def test_every_structure_is_asked_for_in_every_way(evaluated, shards):
    rows = rows_of(evaluated)
    reader = ShardReader(shards, "test")
    for image, sample in enumerate(reader):
        shown = {reader.header.structures[i] for i in sample.structures}
        for kind in KINDS:
            asked = [row for row in rows if row["image"] == str(image) and row["prompt"] == kind]
            assert sorted(row["structure"] for row in asked) == sorted(shown)
            areas = {row["structure"]: int(row["area_px"]) for row in asked}
            assert areas == {
                reader.header.structures[s]: a for s, a in zip(sample.structures, sample.areas_px, strict=True)
            }
        absent = [row for row in rows if row["image"] == str(image) and row["prompt"] == "absent"]
        assert {row["structure"] for row in absent} == set(reader.header.structures) - shown
    for row in rows:
        assert (
            (row["phrase"] in PHRASES[row["structure"]])
            if row["phrase"]
            else row["prompt"].startswith(("points", "box"))
        )
        assert bool(row["presence"]) == bool(row["phrase"])


def test_means_are_those_of_the_rows(evaluated):
    metrics, rows = read_header(evaluated / "metrics.json", Metrics), rows_of(evaluated)

    def mean(structure, prompt, field):
        return np.mean([float(r[field]) for r in rows if (r["structure"], r["prompt"]) == (structure, prompt)])

    for scores in metrics.structures:
        for field in ("iou", "dice"):
            estimate = getattr(scores, field)
            assert estimate.mean == pytest.approx(mean(scores.structure, scores.prompt, field), abs=1e-6)
            assert estimate.ci95_low - 1e-6 <= estimate.mean <= estimate.ci95_high + 1e-6
    for scores in metrics.prompts:
        names = {row["structure"] for row in rows if row["prompt"] == scores.prompt}
        assert scores.iou.mean == pytest.approx(np.mean([mean(n, scores.prompt, "iou") for n in names]), abs=1e-6)
        assert scores.oracle_iou == pytest.approx(
            np.mean([mean(n, scores.prompt, "oracle_iou") for n in names]), abs=1e-6
        )
    text = [s.iou.mean for s in metrics.structures if s.prompt == "text"]
    assert metrics.largest_ten_text_iou == pytest.approx(np.mean(text), abs=1e-6)  # all four are among the ten largest
    present = [float(r["presence"]) for r in rows if r["prompt"] == "text"]
    absent = [float(r["presence"]) for r in rows if r["prompt"] == "absent"]
    pairs = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
    assert metrics.presence_auroc == pytest.approx(np.mean(pairs), abs=1e-6)


def test_rows_are_what_the_predictor_answers(evaluated, shards, predictor):
    reader = ShardReader(shards, "test")
    rows = [row for row in rows_of(evaluated) if row["prompt"] == "text"]
    for row in rows[:6]:
        sample = reader[int(row["image"])]
        number = list(sample.structures).index(reader.header.structures.index(row["structure"]))
        predictor.set_image(sample.image)
        answer = predictor.predict(row["phrase"])
        real = sample.mask(number).ravel()
        assert float(row["iou"]) == pytest.approx(1 - distance.jaccard(answer.mask.ravel(), real), abs=2e-3)
        assert float(row["presence"]) == pytest.approx(answer.presence, abs=1e-5)


def test_equal_seeds_give_equal_bytes(fluoro, evaluated, tiny_checkpoint, shards, tmp_path):
    code, _, err = fluoro("eval", tiny_checkpoint, shards, "--clicks", 2, "-o", tmp_path / "again")
    assert code == 0, err
    assert contents(tmp_path / "again") == contents(evaluated)


def test_another_seed_draws_other_phrases(predictor, shards):
    plans = [plan_eval(shards, "test", "all", 0, None, seed) for seed in (0, 0, 1)]
    phrases = [[row.phrase for image in (0, 1) for row in score_image(plan, predictor, image)] for plan in plans]
    assert phrases[0] == phrases[1] != phrases[2]


def test_held_out_phrases_and_a_single_case(fluoro, tiny_checkpoint, shards, tmp_path):
    out = tmp_path / "held_out"
    code, stdout, err = fluoro(
        "eval", tiny_checkpoint, shards, "--phrases", "test", "--split", "val", "--limit", 1, "--clicks", 0,
        "-o", out, "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(stdout)["images"] == 1
    rows = rows_of(out)
    assert {row["phrase"] for row in rows if row["phrase"]} == {"cor"}  # only the heart has a held-out phrase
    assert {row["structure"] for row in rows if row["prompt"] == "box"} >= {"heart", "lung_left", "lung_right"}
    report = (out / "report.html").read_text()
    assert "bootstrap percentiles over images (there is one case" in report


def test_the_report_needs_nothing_else(evaluated):
    page = (evaluated / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)
    assert page.count("data:image/png;base64,") == 5  # two plots, best, median and worst
    assert "left lung" in page
    assert "bootstrap percentiles over cases." in page


def test_killed_and_resumed_gives_the_same_bytes(fluoro, tiny_checkpoint, tmp_path):
    shards = write_shapes(tmp_path / "shards", images=8, splits=("test",))
    words = ["eval", tiny_checkpoint, shards, "--clicks", 1, "-o"]
    code, _, err = fluoro(*words, tmp_path / "whole")
    assert code == 0, err
    process = subprocess.Popen(
        [sys.executable, "-m", "fluorosam_cli", *map(str, words), str(tmp_path / "broken")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    growing = tmp_path / "broken/samples.csv.part"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (growing.is_file() and growing.read_text().count("\n") > 30):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert growing.is_file()
    assert not (tmp_path / "broken/metrics.json").exists()
    with open(growing, "a") as file:
        file.write("15,test1,pa,hea")  # a line cut short
    code, _, err = fluoro(*words, tmp_path / "broken", "--resume")
    assert code == 0, err
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert not growing.exists()
    run = json.loads((tmp_path / "broken/run.json").read_text())
    assert run["skipped"] > 0
    assert run["skipped"] + run["done"] == 8
    code, _, err = fluoro(*words, tmp_path / "broken", "--resume")  # finished: nothing left to do
    assert code == 0, err
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def row(image, structure="heart"):
    return Row(image, "a", "pa", structure, "text", 'cor, "the heart"', 5, 0.5, 2 / 3, 0.25, -0.125, None)


def test_rows_survive_the_file(tmp_path):
    path = tmp_path / "samples.csv"
    with RowFile(path) as file:
        assert file.next_image == 0
        file.append([row(0), row(0, "liver")])
        file.append([row(2)])
    first, _, last = read_rows(path)
    assert first.phrase == 'cor, "the heart"'
    assert (first.presence, first.iou, first.predicted_iou, first.dice) == (None, 0.5, -0.125, 0.666667)
    assert last.image == 2
    with RowFile(path) as file:  # image 2 may be incomplete: it is scored again
        assert file.next_image == 2
        file.append([row(2)])
    assert [r.image for r in read_rows(path)] == [0, 0, 2]


def test_the_padding_of_the_square_is_not_scored(predictor, tmp_path):
    """An image of 40 x 64 in a 64 px shard: masks and answers are cut to the image."""
    image, masks = draw(np.random.default_rng(0), 64)
    image, masks = image[:40], {name: mask[:40] for name, mask in masks.items()}
    padding = ((0, 24), (0, 0))
    source = read_header(write_shapes(tmp_path / "square", splits=("test",), images=1) / "shards.json", Shards)
    packed = [pack_mask(np.pad(mask, padding), source.structures.index(name)) for name, mask in masks.items()]
    kept = [p for p in packed if p is not None]
    sample = PackedImage(np.pad(image, padding), (40, 64), (40, 64), 0, b"pa", (0.0, 0.0), 1.0, kept)
    shutil.rmtree(tmp_path / "square")
    write_shard(tmp_path / "test-00000.h5", [sample], ["test0"])
    write_json(tmp_path / "shards.json", source)
    rows = score_image(plan_eval(tmp_path, None, "all", 1, None, 0), predictor, 0)
    predictor.set_image(image)
    for found in (r for r in rows if r.prompt == "text"):
        real = masks[found.structure]
        assert found.area_px == real.sum()
        answer = predictor.predict(found.phrase).mask
        assert answer.shape == (40, 64)
        assert found.iou == pytest.approx((answer & real).sum() / (answer | real).sum(), abs=2e-3)


def test_tiny_and_huge_masks_are_left_out(predictor, tmp_path):
    source = read_header(write_shapes(tmp_path, size=64, splits=("test",), images=1) / "shards.json", Shards)
    image, _ = draw(np.random.default_rng(0), 64)
    dot, most, fair = np.zeros((3, 64, 64), bool)
    dot[3, 3:7], most[:60], fair[10:30, 10:30] = True, True, True
    packed = [pack_mask(mask, i) for i, mask in enumerate((dot, most, fair))]
    sample = PackedImage(image, (64, 64), (64, 64), 0, b"pa", (0.0, 0.0), 1.0, [p for p in packed if p])
    write_shard(tmp_path / "test-00000.h5", [sample], ["test0"])
    rows = score_image(plan_eval(tmp_path, None, "all", 0, None, 0), predictor, 0)
    assert {r.structure for r in rows if r.prompt != "absent"} == {source.structures[2]}
    assert {r.structure for r in rows if r.prompt == "absent"} == {source.structures[3]}  # the dot is not absent


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("CHECKPOINT", "nowhere"), "nowhere/shards.json: not found"),
        (("nowhere", "SHARDS"), "nowhere: no such checkpoint"),
        (("CHECKPOINT", "CHECKPOINT"), "not found, or not finished"),
        (("CHECKPOINT", "cut"), "cannot be read"),
        (("CHECKPOINT", "newer"), "format is 'fluoro.shards/9'"),
        (("CHECKPOINT", "train_only"), "holds no test and no val images"),
        (("CHECKPOINT", "SHARDS", "--phrases", "some"), "some"),
        (("CHECKPOINT", "SHARDS", "--device", "tpu"), "--device tpu"),
    ],
)
def test_what_cannot_be_evaluated(fluoro, tiny_checkpoint, shards, tmp_path, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shards, "cut")
    data = (tmp_path / "cut/test-00000.h5").read_bytes()
    (tmp_path / "cut/test-00000.h5").write_bytes(data[: len(data) // 2])
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer/shards.json").write_text('{"format": "fluoro.shards/9"}')
    write_shapes(tmp_path / "train_only", images=2, splits=("train",))
    given = {"CHECKPOINT": tiny_checkpoint, "SHARDS": shards}
    code, out, err = fluoro("eval", *(given.get(word, word) for word in words))
    assert code in (1, 2)
    assert out == ""
    assert problem in err
    assert "Traceback" not in err
    assert not (tmp_path / "metrics/metrics.json").exists()


def test_dry_run_writes_nothing(fluoro, tiny_checkpoint, shards, tmp_path):
    code, out, err = fluoro("eval", tiny_checkpoint, shards, "--dry-run", "--json", "-o", tmp_path / "metrics")
    assert code == 0, err
    assert {"dry_run": True, "images": 4, "split": "test"}.items() <= json.loads(out).items()
    assert list(tmp_path.iterdir()) == []

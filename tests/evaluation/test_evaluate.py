import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from scipy.spatial import distance

from fluorosam_cli.anatomy.structures import names
from fluorosam_cli.artefacts import read_header, sha256_of, write_json
from fluorosam_cli.contracts import Metrics, Run, Shards
from fluorosam_cli.dataset.shard_writer import PackedImage, pack_mask, positions_to_bits, write_shard
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.evaluation.protocol import Protocol, score_scene
from fluorosam_cli.evaluation.regions import region_of
from fluorosam_cli.evaluation.samples import Row, RowFile, read_rows
from fluorosam_cli.evaluation.sources import open_source
from fluorosam_cli.evaluation.summary import Resampling, part_scores
from fluorosam_cli.prediction.predictor import Predictor
from tests.shapes import PHRASES, draw, write_shapes

KINDS = ["text", "text+1", "text+2", "points+1", "points+2", "box", "box+1", "box+2"]


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
    assert cli.run(["eval", str(tiny_checkpoint), str(shards), "--clicks", "2", "--noc", "3", "-o", str(folder)]) == 0
    return folder


def asked(predictor, shards, image=0, seed=0, clicks=0):
    """The rows of one image of the test split, asked in words."""
    source = open_source(shards, None)
    protocol = Protocol(("text", "text+points", "presence"), clicks, 0, source.words("all"), {}, seed)
    return score_scene(protocol, predictor, True, source[image], image)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("metrics.json", "samples.csv", "report.html")}


def rows_of(folder):
    with open(folder / "samples.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_header_states_what_was_measured(evaluated, shards, tiny_checkpoint):
    metrics = read_header(evaluated / "metrics.json", Metrics)
    data = metrics.data
    assert (data.kind, data.split, data.images, data.cases, metrics.phrases) == ("shards", "test", 4, 2, "all")
    assert metrics.model.sha256 == sha256_of(tiny_checkpoint / "checkpoint.json")
    assert data.sha256 == sha256_of(shards / "shards.json")
    assert (metrics.surface_unit, metrics.bootstrap_over) == ("mm", "cases")
    assert [scores.prompt for scores in metrics.prompts] == KINDS
    assert read_header(evaluated / "run.json", Run).config["device"] in ("cpu", "cuda")  # not auto


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
        for field in ("iou", "dice", "nsd", "hd95"):
            estimate = getattr(scores.scores, field)
            assert estimate.mean == pytest.approx(mean(scores.structure, scores.prompt, field), abs=1e-6)
            assert estimate.ci95_low - 1e-6 <= estimate.mean <= estimate.ci95_high + 1e-6
    for scores in metrics.prompts:
        names = {row["structure"] for row in rows if row["prompt"] == scores.prompt}
        for field in ("iou", "dice", "nsd", "hd95"):
            here = np.mean([mean(n, scores.prompt, field) for n in names])
            assert getattr(scores.over_structures, field).mean == pytest.approx(here, abs=1e-6)
            each = np.mean([float(row[field]) for row in rows if row["prompt"] == scores.prompt])
            assert getattr(scores.over_samples, field).mean == pytest.approx(each, abs=1e-6)
        assert scores.oracle_iou == pytest.approx(
            np.mean([mean(n, scores.prompt, "oracle_iou") for n in names]), abs=1e-6
        )
    text = [s.scores.iou.mean for s in metrics.structures if s.prompt == "text"]
    assert metrics.largest_ten_text_iou == pytest.approx(np.mean(text), abs=1e-6)  # all four are among the ten largest
    present = [float(r["presence"]) for r in rows if r["prompt"] == "text"]
    absent = [float(r["presence"]) for r in rows if r["prompt"] == "absent"]
    pairs = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
    assert metrics.presence.auroc == pytest.approx(np.mean(pairs), abs=1e-6)
    assert metrics.presence.false_positive_rate == pytest.approx(np.mean([a >= 0.5 for a in absent]), abs=1e-6)


def test_means_by_region_group_and_view_are_those_of_their_rows(evaluated):
    metrics, rows = read_header(evaluated / "metrics.json", Metrics), rows_of(evaluated)
    text = [row for row in rows if row["prompt"] == "text"]
    lungs = [
        float(np.mean([float(r["iou"]) for r in text if r["structure"] == f"lung_{s}"])) for s in ("left", "right")
    ]
    parts = {(p.of, p.name): p.scores for p in metrics.parts if p.prompt == "text"}
    assert parts["group", "lungs"].iou.mean == pytest.approx(np.mean(lungs), abs=1e-6)
    assert {name for of, name in parts if of == "region"} == {"chest", "abdomen"}
    assert parts["view", "pa"].masks == len(text)


def test_every_structure_has_a_region():
    assert "other" not in {region_of(name) for name in names()}
    found = [region_of(name) for name in ("lumbar_spine", "small_bowel", "phalanges_feet_left", "k_wire")]
    assert found == ["spine", "abdomen", "lower limb", "tools"]


def test_a_view_of_a_single_image_is_no_part():
    """One's own images have their names for views."""
    rows = [row(image)._replace(view=view) for image, view in enumerate(["pa", "pa", "p2"])]
    parts = part_scores({"text": rows}, Resampling.of(rows, seed=0), "mm")
    assert [part.name for part in parts if part.of == "view"] == ["pa"]


def test_clicks_needed_follow_from_the_rows(evaluated):
    metrics, rows = read_header(evaluated / "metrics.json", Metrics), rows_of(evaluated)
    for needed in metrics.clicks_needed:
        by_structure = {}
        for image in range(4):
            for name in {row["structure"] for row in rows if row["image"] == str(image) and row["prompt"] == "box"}:
                mine = [r for r in rows if (r["image"], r["structure"]) == (str(image), name)]
                mine = [r for r in mine if r["prompt"].partition("+")[0] == needed.start]
                reached = [int(r["prompt"].partition("+")[2] or 0) for r in mine if float(r["iou"]) >= needed.goal_iou]
                by_structure.setdefault(name, []).append(min(reached, default=3))
        assert needed.cap == 3
        assert needed.clicks.mean == pytest.approx(np.mean([np.mean(v) for v in by_structure.values()]), abs=1e-6)
    assert {(n.start, n.goal_iou) for n in metrics.clicks_needed} == {
        (start, goal) for start in ("text", "points", "box") for goal in (0.8, 0.85, 0.9)
    }


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
    code, _, err = fluoro("eval", tiny_checkpoint, shards, "--clicks", 2, "--noc", 3, "-o", tmp_path / "again")
    assert code == 0, err
    assert contents(tmp_path / "again") == contents(evaluated)


def test_another_seed_draws_other_phrases(predictor, shards):
    phrases = [[row.phrase for image in (0, 1) for row in asked(predictor, shards, image, seed)] for seed in (0, 0, 1)]
    assert phrases[0] == phrases[1] != phrases[2]


def test_held_out_phrases_and_a_single_case(fluoro, tiny_checkpoint, shards, tmp_path):
    out = tmp_path / "held_out"
    code, stdout, err = fluoro(
        "eval", tiny_checkpoint, shards, "--phrases", "test", "--split", "val", "--limit", 1, "--clicks", 0, "--noc", 0,
        "-o", out, "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(stdout)["images"] == 1
    rows = rows_of(out)
    assert {row["phrase"] for row in rows if row["phrase"]} == {"cor"}  # only the heart has a held-out phrase
    assert {row["structure"] for row in rows if row["prompt"] == "box"} >= {"heart", "lung_left", "lung_right"}
    report = (out / "report.html").read_text()
    assert "bootstrap over images; there is one case" in report


def test_the_report_needs_nothing_else(evaluated):
    page = (evaluated / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    links = set(re.findall(r"https?://[^\"'<> ]+", re.sub(r"data:image/[a-z]+;base64,[^\"]+", "", page)))
    assert all("w3.org" in link or "purl.org" in link or "creativecommons" in link for link in links), (
        links
    )  # SVG's names
    assert page.count("<svg") == 3  # Dice by points, bars, presence
    pictures = page.partition("<h2>Best, median and worst")[2]
    masks = Counter(row["structure"] for row in rows_of(evaluated) if row["prompt"] == "text" and row["iou"])
    assert pictures.count("data:image/jpeg;base64,") == sum(min(3, count) for count in masks.values()) > 0
    assert "left lung" in page.lower()
    assert "bootstrap over cases" in page
    assert "HD95 in mm by the pixel spacing of the images" in page


def test_killed_and_resumed_gives_the_same_bytes(fluoro, tiny_checkpoint, tmp_path):
    shards = write_shapes(tmp_path / "shards", images=8, splits=("test",))
    words = ["eval", tiny_checkpoint, shards, "--clicks", 1, "--noc", 0, "-o"]
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
    return Row(
        image, "a", "pa", structure, "text+2", 'cor, "the heart"', 5, 0.5, 2 / 3, 1.0, 3.5, "mm", 0.25, -0.125, None
    )


def test_rows_survive_the_file(tmp_path):
    path = tmp_path / "samples.csv"
    with RowFile(path) as file:
        assert file.scored == set()
        file.append([row(0), row(0, "liver")])
        file.append([row(2)])
        file.append([row(3)])
    first, _, last, _ = read_rows(path)
    assert first.phrase == 'cor, "the heart"'
    assert (first.presence, first.iou, first.predicted_iou, first.dice) == (None, 0.5, -0.125, 0.666667)
    assert (last.image, last.start, last.clicks, last.hd95, last.unit) == (2, "text", 2, 3.5, "mm")
    with RowFile(path) as file:  # image 3 may be incomplete: it is scored again
        assert file.scored == {0, 2}
        file.append([row(3)])
        file.append([row(1)])
    assert [r.image for r in read_rows(path)] == [0, 0, 1, 2, 3]


def write_one(folder, image, inner_hw, masks, absent=()):
    """Shards of a single image of the structures of `tests.shapes`; `masks` by structure."""
    source = read_header(write_shapes(folder, splits=("test",), images=1) / "shards.json", Shards)
    names = source.structures
    packed = [p for name, mask in masks.items() if (p := pack_mask(mask, names.index(name)))]
    bits = positions_to_bits([names.index(name) for name in absent], len(names))
    sample = PackedImage(image, inner_hw, inner_hw, 0, b"pa", (0.0, 0.0), 1.0, packed, absent=bits)
    write_shard(folder / "test-00000.h5", [sample], ["test0"])
    shard = source.shards[0].model_copy(update={"masks": len(packed)})
    write_json(folder / "shards.json", source.model_copy(update={"shards": [shard], "cases": {"test0": "test"}}))
    return folder


def test_the_padding_of_the_square_is_not_scored(predictor, tmp_path):
    """An image of 40 x 64 in a 64 px shard: masks and answers are cut to the image."""
    image, masks = draw(np.random.default_rng(0), 64)
    image, masks = image[:40], {name: mask[:40] for name, mask in masks.items()}
    padding = ((0, 24), (0, 0))
    padded = {name: np.pad(mask, padding) for name, mask in masks.items()}
    rows = asked(predictor, write_one(tmp_path, np.pad(image, padding), (40, 64), padded), clicks=1)
    predictor.set_image(image)
    for found in (r for r in rows if r.prompt == "text"):
        real = masks[found.structure]
        assert found.area_px == real.sum()
        answer = predictor.predict(found.phrase).mask
        assert answer.shape == (40, 64)
        assert found.iou == pytest.approx((answer & real).sum() / (answer | real).sum(), abs=2e-3)


def test_tiny_and_huge_masks_are_left_out(predictor, tmp_path):
    image, _ = draw(np.random.default_rng(0), 64)
    dot, most, fair = np.zeros((3, 64, 64), bool)
    dot[3, 3:7], most[:60], fair[10:30, 10:30] = True, True, True
    masks = {"heart": dot, "liver": most, "lung_left": fair}
    rows = asked(predictor, write_one(tmp_path, image, (64, 64), masks, absent=["lung_right"]))
    assert {r.structure for r in rows if r.prompt != "absent"} == {"lung_left"}
    assert {r.structure for r in rows if r.prompt == "absent"} == {"lung_right"}  # the dot is not absent


def test_an_image_that_shows_nothing_is_asked_for_what_is_absent(predictor, tmp_path):
    image, _ = draw(np.random.default_rng(0), 64)
    rows = asked(predictor, write_one(tmp_path, image, (64, 64), {}, absent=["lung_right", "heart"]))
    assert [row.prompt for row in rows] == ["absent"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("CHECKPOINT", "nowhere"), "nowhere: no such folder"),
        (("nowhere", "SHARDS"), "nowhere: no such checkpoint"),
        (("CHECKPOINT", "CHECKPOINT"), "not found, or not finished"),
        (("CHECKPOINT", "cut"), "cannot be read"),
        (("CHECKPOINT", "newer"), "format is 'fluoro.shards/9'"),
        (("CHECKPOINT", "train_only"), "holds no test and no val images"),
        (("CHECKPOINT", "SHARDS", "--phrases", "some"), "some"),
        (("CHECKPOINT", "SHARDS", "--device", "tpu"), "--device tpu"),
        (("CHECKPOINT", "SHARDS", "--prompts", "text,scribble"), "--prompts scribble: not known"),
        (("CHECKPOINT", "SHARDS", "--prompts", "points", "--clicks", "0"), "leaves nothing of clicks alone"),
        (("CHECKPOINT",), "1 arguments given, expected: CHECKPOINT DATA"),
        (("--model", "unet:x.pth", "SHARDS"), "unet is not a kind of weights"),
        (("--model", "fluorosam:x.ckpt", "SHARDS"), "no published format"),
        (("--model", "sam:vit_b:none.pth", "SHARDS"), "none.pth: no such file"),
        (("--compare", "SHARDS", "SHARDS"), "metrics.json: not found"),
        (("--compare", "SHARDS", "SHARDS", "CHECKPOINT"), "leave out CHECKPOINT DATA"),
        (("--compare", "SHARDS", "SHARDS", "--limit", "3", "--noc", "0"), "leave out --noc, --limit"),
        (("--compare", "SHARDS", "SHARDS", "--prompt-file", "a.csv", "--strict"), "leave out --prompt-file, --strict"),
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
    (tmp_path / "mine").write_text("")
    code, _, err = fluoro("eval", tiny_checkpoint, shards, "--dry-run", "-o", tmp_path)
    assert (code, "not empty" in err) == (1, True)  # as the run would say

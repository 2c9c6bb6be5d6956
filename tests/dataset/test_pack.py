import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fluorosam_cli.artefacts import write_json
from fluorosam_cli.contracts import (
    Description,
    Descriptions,
    Projector,
    Rle,
    StructureMask,
    View,
    Views,
    ViewsCase,
)
from fluorosam_cli.dataset.pack import split_cases
from fluorosam_cli.dataset.shards import ShardReader

CASES = ["a", "b", "c", "d"]
VIEWS = 3
HEIGHT, WIDTH = 60, 90
IDENTITY3, IDENTITY4 = np.eye(3).tolist(), np.eye(4).tolist()


def square(case, index):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10 + 5 * case : 40, 20 + 6 * index : 80] = 1
    return mask


@pytest.fixture
def inputs(tmp_path):
    """A views folder of four cases and the descriptions of its two structures."""
    views, words = tmp_path / "views", tmp_path / "descriptions"
    words.mkdir()
    lines = []
    for c, case in enumerate(CASES):
        (views / "images" / case).mkdir(parents=True)
        for i in range(VIEWS):
            mask = square(c, i)
            code = coco.encode(np.asfortranarray(mask))
            image = f"images/{case}/{i:05d}.png"
            Image.fromarray(mask.astype(np.uint16) * 40000 + 1000).save(views / image)
            rle = Rle(size=(HEIGHT, WIDTH), counts=code["counts"].decode())
            found = [
                StructureMask(name=n, kind="structure", rle=rle, box_xyxy=(0, 0, 1, 1), area_px=1, truncated=[])
                for n in ("heart", "liver")[: 1 + i % 2]
            ]
            lines.append(
                View(
                    case=case, index=i, image=image, width=WIDTH, height=HEIGHT, view="pa", seed=[0, c, i],
                    positioner_primary_angle_deg=0,
                    positioner_secondary_angle_deg=0, source_to_detector_mm=1800, source_to_isocenter_mm=1600,
                    pixel_spacing_mm=0.5, intrinsic=IDENTITY3, camera_from_world=IDENTITY4, kvp=120, mas=1,
                    filtration_mm_al=2.5, structures=found,
                )
            )  # fmt: skip
    (views / "views.jsonl").write_text("".join(line.model_dump_json() + "\n" for line in lines))
    projector = Projector(name="x", version="1", interpolation="siddon", min_path_mm=1, materials=["water"])
    write_json(
        views / "views.json",
        Views(
            count=len(lines), seed=0, polarity="bone_bright", projector=projector,
            cases=[ViewsCase(name=case, case_sha256="0" * 64, views=VIEWS) for case in CASES],
        ),
    )  # fmt: skip
    phrases = [
        Description(name=n, text=f"{t}{n}", kind="name", split=s, source="lexicon")
        for n in ("heart", "liver", "spleen")
        for t, s in (("", "train"), ("the ", "test"))
    ]
    (words / "descriptions.jsonl").write_text("".join(p.model_dump_json() + "\n" for p in phrases))
    write_json(words / "descriptions.json", Descriptions(count=len(phrases), names=3, seed=0))
    return views, words


def test_pack_keeps_images_masks_and_cases_apart(fluoro, inputs, tmp_path):
    views, words = inputs
    out = tmp_path / "shards"
    code, stdout, err = fluoro(
        "pack", views, "--descriptions", words, "--size", 45, "--val", 0.25, "--test", 0.25, "-o", out, "--json"
    )
    assert code == 0, err
    assert json.loads(stdout)["cases"] == {"train": 2, "val": 1, "test": 1}
    readers = {split: ShardReader(out, split) for split in ("train", "val", "test")}
    seen = {split: {sample.case for sample in reader} for split, reader in readers.items()}
    assert sorted(case for cases in seen.values() for case in cases) == CASES
    header = readers["train"].header
    assert header.structures == ["heart", "liver"]
    assert {p.structure for p in header.phrases} == {"heart", "liver"}
    for reader in readers.values():
        for sample in reader:
            assert sample.image.shape == (45, 45)
            assert sample.inner_hw == (30, 45)
            bright = sample.image >= 20000
            assert np.array_equal(sample.mask(0), bright)
            assert sample.areas_px[0] == bright.sum()
    code, _, err = fluoro("pack", out, "--verify")
    assert code == 0, err


def test_verify_names_a_changed_shard(fluoro, inputs, tmp_path):
    views, words = inputs
    out = tmp_path / "shards"
    fluoro("pack", views, "--descriptions", words, "--size", 45, "-o", out)
    path = out / "train-00000.h5"
    path.write_bytes(path.read_bytes()[:-10])
    code, _, err = fluoro("pack", out, "--verify")
    assert code == 1
    assert "train-00000.h5" in err


def test_dry_run_writes_nothing_and_an_absent_input_is_named(fluoro, inputs, tmp_path):
    views, words = inputs
    out = tmp_path / "shards"
    code, stdout, _ = fluoro("pack", views, "--descriptions", words, "--dry-run", "-o", out)
    assert code == 0
    assert "images: 12" in stdout
    assert not out.exists()
    code, _, err = fluoro("pack", tmp_path / "nowhere", "--descriptions", words, "-o", out)
    assert code == 1
    assert "views.json" in err
    assert not out.exists()


def test_an_image_cut_short_stops_without_a_header(fluoro, inputs, tmp_path):
    views, words = inputs
    image = views / "images/b/00001.png"
    image.write_bytes(image.read_bytes()[:60])
    out = tmp_path / "shards"
    code, _, err = fluoro("pack", views, "--descriptions", words, "-o", out)
    assert code == 1
    assert "00001.png" in err
    assert "Traceback" not in err
    assert not (out / "shards.json").exists()


def test_killed_and_resumed_gives_the_same_bytes(fluoro, inputs, tmp_path):
    views, words = inputs
    command = ["pack", str(views), "--descriptions", str(words), "--size", "45", "-o"]
    assert fluoro(*command, tmp_path / "whole")[0] == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "fluorosam_cli", *command, str(tmp_path / "broken")], stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "broken/run.json").is_file() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert fluoro(*command, tmp_path / "broken", "--resume")[0] == 0
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "broken").iterdir())
    for name in files:
        if name != "run.json":
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_cases_are_split_whole_and_stay_put_when_one_is_added():
    names = [f"case{i}" for i in range(40)]
    before, after = split_cases(names, 0.1, 0.1, 0), split_cases([*names, "new"], 0.1, 0.1, 0)
    assert sorted(before.values()).count("val") == 4
    assert sum(before[name] != after[name] for name in names) <= 2
    assert set(split_cases(["only"], 0.5, 0.4, 0).values()) == {"train"}

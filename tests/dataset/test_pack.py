import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from fluorosam_cli.artefacts import write_json
from fluorosam_cli.contracts import (
    Description,
    Descriptions,
    IntegralsHeader,
    Projector,
    Rle,
    StructureMask,
    View,
    Views,
    ViewsCase,
)
from fluorosam_cli.dataset.pack import _cases_by_name, split_cases
from fluorosam_cli.dataset.rendered import absent, looked_for
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.render.integrals import write_integrals, write_travel

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
            cases=[ViewsCase(name=case, case_sha256=f"{i:064}", views=VIEWS) for i, case in enumerate(CASES)],
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


def test_a_full_disk_is_one_error(inputs, tmp_path):
    """A limit on the size of files stands in for the disk."""
    views, words = inputs
    command = [sys.executable, "-m", "fluorosam_cli", "pack", views, "--descriptions", words, "-o", tmp_path / "shards"]
    done = subprocess.run(
        [*map(str, command), "--size", "450"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14)),
    )
    assert done.returncode == 1
    assert "file too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "shards").glob("*.h5"))


def test_names_and_scans_of_one_case_are_joined():
    sources = [
        SimpleNamespace(cases=names, case_sha256=dict(zip(names, digests, strict=True)))
        for names, digests in ((["p1", "q"], ["x", "z"]), (["p2"], ["x"]), (["p2"], ["y"]), (["p3", "p4"], ["wy", "w"]))
    ]
    found = _cases_by_name([*sources, SimpleNamespace(cases=["own"], case_sha256={})])
    assert len({found[name] for name in ("p1", "p2", "p3", "p4")}) == 1
    assert (found["q"], found["own"]) == ("q", "own")


def test_a_dry_run_refuses_a_folder_as_the_run_would(fluoro, inputs):
    views, words = inputs
    code, _, err = fluoro("pack", views, "--descriptions", words, "--dry-run", "-o", words)
    assert (code, "not empty" in err) == (1, True)


def test_inputs_are_never_overwritten_or_taken_twice(fluoro, inputs, tmp_path):
    views, words = inputs
    copy = shutil.copytree(words, tmp_path / "copy")
    command = ("pack", views, "--descriptions", copy, "--val", 0)
    for folder in (copy, tmp_path):
        for dry in ((), ("--dry-run",)):
            code, _, err = fluoro(*command, "-o", folder, "--overwrite", *dry)
            assert (code, "which --overwrite would empty" in err) == (2, True)
    assert (copy / "descriptions.json").is_file()
    code, _, err = fluoro(*command[:2], views / "..", views, *command[2:], "-o", tmp_path / "shards")
    assert (code, "is given twice" in err) == (2, True)


@pytest.mark.parametrize("first", ["run.json", "train-00000.h5"])
def test_killed_and_resumed_gives_the_same_bytes(fluoro, inputs, tmp_path, first):
    views, words = inputs
    command = ["pack", str(views), "--descriptions", str(words), "--size", "45", "--test", "0.25", "-o"]
    assert fluoro(*command, tmp_path / "whole")[0] == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "fluorosam_cli", *command, str(tmp_path / "broken")], stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "broken" / first).is_file() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken/shards.json").exists()
    assert fluoro(*command, tmp_path / "broken", "--resume")[0] == 0
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "broken").iterdir())
    for name in files:
        if name != "run.json":
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_a_changed_phrase_is_no_run_to_resume(fluoro, inputs, tmp_path):
    views, words = inputs
    command = ("pack", views, "--descriptions", words, "--size", 45, "-o", tmp_path / "shards")
    assert fluoro(*command)[0] == 0
    lines = words / "descriptions.jsonl"
    lines.write_text(lines.read_text().replace("the heart", "a heart"))
    code, _, err = fluoro(*command, "--resume")
    assert (code, "its inputs have changed" in err) == (1, True)


def test_cases_are_split_whole_and_stay_put_when_one_is_added():
    names = [f"case{i}" for i in range(40)]
    before, after = split_cases(names, 0.1, 0.1, 0), split_cases([*names, "new"], 0.1, 0.1, 0)
    assert sorted(before.values()).count("val") == 4
    assert sum(before[name] != after[name] for name in names) <= 2
    assert set(split_cases(["only"], 0.5, 0.4, 0).values()) == {"train"}
    assert sorted(split_cases(["one", "two"], 0.1, 0.1, 0).values()) == ["test", "train"]
    assert set(split_cases(names, 0, 1, 0).values()) == {"test"}


def test_folders_merge_and_a_case_stays_whole(fluoro, inputs, tmp_path):
    """The other folder has the same cases, one under another name, and dark bone."""
    views, words = inputs
    other = tmp_path / "other"
    shutil.copytree(views, other)
    header = json.loads((other / "views.json").read_text())
    header["polarity"] = "bone_dark"
    header["cases"][0]["name"] = "z"
    (other / "views.json").write_text(json.dumps(header))
    lines = (other / "views.jsonl").read_text().replace('"case":"a"', '"case":"z"')
    (other / "views.jsonl").write_text(lines)
    for path in (other / "images").rglob("*.png"):
        Image.fromarray(65535 - np.asarray(Image.open(path)).astype(np.uint16)).save(path)
    out = tmp_path / "shards"
    code, stdout, err = fluoro(
        *("pack", views, other, "--descriptions", words, "--descriptions", words, "-o", out, "--json"),
        *("--size", 45, "--test", 0.25),
    )
    assert code == 0, err
    assert json.loads(stdout)["images"] == 2 * len(CASES) * VIEWS
    seen = {split: list(ShardReader(out, split)) for split in ("train", "val", "test")}
    assert sorted({sample.case for samples in seen.values() for sample in samples}) == CASES
    assert [len(seen[split]) for split in seen] == [2 * n * VIEWS for n in (2, 1, 1)]
    for sample in seen["train"]:
        assert np.array_equal(sample.mask(0), sample.image >= 20000)
    texts = [phrase.text for phrase in ShardReader(out, "train").header.phrases]
    assert len(texts) == len(set(texts))
    code, _, err = fluoro("pack", other, "--descriptions", words, "-o", tmp_path / "alone", "--size", 45)
    assert code == 0, err
    alone = ShardReader(tmp_path / "alone", "train")
    assert alone.header.polarity == "bone_bright"
    assert all(np.array_equal(sample.mask(0), sample.image >= 20000) for sample in alone)


def test_lists_of_cases_are_honoured(fluoro, inputs, tmp_path):
    views, words = inputs
    (tmp_path / "val.txt").write_text("# chosen\nc\n\n")
    (tmp_path / "test.txt").write_text("a\nd\n")
    command = ["pack", views, "--descriptions", words, "--size", 45]
    command += ["--val", tmp_path / "val.txt", "--test", tmp_path / "test.txt"]
    assert fluoro(*command, "-o", tmp_path / "shards")[0] == 0
    cases = ShardReader(tmp_path / "shards", "train").header.cases
    assert cases == {"a": "test", "b": "train", "c": "val", "d": "test"}
    (tmp_path / "val.txt").write_text("stranger\n")
    code, _, err = fluoro(*command, "-o", tmp_path / "again")
    assert code == 2
    assert "stranger" in err
    code, _, err = fluoro("pack", views, "--descriptions", words, "--val", tmp_path / "none.txt", "-o", tmp_path / "x")
    assert code == 2
    assert "none.txt" in err


def test_integrals_and_travel_come_along(fluoro, inputs, tmp_path):
    views, words = inputs
    names = IntegralsHeader(size_px=42, materials=["soft_tissue", "bone"], tissues=["heart", "liver", "ribs"])
    rng = np.random.default_rng(0)
    lines = [json.loads(line) for line in (views / "views.jsonl").read_text().splitlines()]
    mass, paths = rng.uniform(0, 30, (2, HEIGHT, WIDTH)), rng.uniform(0, 200, (2, HEIGHT, WIDTH))
    paths[1, :, 40:] = 0
    for line in lines[:-1]:  # the last view has none
        name = f"{line['case']}-{line['index']}.npz"
        write_integrals(views / name, mass, paths, ["liver", "ribs"], names)
        heart = 100.0 * square(CASES.index(line["case"]), line["index"])
        write_travel(views / f"travel-{name}", heart[None].astype(np.float32), ["heart"])
        line |= {"integrals": name, "travel": f"travel-{name}"}
    (views / "views.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    header = json.loads((views / "views.json").read_text())
    (views / "views.json").write_text(json.dumps({**header, "integrals": names.model_dump()}))
    for size, expected in ((45, 42), (32, 32)):
        out = tmp_path / f"shards{size}"
        code, _, err = fluoro("pack", views, "--descriptions", words, "--size", size, "--val", 0, "-o", out)
        assert code == 0, err
        *samples, last = ShardReader(out, "train")
        assert last.integrals is None
        assert last.travel_mm(0) is None
        for sample in samples:
            found = sample.integrals
            assert found is not None
            assert found.tissues == ("liver", "ribs")
            assert found.mass_g_cm2.shape == (2, expected * 2 // 3, expected)
            assert np.allclose(found.mass_g_cm2.mean((1, 2)), mass.mean((1, 2)), rtol=0.01)
            assert np.allclose(found.path_mm.mean((1, 2)), paths.mean((1, 2)), rtol=0.01)
            assert not found.path_mm[1, :, -(-expected * 40 // 90) :].any()
            travel = sample.travel_mm(0)
            assert travel is not None
            assert travel.max() == 100
            if size == 45:
                assert np.array_equal(travel >= 50, sample.mask(0))


def test_absent_is_what_was_looked_for_and_not_found(fluoro, inputs, tmp_path):
    views, words = inputs
    out = tmp_path / "shards"
    assert fluoro("pack", views, "--descriptions", words, "--size", 45, "--val", 0, "-o", out)[0] == 0
    for sample in ShardReader(out, "train"):
        assert sorted([*sample.structures, *sample.absent]) == [0, 1]
    looked = ["heart", "cardiac_silhouette", "lung_left", "lungs", "femur_left"]
    assert absent({"heart"}, looked) == ["lung_left", "lungs", "femur_left"]


def test_a_structure_is_absent_only_where_its_labels_would_have_shown_it():
    def case(name, segmenter, task, *structures):
        return ViewsCase(
            name=name, case_sha256="0" * 64, views=1, segmenter=segmenter, task=task, structures=list(structures)
        )

    cases = [
        case("chest", "TotalSegmentator", "total", "heart", "rib_left_1"),
        case("pelvis", "TotalSegmentator", "total", "hip_left"),
        case("bones", "TotalSegmentator", "total (2 structures)", "hip_left"),
        case("one", "imported", "label volume", "heart", "rib_left_1", "rib_left_2"),
        case("other", "imported", "label volume", "rib_left_1"),
        case("old", "", ""),
    ]
    shown = {"chest": {"heart", "ribs_left"}, "pelvis": {"hip_left", "screw"}, "old": {"heart"}}
    assert looked_for(cases, shown) == {
        "chest": ["heart", "hip_left", "screw"],  # not ribs_left: another case has a rib that this task may not draw
        "pelvis": ["heart", "hip_left", "screw"],  # the program found no heart there
        "bones": ["hip_left", "screw"],
        "one": ["heart", "ribs_left", "screw"],
        "other": ["screw"],
        "old": ["heart", "screw"],
    }


def test_blosc_and_gzip_hold_the_same(fluoro, inputs, tmp_path):
    pytest.importorskip("hdf5plugin", reason="the extra blosc is not installed")
    views, words = inputs
    command = ["pack", views, "--descriptions", words, "--size", 45, "--val", 0]
    for codec in ("gzip", "blosc"):
        assert fluoro(*command, "--codec", codec, "-o", tmp_path / codec)[0] == 0
    for a, b in zip(*(ShardReader(tmp_path / codec, "train") for codec in ("gzip", "blosc")), strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask(0), b.mask(0))

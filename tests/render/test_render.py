"""The render stage on small bodies made here: what it writes, and that nothing but its inputs changes a byte."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Case, Segmenter, Views
from fluorosam_cli.ct.cases import describe_structures, write_case
from fluorosam_cli.ct.scans import Scan
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import Volume, write_nifti
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import project_points
from fluorosam_cli.render import materials
from fluorosam_cli.render.body import cropped_in_place, load_body, occupied_box
from fluorosam_cli.render.masks import decode
from fluorosam_cli.render.projector import Projector
from fluorosam_cli.render.render import _batches
from tests.render.chest import BLOCKS, ORIGIN_LPS_MM, SPACING_MM, contents, views_of, write_body
from tests.volumes import read_nifti

# --- what is written --------------------------------------------------------------------------------------------------


def test_cases_become_images_with_masks(cases, tmp_path, fluoro):
    out = tmp_path / "views"
    code, printed, _ = fluoro("render", cases, "--views", 3, "-o", out, "--size", 64)
    assert (code, printed) == (0, f"{out}\n")
    header = read_header(out / "views.json", Views)
    assert (header.count, header.polarity, header.without) == (6, "bone_bright", [])
    assert [(case.name, case.views) for case in header.cases] == [("one", 3), ("two", 3)]
    assert header.cases[0].case_sha256 == read_header(cases / "one" / "case.json", Case).source_sha256
    assert header.projector.materials == list(materials.MATERIALS)
    views = views_of(out)
    assert [(view.case, view.index) for view in views] == [(case, i) for case in ("one", "two") for i in range(3)]
    for view in views:
        image = np.asarray(Image.open(out / view.image))
        assert (image.dtype, image.shape, view.width, view.height) == (np.uint16, (64, 64), 64, 64)
        assert np.ptp(image) > 10_000
        assert len({mask.name for mask in view.structures}) == len(view.structures) > 0
        for mask in view.structures:
            pixels = decode(mask.rle)
            y, x = np.nonzero(pixels)
            assert pixels.shape == (64, 64)
            assert mask.area_px == len(x) > 0
            assert mask.box_xyxy == (x.min(), y.min(), x.max() + 1, y.max() + 1)
            touches = bool(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).any())
            assert "detector" in mask.truncated or not touches  # a collimated field ends before the image does
            assert touches or "detector" not in mask.truncated or view.collimation
            assert ("scan" in mask.truncated) == (mask.name in ("aorta", "mediastinum"))
    assert not any(mask.name == "heart" for view in views if view.case == "two" for mask in view.structures)


def test_masks_lie_where_the_matrices_of_the_record_put_their_structures(cases, tmp_path, fluoro):
    fluoro("render", cases / "one", "--views", 6, "-o", tmp_path / "views", "--size", 96, "--random-share", 0.5)
    seen = 0
    for view in views_of(tmp_path / "views"):
        for mask in view.structures:
            if mask.name in BLOCKS and not mask.truncated:
                z, y, x = ((block.start + block.stop - 1) / 2 for block in BLOCKS[mask.name])
                point = np.array(ORIGIN_LPS_MM) + np.array([x, y, z]) * SPACING_MM
                at = project_points(np.array(view.intrinsic), np.array(view.camera_from_world), point[None])[0]
                rows, columns = np.nonzero(decode(mask.rle))
                size = np.ptp(np.concatenate([rows, columns]))
                assert np.hypot(at[0] - columns.mean(), at[1] - rows.mean()) < 0.1 * size + 1
                assert np.linalg.det(np.array(view.camera_from_world)[:3, :3]) == pytest.approx(1)
                seen += 1
    assert seen > 10


def test_a_chest_hangs_as_if_facing_the_patient_and_its_bones_are_bright(cases, tmp_path, fluoro):
    for name in ("chest_pa", "chest_ap"):
        out = tmp_path / name
        assert fluoro("render", cases / "one", "--views", 1, "--view", name, "-o", out, "--size", 96)[0] == 0
        (view,) = views_of(out)
        assert view.view == name
        masks = {mask.name: decode(mask.rle) for mask in view.structures}
        image = np.asarray(Image.open(out / view.image)).astype(float)

        def x_of(mask):
            return np.nonzero(mask)[1].mean()

        assert x_of(masks["lung_left"]) > x_of(masks["heart"]) > x_of(masks["lung_right"])
        assert masks["lung_left"].sum() > masks["lung_right"].sum()
        upper, lower = (np.nonzero(masks[f"lung_{lobe}_lobe_left"])[0].mean() for lobe in ("upper", "lower"))
        assert upper < lower
        assert image[masks["vertebrae_T8"]].mean() > image[masks["lung_left"] & ~masks["heart"]].mean() + 10_000


# --- nothing else changes a byte --------------------------------------------------------------------------------------


def test_bytes_depend_on_neither_threads_nor_the_other_cases(cases, tmp_path, fluoro):
    for name, path, threads in (("a", cases, 1), ("b", cases, 5), ("c", cases / "two", 2)):
        words = ("--views", 3, "--size", 48, "--threads", threads, "-o", tmp_path / name)
        assert fluoro("render", path, *words)[0] == 0
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert all(a[name] == data for name, data in c.items() if name.endswith(".png"))
    assert a["views.jsonl"].endswith(c["views.jsonl"])


def test_bytes_depend_on_neither_the_number_of_processes_nor_how_much_air_is_around(cases, tmp_path, fluoro):
    words = ("--views", 2, "--size", 48, "--integrals", "--travel", "--raw")
    assert fluoro("render", cases, *words, "-o", tmp_path / "one")[0] == 0
    assert fluoro("render", cases, *words, "-o", tmp_path / "two", "--gpus", 2, "--device", "cpu")[0] == 0
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two
    assert {name.partition("/")[0] for name in one} == {
        *("images", "integrals", "travel", "raw", "views.json", "views.jsonl")
    }


def test_a_cropped_case_is_the_same_case(cases):
    """Air around the body goes, in place, and every voxel keeps its position in the world."""
    rng = np.random.default_rng(0)
    volume = rng.integers(-500, 500, (9, 8, 7)).astype(np.int16)
    padded = np.full((15, 14, 12), -1000, np.int16)
    padded[3:12, 2:10, 4:11] = volume
    low, high = occupied_box(padded, np.zeros(padded.shape, np.uint8))
    assert (low.tolist(), high.tolist()) == ([3, 2, 4], [12, 10, 11])
    memory = padded.ctypes.data
    cropped = cropped_in_place(padded, low, high)
    assert np.array_equal(cropped, volume)
    assert cropped.ctypes.data == memory


def test_another_seed_gives_other_views(cases, tmp_path, fluoro):
    for seed in (0, 1):
        words = ("--views", 2, "--size", 48, "--seed", seed, "-o", tmp_path / str(seed))
        assert fluoro("render", cases / "one", *words)[0] == 0
    first, second = views_of(tmp_path / "0"), views_of(tmp_path / "1")
    assert all(a.camera_from_world != b.camera_from_world for a, b in zip(first, second, strict=True))


# --- manners ----------------------------------------------------------------------------------------------------------


def test_the_users_line_writes_to_views_in_the_working_directory(cases, tmp_path, fluoro, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ct").symlink_to(cases)
    assert fluoro("render", "ct/", "--views", 1, "--size", 32)[0] == 0
    assert (tmp_path / "views" / "views.json").is_file()


def test_dry_run_counts_and_writes_nothing(cases, tmp_path, fluoro):
    code, printed, _ = fluoro("render", cases, "--views", 100, "-o", tmp_path / "views", "--dry-run", "--json")
    assert code == 0
    plan = json.loads(printed)
    assert (plan["cases"], plan["views"]) == (2, 200)
    assert list(tmp_path.iterdir()) == []


def test_views_of_one_size_follow_each_other_and_share_launches_on_a_gpu():
    volume = np.zeros((8, 8, 8), np.int16)
    paths = [(str(number), (1,)) for number in range(200)]
    projector = Projector(volume, volume.astype(np.uint8), np.eye(4), [], materials.material_table(), paths=paths)
    sizes = [(64, 64)] * 11 + [(2048, 2048)] * 2 + [(64, 64)]
    shots: list = [SimpleNamespace(size_px=size) for size in sizes]
    assert [len(batch) for batch in _batches(shots, projector)] == [1] * 14
    projector.device = "cuda:0"
    assert [len(batch) for batch in _batches(shots, projector)] == [8, 3, 1, 1, 1]
    assert [shot for batch in _batches(shots, projector) for shot in batch] == shots


def test_views_can_be_listed_and_chosen(cases, tmp_path, fluoro):
    code, printed, _ = fluoro("render", "--list-views")
    assert code == 0
    names = [line.split("\t")[0] for line in printed.splitlines()]
    assert {"chest_pa", "pelvis_ap", "knee_lateral_left", "random"} <= set(names)
    chosen = ("--view", "chest_lao", "--view", "chest_pa")
    assert fluoro("render", cases / "one", "--views", 8, "--size", 32, *chosen, "-o", tmp_path / "v")[0] == 0
    assert {view.view for view in views_of(tmp_path / "v")} == {"chest_lao", "chest_pa"}
    assert fluoro("render", cases / "one", "--views", 2, "--size", 32, "--view", "random", "-o", tmp_path / "r")[0] == 0
    assert {view.view for view in views_of(tmp_path / "r")} == {"random"}


def test_a_case_that_cannot_be_read_is_listed_and_the_others_rendered(tmp_path, fluoro):
    broken = write_body(tmp_path / "cases", "broken")
    write_body(tmp_path / "cases", "fine")
    cut_short(broken)
    code, _, errors = fluoro("render", tmp_path / "cases", "--views", 2, "--size", 32, "-o", tmp_path / "views")
    assert code == 1
    assert "failed: broken: " in errors
    assert "Traceback" not in errors
    assert [case.name for case in read_header(tmp_path / "views" / "views.json", Views).cases] == ["fine"]
    write_body(tmp_path / "cases", "broken")  # mended
    words = ("render", tmp_path / "cases", "--views", 2, "--size", 32)
    assert fluoro(*words, "-o", tmp_path / "views", "--resume")[0] == 0
    assert fluoro(*words, "-o", tmp_path / "fresh")[0] == 0
    assert contents(tmp_path / "views") == contents(tmp_path / "fresh")


def no_cases(case: Path) -> None:
    for file in case.iterdir():
        file.unlink()


def another_version(case: Path) -> None:
    header = json.loads((case / "case.json").read_text())
    (case / "case.json").write_text(json.dumps(header | {"format": "fluoro.case/99"}))


def cut_short(case: Path) -> None:
    whole = (case / "ct.nii.gz").read_bytes()
    (case / "ct.nii.gz").write_bytes(whole[: len(whole) // 2])


def other_shape(case: Path) -> None:
    write_nifti(case / "labels.nii.gz", Volume(np.ones((4, 5, 6), np.uint8), np.eye(4)))


def other_place(case: Path) -> None:
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    write_nifti(case / "labels.nii.gz", Volume(np.ones((32, 20, 32), np.uint8), affine))


def no_labels(case: Path) -> None:
    (case / "labels.nii.gz").unlink()


def escaping_name(case: Path) -> None:
    header = json.loads((case / "case.json").read_text())
    (case / "case.json").write_text(json.dumps(header | {"name": "../elsewhere"}))


@pytest.mark.parametrize(
    ("spoil", "words", "code", "problem"),
    [
        (no_cases, [], 1, "holds no case.json"),
        (another_version, [], 1, "'fluoro.case/99'"),
        (cut_short, [], 1, "not a readable NIfTI"),
        (other_shape, [], 1, "shape is (4, 5, 6)"),
        (other_place, [], 1, "affine differs from ct.nii.gz by 1000.00 mm"),
        (no_labels, [], 1, "labels.nii.gz"),
        (escaping_name, [], 1, "cannot name a folder"),
        (None, ["--view", "chest_ab"], 2, "chest_ab: not a known view"),
        (None, ["--view", "skull_pa"], 1, "for want of skull"),
        (None, ["--views", "0"], 2, "--views"),
        (None, ["--device", "tpu"], 2, "--device tpu: not known"),
    ],
)
def test_bad_input_is_one_line_with_a_hint(tmp_path, fluoro, spoil, words, code, problem):
    case = write_body(tmp_path, "case")
    if spoil:
        spoil(case)
    got, printed, errors = fluoro("render", case, "--size", 32, "-o", tmp_path / "views", "--views", 1, *words)
    assert not (tmp_path / "views").exists()
    assert (got, printed) == (code, "")
    error, hint = errors.splitlines()[-2:]
    assert error.startswith("error: ")
    assert problem in error
    assert hint.startswith("hint: ")
    assert "Traceback" not in errors
    assert not (tmp_path / "views" / "views.json").exists()


def test_a_case_whose_ct_was_replaced_is_refused(tmp_path, fluoro):
    case, other = write_body(tmp_path, "case"), write_body(tmp_path, "other", dict(list(BLOCKS.items())[:4]))
    (case / "ct.nii.gz").write_bytes((other / "ct.nii.gz").read_bytes())
    code, _, errors = fluoro("render", case, "--size", 32, "--views", 1, "-o", tmp_path / "views")
    assert code == 1
    assert "ct.nii.gz: is not the CT that case.json was written for\nhint: write the case again" in errors


def test_labels_edited_by_hand_are_refused_and_imported_as_the_hint_says(tmp_path, fluoro, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = write_body(tmp_path, "case")
    labels = read_nifti(case / "labels.nii.gz")
    labels.array[10:14, 10:12, 14:18] = structure("esophagus").label_id
    write_nifti(case / "labels.nii.gz", labels)
    words = ("--size", 32, "--views", 1, "--view", "chest_pa")
    code, _, errors = fluoro("render", "case", *words)
    assert code == 1
    assert "labels.nii.gz: are not the labels that case.json was written for" in errors
    command = errors.splitlines()[-1].partition("fluoro ")[2]
    assert fluoro(*command.split())[0] == 0
    assert fluoro("render", "corrected", *words)[0] == 0
    (view,) = views_of(tmp_path / "views")
    assert "esophagus" in {mask.name for mask in view.structures}


def test_cuda_that_is_not_there_is_said_so(cases, tmp_path, fluoro):
    import warp as wp

    wp.init()
    if wp.is_cuda_available():
        pytest.skip("there is a CUDA device")
    code, _, errors = fluoro("render", cases, "-o", tmp_path / "views", "--device", "cuda")
    assert code == 1
    assert errors == (
        "error: no CUDA device; --device cuda was requested\nhint: use --device cpu, or check nvidia-smi\n"
    )
    assert not (tmp_path / "views").exists()


@pytest.mark.data
def test_a_real_chest_shows_its_heart_on_the_patients_left(shared_data, tmp_path, fluoro):
    ct, labels = (read_nifti(shared_data / "chest_ct" / name) for name in ("ct.nii.gz", "seg.nii.gz"))
    coarser = ct.world_from_voxel @ np.diag([4.0, 4.0, 1.0, 1.0])
    scan = Scan("chest", "chest", (Source(shared_data / "chest_ct" / "ct.nii.gz"),))
    ct, labels = (Volume(np.ascontiguousarray(volume.array[:, ::4, ::4]), coarser) for volume in (ct, labels))
    segmenter = Segmenter(name="imported", version="1", task="test")
    write_case(tmp_path, scan, ct, labels, segmenter, describe_structures(labels))
    words = ("--views", 1, "--view", "chest_pa", "--size", 128, "-o", tmp_path / "views")
    assert fluoro("render", tmp_path / "chest", *words)[0] == 0
    (view,) = views_of(tmp_path / "views")
    masks = {mask.name: decode(mask.rle) for mask in view.structures}
    x = {name: np.nonzero(mask)[1].mean() for name, mask in masks.items()}
    y = {name: np.nonzero(mask)[0].mean() for name, mask in masks.items()}
    assert x["lung_right"] < x["spine"] < x["heart"] < x["lung_left"]
    assert y["clavicula_left"] < y["heart"] < y["liver"]
    assert len(masks) > 80


def test_deformed_bodies_take_turns_and_change_no_byte_between_processes(cases, tmp_path, fluoro):
    words = ("render", cases, "--views", 5, "--augment-anatomy", 2, "--view", "chest_pa", "--size", 64)
    assert fluoro(*words, "-o", tmp_path / "a")[0] == 0
    assert fluoro(*words, "-o", tmp_path / "b", "--gpus", 2, "--device", "cpu")[0] == 0
    views = views_of(tmp_path / "a")
    assert [view.deformation for view in views] == [0, 1, 2, 0, 1] * 2
    for view in views:
        assert (tmp_path / "a" / view.image).read_bytes() == (tmp_path / "b" / view.image).read_bytes()
    assert (tmp_path / "a" / "views.jsonl").read_bytes() == (tmp_path / "b" / "views.jsonl").read_bytes()
    assert fluoro("render", cases, "--views", 5, "--view", "chest_pa", "--size", 64, "-o", tmp_path / "c")[0] == 0
    plain = views_of(tmp_path / "c")
    same = [one.structures == other.structures for one, other in zip(views, plain, strict=True)]
    assert same == [view.deformation == 0 for view in views]


def test_a_view_that_the_scan_allows_is_taken_of_all_its_deformations(tmp_path, fluoro):
    """Lungs 224 mm high, of which a chest view needs 200: bodies scaled below .89 have less."""
    narrow = {name: (z, y, slice(8, 13)) for name, (z, y, _) in BLOCKS.items() if name.endswith("lobe_right")}
    case = write_body(tmp_path, "narrow", BLOCKS | narrow)
    words = ("--views", 9, "--augment-anatomy", 8, "--view", "chest_pa", "--size", 16, "-o", tmp_path / "views")
    code, _, err = fluoro("render", case, *words)
    assert code == 0, err
    assert [view.deformation for view in views_of(tmp_path / "views")] == list(range(9))


def test_a_deformed_body_that_cannot_be_used_is_listed_and_the_others_rendered(cases, tmp_path, fluoro, monkeypatch):
    def load(item, settings, deformation):
        if deformation == 1:
            raise FluoroError("holds no structure", "use another seed")
        return load_body(item, settings, deformation)

    monkeypatch.setattr("fluorosam_cli.render.render.load_body", load)
    words = ("render", cases / "one", "--views", 5, "--augment-anatomy", 2, "--size", 32, "-o", tmp_path / "views")
    code, _, errors = fluoro(*words)
    assert code == 1
    assert "failed: one: holds no structure" in errors
    assert [view.deformation for view in views_of(tmp_path / "views")] == [0, 2, 0]
    assert (tmp_path / "views" / "views.json").is_file()

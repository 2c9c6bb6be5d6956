import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import label_ids, mirrored, structures
from fluorosam_cli.ct.phantom import Phantom, make_phantom, write_phantoms
from fluorosam_cli.ct.phantom_shapes import Grid, Solid, ball, evaluate, half_space, sheet, tube
from fluorosam_cli.ct.volume import Volume
from tests.volumes import read_nifti

NAMES = {structure.label_id: structure.name for structure in structures()}
SPINE = ["T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1"]


@pytest.fixture(scope="module", params=[0, 4, 9])
def torso(request: pytest.FixtureRequest) -> Phantom:
    """Three bodies: a lean man with raised arms, a heavier one with arms down, a small woman."""
    return make_phantom(request.param, 0, "torso", 6.0)


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return make_phantom(5, 0, "chest", 3.0)


@pytest.fixture(scope="module")
def pelvis() -> Phantom:
    return make_phantom(2, 0, "pelvis", 3.0)


def centroids(volume: Volume) -> dict[str, np.ndarray]:
    """LPS centroid (mm) of every structure in a label volume."""
    labels, matrix = volume.array, volume.world_from_voxel
    z, y, x = np.nonzero(labels)
    ids = labels[z, y, x]
    count = np.bincount(ids, minlength=256)
    means = [np.bincount(ids, weights=axis, minlength=256) / np.maximum(count, 1) for axis in (x, y, z)]
    return {
        NAMES[int(i)]: matrix[:3, :3] @ [m[i] for m in means] + matrix[:3, 3] for i in np.unique(ids) if int(i) in NAMES
    }


def hu_inside(phantom: Phantom, *names: str) -> np.ndarray:
    """HU of the voxels of some structures that have only themselves as neighbours."""
    from scipy import ndimage

    mask = np.isin(phantom.labels.array, [label_id for name in names for label_id in label_ids(name)])
    return phantom.scan.array[ndimage.binary_erosion(mask, iterations=2)]


def test_every_label_is_a_known_structure(torso: Phantom) -> None:
    found = set(np.unique(torso.labels.array).tolist()) - {0}
    assert found <= set(NAMES)
    assert len(found) >= 100


def test_a_whole_body_has_every_structure_but_the_few_not_drawn() -> None:
    names = {NAMES[i] for i in np.unique(make_phantom(0, 0, "body", 7.0).labels.array).tolist() if i}
    not_drawn = {"kidney_cyst_left", "kidney_cyst_right", "mandible", "skin"}
    unsided = {structure.name for structure in structures() if structure.label_id >= 149}
    assert set(NAMES.values()) - not_drawn - unsided - names == set()


def test_left_is_left(torso: Phantom) -> None:
    found = centroids(torso.labels)
    pairs = [(name, mirrored(name)) for name in found if "_left" in name and mirrored(name) in found.keys() - {name}]
    assert len(pairs) > 30
    for left, right in pairs:
        assert found[left][0] > found[right][0], left


def test_organs_are_on_their_side(torso: Phantom) -> None:
    found = centroids(torso.labels)
    middle = found["vertebrae_T10"][0]
    assert found["liver"][0] < middle - 20
    assert found["gallbladder"][0] < middle - 20
    assert found["spleen"][0] > middle + 40
    assert found["stomach"][0] > middle + 10
    assert found["heart"][0] > middle + 5
    assert found["inferior_vena_cava"][0] < middle < found["aorta"][0]
    assert found["sternum"][1] < found["heart"][1] < found["vertebrae_T8"][1]  # front to back


def test_order_along_the_spine(torso: Phantom) -> None:
    found = centroids(torso.labels)
    heights = [found[f"vertebrae_{level}"][2] for level in SPINE]
    assert (np.diff(heights) < -8).all()
    for side in ("left", "right"):
        assert (np.diff([found[f"rib_{side}_{number}"][2] for number in range(1, 13)]) < -5).all()
    assert found["lung_upper_lobe_left"][2] > found["lung_lower_lobe_left"][2]


def test_heart_is_about_half_as_wide_as_the_chest(chest: Phantom) -> None:
    labels = chest.labels.array
    across = {
        name: np.ptp(np.nonzero(np.isin(labels, label_ids(name)).any(axis=(0, 1)))[0]) for name in ("heart", "ribs")
    }
    assert 0.38 < across["heart"] / across["ribs"] < 0.55


def test_hounsfield_units(chest: Phantom, pelvis: Phantom) -> None:
    assert -880 < hu_inside(chest, "lungs").mean() < -640  # vessels included
    assert 35 < hu_inside(chest, "liver").mean() < 80
    assert 25 < hu_inside(chest, "heart").mean() < 65
    assert hu_inside(chest, "trachea").mean() < -850
    assert 120 < hu_inside(chest, *(f"vertebrae_T{level}" for level in range(6, 12))).mean() < 420
    femora = pelvis.scan.array[np.isin(pelvis.labels.array, label_ids("femora"))]
    assert 650 < np.percentile(femora, 98) < 1250
    air = chest.scan.array[chest.labels.array == 0]
    assert air.min() >= -1024
    assert (air < -950).mean() > 0.2


def test_fat_lies_under_the_skin() -> None:
    """Going in from the side of the belly: air, then fat, then muscle."""
    phantom = make_phantom(9, 0, "abdomen", 3.0)  # 19 mm of fat
    row = phantom.scan.array[len(phantom.scan.array) // 2, phantom.scan.array.shape[1] // 2].astype(float)
    inside = np.nonzero(row > -500)[0]
    assert np.mean(row[inside[0] + 2 : inside[0] + 4]) == pytest.approx(-100, abs=40)
    assert (row[inside[0] : inside[0] + 20] > 20).any()


def test_mass_does_not_depend_on_the_spacing(pelvis: Phantom) -> None:
    def mass_per_length(scan: Volume) -> float:
        return float((scan.array + 1000.0).sum() * scan.spacing_xyz_mm[0] ** 2 / scan.array.shape[0])

    coarse = make_phantom(2, 0, "pelvis", 6.0).scan
    assert mass_per_length(coarse) == pytest.approx(mass_per_length(pelvis.scan), rel=0.02)


def test_same_seed_same_bytes_whatever_the_count(tmp_path: Path) -> None:
    for count in (1, 2):
        write_phantoms(tmp_path / str(count), count=count, seed=3, region="head", spacing_mm=9.0)
    for kind in ("scans", "labels"):
        first = (tmp_path / "1" / kind / "phantom_0000.nii.gz").read_bytes()
        assert first == (tmp_path / "2" / kind / "phantom_0000.nii.gz").read_bytes()
        assert first != (tmp_path / "2" / kind / "phantom_0001.nii.gz").read_bytes()


def test_different_seeds_differ() -> None:
    a, b = (make_phantom(seed, 0, "abdomen", 8.0) for seed in (0, 1))
    assert a.labels.array.shape != b.labels.array.shape or (a.labels.array != b.labels.array).any()
    assert not np.allclose(a.labels.world_from_voxel, b.labels.world_from_voxel)


def test_regions_cut_the_same_body() -> None:
    chest, abdomen = (centroids(make_phantom(1, 0, region, 6.0).labels) for region in ("chest", "abdomen"))
    for name in ("vertebrae_T10", "vertebrae_T11", "spleen"):
        assert np.linalg.norm(chest[name] - abdomen[name]) < 3.0, name


@pytest.mark.parametrize("region", ["head", "torso", "body"])
def test_scan_and_labels_share_their_grid(region: str) -> None:
    phantom = make_phantom(0, 0, region, 10.0)
    assert phantom.scan.array.shape == phantom.labels.array.shape
    assert phantom.scan.array.dtype == np.int16
    assert phantom.labels.array.dtype == np.uint8
    np.testing.assert_array_equal(phantom.scan.world_from_voxel, phantom.labels.world_from_voxel)
    np.testing.assert_allclose(phantom.scan.spacing_xyz_mm, 10.0)
    assert np.linalg.det(phantom.scan.world_from_voxel[:3, :3]) > 0
    assert np.abs(phantom.scan.world_from_voxel[:3, 3]).min() > 1
    border = phantom.labels.array[:, [0, -1]].any() or (phantom.labels.array[:, :, [0, -1]].any() and region != "head")
    assert not border  # air all around, but for the cut ends


def test_miniature_is_quick_and_keeps_thin_structures() -> None:
    started = time.process_time()
    phantom = make_phantom(0, 0, "chest", 8.0)
    assert time.process_time() - started < 3
    found = set(centroids(phantom.labels))
    assert len(found) >= 60
    assert {f"rib_left_{number}" for number in range(1, 13)} <= found
    assert {"sternum", "scapula_left", "clavicula_right", "trachea", "esophagus", "aorta"} <= found


# --- shapes ----------------------------------------------------------------------------------------------------------


def volume_of(solid: Solid) -> float:
    grid = Grid((-30.25, -30.25, -30.25), 0.5, (121, 121, 121))
    box = (slice(0, 121), slice(0, 121), slice(0, 121))
    return float((evaluate(solid, grid, box) < 0).sum()) * 0.5**3


def test_shapes_have_their_volume() -> None:
    sphere = Solid(tuple(ball(np.zeros(3), 12 * np.eye(3))))
    assert volume_of(sphere) == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.01)
    half = Solid(sphere.pieces, inside=(Solid(tuple(half_space(np.zeros(3), np.array([1.0, 2.0, -1.0])))),))
    assert volume_of(half) == pytest.approx(2 / 3 * np.pi * 12**3, rel=0.01)
    shell = Solid(sphere.pieces, outside=(Solid(tuple(ball(np.zeros(3), 8 * np.eye(3)))),))
    assert volume_of(shell) == pytest.approx(4 / 3 * np.pi * (12**3 - 8**3), rel=0.01)
    ellipsoid = Solid(tuple(ball(np.array([1.0, 2.0, 3.0]), np.diag([5.0, 10.0, 20.0]))))
    assert volume_of(ellipsoid) == pytest.approx(4 / 3 * np.pi * 1000, rel=0.01)
    capsule = Solid(tuple(tube(np.array([[-10.0, 0, 0, 6], [10.0, 0, 0, 6]]))))
    assert volume_of(capsule) == pytest.approx(np.pi * 36 * 20 + 4 / 3 * np.pi * 216, rel=0.01)
    flat = np.array([[[-10.0, -10, 0, 3], [10, -10, 0, 3]], [[-10, 10, 0, 3], [10, 10, 0, 3]]])
    rounded = 20 * 20 * 6 + 4 * 20 * np.pi * 9 / 2 + 4 / 3 * np.pi * 27
    assert volume_of(Solid(tuple(sheet(flat)))) == pytest.approx(rounded, rel=0.03)


def test_distance_is_exact_along_a_tube() -> None:
    grid = Grid((-20.0, -20.0, -20.0), 1.0, (41, 41, 41))
    box = (slice(20, 21), slice(20, 21), slice(0, 41))
    distance = evaluate(Solid(tuple(tube(np.array([[0.0, 0, -10, 4], [0, 0, 10, 4]])))), grid, box, 0.0)[0, 0]
    inside = np.abs(np.arange(-20, 21)) - 4
    np.testing.assert_allclose(distance[np.abs(inside) < 1.5], inside[np.abs(inside) < 1.5], atol=1e-5)


# --- the command -----------------------------------------------------------------------------------------------------

SMALL = ("--region", "head", "--spacing", 10)


def test_command_writes_scans_and_labels(fluoro: Callable, tmp_path: Path) -> None:
    out = tmp_path / "bodies"
    code, stdout, _ = fluoro("phantom", out, "--count", 2, *SMALL)
    assert code == 0
    assert stdout.strip() == str(out)
    for index in range(2):
        scan, labels = (read_nifti(out / kind / f"phantom_{index:04d}.nii.gz") for kind in ("scans", "labels"))
        made = make_phantom(0, index, "head", 10.0)
        np.testing.assert_array_equal(scan.array, made.scan.array)
        np.testing.assert_array_equal(labels.array, made.labels.array)
        for volume in (scan, labels):
            np.testing.assert_allclose(volume.world_from_voxel, made.scan.world_from_voxel, atol=1e-3)
    run = json.loads((out / "run.json").read_text())
    assert (run["status"], run["done"], run["skipped"]) == ("done", 2, 0)


def test_command_refuses_and_resumes(fluoro: Callable, tmp_path: Path) -> None:
    out = tmp_path / "bodies"
    assert fluoro("phantom", "-o", out, "--count", 2, *SMALL)[0] == 0
    code, _, err = fluoro("phantom", out, "--count", 2, *SMALL)
    assert code == 1
    assert "not empty" in err
    whole = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.nii.gz")}
    (out / "labels" / "phantom_0001.nii.gz").unlink()
    code, _, err = fluoro("phantom", out, "--count", 2, *SMALL, "--resume")
    assert code == 0
    assert "skipped: 1" in err
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.nii.gz")} == whole


def test_dry_run_writes_nothing(fluoro: Callable, tmp_path: Path) -> None:
    code, stdout, _ = fluoro("phantom", tmp_path / "out", *SMALL, "--dry-run", "--json")
    assert code == 0
    plan = json.loads(stdout)
    assert plan["phantoms"] == 1
    assert plan["voxels_of_first"] == make_phantom(0, 0, "head", 10.0).labels.array.size
    assert not any(tmp_path.iterdir())
    (tmp_path / "mine").write_text("")
    code, _, err = fluoro("phantom", tmp_path, *SMALL, "--dry-run")
    assert (code, "not empty" in err) == (1, True)  # as the run would say


@pytest.mark.parametrize("wrong", [("--region", "tail"), ("--spacing", 0.1), ("--spacing", 40), ("--count", 0)])
def test_wrong_options(fluoro: Callable, tmp_path: Path, wrong: tuple) -> None:
    code, _, err = fluoro("phantom", tmp_path / "out", *wrong)
    assert code == 2
    assert err.startswith("error: ")
    assert not any(tmp_path.iterdir())

"""Radiographic outlines of a chest made of discs, whose silhouettes are known, and of a real one."""

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import outlines as known_outlines
from fluorosam_cli.anatomy.tissues import tissues, tissues_with
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render.materials import material_table
from fluorosam_cli.render.outlines import ORGAN_MM, RECESS_MM, outlines
from fluorosam_cli.render.projector import Projector

SIZE, MM_PER_PX = 256, 1.6
LUNGS = ["lung_above_diaphragm_left", "lung_above_diaphragm_right", "lungs_above_diaphragm"]
FRONTAL_ONLY = ["mediastinum", "lung_visible_left", "lung_visible_right", "lungs_visible"]


def camera(
    primary: float = 0, secondary: float = 0, roll_deg: float = 0, seen_from: Literal["source", "detector"] = "detector"
) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsic and camera_from_world, the image turned by `roll_deg`."""
    view = CArm(1800, 1600, primary, secondary, SIZE, SIZE, 1.8, seen_from=seen_from)
    turn, roll = np.eye(4), np.radians(roll_deg)
    turn[:2, :2] = [[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]
    return view.intrinsic, turn @ view.camera_from_world


def place(intrinsic: np.ndarray, camera_from_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patient coordinates (x to the left, z to the head, mm) of every pixel of a parallel frontal beam."""
    y, x = (np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2) * MM_PER_PX
    x = x * np.sign(intrinsic[0, 0])
    across, _, up = camera_from_world[:2, :3].T
    return x * across[0] + y * across[1], x * up[0] + y * up[1]


def disc(x, z, centre_x, centre_z, radius, flat=1.0):
    """Path through a ball, or through one flattened in z."""
    return 2 * np.sqrt(np.maximum(radius**2 - (x - centre_x) ** 2 - ((z - centre_z) / flat) ** 2, 0))


def chest(x: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    """Lungs 150 mm deep down to the domes and 40 mm deep behind the organs, whose tops are at z -40 and -55."""
    liver = disc(x, z, -72, -105, 65)
    stomach, spleen = disc(x, z, 35, -95, 40), disc(x, z, 95, -108, 40)
    heart = disc(x, z, 30, -15, 50, 0.9)
    right = (np.abs(x + 75) < 65) & (np.abs(z) < 145)
    left = (np.abs(x - 75) < 65) & (np.abs(z) < 145)
    paths = {name: np.zeros(x.shape, np.float32) for name in tissues()}
    paths |= {
        "lung_right": np.where(liver > 0, 40, 150) * right,
        "lung_left": np.where((stomach > 0) | (spleen > 0) | (heart > 0), 40, 150) * left,
        "liver": liver,
        "stomach": stomach,
        "spleen": spleen,
        "heart": heart,
        "great_vessels": 60.0 * ((np.abs(x - 5) < 25) & (z < 85) & (z > 0)) + 20.0 * ((np.abs(x) < 9) & (z > 0)),
    }
    return paths


def drawn(paths: dict[str, np.ndarray], view, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    names = [name for name in paths if name not in without]
    intrinsic, camera_from_world = view
    stack = np.stack([paths[name] for name in names]).astype(np.float32)
    return outlines(stack, names, intrinsic, camera_from_world, MM_PER_PX)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


TURNS = [(0, 0, "detector"), (180, 0, "source"), (0, 90, "detector"), (180, 180, "source"), (0, -37, "source")]


@pytest.mark.parametrize(("primary", "roll", "seen_from"), TURNS)
def test_a_lung_ends_at_the_silhouette_of_the_organs_however_the_image_is_turned(primary, roll, seen_from):
    view = camera(primary, 0, roll, seen_from)
    x, z = place(*view)
    paths = chest(x, z)
    found = drawn(paths, view)
    behind = paths["liver"] >= ORGAN_MM
    reach = np.sqrt(np.maximum(65**2 - (ORGAN_MM / 2) ** 2 - (x + 72) ** 2, 0))
    under = (np.abs(x + 72) < 65) & (z < -105 + reach)
    expected = (paths["lung_right"] > 0) & ~behind & ~under
    assert iou(found["lung_above_diaphragm_right"], expected) > 0.97
    assert found["lung_above_diaphragm_right"].sum() < 0.8 * (paths["lung_right"] > 0).sum()


@pytest.mark.parametrize(("primary", "roll", "seen_from"), TURNS)
def test_what_lies_between_two_organs_is_under_the_dome_and_what_lies_behind_the_heart_is_lung(
    primary, roll, seen_from
):
    view = camera(primary, 0, roll, seen_from)
    x, z = place(*view)
    found = drawn(chest(x, z), view)
    lung = found["lung_above_diaphragm_left"]
    between = (np.abs(x - 68) < 2) & (z < -72)
    assert not lung[between].any()
    assert lung[(np.abs(x - 40) < 20) & (np.abs(z + 15) < 30)].all()
    assert not (lung & found["lung_above_diaphragm_right"]).any()
    assert (found["lungs_above_diaphragm"] == (lung | found["lung_above_diaphragm_right"])).all()


@pytest.mark.parametrize(("primary", "roll", "seen_from"), TURNS)
def test_from_the_front_a_lung_ends_beside_the_bodies_of_the_vertebrae(primary, roll, seen_from):
    """Here the right one reaches across the spine; thin processes and the discs' gaps do not matter."""
    view = camera(primary, 0, roll, seen_from)
    x, z = place(*view)
    paths = chest(x, z)
    paths["lung_right"] = np.maximum(paths["lung_right"], 30.0 * ((x > -75) & (x < 40) & (z > -30) & (z < 60)))
    bodies, processes = (np.abs(x) < 18) & (np.mod(z, 30) > 6), (np.abs(x) < 36) & (np.mod(z, 30) > 20)
    without = drawn(paths, view)["lung_above_diaphragm_right"]
    found = drawn(paths | {"vertebrae": 35.0 * bodies + 8.0 * processes}, view)
    lung = found["lung_above_diaphragm_right"]
    assert x[without & (np.abs(z) < 20)].max() == pytest.approx(40, abs=2)
    assert x[lung].max() == pytest.approx(-18, abs=3)
    assert (lung[x < -22] == without[x < -22]).all()
    assert not (found["lung_visible_right"] & ~lung).any()
    left = found["lung_above_diaphragm_left"]
    assert x[left].min() == pytest.approx(18, abs=3)


def test_from_the_side_the_spine_hides_no_lung():
    view = camera(90)
    paths = chest(*place(*camera()))
    spine = {"vertebrae": np.full_like(paths["lung_left"], 35.0)}
    for name, outline in drawn(paths, view).items():
        assert (drawn(paths | spine, view)[name] == outline).all(), name


def test_the_costophrenic_recess_ends_where_it_gets_narrow():
    view = camera()
    x, z = place(*view)
    paths = chest(x, z)
    paths["liver"] = disc(x, z, -72, -105, 65) + 50.0 * ((x < -10) & (x > -137 - (z + 200) * 0.03) & (z < -105))
    lung = drawn(paths, view)["lung_above_diaphragm_right"]
    lowest = z[lung & (x < -100)].min()
    assert -145 < lowest < -60
    row = lung & (x < -72) & (np.abs(z - lowest - 1) < 1)
    assert row.sum(axis=1).max() * MM_PER_PX >= RECESS_MM - MM_PER_PX


def test_the_mediastinum_reaches_from_the_arch_to_the_hearts_lower_border():
    view = camera()
    x, z = place(*view)
    found = drawn(chest(x, z), view)
    mediastinum = found["mediastinum"]
    assert z[mediastinum].max() == pytest.approx(85, abs=4)
    assert z[mediastinum].min() == pytest.approx(-60, abs=6)
    widths = {at: np.ptp(x[mediastinum & (np.abs(z - at) < 1)]) for at in (82, 50, -15)}
    assert widths[50] == pytest.approx(50, abs=5)
    assert widths[-15] == pytest.approx(100, abs=5)
    assert widths[82] < 0.6 * widths[50]
    heart = found["cardiac_silhouette"]
    assert z[heart & (np.abs(x - 35) < 10)].min() > -58
    assert not (found["lung_visible_left"] & (mediastinum | heart)).any()
    assert (found["lungs_visible"] & ~found["lungs_above_diaphragm"]).sum() == 0


def test_of_a_heart_of_one_column_there_is_no_mediastinum():
    view = camera()
    paths = chest(*place(*view)) | {"great_vessels": np.zeros((SIZE, SIZE))}
    paths["heart"] = np.where(np.arange(SIZE) == SIZE - 1, 60.0, 0.0) * np.ones((SIZE, 1))
    stack = np.stack(list(paths.values())).astype(np.float32)
    assert "mediastinum" not in outlines(stack, list(paths), *view, mm_per_px=0.7)  # every second pixel is looked at


def test_a_spur_of_vessels_at_the_heart_is_no_part_of_its_silhouette():
    view = camera()
    x, z = place(*view)
    paths = chest(x, z)
    plain = drawn(paths, view)["cardiac_silhouette"]
    paths["heart"] += 20.0 * ((x < 30) & (x > -60) & (np.abs(z) < 8))
    assert iou(drawn(paths, view)["cardiac_silhouette"], plain) > 0.97


def test_outlines_have_no_holes():
    view = camera()
    x, z = place(*view)
    paths = chest(x, z)
    whole = drawn(paths, view)
    pierced = dict(paths)
    for name, at_x, at_z in (("lung_left", 110, 60), ("heart", 35, -10)):
        pierced[name] = paths[name] * (np.hypot(x - at_x, z - at_z) > 5)
    for name, mask in drawn(pierced, view).items():
        assert (mask == whole[name]).all(), name


def test_which_outlines_a_beam_has():
    view = camera()
    paths = chest(*place(*view))
    assert set(drawn(paths, view)) == set(known_outlines())
    for primary, secondary in ((45, 0), (90, 0), (-135, 20), (0, -34)):
        found = drawn(paths, camera(primary, secondary))
        assert {*LUNGS, "cardiac_silhouette"} <= set(found)
        assert bool(set(FRONTAL_ONLY) & set(found)) == (primary == 0)
    steep = drawn(paths, camera(0, 50))
    assert set(steep) == set(LUNGS)
    assert (steep["lung_above_diaphragm_left"] == (paths["lung_left"] > 0)).all()
    assert set(drawn(paths, camera(0, 90))) == set(LUNGS)


def test_from_the_side_each_lung_has_its_own_dome():
    view = camera(90)
    paths = chest(*place(*camera()))
    paths["lung_left"], paths["stomach"] = paths["lung_right"], np.roll(paths["liver"], 20, axis=0)
    paths["spleen"] = np.zeros_like(paths["spleen"])
    found = drawn(paths, view)
    left, right = found["lung_above_diaphragm_left"], found["lung_above_diaphragm_right"]
    assert left.sum() > 1.05 * right.sum()
    assert iou(left, drawn(paths, view, ("liver",))["lung_above_diaphragm_left"]) == 1


def test_without_the_organs_labels_there_is_no_dome_to_end_at():
    view = camera()
    paths = chest(*place(*view))
    found = drawn(paths, view, ("liver",))
    assert "lung_above_diaphragm_left" in found
    assert not {"lung_above_diaphragm_right", "lungs_above_diaphragm", "lungs_visible"} & set(found)
    assert not set(drawn(paths, view, ("liver", "stomach", "spleen"))) - {"mediastinum"}
    assert "mediastinum" not in drawn(paths, view, ("great_vessels",))
    assert set(drawn(paths, view, ("heart",))) == set(LUNGS)


def test_above_the_dome_a_lung_is_whole_and_below_it_there_is_none():
    view = camera()
    x, z = place(*view)
    apex = {name: path * (z > 20) for name, path in chest(x, z).items()}
    assert (drawn(apex, view)["lung_above_diaphragm_left"] == (apex["lung_left"] > 0)).all()
    nothing = {name: np.zeros_like(path) for name, path in apex.items()}
    assert drawn(nothing, view) == {}


# --- a real chest -----------------------------------------------------------------------------------------------------


def shape_of(left: np.ndarray, right: np.ndarray, mediastinum: np.ndarray) -> dict[str, float]:
    """Sizes that tell the conventions apart, relative to the lungs' height and the chest's width."""
    lungs = left | right
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    top, height, width = rows[0], np.ptp(rows), np.ptp(columns)
    inside = np.flatnonzero(mediastinum.any(axis=1))
    widths = [np.ptp(np.flatnonzero(mediastinum[row])) / width for row in inside]

    def part(share: float) -> float:
        return widths[round(share * (len(widths) - 1))]

    def gap(share: float) -> float:
        row = round(top + share * height)
        return (np.flatnonzero(left[row])[0] - np.flatnonzero(right[row])[-1]) / width

    return {
        "between the lungs a quarter down": gap(0.25),
        "between the lungs half down": gap(0.5),
        "mediastinum begins": (inside[0] - top) / height,
        "mediastinum ends": (inside[-1] - top) / height,
        "mediastinum's greatest width": max(widths),
        "mediastinum's width near its top": part(0.1),
        "mediastinum's width a quarter down": part(0.25),
        "mediastinum's width half down": part(0.5),
        "mediastinum / lungs": mediastinum.sum() / lungs.sum(),
        "right recess": recess(right),
        "lung behind mediastinum": (lungs & mediastinum).sum() / lungs.sum(),
    }


def recess(lung: np.ndarray) -> float:
    """Depth of the lateral (image's left) recess below the dome's apex, relative to the lung's height."""
    columns = np.flatnonzero(lung.any(axis=0))
    bottom = np.array([np.flatnonzero(lung[:, column])[-1] for column in columns])
    n = len(bottom)
    return (bottom[: n // 2].max() - bottom[n // 5 : -n // 7].min()) / np.ptp(np.flatnonzero(lung.any(axis=1)))


@cache
def radiologists(folder: Path) -> list[dict[str, float]]:
    from PIL import Image

    names = ("lung_left", "lung_right", "mediastinum")
    files = [[case / f"{name}.png" for name in names] for case in sorted((folder / "masks").iterdir())]
    return [
        shape_of(*(np.asarray(Image.open(file))[::2, ::2] > 0 for file in row))
        for row in files
        if all(file.is_file() for file in row)
    ]


@pytest.mark.data
@pytest.mark.parametrize("primary", [0, 180])
def test_the_outlines_of_a_real_chest_have_the_shapes_that_radiologists_draw(shared_data, primary):
    from tests.volumes import read_nifti

    ct, labels = (read_nifti(shared_data / "chest_ct" / name) for name in ("ct.nii.gz", "seg.nii.gz"))
    fewer = ct.world_from_voxel @ np.diag([2, 2, 1, 1])
    hu, seg = (np.ascontiguousarray(volume.array[:, ::2, ::2]) for volume in (ct, labels))
    parts = tissues_with(np.unique(seg).tolist())
    projector = Projector(hu.astype(np.int16), seg.astype(np.uint8), fewer, [], material_table(), paths=parts)
    lungs = np.argwhere(np.isin(seg, tissues()["lung_left"] + tissues()["lung_right"]))[:, ::-1]
    middle = (lungs.min(axis=0) + lungs.max(axis=0)) / 2
    centre_x, centre_y, centre_z, _ = (fewer @ [*middle, 1]).tolist()
    view = CArm(
        source_to_detector_mm=1800,
        source_to_isocenter_mm=1600,
        positioner_primary_angle_deg=primary,
        positioner_secondary_angle_deg=0,
        detector_width_px=SIZE,
        detector_height_px=SIZE,
        pixel_spacing_mm=1.68,
        isocenter_lps_mm=(centre_x, centre_y, centre_z),
        seen_from="detector" if primary == 0 else "source",
    )
    path_mm = projector.project(view.intrinsic, view.camera_from_world, SIZE, SIZE, paths=True).path_mm
    assert path_mm is not None
    found = outlines(path_mm, projector.paths, view.intrinsic, view.camera_from_world, 1.68 * 1600 / 1800)
    assert set(found) == set(known_outlines())
    ours = shape_of(*(found[name] for name in (*LUNGS[:2], "mediastinum")))
    theirs = radiologists(shared_data / "real_xrays")
    assert len(theirs) >= 10
    for name, value in ours.items():
        values = [shape[name] for shape in theirs]
        margin = 0.25 * (max(values) - min(values))
        assert min(values) - margin <= value <= max(values) + margin, (name, value, min(values), max(values))
    whole = path_mm[0] >= 1  # the left lung's projection, which is not what they draw
    assert found["lung_above_diaphragm_left"].sum() < 0.9 * whole.sum()

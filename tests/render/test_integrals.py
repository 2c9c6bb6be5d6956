"""Stored integrals and path lengths: what comes back, what the averaging keeps, and what damaged files do."""

import zipfile
from contextlib import suppress

import numpy as np
import pytest

from fluorosam_cli.anatomy.tissues import tissues
from fluorosam_cli.contracts import IntegralsHeader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render.detector import expose
from fluorosam_cli.render.exposure import Exposure
from fluorosam_cli.render.field import Geometry
from fluorosam_cli.render.integrals import (
    PATH_STEP_MM,
    read_integrals,
    read_travel,
    shrunk,
    write_integrals,
    write_travel,
)
from fluorosam_cli.render.materials import MATERIALS, material_table
from fluorosam_cli.render.projector import Projector

TISSUES = list(tissues())
HALF_STEP = 2.0**-11  # of float16, relative


def header(size_px: int) -> IntegralsHeader:
    return IntegralsHeader(size_px=size_px, materials=list(MATERIALS), tissues=TISSUES)


def maps(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    centres = rng.uniform(0.3, 0.7, (count, 2)) * (height, width)
    radius = rng.uniform(0.1, 0.3, count) * min(height, width)
    squared = [(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres]
    return np.stack([2 * np.sqrt(np.maximum(r * r - d, 0)) for d, r in zip(squared, radius, strict=True)]).astype("f4")


@pytest.fixture
def stored(tmp_path):
    """A file of 96 x 80 maps at 40 px, and the maps: every material, three tissues, the second of them not seen."""
    mass, paths = maps(len(MATERIALS), 96, 80) / 10, maps(3, 96, 80, 1)
    paths[1] = 0
    write_integrals(tmp_path / "v.npz", mass, paths, ["heart", "liver", "ribs"], header(40))
    return tmp_path / "v.npz", mass, paths


def test_what_is_written_comes_back_averaged(stored):
    file, mass, paths = stored
    found = read_integrals(file, header(40))
    assert found.mass_g_cm2.shape == (len(MATERIALS), 40, 33)
    assert found.tissues == ("heart", "ribs")
    assert found.mass_g_cm2.dtype == found.path_mm.dtype == np.float16
    assert np.allclose(found.mass_g_cm2, shrunk(mass, 40), rtol=HALF_STEP)
    assert np.abs(found.path_mm - shrunk(paths, 40)[[0, 2]]).max() <= PATH_STEP_MM / 2
    assert np.allclose(found.mass_g_cm2.mean((1, 2), dtype=float), mass.mean((1, 2)), rtol=2e-4)
    assert np.allclose(found.path_mm.mean((1, 2), dtype=float), paths[[0, 2]].mean((1, 2)), rtol=2e-3)


@pytest.mark.parametrize(("shape", "size"), [((96, 80), 48), ((96, 80), 41), ((61, 127), 32), ((50, 50), 7)])
def test_averaging_keeps_every_maps_mean(shape, size):
    whole = maps(2, *shape) + 1
    small = shrunk(whole, size)
    assert max(small.shape[1:]) == size
    assert np.allclose(small.mean((1, 2), dtype=float), whole.mean((1, 2), dtype=float), rtol=1e-6)


def test_averaging_by_a_whole_number_is_the_mean_of_blocks():
    whole = maps(2, 96, 96)
    assert np.allclose(shrunk(whole, 24), whole.reshape(2, 24, 4, 24, 4).mean((2, 4)), atol=1e-5)


def test_small_maps_are_left_as_they_are():
    whole = maps(2, 30, 20)
    assert shrunk(whole, 224) is whole


def test_the_bytes_depend_on_the_maps_alone(stored, tmp_path):
    file, mass, paths = stored
    write_integrals(tmp_path / "again.npz", mass, paths, ["heart", "liver", "ribs"], header(40))
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()


def test_numpy_opens_the_file(stored):
    with np.load(stored[0], allow_pickle=False) as found:
        assert set(found.files) == {"mass_g_cm2", "path_mm", "tissue"}
        assert [TISSUES[i] for i in found["tissue"]] == ["heart", "ribs"]


def test_mass_beyond_float16_is_held_at_its_largest_number(tmp_path):
    write_integrals(
        tmp_path / "v.npz", np.full((len(MATERIALS), 8, 8), 1e6, "f4"), np.zeros((0, 8, 8), "f4"), [], header(8)
    )
    found = read_integrals(tmp_path / "v.npz", header(8))
    assert np.isfinite(found.mass_g_cm2).all()
    assert found.path_mm.shape == (0, 8, 8)


# --- travel -----------------------------------------------------------------------------------------------------------


def test_travel_comes_back_at_full_size(tmp_path):
    names = ["femur_left", "liver", "spine"]
    travel = maps(3, 60, 50)
    travel[1] = 0
    write_travel(tmp_path / "t.npz", travel, names)
    found = read_travel(tmp_path / "t.npz")
    assert list(found) == ["femur_left", "spine"]
    assert all(np.allclose(found[name], travel[names.index(name)], rtol=HALF_STEP) for name in found)
    assert list(read_travel(tmp_path / "t.npz", ["spine", "skull"])) == ["spine"]


def test_travel_of_an_empty_view(tmp_path):
    write_travel(tmp_path / "t.npz", np.zeros((2, 9, 9), "f4"), ["liver", "spleen"])
    assert read_travel(tmp_path / "t.npz") == {}


# --- files that are not what they should be ---------------------------------------------------------------------------


def rewritten(file, **arrays):
    """The file with some of its arrays replaced, as `numpy.savez` would write them, pickles included."""
    with np.load(file) as found:
        np.savez(file, **({name: found[name] for name in found.files} | arrays))
    return file


@pytest.mark.parametrize(
    "arrays",
    [
        {"mass_g_cm2": np.array([{}], object)},
        {"mass_g_cm2": np.zeros((5, 40, 33), np.float32)},
        {"mass_g_cm2": np.zeros((3, 40, 33), np.float16)},
        {"mass_g_cm2": np.zeros((5, 400, 33), np.float16)},
        {"mass_g_cm2": np.asfortranarray(np.zeros((5, 40, 33), np.float16))},
        {"path_mm": np.zeros((2, 40, 32), np.float16)},
        {"path_mm": np.zeros((40, 33), np.float16)},
        {"tissue": np.array([0, 200], np.uint8)},
        {"tissue": np.array([0], np.uint8)},
    ],
)
def test_arrays_of_another_kind_are_refused(stored, arrays):
    with pytest.raises(FluoroError, match="damaged") as caught:
        read_integrals(rewritten(stored[0], **arrays), header(40))
    assert "\n" not in caught.value.problem


def test_files_cut_short_garbled_or_absent_are_errors_in_words(stored, tmp_path):
    file, *_ = stored
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(40):
        damaged = bytearray(whole)
        if trial < 10:
            damaged = damaged[: int(rng.integers(len(whole)))]
        else:
            for place in rng.integers(0, len(whole), 8):
                damaged[place] = int(rng.integers(256))
        (tmp_path / "d.npz").write_bytes(damaged)
        with suppress(FluoroError):  # any other error would be a traceback
            read_integrals(tmp_path / "d.npz", header(40))
    with pytest.raises(FluoroError, match="not found"):
        read_integrals(tmp_path / "none.npz", header(40))


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "v.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        claim = np.lib.format.header_data_from_array_1_0(np.zeros((5, 40, 33), np.float16)) | {
            "shape": (5, 10**6, 10**6)
        }
        with archive.open("mass_g_cm2.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, claim)
            member.write(bytes(10**6))
    with pytest.raises(FluoroError, match="mass_g_cm2 is float16"):
        read_integrals(tmp_path / "v.npz", header(40))


def test_travel_boxes_beyond_the_image_are_refused(tmp_path):
    write_travel(tmp_path / "t.npz", maps(1, 30, 30), ["liver"])
    with pytest.raises(FluoroError, match="beyond the image"):
        read_travel(rewritten(tmp_path / "t.npz", box_xyxy=np.array([[0, 0, 300, 30]], np.int32)))
    with pytest.raises(FluoroError, match="size of"):
        read_travel(rewritten(tmp_path / "t.npz", size=np.array([2**30, 2**30], np.int32)))


# --- what they are for ------------------------------------------------------------------------------------------------


def test_the_tissues_share_out_the_path_through_all_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 160, (20, 18, 22)).astype(np.uint8)
    every = ("body", tuple(range(1, 160)))
    paths = [*tissues().items(), every]
    rows = np.full(labels.shape, -1000, np.int16)
    projector = Projector(rows, labels, np.diag([2.0, 2.0, 2.0, 1.0]), [every], material_table(), paths=paths)
    view = CArm(1000, 800, 20, 10, 48, 48, 1.2, (21.0, 17.0, 19.0))
    path_mm = projector.project(view.intrinsic, view.camera_from_world, 48, 48, paths=True).path_mm
    assert path_mm is not None
    assert path_mm[-1].max() > 30
    assert np.allclose(path_mm[:-1].sum(axis=0), path_mm[-1], atol=1e-3)


def test_an_image_exposed_from_stored_integrals_is_the_rendered_one_at_that_size(tmp_path):
    """Within .2 % on average and 5 % at edges, where the mean of exponentials is not that of their exponents."""
    smooth = maps(len(MATERIALS), 256, 256) / np.array([20, 30, 12, 40, 4000], np.float32)[:, None, None]
    geometry = Geometry(0.8, 1800, 1600)
    exposure = Exposure(110, 3)
    without = frozenset({"noise", "blur", "scatter", "heel", "falloff", "collimation"})
    write_integrals(tmp_path / "v.npz", smooth, np.zeros((0, 256, 256), "f4"), [], header(96))
    stored = read_integrals(tmp_path / "v.npz", header(96)).mass_g_cm2.astype(np.float32)
    rendered = shrunk(expose(smooth, exposure, geometry, None, without=without)[None], 96)[0]
    again = expose(stored, exposure, Geometry(0.8 * 256 / 96, 1800, 1600), None, without=without)
    assert rendered.min() < 0.2
    assert np.abs(again / rendered - 1).mean() < 0.002
    assert np.abs(again / rendered - 1).max() < 0.05

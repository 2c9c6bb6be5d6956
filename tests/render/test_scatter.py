import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.render import scatter
from fluorosam_cli.render.scatter import GRID_RATIOS, SIGMA_CM, Grid, pencil_kernels, scattered_signal

# Scatter-to-primary ratio in the middle of a square field behind water, no grid, 5 cm of air: rows are (kVp, field in
# mm), columns 10, 20 and 30 cm of water. Recorded from our own table, so that a change shows.
WATER_CM = (10, 20, 30)
RATIOS = {
    (80, 200): (1.06, 2.23, 3.56),
    (80, 300): (1.33, 3.10, 5.31),
    (80, 430): (1.47, 3.64, 6.62),
    (120, 200): (1.11, 2.44, 4.00),
    (120, 300): (1.44, 3.51, 6.20),
    (120, 430): (1.63, 4.24, 7.99),
}


def ratio(kvp: float, field_mm: float, water_cm: float, gap_mm: float = 50, grid: float = 0, size: int = 64) -> float:
    flat = np.ones((size, size), dtype=np.float32)
    signal = scattered_signal(flat, flat * np.float32(water_cm), kvp, gap_mm, field_mm / size, grid)
    return float(signal[size // 2, size // 2])


@pytest.mark.parametrize(("kvp", "field_mm"), RATIOS)
def test_scatter_to_primary_ratios_are_those_stated(kvp, field_mm):
    found = [ratio(kvp, field_mm, water_cm) for water_cm in WATER_CM]
    assert found == pytest.approx(RATIOS[kvp, field_mm], rel=0.02)


def test_scatter_grows_with_thickness_field_and_voltage_and_falls_with_the_gap():
    assert ratio(80, 300, 0) == 0
    assert (np.diff([ratio(80, 300, water) for water in range(0, 45, 5)]) > 0).all()
    assert (np.diff([ratio(80, field, 20) for field in range(100, 450, 50)]) > 0).all()
    assert (np.diff([ratio(kvp, 300, 20) for kvp in (50, 80, 120)]) > 0).all()
    assert (np.diff([ratio(80, 300, 20, gap) for gap in range(0, 500, 50)]) < 0).all()


@pytest.mark.parametrize("kvp", [70, 120])
@pytest.mark.parametrize("gap_cm", [10, 20, 30])
def test_an_air_gap_acts_as_if_scatter_came_from_a_point_in_the_patient(kvp, gap_cm):
    """Sorenson and Floch, Med Phys 12:308 (1985): 15 to 20 cm in front of the exit surface; ours is up to 8 deeper."""
    share = ratio(kvp, 200, 20, 10 * gap_cm) / ratio(kvp, 200, 20, 0)
    source_cm = gap_cm * np.sqrt(share) / (1 - np.sqrt(share))
    assert 21 < source_cm < 28


def test_scatter_hardly_depends_on_the_pixels():
    coarse, fine = (ratio(80, 300, 20, size=size) for size in (50, 400))
    assert coarse == pytest.approx(fine, rel=0.01)


def test_scatter_spreads_smoothly_and_none_is_made_without_matter():
    primary = np.ones((200, 200), dtype=np.float32)
    mass = np.zeros_like(primary)
    mass[:, :100] = 20
    primary[:, :100] = 0.05
    signal = scattered_signal(primary, mass, 80, 100, 1.5, 0)
    assert signal.min() >= 0
    assert signal[100, 60] > signal[100, 140] > signal[100, 190] > 0
    assert np.abs(np.diff(signal[100])).max() < 0.02 * signal.max()
    assert scattered_signal(primary, 0 * mass, 80, 100, 1.5, 0).max() == 0


def test_pencils_add_up():
    rng = np.random.default_rng(0)
    beams = rng.random((2, 60, 80)).astype(np.float32)
    mass = rng.uniform(0, 30, (60, 80)).astype(np.float32)
    parts = [scattered_signal(beam, mass, 90, 80, 3.0, 8) for beam in beams]
    assert scattered_signal(beams.sum(axis=0), mass, 90, 80, 3.0, 8) == pytest.approx(parts[0] + parts[1], rel=1e-4)


# --- grid -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRID_RATIOS)
@pytest.mark.parametrize("kvp", [70, 100, 120])
def test_grids_pass_the_primary_and_stop_the_scatter(kvp, grid):
    energy = np.array([50.0, 60.0, 70.0])
    transmission = Grid(grid).primary_transmission(energy)
    assert 0.6 < transmission.min() <= transmission.max() < 0.8
    selectivity = ratio(kvp, 300, 20) / ratio(kvp, 300, 20, grid=grid)
    assert 0.45 * grid < selectivity < 0.95 * grid


def test_higher_grids_stop_more_of_both():
    energy = np.array([60.0])
    assert (np.diff([Grid(grid).primary_transmission(energy)[0] for grid in GRID_RATIOS]) < 0).all()
    assert (np.diff([ratio(80, 300, 20, grid=grid) for grid in GRID_RATIOS]) < 0).all()


# --- the table --------------------------------------------------------------------------------------------------------


def test_kernels_between_the_rows_are_linear():
    water_cm, low = pencil_kernels(70, 100)
    _, high = pencil_kernels(90, 100)
    _, middle = pencil_kernels(80, 100)
    assert len(water_cm) == len(low)
    assert low.shape[1] == len(SIGMA_CM)
    assert middle == pytest.approx((low + high) / 2)
    assert pencil_kernels(170, 100)[1] == pytest.approx(pencil_kernels(150, 100)[1])


def test_a_row_of_the_table_comes_out_of_the_script_again():
    for package in ("xraylib", "scipy"):
        pytest.importorskip(package, reason="the extra [spectra] is not installed")
    path = Path(__file__).parents[2] / "scripts" / "make_scatter_table.py"
    spec = importlib.util.spec_from_file_location("make_scatter_table", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rings, grids = script.scattered(script.Water(), 90, 10, 60_000, np.random.default_rng(5))
    table = scatter._kernels()
    row = int(np.flatnonzero(table.kvp == 90)[0]), int(np.flatnonzero(table.water_cm == 10)[0])
    assert grids == pytest.approx(table.grids[row][0], rel=0.08)
    for index, gap_cm in enumerate(script.GAP_CM):
        radius_cm = np.array([5.0, 10.0, 20.0, 40.0])
        within = np.cumsum(rings[index])[(radius_cm / script.RING_CM).astype(int) - 1]
        gaussians = -np.expm1(-(radius_cm[:, None] ** 2) / (2 * np.array(SIGMA_CM) ** 2))
        assert gaussians @ table.shares[row][index] == pytest.approx(within, rel=0.05, abs=0.02), gap_cm

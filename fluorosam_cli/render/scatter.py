"""Scattered radiation, and the grid that stops most of it.

What each narrow pencil of the beam scatters onto the detector depends on how much it passes through: a kernel
superposition (Love and Kruger, Med Phys 14:178, 1987; by thickness and as a sum of Gaussians, Sun and Star-Lack, Phys
Med Biol 55:6695, 2010). The kernels are those of slabs of water, by Monte Carlo: `scatter.csv`, whose columns
`scripts/make_scatter_table.py` explains. Near the edge of a body a slab scatters more than there is matter for.
"""

import csv
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from fluorosam_cli.render import physics
from fluorosam_cli.render.coarse import enlarged, reduced

TABLE = Path(__file__).with_name("scatter.csv")
SIGMA_CM = (0.5, 1, 2, 4, 8, 16, 32)
GRID_RATIOS = (6, 8, 10, 12)
CELL_MM = 7.0  # of the grid on which scatter is computed: no kernel from behind a body is narrower than about 1 cm


@dataclass(frozen=True)
class Grid:
    """A focused anti-scatter grid, usual for flat panels: 40 lines per cm, 0.05 mm of lead between aluminium."""

    ratio: float  # height of the strips over the width of what is between them
    strip_mm: float = 0.05
    period_mm: float = 0.25

    @property
    def height_mm(self) -> float:
        return self.ratio * (self.period_mm - self.strip_mm)

    def primary_transmission(self, energy_kev: np.ndarray) -> np.ndarray:
        """Of photons that come straight from the focus, in the energies' shape."""
        covered = self.strip_mm / self.period_mm
        through_lead = path_transmission(energy_kev, lead_mm=self.height_mm)
        return covered * through_lead + (1 - covered) * path_transmission(energy_kev, aluminium_mm=self.height_mm)


def path_transmission(
    energy_kev: np.ndarray, lead_mm: float | np.ndarray = 0.0, aluminium_mm: float | np.ndarray = 0.0
) -> np.ndarray:
    """Beer-Lambert through so much of a grid's two materials."""
    depth = np.zeros_like(energy_kev)
    for material, path_mm in (("lead", lead_mm), ("aluminium", aluminium_mm)):
        attenuation = physics.mass_attenuation_cm2_g(material, energy_kev) * physics.density_g_cm3(material)
        depth = depth + attenuation * path_mm / 10
    return np.exp(-depth)


@dataclass(frozen=True, eq=False)
class _Kernels:
    """The columns of the table on its axes: shares (kvp, water, gap, sigma), grids (kvp, water, gap, ratio)."""

    kvp: np.ndarray
    water_cm: np.ndarray
    gap_cm: np.ndarray
    shares: np.ndarray
    grids: np.ndarray


@cache
def _kernels() -> _Kernels:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = np.array([[float(value) for value in row] for row in list(csv.reader(lines))[1:]])
    kvp, water, gap = (np.unique(rows[:, column]) for column in range(3))
    values = rows[:, 3:].reshape(len(kvp), len(water), len(gap), -1)
    nothing = np.zeros_like(values[:, :1])  # behind no water there is no scatter
    nothing[..., len(SIGMA_CM) :] = values[:, :1, :, len(SIGMA_CM) :]
    values = np.concatenate([nothing, values], axis=1)
    return _Kernels(
        kvp, np.concatenate([[0.0], water]), gap, values[..., : len(SIGMA_CM)], values[..., len(SIGMA_CM) :]
    )


def pencil_kernels(kvp: float, gap_mm: float, grid_ratio: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scattered signal per primary signal of a pencil: thicknesses in cm of water (T,), shares (T, sigma).

    Shares of Gaussians of `SIGMA_CM` on the detector, behind a gap of so much air and, with a ratio above 0, a grid
    (both signals behind it). Linear between the table's rows, constant beyond.
    """
    table = _kernels()
    shares = _between(table.kvp, kvp, table.shares)
    shares = _between(table.gap_cm, gap_mm / 10, np.moveaxis(shares, 1, 0))
    if grid_ratio:
        grids = _between(table.kvp, kvp, table.grids)[:, 0]
        shares = shares * _between(np.array(GRID_RATIOS), grid_ratio, grids.T)[:, None]
    return table.water_cm, shares


def _between(axis: np.ndarray, value: float, values: np.ndarray) -> np.ndarray:
    place = float(np.interp(value, axis, np.arange(len(axis))))
    low = min(int(place), len(axis) - 2)
    return values[low] + (place - low) * (values[low + 1] - values[low])


def scattered_signal(
    primary: np.ndarray, mass_g_cm2: np.ndarray, kvp: float, gap_mm: float, pixel_spacing_mm: float, grid_ratio: float
) -> np.ndarray:
    """What a beam whose primary signal behind the patient is `primary` scatters onto it, (H, W) float32.

    `mass_g_cm2` (H, W) is what lies on each ray, all tissues together: per gram they scatter about as water does.
    Nothing comes from outside the image: the beam is no larger than the detector.
    """
    factor = max(1, round(CELL_MM / pixel_spacing_mm))
    cell_cm = factor * pixel_spacing_mm / 10
    signal, mass = reduced(primary, factor), reduced(mass_g_cm2, factor)
    water_cm, shares = pencil_kernels(kvp, gap_mm, grid_ratio)
    place = np.interp(mass, water_cm, np.arange(len(water_cm)))
    weights = np.maximum(0, 1 - np.abs(place - np.arange(len(water_cm))[:, None, None]))
    sources = np.tensordot(shares.T, weights * signal, axes=1).astype(np.float32)  # (sigma, rows, columns)
    rows, columns = (_spreads(size, cell_cm) for size in signal.shape)
    cells = (rows @ sources @ columns).sum(axis=0)
    return enlarged(cells, factor, primary.shape)


@lru_cache(maxsize=32)
def _spreads(size: int, cell_cm: float) -> np.ndarray:
    """How much of what falls on a line of cells each Gaussian spreads from one to another, (sigma, size, size)."""
    from scipy.special import ndtr

    distance = cell_cm * (np.arange(size)[:, None] - np.arange(size))
    sigma = np.array(SIGMA_CM)[:, None, None]
    return (ndtr((distance + cell_cm / 2) / sigma) - ndtr((distance - cell_cm / 2) / sigma)).astype(np.float32)

"""Materials, spectra and attenuation: what X-rays are made of and what stops them.

Everything is read from `physics.npz`, which `scripts/make_physics_tables.py` makes with SpekPy and xraylib and whose
contents its docstring lists. Energies are in keV, masses per area in g/cm2, densities in g/cm3.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np

from fluorosam_cli.errors import FluoroError

# --- attenuation ------------------------------------------------------------------------------------------------------


@cache
def _tables() -> dict[str, np.ndarray]:
    with (
        (files("fluorosam_cli.render") / "physics.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as loaded,
    ):
        return {name: loaded[name] for name in loaded.files}


@cache
def all_materials() -> tuple[str, ...]:
    """Every material with a known attenuation: tissues, contrast agents, filters, implants."""
    return tuple(str(name) for name in _tables()["material"])


def density_g_cm3(material: str) -> float:
    """Nominal density of a material in bulk."""
    return float(_tables()["density_g_cm3"][_row(material)])


def mass_attenuation_cm2_g(material: str, energy_kev: float | np.ndarray) -> np.ndarray:
    """Total mass attenuation with coherent scattering at one or many energies (5-150 keV), in the energies' shape.

    Log-log interpolation between 1 keV steps and both sides of every absorption edge.
    """
    return _interpolated(_tables()["mass_attenuation_cm2_g"][_row(material)], energy_kev)


def absorption_edges_kev(materials: Iterable[str]) -> tuple[float, ...]:
    """Energies from 5 to 150 keV at which the attenuation of one of the materials jumps by more than 10 %."""
    energy = _tables()["attenuation_energy_kev"]
    pair = np.flatnonzero(np.diff(energy) < 0.01)
    values = [_tables()["mass_attenuation_cm2_g"][_row(material)].astype(np.float64) for material in materials]
    return tuple(float(energy[i : i + 2].mean()) for i in pair if any(v[i + 1] > 1.1 * v[i] for v in values))


def _row(material: str) -> int:
    try:
        return all_materials().index(material)
    except ValueError:
        raise FluoroError(f"{material}: not a known material", f"known are {', '.join(all_materials())}") from None


def _interpolated(values: np.ndarray, energy_kev: float | np.ndarray) -> np.ndarray:
    grid = _tables()["attenuation_energy_kev"]
    energy = np.asarray(energy_kev, dtype=np.float64)
    if energy.size and not (grid[0] <= energy.min() and energy.max() <= grid[-1]):
        raise FluoroError(
            f"energy of {energy.min():g} to {energy.max():g} keV: attenuation is tabulated from 5 to 150 keV",
            "give an energy within the table",
        )
    return np.exp(np.interp(np.log(energy), np.log(grid), np.log(values)))


# --- spectra ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What leaves the tube: photons per cm2 and mAs at 1 m in bins of 1 keV around `energy_kev`, shape (N,) each."""

    energy_kev: np.ndarray
    fluence: np.ndarray


def tube_spectrum(kvp: float, filtration_mm_al: float = 2.5, filtration_mm_cu: float = 0.0) -> Spectrum:
    """The spectrum of a tungsten anode (12 degrees) at 40-150 kVp behind the total filtration given.

    The table begins at 5 keV, so the filtration should be at least 0.5 mm of aluminium; diagnostic tubes have 2.5
    (IEC 60601-1-3). Between the table's steps of 1 kVp, linear.
    """
    tables = _tables()
    steps = tables["spectrum_kvp"]
    if not steps[0] <= kvp <= steps[-1]:
        raise FluoroError(f"tube voltage of {kvp:g} kVp: spectra reach from 40 to 150", "give a voltage in that range")
    if filtration_mm_al < 0 or filtration_mm_cu < 0:
        raise FluoroError("tube filtration is negative", "give millimetres of aluminium and copper, 0 or more")
    low = min(int(kvp - steps[0]), len(steps) - 2)
    share = kvp - float(steps[low])
    energy = tables["spectrum_energy_kev"].astype(np.float64)
    fluence = (1 - share) * tables["spectrum"][low].astype(np.float64) + share * tables["spectrum"][low + 1]
    return filtered(Spectrum(energy, fluence), {"aluminium": filtration_mm_al, "copper": filtration_mm_cu})


def filtered(spectrum: Spectrum, thickness_mm: dict[str, float]) -> Spectrum:
    """The spectrum behind slabs of materials at their nominal density."""
    energy = spectrum.energy_kev
    depth = sum(
        mass_attenuation_cm2_g(name, energy) * density_g_cm3(name) * mm / 10 for name, mm in thickness_mm.items()
    )
    return Spectrum(energy, spectrum.fluence * np.exp(-depth))


def heel(kvp: float, angle_deg: np.ndarray) -> np.ndarray:
    """The beam's strength at angles from the central ray, negative towards the anode, relative to it; in their shape.

    Linear between the table's voltages and degrees, constant beyond 11 degrees.
    """
    tables = _tables()
    row = np.interp(kvp, tables["heel_kvp"], np.arange(len(tables["heel_kvp"])))
    low = min(int(row), len(tables["heel_kvp"]) - 2)
    strength = tables["heel"][low] + (row - low) * (tables["heel"][low + 1] - tables["heel"][low])
    return np.interp(angle_deg, tables["heel_angle_deg"], strength)


# --- fewer energies ---------------------------------------------------------------------------------------------------


def gauss_energies(
    energy_kev: np.ndarray, weight: np.ndarray, edges_kev: tuple[float, ...] = (), count: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Few energies and weights that integrate smooth functions of energy like the many given, each shape (n,) float64.

    Gauss quadrature for the discrete measure `weight` over `energy_kev` (Lanczos tridiagonalisation and its
    eigenvalues; Golub and Welsch, Math Comp 23:221, 1969): exact for polynomials up to degree 2 n - 1, so that
    transmission through matter, smooth in energy between absorption edges, needs `count` energies and not 145. At each
    edge given the measure is split, and each part gets half as many.
    """
    bounds = (-np.inf, *edges_kev, np.inf)
    parts = [(low < energy_kev) & (energy_kev <= high) & (weight > 0) for low, high in pairwise(bounds)]
    share = count if len(bounds) == 2 else max(count // 2, 1)
    nodes = [_gauss(energy_kev[part], weight[part], share) for part in parts if part.any()]
    return np.concatenate([energy for energy, _ in nodes]), np.concatenate([weights for _, weights in nodes])


def _gauss(energy: np.ndarray, weight: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    if len(energy) <= count:
        return energy, weight
    middle, half = (energy[0] + energy[-1]) / 2, (energy[-1] - energy[0]) / 2
    x = (energy - middle) / half
    basis = np.zeros((count, len(x)))
    diagonal, off_diagonal = np.zeros(count), np.zeros(count)
    vector = np.sqrt(weight / weight.sum())
    for i in range(count):
        basis[i] = vector
        diagonal[i] = vector @ (x * vector)
        residual = x * vector
        for _ in range(2):  # twice is enough to keep the basis orthogonal in floating point
            residual = residual - basis[: i + 1].T @ (basis[: i + 1] @ residual)
        off_diagonal[i] = np.linalg.norm(residual)
        vector = residual / off_diagonal[i]
    tridiagonal = np.diag(diagonal) + np.diag(off_diagonal[:-1], 1) + np.diag(off_diagonal[:-1], -1)
    nodes, vectors = np.linalg.eigh(tridiagonal)
    return middle + half * nodes, weight.sum() * vectors[0] ** 2

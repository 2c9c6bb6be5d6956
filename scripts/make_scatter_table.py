"""Regenerate `fluorosam_cli/render/scatter.csv`: photons traced through slabs of water, with xraylib's cross sections.

    pip install '.[spectra]' && python scripts/make_scatter_table.py     # about five minutes on one core

A pencil beam of a diagnostic spectrum (3 mm Al) enters a slab; Rayleigh and Compton scattering follow the differential
cross sections of water with form factors and incoherent scattering functions, absorption is a weight. After each
collision the chance of leaving through the far face unhindered is scored where that photon would meet the detector
(a collision density estimator, as Persliden and Alm Carlsson, Phys Med Biol 42:155, 1997, used for air gaps), times
the signal it leaves in the caesium iodide. Each row of the table holds, for one tube voltage, thickness of water and
gap between slab and detector:

- `sigma_S_cm`: the scattered signal of the pencil, all of it, per unit of its primary signal, as a sum of Gaussians of
  standard deviation S in the distance from its axis; fitted, without negative ones, to the signal within circles of
  up to 40 cm.
- `grid_R`: the scatter that a grid of ratio R lets through as a share of the primary it lets through (the inverse of
  the selectivity of IEC 60627), within 20 cm of the axis, 10 cm behind the slab: at other gaps it differs little.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from fluorosam_cli.render import physics
from fluorosam_cli.render.detector import Detector
from fluorosam_cli.render.scatter import GRID_RATIOS, SIGMA_CM, TABLE, Grid, path_transmission

KVP = (50, 70, 90, 120, 150)
WATER_CM = (2, 5, 10, 15, 20, 25, 30, 40)
GAP_CM = (0, 5, 10, 20, 30, 50)
ELECTRON_KEV = 510.99895
COLLISIONS = 40
RING_CM = 0.5
RINGS = 160
FITTED_CM = 40.0
GRID_GAP_CM, GRID_RADIUS_CM = 10, 20.0
GRID_INDEX = GAP_CM.index(GRID_GAP_CM)


class Water:
    """What a photon can do in water, tabulated by energy: attenuation per cm, and angles by inverse distribution."""

    def __init__(self) -> None:
        import xraylib

        self.energy_kev = np.arange(8.0, 152.0, 2.0)
        cosine = np.cos(np.linspace(0.01, np.pi, 721))  # scattering functions are not tabulated near 0
        theta = np.arccos(cosine)
        self.quantile = np.linspace(0, 1, 513)
        self.rayleigh = np.empty((len(self.energy_kev), len(self.quantile)))
        self.compton = np.empty_like(self.rayleigh)
        for row, energy in enumerate(self.energy_kev.tolist()):
            for table, section in ((self.rayleigh, xraylib.DCS_Rayl_CP), (self.compton, xraylib.DCS_Compt_CP)):
                density = np.array([section("H2O", energy, angle) for angle in theta.tolist()])
                steps = (density[1:] + density[:-1]) / 2 * -np.diff(cosine)
                cumulative = np.concatenate([[0.0], np.cumsum(steps)])
                table[row] = np.interp(self.quantile, cumulative / cumulative[-1], cosine)
        self.total = np.array([xraylib.CS_Total_CP("H2O", e) for e in self.energy_kev.tolist()])
        self.coherent = np.array([xraylib.CS_Rayl_CP("H2O", e) for e in self.energy_kev.tolist()])
        self.incoherent = np.array([xraylib.CS_Compt_CP("H2O", e) for e in self.energy_kev.tolist()])

    def per_cm(self, values: np.ndarray, energy_kev: np.ndarray) -> np.ndarray:
        return np.exp(np.interp(np.log(energy_kev), np.log(self.energy_kev), np.log(values)))

    def cosine(self, table: np.ndarray, energy_kev: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        place = (energy_kev - self.energy_kev[0]) / (self.energy_kev[1] - self.energy_kev[0])
        row = np.clip((place + rng.random(len(place))).astype(int), 0, len(table) - 1)  # interpolates on average
        column = rng.random(len(place)) * (len(self.quantile) - 1)
        left = column.astype(int)
        return table[row, left] + (column - left) * (table[row, left + 1] - table[row, left])


def turned(direction: np.ndarray, cosine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (3, N) turned by a polar angle, in a random plane."""
    azimuth = rng.uniform(0, 2 * np.pi, len(cosine))
    sine = np.sqrt(np.maximum(0, 1 - cosine**2))
    helper = np.where(np.abs(direction[2]) < 0.9, np.array([[0.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [0.0]]))
    first = np.cross(direction, helper, axis=0)
    first /= np.linalg.norm(first, axis=0)
    second = np.cross(direction, first, axis=0)
    result = cosine * direction + sine * (np.cos(azimuth) * first + np.sin(azimuth) * second)
    return result / np.linalg.norm(result, axis=0)


def grid_transmission(
    grid: Grid, energy_kev: np.ndarray, direction: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Of photons with these directions (3, N) through a grid, each meeting it somewhere at random."""
    along = grid.height_mm / direction[2]
    across = np.abs(direction[0]) * along
    entry = rng.uniform(0, grid.period_mm, len(across))

    def lead_up_to(x: np.ndarray) -> np.ndarray:
        strips, rest = np.divmod(x, grid.period_mm)
        return strips * grid.strip_mm + np.minimum(rest, grid.strip_mm)

    covered = np.where(across > 1e-9, (lead_up_to(entry + across) - lead_up_to(entry)) / np.maximum(across, 1e-9), 0)
    return path_transmission(energy_kev, covered * along, (1 - covered) * along)


def signal_kev(energy_kev: np.ndarray, cosine: np.ndarray | float = 1.0) -> np.ndarray:
    path = Detector().scintillator_g_cm2 / np.maximum(cosine, 0.05)
    return -energy_kev * np.expm1(-physics.mass_attenuation_cm2_g("caesium_iodide", energy_kev) * path)


def scattered(water: Water, kvp: float, thickness_cm: float, photons: int, rng: np.random.Generator):
    """Scattered signal per primary signal in rings, (gaps, RINGS), and what grids let through of it, per primary."""
    spectrum = physics.tube_spectrum(kvp, 3.0)
    used = spectrum.energy_kev > 10
    energies, fluence = spectrum.energy_kev[used], spectrum.fluence[used]
    depth = water.per_cm(water.total, energies) * thickness_cm
    primary = fluence @ (signal_kev(energies) * np.exp(-depth))
    chance = fluence * energies * np.exp(-0.7 * depth)
    chance /= chance.sum()
    drawn = rng.choice(len(energies), photons, p=chance)
    energy = energies[drawn] + rng.uniform(-0.5, 0.5, photons)
    weight = fluence[drawn] / chance[drawn] / photons
    attenuation = water.per_cm(water.total, energy)
    weight *= -np.expm1(-attenuation * thickness_cm)
    z = -np.log1p(rng.random(photons) * np.expm1(-attenuation * thickness_cm)) / attenuation
    position = np.stack([np.zeros(photons), np.zeros(photons), z])
    direction = np.repeat([[0.0], [0.0], [1.0]], photons, axis=1)
    rings = np.zeros((len(GAP_CM), RINGS))
    passed, met = np.zeros(len(GRID_RATIOS)), 0.0
    for _ in range(COLLISIONS):
        total = water.per_cm(water.total, energy)
        coherent, incoherent = water.per_cm(water.coherent, energy), water.per_cm(water.incoherent, energy)
        weight = weight * (coherent + incoherent) / total
        elastic = rng.random(len(energy)) < coherent / (coherent + incoherent)
        cosine = np.where(elastic, water.cosine(water.rayleigh, energy, rng), water.cosine(water.compton, energy, rng))
        energy = np.where(elastic, energy, energy / (1 + energy / ELECTRON_KEV * (1 - cosine)))
        direction = turned(direction, cosine, rng)
        alive = energy > 10
        energy, weight = energy[alive], weight[alive]
        position, direction = position[:, alive], direction[:, alive]
        total = water.per_cm(water.total, energy)
        down = direction[2] > 1e-3
        steep = direction[:, down]
        to_exit = (thickness_cm - position[2, down]) / steep[2]
        score = weight[down] * np.exp(-total[down] * to_exit) * signal_kev(energy[down], steep[2]) / primary
        exit_xy = position[:2, down] + to_exit * steep[:2]
        for index, gap in enumerate(GAP_CM):
            radius = np.hypot(*(exit_xy + gap * steep[:2] / steep[2]))
            ring = np.minimum((radius / RING_CM).astype(int), RINGS)
            rings[index] += np.bincount(ring, score, RINGS + 1)[:RINGS]
            if index == GRID_INDEX:
                near = radius < GRID_RADIUS_CM
                met += score[near].sum()
                for k, ratio in enumerate(GRID_RATIOS):
                    passed[k] += score[near] @ grid_transmission(Grid(ratio), energy[down][near], steep[:, near], rng)
        position = position + direction * rng.exponential(1 / total)
        inside = (position[2] > 0) & (position[2] < thickness_cm)
        energy, weight = energy[inside], weight[inside]
        position, direction = position[:, inside], direction[:, inside]
    kept = [
        fluence @ (signal_kev(energies) * np.exp(-depth) * Grid(r).primary_transmission(energies)) for r in GRID_RATIOS
    ]
    return rings, passed / met / (np.array(kept) / primary)


def gaussians(rings: np.ndarray) -> tuple[np.ndarray, float]:
    """Share of each Gaussian, and the largest error of the signal within a circle from 2 cm on, per the last."""
    from scipy.optimize import nnls

    count = round(FITTED_CM / RING_CM)
    radius = RING_CM * np.arange(1, count + 1)
    within = np.cumsum(rings)[:count]
    basis = -np.expm1(-(radius[:, None] ** 2) / (2 * np.array(SIGMA_CM) ** 2))
    share, _ = nnls(basis, within)
    return share, float(np.abs(basis @ share - within)[3:].max() / within[-1])


def rows(photons: int):
    water = Water()
    for kvp in KVP:
        for thickness in WATER_CM:
            rng = np.random.default_rng([kvp, thickness])
            rings, grids = scattered(water, kvp, thickness, photons, rng)
            for index, gap in enumerate(GAP_CM):
                share, error = gaussians(rings[index])
                sys.stderr.write(
                    f"{kvp} kVp {thickness} cm gap {gap} cm: {share.round(3)} error {error:.4f} {grids.round(3)}\n"
                )
                yield [kvp, thickness, gap, *(f"{v:.4f}" for v in share), *(f"{v:.4f}" for v in grids)]


def main(path: Path, photons: int) -> None:
    header = ["kvp", "water_cm", "gap_cm", *(f"sigma_{sigma:g}_cm" for sigma in SIGMA_CM)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *(f"grid_{ratio}" for ratio in GRID_RATIOS)])
        writer.writerows(rows(photons))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE,
        int(sys.argv[2]) if len(sys.argv) > 2 else 300_000,
    )

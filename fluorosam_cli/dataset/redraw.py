"""A radiograph drawn again from what its rays crossed: other tissues, another tube, another dose, and no rendering.

The chain is that of `render/detector.py` with what training can do without left out: few energies, no focal spot, no
light spread (a training pixel is wider than either), no heel effect, Gaussian noise. Attenuation, spectra, scatter and
the display are the renderer's own. `tissue_contrast.csv` says how far each tissue group varies; its numbers and those
below are ours.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
import torch

from fluorosam_cli.dataset.fields import cloud
from fluorosam_cli.render import display, physics
from fluorosam_cli.render.detector import Detector, add_scatter, detected_spectrum
from fluorosam_cli.render.exposure import Collimation, Exposure, technique_for
from fluorosam_cli.render.field import LEAF_TRANSMISSION, Geometry, exposed
from fluorosam_cli.render.integrals import Integrals

BONE_SPREAD, LUNG_SPREAD = 0.2, 0.2  # ln of what all bones, both lungs have more or less than the body rendered
FAT_SPREAD, SOFT_SPREAD = 0.2, 0.08  # the same of fat and soft tissue at large
OPACITY_SHARE = 0.25  # of views with lungs: something dense in them
OPACITY_G_CM3 = 0.1, 0.8
OUTSIDE_KVP = 10.0  # beyond the part's range on either side
OUTSIDE_MAS = 3.0  # times, and a fraction of, the part's range
KVP_STEP = 5.0  # so that spectra are made once
FILTERS_MM = (2.5, 0.0), (3.0, 0.1), (4.0, 0.2)  # aluminium, copper
SOURCE_TO_DETECTOR_MM = 1100.0  # for the dose alone, which varies more than this would
GAP_MM = 20.0, 300.0  # of air behind the body
SCATTER_SPREAD = 0.4  # ln of scatter against the slab model's
ENERGIES = 8
SCATTER_STEP = 0.1  # ln of pixel spacings taken for the same, so that kernels are made once
ROWS = 32  # of an image that are worked on at a time, so that they stay in the cache
SAMPLED_PX = 96  # side of the grid on which the display takes percentiles


@dataclass(frozen=True)
class Variety:
    """How a tissue group varies: a row of the table."""

    kind: str  # "soft", "lung", "bone", "air"
    spread: float  # standard deviation: g/cm3 gained by soft tissue, ln of the factor of lung and bone
    iodine_share: float  # of views
    iodine_mg_ml: tuple[float, float]
    gas_share: float  # of views


@cache
def varieties() -> dict[str, Variety]:
    """Tissue group -> how it varies."""
    text = (files("fluorosam_cli.dataset") / "tissue_contrast.csv").read_text(encoding="utf-8")
    return {
        row["tissue"]: Variety(
            row["kind"],
            float(row["spread"]),
            float(row["iodine_share"]),
            (float(row["iodine_low_mg_ml"]), float(row["iodine_high_mg_ml"])),
            float(row["gas_share"]),
        )
        for row in csv.DictReader(text.splitlines())
    }


@dataclass(frozen=True, eq=False)
class Body:
    """How a body differs from the one rendered; arrays (P,) are of the tissue groups in view.

    `gained_g_cm3` of soft tissue, of which gas takes away; `factor` of the lung or bone in the group; `iodine_g_cm3`.
    `gas` holds shares (h, w) of tissue groups that are gas; `opacity_g_cm3` (h, w) or None is what fills lungs.
    """

    gained_g_cm3: np.ndarray
    factor: np.ndarray
    iodine_g_cm3: np.ndarray
    fat: float = 1.0
    soft: float = 1.0
    gas: Mapping[str, np.ndarray] = field(default_factory=dict)
    opacity_g_cm3: np.ndarray | None = None


@dataclass(frozen=True)
class Air:
    """What the exposure leaves open: millimetres of air behind the body, and scatter against what is computed."""

    gap_mm: float = 150.0
    scatter: float = 1.0


def draw_body(rng: np.random.Generator, tissues: Sequence[str], shape: tuple[int, int]) -> Body:
    """Another body for a view (h, w) of these tissue groups."""
    of = [varieties()[name] for name in tissues]
    common = {"bone": BONE_SPREAD * rng.standard_normal(), "lung": LUNG_SPREAD * rng.standard_normal()}
    fat, soft = np.exp(np.array([FAT_SPREAD, SOFT_SPREAD]) * rng.standard_normal(2))
    change = np.array([v.spread for v in of]) * rng.standard_normal(len(of))
    filled = rng.random(len(of)) < [v.iodine_share for v in of]
    low, high = np.log(np.maximum([v.iodine_mg_ml for v in of], 1e-3)).reshape(-1, 2).T
    iodine = np.where(filled, np.exp(rng.uniform(low, high)) / 1000, 0)
    gassy = np.flatnonzero(rng.random(len(of)) < [v.gas_share for v in of])
    gas = {
        tissues[int(i)]: np.clip(rng.uniform(0.5, 1.5) * (cloud(rng, int(rng.integers(6, 16)), shape) - 1), 0, 0.7)
        for i in gassy
    }
    opacity = None
    if any(v.kind == "lung" for v in of) and rng.random() < OPACITY_SHARE:
        opacity = np.clip(cloud(rng, int(rng.integers(3, 10)), shape) - rng.uniform(-0.5, 1), 0, 1)
        opacity *= np.float32(rng.uniform(*OPACITY_G_CM3))
    return Body(
        gained_g_cm3=np.where([v.kind == "soft" for v in of], change, 0),
        factor=np.exp([c + common[v.kind] if v.kind in common else 0 for c, v in zip(change, of, strict=True)]),
        iodine_g_cm3=iodine,
        fat=float(fat),
        soft=float(soft),
        gas=gas,
        opacity_g_cm3=opacity,
    )


def draw_exposure(rng: np.random.Generator, view: str) -> tuple[Exposure, Air]:
    """Another exposure for the body part named in the view, in a wider range than the renderer's."""
    technique = technique_for(view)
    low, high = technique.kvp
    kvp = float(np.clip(KVP_STEP * round(rng.uniform(low - OUTSIDE_KVP, high + OUTSIDE_KVP) / KVP_STEP), 40, 150))
    least, most = technique.mas
    aluminium, copper = FILTERS_MM[int(rng.integers(len(FILTERS_MM)))]
    exposure = Exposure(
        kvp=kvp,
        mas=float(np.exp(rng.uniform(np.log(least / OUTSIDE_MAS), np.log(most * OUTSIDE_MAS)))),
        filtration_mm_al=aluminium,
        filtration_mm_cu=copper,
        grid_ratio=technique.grid_ratio if rng.random() < technique.grid_share else 0.0,
    )
    return exposure, Air(rng.uniform(*GAP_MM), float(np.exp(SCATTER_SPREAD * rng.standard_normal())))


def redrawn(
    integrals: Integrals,
    materials: Sequence[str],
    view: str,
    pixel_spacing_mm: float,
    rng: np.random.Generator,
    collimation: Collimation | None = None,
    coarser: float = 1.0,
) -> np.ndarray:
    """Another radiograph of the same rays, (h, w) float32 in [0, 1], bone bright, in the same collimated field.

    `pixel_spacing_mm` is that of the integrals. `collimation` is in pixels of an image of which each of theirs covers
    `coarser` in both directions.
    """
    shape = integrals.mass_g_cm2.shape[1:]
    inside = None
    if collimation is not None:
        left, top, right, bottom = ((v + 0.5) / coarser - 0.5 for v in collimation.box_xyxy)
        held = Exposure(kvp=70, mas=1, collimation=Collimation(collimation.shape, (left, top, right, bottom)))
        inside = exposed(held, Geometry(pixel_spacing_mm, SOURCE_TO_DETECTOR_MM, SOURCE_TO_DETECTOR_MM / 2), shape)
    mass, present = changed(integrals, materials, draw_body(rng, integrals.tissues, shape))
    exposure, air = draw_exposure(rng, view)
    intensity = detected(mass, present, exposure, pixel_spacing_mm, rng, air, inside)
    look, share = display.draw_look(rng), technique_for(view).window_share
    shown = display.display_image(intensity, look, inside, window_share=share, sampled_px=SAMPLED_PX)
    return shown.astype(np.float32) / 65535


# --- body -------------------------------------------------------------------------------------------------------------


def changed(integrals: Integrals, materials: Sequence[str], body: Body) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mass per area of the other body, (m, h, w) float32, and the materials that are in it."""
    most = (
        torch.from_numpy(integrals.mass_g_cm2.view(np.int16)).flatten(1).amax(1)
    )  # halves above 0 are integers above 0
    kept = [i for i, name in enumerate(materials) if most[i] > 0 or (name == "iodine" and body.iodine_g_cm3.any())]
    names = tuple(materials[i] for i in kept)
    planes = torch.from_numpy(integrals.mass_g_cm2[kept]).float().numpy()
    mass = dict(zip(names, planes, strict=True))  # views of them
    of = [varieties()[name].kind for name in integrals.tissues]
    lung, bone = (np.array([kind == name for kind in of], np.float32) for name in ("lung", "bone"))
    weights = [body.gained_g_cm3, body.iodine_g_cm3, lung, (body.factor - 1) * lung, bone, (body.factor - 1) * bone]
    per_mm = torch.from_numpy(np.stack(weights).astype(np.float32) / 10)
    rows = torch.from_numpy(integrals.path_mm).split(ROWS, dim=1)  # as few at a time as stay in the cache
    sums = torch.cat([torch.tensordot(per_mm, some.float(), 1) for some in rows], dim=1)
    gained, iodine, lungs, lung_more, bones, bone_more = sums.numpy()
    for tissue, share in body.gas.items():
        gained -= share * integrals.path_mm[integrals.tissues.index(tissue)].astype(np.float32) / 10
    if body.opacity_g_cm3 is not None:
        gained += body.opacity_g_cm3 * lungs
    for name, path, more in (("lung", lungs, lung_more), ("bone", bones, bone_more)):
        if name in mass:
            mass[name] *= 1 + more / np.maximum(path, 1e-3)
    if "adipose" in mass:
        mass["adipose"] *= np.float32(body.fat)
    if "soft_tissue" in mass:
        np.maximum(mass["soft_tissue"] * np.float32(body.soft) + gained, 0, out=mass["soft_tissue"])
    if "iodine" in mass:
        mass["iodine"] += iodine
    return planes, names


# --- exposure ---------------------------------------------------------------------------------------------------------


def detected(
    mass_g_cm2: np.ndarray,
    materials: tuple[str, ...],
    exposure: Exposure,
    pixel_spacing_mm: float,
    rng: np.random.Generator | None = None,
    air: Air = Air(),
    inside: np.ndarray | None = None,
) -> np.ndarray:
    """Detected intensity relative to the open beam, (h, w) float32; without `rng` there is no noise."""
    panel = Detector()
    tube = exposure.kvp, 1.0, exposure.filtration_mm_al, exposure.filtration_mm_cu, exposure.energy_kev
    energy, attenuation, signal_kev = _response(
        tube, exposure.grid_ratio, panel.scintillator_g_cm2, "iodine" in materials
    )
    area_cm2 = (pixel_spacing_mm / 10 * 1000 / SOURCE_TO_DETECTOR_MM) ** 2  # as seen at 1 m
    full_kev = float(signal_kev.sum()) * exposure.mas * area_cm2
    relative = signal_kev / signal_kev.sum()
    sums = np.stack([relative, relative * energy / full_kev]).astype(np.float32)
    minus = torch.from_numpy(attenuation[:, [physics.all_materials().index(name) for name in materials]])
    rows = torch.from_numpy(mass_g_cm2).split(ROWS, dim=1)
    relative_sums = torch.from_numpy(sums)
    parts = [torch.tensordot(relative_sums, torch.tensordot(minus, some, 1).exp_(), 1) for some in rows]
    mean, variance = torch.cat(parts, dim=1).numpy()
    if inside is not None:
        beam = np.where(inside, np.float32(1), np.float32(LEAF_TRANSMISSION))
        mean, variance = mean * beam, variance * beam
    if air.scatter:
        total = mass_g_cm2.sum(axis=0)
        spacing_mm = float(np.exp(SCATTER_STEP * np.round(np.log(pixel_spacing_mm) / SCATTER_STEP)))
        add_scatter(mean, variance, total, exposure.kvp, air.gap_mm, spacing_mm, exposure.grid_ratio, air.scatter)
    if rng is not None:
        electronic = panel.electronic_noise_kev * pixel_spacing_mm / panel.panel_pixel_mm / full_kev
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        mean = mean + noise * np.sqrt(variance + np.float32(electronic**2))
    return np.maximum(mean, 0)


@lru_cache(maxsize=4096)
def _response(
    tube: tuple[float, float, float, float, float | None], grid_ratio: float, scintillator_g_cm2: float, iodine: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energies left of the spectrum (n,), minus the attenuation of all materials (n, all), and the signal in keV per
    mAs and cm2 at 1 m (n,). Of absorption edges only that of iodine counts: metals stop nearly all in any case.
    """
    edges = physics.absorption_edges_kev(["iodine"] if iodine else [])
    nodes, signal = detected_spectrum(*tube, grid_ratio, scintillator_g_cm2, edges, ENERGIES)
    attenuation = [physics.mass_attenuation_cm2_g(material, nodes) for material in physics.all_materials()]
    return nodes, -np.stack(attenuation, axis=1).astype(np.float32), signal

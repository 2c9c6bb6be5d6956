"""From mass per area to what the panel reads: exposure, energy-integrating detection, blur and noise.

Intensities are relative to the open beam at the central ray. In the order of nature: each material attenuates, the
focal spot blurs, the collimator and the tube shape the field, scatter is added; then quanta are counted, the
scintillator's light spreads each of them, the electronics add their noise; last, the flat field is divided out.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render import physics
from fluorosam_cli.render.coarse import reduced
from fluorosam_cli.render.exposure import Exposure
from fluorosam_cli.render.field import Geometry, aperture, shading
from fluorosam_cli.render.materials import MATERIALS
from fluorosam_cli.render.scatter import CELL_MM, Grid, scattered_signal


@dataclass(frozen=True)
class Detector:
    """A flat panel with a caesium iodide scintillator.

    The numbers are our choice. 0.2 g/cm2 is 0.6 mm of needles filling three quarters of their layer. Electronic noise:
    two photons of 50 keV a pixel; such panels are modelled by Siewerdsen et al., Med Phys 24:71 (1997). The
    scintillator's transfer function is 1 / (1 + H f^2); with the pixel's own it gives 68, 32 and 15 % at 1, 2 and 3
    line pairs per mm.
    """

    scintillator_g_cm2: float = 0.2
    scintillator_h_mm2: float = 0.42
    electronic_noise_kev: float = 100.0  # standard deviation in a pixel of the panel
    panel_pixel_mm: float = 0.15  # a wider image pixel is a sum of these


def expose(
    mass_g_cm2: np.ndarray,
    exposure: Exposure,
    geometry: Geometry,
    rng: np.random.Generator | None,
    detector: Detector = Detector(),
    materials: tuple[str, ...] = MATERIALS,
    without: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Detected intensity relative to the open beam, (H, W) float32, from mass per area (M, H, W).

    An absorbed photon gives a signal in proportion to its energy: the mean is the sum over energies of fluence x
    absorption x energy x exp(-sum over materials of mu/rho x mass), the quantum variance the same sum with energy
    squared. Both are kept by drawing the counts of photons of one effective energy per pixel. Photons per pixel follow
    from the mAs, the distance (inverse square) and the pixel's area; electronic noise is Gaussian. `without` names
    terms of `exposure.TERMS` to leave out; `rng` None means no noise.
    """
    _check(mass_g_cm2, exposure, geometry, materials)
    shape = mass_g_cm2.shape[1:]
    spacing_mm = geometry.pixel_spacing_mm
    ratio = 0.0 if "grid" in without else exposure.grid_ratio
    mean, variance, full_kev = _primary(mass_g_cm2, exposure, geometry, detector, materials, ratio)
    if "blur" not in without:
        taps = focal_spot_taps(exposure.focal_spot_mm, geometry)
        mean, variance = convolved(mean, taps), convolved(variance, taps)  # sums of independent quanta add up in both
    shade = shading(exposure, geometry, shape, without)
    beam = shade
    opened = None if "collimation" in without else aperture(exposure, geometry, shape)
    if opened is not None:
        beam = opened if beam is None else beam * opened
    if beam is not None:
        mean *= beam
        variance *= beam
    if "scatter" not in without:
        mass = mass_g_cm2.sum(axis=0)
        add_scatter(mean, variance, mass, exposure.kvp, gap_behind(mass, geometry), spacing_mm, ratio)
    if "noise" in without:
        rng = None
    signal = mean if rng is None else _counted(mean, variance, rng)
    if "blur" not in without:
        signal = convolved(signal, scintillator_taps(detector.scintillator_h_mm2, spacing_mm))
    if rng is not None:
        electronic = detector.electronic_noise_kev * spacing_mm / detector.panel_pixel_mm / full_kev
        signal += rng.standard_normal(shape, dtype=np.float32) * np.float32(electronic)
    if exposure.flat_fielded and shade is not None:
        signal /= shade
    return np.maximum(signal, 0)  # as a panel's offset correction clips


def add_scatter(
    mean: np.ndarray,
    variance: np.ndarray,
    mass_g_cm2: np.ndarray,
    kvp: float,
    gap_mm: float,
    spacing_mm: float,
    grid_ratio: float,
    share: float = 1.0,
) -> None:
    """To the signal (H, W) of the primary photons and to its variance; `share` of what the slab model says."""
    scattered = scattered_signal(mean, mass_g_cm2, kvp, gap_mm, spacing_mm, grid_ratio)
    scattered *= np.float32(share)
    energy = float(variance.sum() / max(mean.sum(), 1e-30))  # a scattered photon counts about as a primary one does
    mean += scattered
    scattered *= np.float32(energy)
    variance += scattered


def gap_behind(mass_g_cm2: np.ndarray, geometry: Geometry) -> float:
    """Air between body and detector in mm, if the body lies around the isocentre.

    Its depth is that of its densest parts: what is thin on the picture is as a rule lung, not a thinner body.
    """
    mass = reduced(mass_g_cm2, max(1, round(CELL_MM / geometry.pixel_spacing_mm)))
    body = mass[mass > 1]
    half_depth_mm = 10 * float(np.percentile(body, 90)) / 2 if body.size else 0.0
    return max(0.0, geometry.source_to_detector_mm - geometry.source_to_isocenter_mm - half_depth_mm)


def _check(mass: np.ndarray, exposure: Exposure, geometry: Geometry, materials: tuple[str, ...]) -> None:
    if mass.ndim != 3 or len(mass) != len(materials):
        raise FluoroError(
            f"mass maps of shape {mass.shape} for {len(materials)} materials",
            f"give one map for each of {', '.join(materials)}",
        )
    if min(exposure.mas, geometry.pixel_spacing_mm, geometry.source_to_detector_mm) <= 0:
        raise FluoroError(
            "mAs, pixel spacing and source-to-detector distance must be above 0", "check the view's numbers"
        )


# --- detection --------------------------------------------------------------------------------------------------------

_ENERGIES = 16
_BLOCK = 8192  # pixels whose transmissions at all energies stay in the cache


@dataclass(frozen=True, eq=False)
class _Response:
    """Energies left of the spectrum, attenuation (M, n), and the signal in keV per cm2 at 1 m each carries in vacuo."""

    energy_kev: np.ndarray
    attenuation: np.ndarray
    signal_kev: np.ndarray


def detected_spectrum(
    kvp: float,
    mas: float,
    aluminium_mm: float,
    copper_mm: float,
    energy_kev: float | None,
    grid_ratio: float,
    scintillator_g_cm2: float,
    edges_kev: tuple[float, ...],
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The spectrum behind tube, grid and scintillator as `count` energies, fewer with a given `energy_kev`, and the
    signal in keV per cm2 at 1 m of each.
    """
    spectrum = physics.tube_spectrum(kvp, aluminium_mm, copper_mm)
    energy, fluence = spectrum.energy_kev, spectrum.fluence * mas
    if energy_kev is not None:
        energy, fluence = np.array([energy_kev]), np.array([fluence.sum()])
    if grid_ratio:
        fluence = fluence * Grid(grid_ratio).primary_transmission(energy)
    absorbed = -np.expm1(-physics.mass_attenuation_cm2_g("caesium_iodide", energy) * scintillator_g_cm2)
    return physics.gauss_energies(energy, fluence * absorbed * energy, edges_kev, count)


@lru_cache(maxsize=64)
def _response(
    exposure: tuple[float, float, float, float, float | None],
    detector: Detector,
    materials: tuple[str, ...],
    grid_ratio: float,
) -> _Response:
    edges = physics.absorption_edges_kev(materials)
    nodes, signal = detected_spectrum(*exposure, grid_ratio, detector.scintillator_g_cm2, edges, _ENERGIES)
    attenuation = np.stack([physics.mass_attenuation_cm2_g(material, nodes) for material in materials])
    return _Response(nodes, attenuation, signal)


def _primary(
    mass_g_cm2: np.ndarray,
    exposure: Exposure,
    geometry: Geometry,
    detector: Detector,
    materials: tuple[str, ...],
    grid_ratio: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and variance of the primary signal, (H, W) each, and the keV that are 1; before the field is shaped."""
    present = [row for row in range(len(materials)) if mass_g_cm2[row].any()] or [0]  # fewer edges, fewer energies
    tube = (exposure.kvp, exposure.mas, exposure.filtration_mm_al, exposure.filtration_mm_cu, exposure.energy_kev)
    response = _response(tube, detector, tuple(materials[row] for row in present), grid_ratio)
    area_cm2 = (geometry.pixel_spacing_mm / 10) ** 2 * (1000 / geometry.source_to_detector_mm) ** 2  # as seen at 1 m
    full_kev = float(response.signal_kev.sum() * area_cm2)
    relative = response.signal_kev / response.signal_kev.sum()
    sums = np.stack([relative, relative * response.energy_kev / full_kev]).astype(np.float32)
    minus_attenuation = -response.attenuation.T.astype(np.float32)
    pixels = mass_g_cm2.reshape(len(materials), -1)
    result = np.empty((2, pixels.shape[1]), dtype=np.float32)
    for start in range(0, pixels.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        transmission = minus_attenuation @ pixels[present, block].astype(np.float32, copy=False)
        np.exp(transmission, out=transmission)
        np.matmul(sums, transmission, out=result[:, block])
    mean, variance = result.reshape(2, *mass_g_cm2.shape[1:])
    return mean, variance, full_kev


_FEW_PHOTONS = 200.0  # from here up a Gaussian stands in for the Poisson distribution, in a tenth of the time


def _counted(mean: np.ndarray, variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The signal with its quantum noise."""
    noisy = rng.standard_normal(mean.shape, dtype=np.float32)
    noisy *= np.sqrt(variance)
    noisy += mean
    few = np.nonzero(mean * mean < _FEW_PHOTONS * variance)
    if len(few[0]):
        photon = variance[few] / np.maximum(mean[few], np.finfo(np.float32).tiny)
        counts = rng.poisson(np.divide(mean[few], photon, out=np.zeros_like(photon), where=photon > 0))
        noisy[few] = counts * photon
    return noisy


# --- blur -------------------------------------------------------------------------------------------------------------


def scintillator_taps(h_mm2: float, pixel_spacing_mm: float) -> np.ndarray:
    """Shares of a pixel's light that its neighbours along one axis read, (2 n + 1,), centre in the middle.

    The line spread of 1 / (1 + H f^2) is exp(-2 pi |x| / sqrt(H)), here integrated over each pixel; along both axes it
    stands for the rotationally symmetric one. The quanta's noise is spread with the signal: that light is spread less
    from where it arises near the diodes (Lubberts) is left out.
    """
    if h_mm2 <= 0:
        return np.ones(1, dtype=np.float32)
    per_pixel = 2 * np.pi / np.sqrt(h_mm2) * pixel_spacing_mm
    count = int(np.ceil(np.log(1e4) / per_pixel))
    tail = 0.5 * np.exp(-per_pixel * (np.arange(count + 1) + 0.5))  # beyond the far side of each pixel
    side = tail[:-1] - tail[1:]
    return _symmetric(1 - 2 * tail[0], side)


def focal_spot_taps(focal_spot_mm: float, geometry: Geometry) -> np.ndarray:
    """The image of the focal spot through a point at the isocentre, as shares of pixels along one axis, (2 n + 1,)."""
    unsharp_mm = focal_spot_mm * (geometry.source_to_detector_mm / geometry.source_to_isocenter_mm - 1)
    half_px = max(unsharp_mm / geometry.pixel_spacing_mm / 2, 0.5)  # narrower than a pixel, it is within one
    reach = np.minimum(np.arange(int(np.ceil(half_px + 0.5))) + 0.5, half_px)
    return _symmetric(0.5 / half_px, np.diff(reach) / (2 * half_px))


def _symmetric(centre: float, side: np.ndarray) -> np.ndarray:
    taps = np.concatenate([side[::-1], [centre], side])
    return (taps / taps.sum()).astype(np.float32)


def convolved(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """The image (H, W) with symmetric taps along both axes; what lies beyond the border is as at the border."""
    middle = len(taps) // 2
    for axis in (0, 1) if middle else ():
        width = [(middle, middle) if axis == a else (0, 0) for a in (0, 1)]
        padded = np.pad(image, width, mode="edge")
        size = image.shape[axis]
        shifted = [padded[k : k + size] if axis == 0 else padded[:, k : k + size] for k in range(len(taps))]
        image = image * taps[middle]
        for k in range(middle):
            image += taps[k] * (shifted[k] + shifted[-1 - k])
    return image

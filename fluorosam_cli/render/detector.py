"""From mass per area to a radiograph: exposure, energy-integrating detection, noise, and the picture shown.

Intensities are relative to the unattenuated beam. Not modelled yet: scatter, detector blur, grid, heel effect.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render import physics


@dataclass(frozen=True)
class Exposure:
    """How the tube is driven. With `energy_kev` all its photons have that one energy (for tests and calibration)."""

    kvp: float
    mas: float
    filtration_mm_al: float = 2.5
    filtration_mm_cu: float = 0.0
    energy_kev: float | None = None


@dataclass(frozen=True)
class Detector:
    """A flat panel with a caesium iodide scintillator.

    0.2 g/cm2 is 0.6 mm of needles filling three quarters of their layer. Electronic noise: some 2000 electrons a pixel
    against about 1000 per absorbed 50 keV photon; sizes as in Siewerdsen et al., Med Phys 24:71 (1997).
    """

    scintillator_g_cm2: float = 0.2
    electronic_noise_kev: float = 100.0  # standard deviation in a pixel of the panel
    panel_pixel_mm: float = 0.15  # a wider image pixel is a sum of these


# --- exposure ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Technique:
    kvp: tuple[float, float]
    mas: tuple[float, float]


# Tube voltages of the European Guidelines on Quality Criteria for Diagnostic Radiographic Images (EUR 16260, 1996) and,
# for the limbs, of usual technique charts; mAs that bring 1-10 microgray behind a body of usual size to the detector.
_TECHNIQUES: dict[str, _Technique] = {
    "chest": _Technique((100, 125), (1.5, 6)),
    "abdomen": _Technique((70, 90), (10, 50)),
    "pelvis": _Technique((70, 85), (10, 50)),
    "lumbar": _Technique((75, 95), (20, 120)),
    "thoracic": _Technique((70, 90), (10, 50)),
    "cervical": _Technique((65, 80), (5, 20)),
    "skull": _Technique((65, 85), (8, 30)),
    "shoulder": _Technique((60, 75), (4, 15)),
    "thigh": _Technique((65, 75), (4, 15)),
    "knee": _Technique((55, 68), (2, 8)),
    "extremity": _Technique((50, 65), (0.6, 3)),
    "general": _Technique((70, 110), (4, 40)),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "chest": ("chest", "thorax", "lung", "rib", "heart", "cardiac"),
    "abdomen": ("abdomen", "kidney"),
    "pelvis": ("pelvis", "hip", "inlet", "outlet", "judet", "sacrum"),
    "lumbar": ("lumbar",),
    "thoracic": ("thoracic",),
    "cervical": ("cervical", "neck"),
    "skull": ("skull", "head", "towne", "waters", "face"),
    "shoulder": ("shoulder", "grashey", "scapula", "clavicle", "humerus"),
    "thigh": ("femur", "thigh"),
    "knee": ("knee", "sunrise", "patella", "tibia"),
    "extremity": ("hand", "wrist", "elbow", "forearm", "finger", "ankle", "foot", "toe", "mortise", "extremity"),
}


def draw_exposure(rng: np.random.Generator, view_name: str) -> Exposure:
    """A plausible exposure for the body part named in the view, drawn from that part's range.

    Uniform in kVp, log-uniform in mAs; a name with no known body part (`ap`, `random`) gets the range of trunk work.
    """
    words = view_name.lower().replace("-", "_").split("_")
    part = next((part for part, names in _WORDS.items() if any(word in names for word in words)), "general")
    technique = _TECHNIQUES[part]
    return Exposure(
        kvp=round(float(rng.uniform(*technique.kvp)), 1),
        mas=float(f"{np.exp(rng.uniform(*np.log(technique.mas))):.3g}"),
        filtration_mm_al=round(float(rng.uniform(2.5, 4.0)), 2),
        filtration_mm_cu=float(rng.choice([0.0, 0.1, 0.2])),
    )


# --- detection --------------------------------------------------------------------------------------------------------

_ENERGIES = 16
_BLOCK = 8192  # pixels whose transmissions at all energies stay in the cache


@dataclass(frozen=True)
class _Response:
    """Energies left of the spectrum, attenuation (M, n), and the signal in keV per cm2 at 1 m each carries in vacuo."""

    energy_kev: np.ndarray
    attenuation: np.ndarray
    signal_kev: np.ndarray


@lru_cache(maxsize=64)
def _response(exposure: Exposure, detector: Detector, materials: tuple[str, ...]) -> _Response:
    spectrum = physics.tube_spectrum(exposure.kvp, exposure.filtration_mm_al, exposure.filtration_mm_cu)
    energy, fluence = spectrum.energy_kev, spectrum.fluence * exposure.mas
    if exposure.energy_kev is not None:
        energy, fluence = np.array([exposure.energy_kev]), np.array([fluence.sum()])
    absorbed = -np.expm1(-physics.mass_attenuation_cm2_g("caesium_iodide", energy) * detector.scintillator_g_cm2)
    edges = physics.absorption_edges_kev(materials)
    nodes, signal = physics.gauss_energies(energy, fluence * absorbed * energy, edges, _ENERGIES)
    attenuation = np.stack([physics.mass_attenuation_cm2_g(material, nodes) for material in materials])
    return _Response(nodes, attenuation, signal)


def expose(
    mass_g_cm2: np.ndarray,
    exposure: Exposure,
    pixel_spacing_mm: float,
    source_to_detector_mm: float,
    rng: np.random.Generator | None,
    detector: Detector = Detector(),
    materials: tuple[str, ...] = physics.MATERIALS,
) -> np.ndarray:
    """Detected intensity relative to the unattenuated beam, (H, W) float32, from mass per area (M, H, W).

    An absorbed photon gives a signal in proportion to its energy: the mean is the sum over energies of fluence x
    absorption x energy x exp(-sum over materials of mu/rho x mass), the quantum variance the same sum with energy
    squared. Both are kept by drawing the counts of photons of one effective energy per pixel. Photons per pixel follow
    from the mAs, the distance (inverse square) and the pixel's area; electronic noise is Gaussian. `rng` None means no
    noise at all.
    """
    if mass_g_cm2.ndim != 3 or len(mass_g_cm2) != len(materials):
        raise FluoroError(
            f"mass maps of shape {mass_g_cm2.shape} for {len(materials)} materials",
            f"give one map for each of {', '.join(materials)}",
        )
    if exposure.mas <= 0 or pixel_spacing_mm <= 0 or source_to_detector_mm <= 0:
        raise FluoroError(
            "mAs, pixel spacing and source-to-detector distance must be above 0", "check the view's numbers"
        )
    response = _response(exposure, detector, materials)
    pixels = mass_g_cm2.reshape(len(materials), -1)
    area_cm2 = (pixel_spacing_mm / 10) ** 2 * (1000 / source_to_detector_mm) ** 2  # as seen at 1 m
    full_kev = response.signal_kev.sum() * area_cm2
    relative = response.signal_kev / response.signal_kev.sum()
    sums = np.stack([relative, relative * response.energy_kev / full_kev]).astype(np.float32)
    minus_attenuation = -response.attenuation.T.astype(np.float32)
    electronic = detector.electronic_noise_kev * (pixel_spacing_mm / detector.panel_pixel_mm) / full_kev
    intensity = np.empty(pixels.shape[1], dtype=np.float32)
    for start in range(0, len(intensity), _BLOCK):
        block = slice(start, start + _BLOCK)
        transmission = minus_attenuation @ pixels[:, block].astype(np.float32, copy=False)
        np.exp(transmission, out=transmission)
        mean, variance = sums @ transmission
        intensity[block] = mean if rng is None else _noisy(mean, variance, electronic, rng)
    return intensity.reshape(mass_g_cm2.shape[1:])


_FEW_PHOTONS = 200.0  # from here up a Gaussian stands in for the Poisson distribution, in a tenth of the time


def _noisy(mean: np.ndarray, variance: np.ndarray, electronic: float, rng: np.random.Generator) -> np.ndarray:
    """Quantum and electronic noise; what would come out negative is clipped, as a panel's offset correction does."""
    normal = rng.standard_normal(len(mean), dtype=np.float32)
    noisy = mean + normal * np.sqrt(variance + np.float32(electronic**2))
    few = np.flatnonzero(mean * mean < _FEW_PHOTONS * variance)
    if len(few):
        photon = variance[few] / np.maximum(mean[few], np.finfo(np.float32).tiny)
        counts = rng.poisson(np.divide(mean[few], photon, out=np.zeros_like(photon), where=photon > 0))
        noisy[few] = counts * photon + normal[few] * np.float32(electronic)
    return np.maximum(noisy, 0)


# --- display ----------------------------------------------------------------------------------------------------------

_DIRECT = 0.8  # above this fraction of the open beam there is no patient in front of the pixel
_COLLIMATED = 1e-5  # below, nothing arrives: leaf of the collimator, or too thick to tell
_WINDOW_PERCENT = (0.5, 99.5)


def display_image(intensity: np.ndarray) -> np.ndarray:
    """The radiograph as shown, (H, W) uint16, bone bright: negative logarithm, windowed on the patient.

    The window runs between percentiles of the pixels behind the patient; direct exposure and collimated pixels do not
    count towards it and end up black and white. All of the image counts when hardly a pixel shows a patient.
    """
    attenuation = -np.log(np.maximum(intensity, np.float32(_COLLIMATED)))
    patient = attenuation[(intensity < _DIRECT) & (intensity > _COLLIMATED)]
    if patient.size < 0.005 * attenuation.size:
        patient = attenuation.ravel()
    low, high = np.percentile(patient, _WINDOW_PERCENT)
    shown = (attenuation - low) / max(high - low, 1e-6)
    return np.rint(np.clip(shown, 0, 1) * 65535).astype(np.uint16)

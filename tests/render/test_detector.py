import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render import physics
from fluorosam_cli.render.detector import Detector, Exposure, display_image, draw_exposure, expose

SPACING_MM, DISTANCE_MM = 0.5, 1200.0
QUIET = Detector(electronic_noise_kev=0)


def slab(material: str, g_cm2, shape=(1, 1)) -> np.ndarray:
    mass = np.zeros((len(physics.MATERIALS), *shape), dtype=np.float32)
    mass[physics.MATERIALS.index(material)] = g_cm2
    return mass


def noiseless(mass: np.ndarray, exposure: Exposure) -> np.ndarray:
    return expose(mass, exposure, SPACING_MM, DISTANCE_MM, None)


# --- the mean ---------------------------------------------------------------------------------------------------------


def test_one_energy_is_beer_lambert():
    rng = np.random.default_rng(0)
    mass = rng.uniform(0, 8, (len(physics.MATERIALS), 50, 40)).astype(np.float32)
    attenuation = [float(physics.mass_attenuation_cm2_g(material, 60.0)) for material in physics.MATERIALS]
    truth = np.exp(-np.tensordot(attenuation, mass.astype(np.float64), axes=1))
    found = noiseless(mass, Exposure(80, 10, energy_kev=60.0))
    assert found.dtype == np.float32
    assert found.shape == (50, 40)
    assert found == pytest.approx(truth, rel=1e-4)


def test_many_energies_are_the_sum_over_the_spectrum():
    exposure = Exposure(110, 3, 3.0, 0.1)
    spectrum = physics.tube_spectrum(110, 3.0, 0.1)
    absorbed = 1 - np.exp(-0.2 * physics.mass_attenuation_cm2_g("caesium_iodide", spectrum.energy_kev))
    weight = spectrum.fluence * absorbed * spectrum.energy_kev
    mass = slab("soft_tissue", np.linspace(0, 35, 30), (1, 30)) + slab("bone", np.linspace(6, 0, 30), (1, 30))
    depth = sum(
        mass[row, 0, :, None] * physics.mass_attenuation_cm2_g(material, spectrum.energy_kev)
        for row, material in enumerate(physics.MATERIALS)
    )
    truth = np.exp(-depth) @ weight / weight.sum()
    assert noiseless(mass, exposure)[0] == pytest.approx(truth, rel=0.005)


def test_nothing_in_the_beam_leaves_all_of_it():
    assert noiseless(slab("lung", 0, (5, 5)), Exposure(70, 1)) == pytest.approx(1, rel=1e-5)


def test_water_hardens_the_beam():
    thickness = np.arange(1, 41, dtype=np.float32)
    effective = -np.log(noiseless(slab("soft_tissue", thickness, (1, 40)), Exposure(80, 10))[0]) / thickness
    assert (np.diff(effective) < 0).all()
    assert effective[0] > 1.15 * effective[-1]


# --- the noise --------------------------------------------------------------------------------------------------------


def photons_per_pixel(exposure: Exposure, spectrum: physics.Spectrum) -> np.ndarray:
    """Absorbed photons in each energy bin, from first principles."""
    area_cm2 = (SPACING_MM / 10) ** 2
    absorbed = 1 - np.exp(-0.2 * physics.mass_attenuation_cm2_g("caesium_iodide", spectrum.energy_kev))
    return spectrum.fluence * exposure.mas * area_cm2 * (1000 / DISTANCE_MM) ** 2 * absorbed


@pytest.mark.parametrize("mas", [4.0, 0.02, 1e-4])  # many photons, few, a handful
@pytest.mark.parametrize("g_cm2", [0.0, 10.0])
def test_variance_over_mean_of_a_flat_field_is_that_of_theory(mas, g_cm2):
    exposure = Exposure(80, mas)
    spectrum = physics.tube_spectrum(80)
    energy = spectrum.energy_kev
    open_beam = photons_per_pixel(exposure, spectrum)
    behind = open_beam * np.exp(-g_cm2 * physics.mass_attenuation_cm2_g("soft_tissue", energy))
    full = open_beam @ energy
    mean, variance = behind @ energy / full, behind @ energy**2 / full**2
    rng = np.random.default_rng(3)
    field = expose(slab("soft_tissue", g_cm2, (400, 400)), exposure, SPACING_MM, DISTANCE_MM, rng, QUIET)
    field = field.astype(np.float64)
    assert field.mean() == pytest.approx(mean, rel=0.01)
    assert field.var() / field.mean() == pytest.approx(variance / mean, rel=0.03)


def test_one_energy_has_poisson_noise():
    exposure = Exposure(80, 0.01, energy_kev=50.0)
    spectrum = physics.tube_spectrum(80)
    absorbed = 1 - np.exp(-0.2 * float(physics.mass_attenuation_cm2_g("caesium_iodide", 50.0)))
    count = spectrum.fluence.sum() * 0.01 * (SPACING_MM / 10) ** 2 * (1000 / DISTANCE_MM) ** 2 * absorbed
    rng = np.random.default_rng(5)
    field = expose(slab("lung", 0, (400, 400)), exposure, SPACING_MM, DISTANCE_MM, rng, QUIET).astype(np.float64)
    assert 1 / field.var() == pytest.approx(count, rel=0.03)


def test_noise_falls_with_mas_and_pixel_area_and_grows_with_distance():
    def spread(mas=2.0, spacing=SPACING_MM, distance=DISTANCE_MM) -> float:
        rng = np.random.default_rng(0)
        return float(
            expose(slab("soft_tissue", 10, (200, 200)), Exposure(80, mas), spacing, distance, rng, QUIET).std()
        )

    assert spread(mas=8) == pytest.approx(spread() / 2, rel=0.03)
    assert spread(spacing=2 * SPACING_MM) == pytest.approx(spread() / 2, rel=0.03)
    assert spread(distance=2 * DISTANCE_MM) == pytest.approx(spread() * 2, rel=0.03)


def test_electronic_noise_is_what_is_left_in_the_dark():
    exposure = Exposure(70, 1)
    spectrum = physics.tube_spectrum(70)
    full_kev = photons_per_pixel(exposure, spectrum) @ spectrum.energy_kev
    panel = Detector(electronic_noise_kev=300, panel_pixel_mm=SPACING_MM / 2)  # four panel pixels make one of the image
    rng = np.random.default_rng(1)
    dark = expose(slab("bone", 1000, (300, 300)), exposure, SPACING_MM, DISTANCE_MM, rng, panel).astype(np.float64)
    assert dark.min() == 0
    half_of_them_clipped = 600 / full_kev / np.sqrt(2)
    assert np.sqrt((dark**2).mean()) == pytest.approx(half_of_them_clipped, rel=0.02)


def test_the_same_seed_gives_the_same_bytes():
    mass = np.random.default_rng(0).uniform(0, 8, (len(physics.MATERIALS), 120, 130)).astype(np.float32)
    runs = [
        expose(mass, Exposure(70, 0.5), SPACING_MM, DISTANCE_MM, np.random.default_rng([1, 2, seed]))
        for seed in (3, 3, 4)
    ]
    assert runs[0].tobytes() == runs[1].tobytes()
    assert runs[0].tobytes() != runs[2].tobytes()
    assert np.isfinite(runs[0]).all()


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(FluoroError, match="for 4 materials"):
        noiseless(np.zeros((2, 5, 5), dtype=np.float32), Exposure(80, 1))
    with pytest.raises(FluoroError, match="mAs"):
        noiseless(slab("bone", 1), Exposure(80, 0))


def test_contrast_agents_can_be_added():
    mass = np.concatenate([slab("soft_tissue", 20, (1, 2)), np.array([[[0.0, 0.05]]], dtype=np.float32)])
    found = expose(mass, Exposure(80, 5), 0.5, 1000, None, materials=(*physics.MATERIALS, "iodine"))
    assert found[0, 1] < 0.8 * found[0, 0]


# --- exposures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "low", "high"),
    [
        ("chest_pa", 100, 125),
        ("pelvis_ap", 70, 85),
        ("hand_pa", 50, 65),
        ("knee_lateral", 55, 68),
        ("skull_lateral", 65, 85),
        ("random", 70, 110),
    ],
)
def test_exposures_fit_the_body_part(view, low, high):
    rng = np.random.default_rng(0)
    drawn = [draw_exposure(rng, view) for _ in range(200)]
    kvps = np.array([exposure.kvp for exposure in drawn])
    assert low <= kvps.min() < kvps.max() <= high
    assert np.ptp(kvps) > 0.8 * (high - low)
    assert all(0.5 < exposure.mas < 130 and exposure.filtration_mm_al >= 2.5 for exposure in drawn)
    again = np.random.default_rng(0)
    assert drawn == [draw_exposure(again, view) for _ in range(200)]


def test_usual_exposures_give_a_usual_detector_dose():
    """Behind 20 cm of water (trunk) and 12 cm (chest): within a factor of three of the 1-10 microgray aimed at."""
    for view, g_cm2, distance_mm in (("abdomen_ap", 20, 1150), ("pelvis_ap", 20, 1150), ("chest_pa", 12, 1800)):
        for seed in range(30):
            exposure = draw_exposure(np.random.default_rng(seed), view)
            spectrum = physics.tube_spectrum(exposure.kvp, exposure.filtration_mm_al, exposure.filtration_mm_cu)
            behind = physics.filtered(spectrum, {"water": 10 * g_cm2})
            dose = physics.air_kerma_ugy(behind) * exposure.mas * (1000 / distance_mm) ** 2
            assert 0.3 < dose < 30, (view, exposure, dose)


# --- display ----------------------------------------------------------------------------------------------------------


def body() -> np.ndarray:
    """Soft tissue 5-20 g/cm2 from left to right, with more and more bone from top to bottom."""
    mass = slab("soft_tissue", np.linspace(5, 20, 64), (64, 64))
    mass[physics.MATERIALS.index("bone")] = np.linspace(0, 5, 64)[:, None]
    return mass


def test_more_bone_is_brighter():
    image = display_image(noiseless(body(), Exposure(80, 10)))
    assert image.dtype == np.uint16
    assert image.shape == (64, 64)
    assert (np.diff(image.astype(int), axis=0) >= 0).all()
    assert (np.diff(image.astype(int), axis=1) >= 0).all()
    assert image.min() == 0
    assert image.max() == 65535
    assert np.median(np.diff(image.astype(int), axis=0)) > 100


def test_open_and_collimated_borders_do_not_change_the_patients_tone():
    intensity = noiseless(body(), Exposure(80, 10))
    alone = display_image(intensity)
    open_field = np.pad(intensity, 40, constant_values=1.0)
    collimated = np.pad(intensity, 40, constant_values=0.0)
    assert (display_image(open_field)[40:-40, 40:-40] == alone).all()
    assert (display_image(collimated)[40:-40, 40:-40] == alone).all()
    assert display_image(open_field)[0, 0] == 0
    assert display_image(collimated)[0, 0] == 65535


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_a_flat_image_is_no_error(value):
    assert display_image(np.full((20, 20), value, dtype=np.float32)).shape == (20, 20)

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render import materials, physics
from fluorosam_cli.render.detector import (
    Detector,
    convolved,
    expose,
    focal_spot_taps,
    gap_behind,
    scintillator_taps,
)
from fluorosam_cli.render.exposure import TERMS, Collimation, Exposure
from fluorosam_cli.render.field import Geometry, shading

SPACING_MM, DISTANCE_MM = 0.5, 1200.0
GEOMETRY = Geometry(SPACING_MM, DISTANCE_MM, 900.0)
QUIET = Detector(electronic_noise_kev=0)
PRIMARY = frozenset(TERMS)
COUNTED = PRIMARY - {"noise"}


def slab(material: str, g_cm2, shape=(1, 1)) -> np.ndarray:
    mass = np.zeros((len(materials.MATERIALS), *shape), dtype=np.float32)
    mass[materials.MATERIALS.index(material)] = g_cm2
    return mass


def noiseless(mass: np.ndarray, exposure: Exposure) -> np.ndarray:
    return expose(mass, exposure, GEOMETRY, None, without=PRIMARY)


# --- the mean ---------------------------------------------------------------------------------------------------------


def test_one_energy_is_beer_lambert():
    rng = np.random.default_rng(0)
    mass = rng.uniform(0, 8, (len(materials.MATERIALS), 50, 40)).astype(np.float32)
    attenuation = [float(physics.mass_attenuation_cm2_g(material, 60.0)) for material in materials.MATERIALS]
    truth = np.exp(-np.tensordot(attenuation, mass.astype(np.float64), axes=1))
    found = noiseless(mass, Exposure(80, 10, energy_kev=60.0))
    assert found.dtype == np.float32
    assert found.shape == (50, 40)
    assert found == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize("added", ["lung", "iodine", "stainless_steel"])
def test_many_energies_are_the_sum_over_the_spectrum(added):
    exposure = Exposure(110, 3, 3.0, 0.1)
    spectrum = physics.tube_spectrum(110, 3.0, 0.1)
    absorbed = 1 - np.exp(-0.2 * physics.mass_attenuation_cm2_g("caesium_iodide", spectrum.energy_kev))
    weight = spectrum.fluence * absorbed * spectrum.energy_kev
    names = (*materials.MATERIALS, "stainless_steel")
    mass = np.zeros((len(names), 1, 30), dtype=np.float32)
    mass[names.index("soft_tissue")] = np.linspace(0, 35, 30)
    mass[names.index("bone")] = np.linspace(6, 0, 30)
    mass[names.index(added)] += np.linspace(0.2, 0, 30)
    depth = sum(
        mass[row, 0, :, None] * physics.mass_attenuation_cm2_g(material, spectrum.energy_kev)
        for row, material in enumerate(names)
    )
    truth = np.exp(-depth) @ weight / weight.sum()
    found = expose(mass, exposure, GEOMETRY, None, materials=names, without=PRIMARY)
    assert found[0] == pytest.approx(truth, rel=0.005)


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
    field = expose(slab("soft_tissue", g_cm2, (400, 400)), exposure, GEOMETRY, rng, QUIET, without=COUNTED)
    field = field.astype(np.float64)
    assert field.mean() == pytest.approx(mean, rel=0.01)
    assert field.var() / field.mean() == pytest.approx(variance / mean, rel=0.03)


def test_one_energy_has_poisson_noise():
    exposure = Exposure(80, 0.01, energy_kev=50.0)
    spectrum = physics.tube_spectrum(80)
    absorbed = 1 - np.exp(-0.2 * float(physics.mass_attenuation_cm2_g("caesium_iodide", 50.0)))
    count = spectrum.fluence.sum() * 0.01 * (SPACING_MM / 10) ** 2 * (1000 / DISTANCE_MM) ** 2 * absorbed
    rng = np.random.default_rng(5)
    field = expose(slab("lung", 0, (400, 400)), exposure, GEOMETRY, rng, QUIET, without=COUNTED).astype(np.float64)
    assert 1 / field.var() == pytest.approx(count, rel=0.03)


def test_noise_falls_with_mas_and_pixel_area_and_grows_with_distance():
    def spread(mas=2.0, spacing=SPACING_MM, distance=DISTANCE_MM) -> float:
        rng = np.random.default_rng(0)
        geometry = Geometry(spacing, distance, 900.0)
        field = expose(slab("soft_tissue", 10, (200, 200)), Exposure(80, mas), geometry, rng, QUIET, without=COUNTED)
        return float(field.std())

    assert spread(mas=8) == pytest.approx(spread() / 2, rel=0.03)
    assert spread(spacing=2 * SPACING_MM) == pytest.approx(spread() / 2, rel=0.03)
    assert spread(distance=2 * DISTANCE_MM) == pytest.approx(spread() * 2, rel=0.03)


def test_electronic_noise_is_what_is_left_in_the_dark():
    exposure = Exposure(70, 1)
    spectrum = physics.tube_spectrum(70)
    full_kev = photons_per_pixel(exposure, spectrum) @ spectrum.energy_kev
    panel = Detector(electronic_noise_kev=300, panel_pixel_mm=SPACING_MM / 2)  # four panel pixels make one of the image
    rng = np.random.default_rng(1)
    field = expose(slab("bone", 1000, (300, 300)), exposure, GEOMETRY, rng, panel, without=COUNTED)
    dark = field.astype(np.float64)
    assert dark.min() == 0
    half_of_them_clipped = 600 / full_kev / np.sqrt(2)
    assert np.sqrt((dark**2).mean()) == pytest.approx(half_of_them_clipped, rel=0.02)


def test_the_same_seed_gives_the_same_bytes():
    mass = np.random.default_rng(0).uniform(0, 8, (len(materials.MATERIALS), 120, 130)).astype(np.float32)
    runs = [
        expose(mass, Exposure(70, 0.5, grid_ratio=8, anode_side="top"), GEOMETRY, np.random.default_rng([1, 2, seed]))
        for seed in (3, 3, 4)
    ]
    assert runs[0].tobytes() == runs[1].tobytes()
    assert runs[0].tobytes() != runs[2].tobytes()
    assert np.isfinite(runs[0]).all()


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(FluoroError, match="for 5 materials"):
        noiseless(np.zeros((2, 5, 5), dtype=np.float32), Exposure(80, 1))
    with pytest.raises(FluoroError, match="mAs"):
        noiseless(slab("bone", 1), Exposure(80, 0))


def test_contrast_agents_absorb_from_their_k_edge_on():
    mass = slab("soft_tissue", 20, (1, 2)) + slab("iodine", [0.0, 0.05], (1, 2))

    def shadow(energy_kev: float) -> float:
        found = noiseless(mass, Exposure(80, 5, energy_kev=energy_kev))
        return float(-np.log(found[0, 1] / found[0, 0]))

    assert shadow(33.3) > 5 * shadow(33.0)


def test_materials_that_are_not_in_the_beam_change_nothing():
    mass = slab("soft_tissue", 8, (40, 50)) + slab("bone", np.linspace(0, 3, 50), (40, 50))
    more = (*materials.MATERIALS, "gold", "lead")
    padded = np.concatenate([mass, np.zeros((2, 40, 50), dtype=np.float32)])
    alone = expose(mass, Exposure(70, 5), GEOMETRY, np.random.default_rng(0))
    assert expose(padded, Exposure(70, 5), GEOMETRY, np.random.default_rng(0), materials=more) == pytest.approx(
        alone, rel=1e-5
    )


# --- noise after blur and scatter -------------------------------------------------------------------------------------


def test_light_that_spreads_smooths_the_noise_and_keeps_its_low_frequencies():
    exposure, mass = Exposure(80, 4), slab("soft_tissue", 10, (512, 512))
    counted, spread = (
        expose(mass, exposure, GEOMETRY, np.random.default_rng(2), QUIET, without=without).astype(np.float64)
        for without in (COUNTED, COUNTED - {"blur"})
    )
    taps = scintillator_taps(QUIET.scintillator_h_mm2, SPACING_MM).astype(np.float64)
    inner = spread[8:-8, 8:-8]
    assert inner.mean() == pytest.approx(counted.mean(), rel=1e-3)
    assert inner.var() == pytest.approx(counted.var() * (taps @ taps) ** 2, rel=0.03)
    sums = [field.reshape(64, 8, 64, 8).sum(axis=(1, 3)) for field in (counted, spread)]
    assert sums[1].var() == pytest.approx(sums[0].var(), rel=0.12)  # only light that crosses the borders is missing


def test_scattered_quanta_make_noise_too():
    exposure, mass = Exposure(80, 4), slab("soft_tissue", 15, (400, 400))
    flat = frozenset({"falloff", "blur"})
    primary, total = (
        expose(mass, exposure, GEOMETRY, np.random.default_rng(4), QUIET, without=without).astype(np.float64)
        for without in (COUNTED, flat)
    )
    smooth = expose(mass, exposure, GEOMETRY, None, QUIET, without=flat).astype(np.float64)
    assert smooth.mean() > 1.5 * primary.mean()
    assert (total - smooth).var() / smooth.mean() == pytest.approx(primary.var() / primary.mean(), rel=0.03)


def test_a_blurred_edge_has_the_noise_of_the_quanta_that_reach_it():
    """Of one energy, each quantum adds the same signal: variance is in proportion to the mean, also in the penumbra."""
    mass = slab("bone", np.where(np.arange(60) < 30, 100.0, 0.0), (4000, 60))
    exposure = Exposure(80, 4, energy_kev=50.0, focal_spot_mm=1.2)
    panel = Detector(electronic_noise_kev=0, scintillator_h_mm2=0)
    rng = np.random.default_rng(2)
    field = expose(mass, exposure, Geometry(0.1, 1000, 500), rng, panel, without=COUNTED - {"blur"}).astype(np.float64)
    penumbra = field[:, 26:34]  # of 12 pixels
    assert 0.1 < penumbra.mean(axis=0).min() < 0.3
    assert penumbra.var(axis=0) / penumbra.mean(axis=0) == pytest.approx(field[:, 50:].var() / 1.0, rel=0.1)


def test_electronic_noise_is_not_smoothed():
    panel = Detector(electronic_noise_kev=300)
    dark = slab("bone", 1000, (200, 200))
    fields = [
        expose(dark, Exposure(70, 1), GEOMETRY, np.random.default_rng(1), panel, without=without)
        for without in (COUNTED, COUNTED - {"blur"})
    ]
    assert fields[1].std() == pytest.approx(fields[0].std(), rel=0.02)


# --- blur -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing_mm", [0.05, 0.15, 0.5, 0.9])
def test_the_scintillator_transfers_what_its_formula_says(spacing_mm):
    taps = scintillator_taps(0.42, spacing_mm)
    assert taps.sum() == pytest.approx(1, abs=1e-6)
    assert (taps == taps[::-1]).all()
    offset_mm = spacing_mm * (np.arange(len(taps)) - len(taps) // 2)
    frequency = np.array([0.0, 0.1, 0.25, 0.5]) / spacing_mm
    found = taps @ np.cos(2 * np.pi * offset_mm[:, None] * frequency)
    replicas = frequency + np.arange(-200, 201)[:, None] / spacing_mm  # of sampling
    truth = (np.sinc(replicas * spacing_mm) / (1 + 0.42 * replicas**2)).sum(axis=0)
    assert found == pytest.approx(truth, abs=0.002)


def test_the_panel_transfers_what_its_description_says():
    aperture = np.sinc(0.15 * np.array([1, 2, 3]))
    transfer = aperture / (1 + Detector().scintillator_h_mm2 * np.array([1, 2, 3]) ** 2)
    assert transfer == pytest.approx([0.68, 0.32, 0.15], abs=0.005)


def test_the_focal_spot_widens_with_magnification():
    assert len(focal_spot_taps(0.6, Geometry(0.5, 1100, 1050))) == 1  # 0.03 mm in pixels of 0.5 mm
    taps = focal_spot_taps(1.2, Geometry(0.1, 1000, 500))  # 1.2 mm, 12 pixels
    assert taps.sum() == pytest.approx(1, abs=1e-6)
    offset = np.arange(len(taps)) - len(taps) // 2
    assert np.sqrt(12 * (taps @ offset**2)) == pytest.approx(12, rel=0.02)  # the width of a box


def test_convolution_keeps_the_total_and_flat_fields():
    taps = np.array([0.1, 0.2, 0.4, 0.2, 0.1], dtype=np.float32)
    point = np.zeros((21, 31), dtype=np.float32)
    point[10, 15] = 1
    assert convolved(point, taps)[8:13, 13:18] == pytest.approx(np.outer(taps, taps))
    assert convolved(np.full((9, 7), 0.3, dtype=np.float32), taps) == pytest.approx(np.full((9, 7), 0.3))


# --- terms ------------------------------------------------------------------------------------------------------------

FULL = Exposure(
    80,
    4,
    grid_ratio=10,
    focal_spot_mm=1.2,
    anode_side="left",
    flat_fielded=False,
    collimation=Collimation("rectangle", (6.0, 6.0, 90.0, 90.0)),
)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_can_be_left_out_and_matters(term):
    mass = slab("soft_tissue", np.linspace(5, 15, 100), (100, 100))

    def shot(*without: str) -> np.ndarray:
        return expose(mass, FULL, Geometry(2.0, 1000, 700), np.random.default_rng(0), without=frozenset(without))

    assert (shot(term) != shot()).any()
    assert shot(term).tobytes() == shot(term).tobytes()


def test_without_any_term_only_attenuation_is_left():
    mass = slab("soft_tissue", np.linspace(0, 15, 30), (30, 30))
    bare = expose(mass, FULL, GEOMETRY, np.random.default_rng(0), without=PRIMARY)
    assert bare == pytest.approx(noiseless(mass, Exposure(80, 4)), rel=1e-6)


def test_a_flat_field_takes_the_shading_away_and_leaves_its_noise():
    empty, geometry = slab("lung", 0, (200, 200)), Geometry(2.0, 1000, 700)
    field = expose(
        empty,
        Exposure(80, 0.05, anode_side="left"),
        geometry,
        np.random.default_rng(0),
        QUIET,
        without=frozenset({"blur"}),
    )
    assert field[:, :20].mean() == pytest.approx(field[:, 90:110].mean(), rel=0.01)
    shade = shading(Exposure(80, 0.05, anode_side="left"), geometry, (200, 200))
    assert shade is not None
    assert field[:, :20].var() / field[:, 90:110].var() == pytest.approx(
        (1 / shade[:, :20]).mean() / (1 / shade[:, 90:110]).mean(), rel=0.1
    )


def test_the_gap_is_what_the_body_leaves():
    mass = np.zeros((50, 50), dtype=np.float32)
    mass[10:40] = 20
    assert gap_behind(mass, Geometry(2.0, 1150, 970)) == pytest.approx(180 - 100, abs=1)
    assert gap_behind(0 * mass, Geometry(2.0, 1150, 970)) == 180
    assert gap_behind(3 * mass, Geometry(2.0, 1150, 970)) == 0

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render import physics
from tests.render.beams import air_kerma_ugy, half_value_layer_mm_al, mean_energy_kev

# NIST, "Tables of X-Ray Mass Attenuation Coefficients" (Hubbell and Seltzer): cm2/g with coherent scattering.
NIST_KEV = np.array([20.0, 40.0, 60.0, 80.0, 100.0, 150.0])
NIST = {
    "air": (0.7779, 0.2485, 0.1875, 0.1662, 0.1541, 0.1356),
    "water": (0.8096, 0.2683, 0.2059, 0.1837, 0.1707, 0.1505),
    "lung": (0.8316, 0.2699, 0.2053, 0.1826, 0.1695, 0.1493),
    "adipose": (0.5677, 0.2396, 0.1974, 0.1800, 0.1688, 0.1500),
    "muscle": (0.8205, 0.2688, 0.2048, 0.1823, 0.1693, 0.1492),
    "bone": (4.001, 0.6655, 0.3148, 0.2229, 0.1855, 0.1480),
    "pmma": (0.5714, 0.2350, 0.1924, 0.1751, 0.1641, 0.1456),
    "aluminium": (3.441, 0.5685, 0.2778, 0.2018, 0.1704, 0.1378),
    "copper": (33.79, 4.862, 1.593, 0.7630, 0.4584, 0.2217),
    "titanium": (15.85, 2.214, 0.7661, 0.4052, 0.2721, 0.1649),
    "iodine": (25.43, 22.10, 7.579, 3.510, 1.942, 0.6978),
    "barium": (29.38, 24.57, 8.511, 3.963, 2.196, 0.7828),
    "gold": (78.83, 12.98, 4.528, 2.185, 5.158, 1.860),
    "lead": (86.36, 14.36, 5.021, 2.419, 5.549, 2.014),
}
NIST_AIR_ENERGY_ABSORPTION = {20.0: 0.5389, 30.0: 0.1537, 40.0: 0.06833, 60.0: 0.03041, 80.0: 0.02407, 100.0: 0.02325}
SPEKPY_HVL_MM_AL = {60: 2.082, 80: 2.734, 100: 3.459, 120: 4.220}  # SpekPy 2.5.4, 12 degrees, 2.5 mm Al


@pytest.mark.parametrize("material", NIST)
def test_attenuation_is_that_of_nist(material):
    assert physics.mass_attenuation_cm2_g(material, NIST_KEV) == pytest.approx(np.array(NIST[material]), rel=0.01)


def test_air_energy_absorption_is_that_of_nist():
    tables = physics._tables()
    found = np.interp(
        list(NIST_AIR_ENERGY_ABSORPTION),
        tables["attenuation_energy_kev"],
        tables["air_mass_energy_absorption_cm2_g"],
    )
    assert found == pytest.approx(list(NIST_AIR_ENERGY_ABSORPTION.values()), rel=0.01)


def test_absorption_edges_are_steps():
    below, above = physics.mass_attenuation_cm2_g("iodine", np.array([33.16, 33.18]))
    assert above > 5 * below
    assert physics.absorption_edges_kev(("iodine",)) == pytest.approx((5.188, 33.169), abs=0.01)
    assert physics.absorption_edges_kev(("lung", "adipose", "soft_tissue", "bone")) == ()


def test_unknown_materials_voltages_and_energies_are_refused():
    with pytest.raises(FluoroError, match="unobtainium"):
        physics.mass_attenuation_cm2_g("unobtainium", 60.0)
    with pytest.raises(FluoroError, match="4 to 60 keV"):
        physics.mass_attenuation_cm2_g("water", np.array([4.0, 60.0]))
    for kvp in (39.0, 151.0):
        with pytest.raises(FluoroError, match="40 to 150"):
            physics.tube_spectrum(kvp)
    with pytest.raises(FluoroError, match="negative"):
        physics.tube_spectrum(80, filtration_mm_al=-1)


# --- spectra ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kvp", SPEKPY_HVL_MM_AL)
def test_half_value_layer_is_that_recorded_from_spekpy(kvp):
    assert half_value_layer_mm_al(physics.tube_spectrum(kvp)) == pytest.approx(SPEKPY_HVL_MM_AL[kvp], rel=0.02)


def test_half_value_layer_and_output_are_those_of_spekpy_now():
    spekpy = pytest.importorskip("spekpy", reason="the extra [spectra] is not installed")
    for kvp, al, cu in ((60, 2.5, 0.0), (80, 3.0, 0.1), (100, 2.5, 0.2), (120, 4.0, 0.0)):
        theirs = spekpy.Spek(kvp=kvp, th=12, dk=1.0).multi_filter([("Al", al), ("Cu", cu)])
        ours = physics.tube_spectrum(kvp, al, cu)
        assert half_value_layer_mm_al(ours) == pytest.approx(theirs.get_hvl1(), rel=0.02)
        assert air_kerma_ugy(ours) == pytest.approx(theirs.get_kerma(), rel=0.03)
        assert mean_energy_kev(ours) == pytest.approx(theirs.get_emean(), rel=0.005)


def test_spectra_stop_at_the_tube_voltage_and_grow_with_it():
    last = 0.0
    for kvp in (40.0, 62.5, 80.0, 99.3, 150.0):
        spectrum = physics.tube_spectrum(kvp)
        assert spectrum.fluence[spectrum.energy_kev > kvp + 1].sum() == 0
        assert spectrum.fluence.sum() > last
        last = spectrum.fluence.sum()


def test_filtration_hardens_and_weakens():
    soft, hard = physics.tube_spectrum(80, 2.5), physics.tube_spectrum(80, 2.5, 0.2)
    assert mean_energy_kev(hard) > mean_energy_kev(soft) + 3
    assert hard.fluence.sum() < soft.fluence.sum()


def test_a_row_of_the_table_comes_out_of_the_script_again():
    for package in ("spekpy", "xraylib"):
        pytest.importorskip(package, reason="the extra [spectra] is not installed")
    path = Path(__file__).parents[2] / "scripts" / "make_physics_tables.py"
    spec = importlib.util.spec_from_file_location("make_physics_tables", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    tables = physics._tables()
    energy = script.attenuation_energies()
    assert energy == pytest.approx(tables["attenuation_energy_kev"], abs=1e-5)
    assert physics.all_materials() == tuple(script.COMPOSITIONS)
    for name in ("bone", "caesium_iodide"):
        row = script.mass_attenuation(script.COMPOSITIONS[name][1], energy)
        assert row == pytest.approx(tables["mass_attenuation_cm2_g"][physics.all_materials().index(name)], rel=1e-5)
    assert script.spectrum(80.0) == pytest.approx(tables["spectrum"][40], rel=1e-5, abs=1e-3)
    assert script.heel(80.0, -5.0) == pytest.approx(float(physics.heel(80.0, np.array(-5.0))), rel=1e-4)
    assert script.air_mass_energy_absorption(energy) == pytest.approx(
        tables["air_mass_energy_absorption_cm2_g"], rel=1e-5
    )


def test_the_table_is_small():
    path = Path(physics.__file__).with_name("physics.npz")
    assert path.stat().st_size < 300_000


# --- fewer energies ---------------------------------------------------------------------------------------------------


def transmission(energy, weight, masses):
    depth = sum(mass[..., None] * physics.mass_attenuation_cm2_g(material, energy) for material, mass in masses.items())
    return (np.exp(-depth) * weight).sum(axis=-1)


@pytest.mark.parametrize("kvp", [40, 60, 80, 120, 150])
@pytest.mark.parametrize(("al", "cu"), [(2.5, 0.0), (4.0, 0.2)])
def test_sixteen_energies_do_for_the_body(kvp, al, cu):
    spectrum = physics.tube_spectrum(kvp, al, cu)
    weight = spectrum.fluence * spectrum.energy_kev
    masses = {"water": np.linspace(0, 40, 21)[:, None], "bone": np.linspace(0, 5 * 1.92, 11)[None]}
    few = transmission(*physics.gauss_energies(spectrum.energy_kev, weight), masses)
    assert few == pytest.approx(transmission(spectrum.energy_kev, weight, masses), rel=0.005)


@pytest.mark.parametrize(("material", "g_cm2"), [("iodine", 0.2), ("barium", 0.2), ("titanium", 3), ("gold", 2)])
def test_few_energies_do_for_contrast_agents_and_metal(material, g_cm2):
    spectrum = physics.tube_spectrum(90)
    weight = spectrum.fluence * spectrum.energy_kev
    masses = {"water": np.linspace(0, 30, 7)[:, None], material: np.linspace(0, g_cm2, 9)[None]}
    edges = physics.absorption_edges_kev((material,))
    energy, few_weights = physics.gauss_energies(spectrum.energy_kev, weight, edges)
    assert few_weights.min() > 0
    few = transmission(energy, few_weights, masses)
    assert few == pytest.approx(transmission(spectrum.energy_kev, weight, masses), rel=0.01)


def test_gauss_energies_keep_the_moments():
    spectrum = physics.tube_spectrum(100)
    energy, weight = physics.gauss_energies(spectrum.energy_kev, spectrum.fluence, count=6)
    assert len(energy) == 6
    for power in range(12):
        scaled = spectrum.fluence @ (spectrum.energy_kev / 100) ** power
        assert weight @ (energy / 100) ** power == pytest.approx(scaled, rel=1e-9)

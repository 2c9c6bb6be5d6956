import numpy as np
import pytest

from fluorosam_cli.anatomy.tissues import tissues
from fluorosam_cli.dataset import redraw
from fluorosam_cli.dataset.redraw import Air, Body, changed, detected, draw_body, draw_exposure, redrawn
from fluorosam_cli.render import detector, physics
from fluorosam_cli.render.exposure import Collimation, Exposure
from fluorosam_cli.render.field import Geometry
from fluorosam_cli.render.integrals import Integrals
from fluorosam_cli.render.materials import MATERIALS

SIDE = 48
NO_SCATTER = Air(scatter=0)
EXPOSURE = Exposure(kvp=80, mas=5)


def scene() -> Integrals:
    """A chest in four fields: lung on the left, liver at the lower right, ribs across the middle; all of it in fat."""
    mass = np.zeros((len(MATERIALS), SIDE, SIDE), np.float32)
    path = np.zeros((3, SIDE, SIDE), np.float32)  # lung_left, liver, ribs
    of = {name: mass[i] for i, name in enumerate(MATERIALS)}
    of["adipose"][:] = 2
    of["soft_tissue"][:] = 8
    of["lung"][:, : SIDE // 2], path[0, :, : SIDE // 2] = 3, 120
    path[1, SIDE // 2 :, SIDE // 2 :] = 100
    of["bone"][20:28], path[2, 20:28] = 1.5, 10
    return Integrals(mass.astype(np.float16), path.astype(np.float16), ("lung_left", "liver", "ribs"))


def same(**other) -> Body:
    return Body(**({"gained_g_cm3": np.zeros(3), "factor": np.ones(3), "iodine_g_cm3": np.zeros(3)} | other))


def test_every_tissue_group_is_in_the_table():
    assert set(redraw.varieties()) == set(tissues())


def test_one_energy_is_beer_lambert():
    mass, names = changed(scene(), MATERIALS, same())
    intensity = detected(mass, names, Exposure(kvp=80, mas=5, energy_kev=60), 2.0, air=NO_SCATTER)
    depth = sum(physics.mass_attenuation_cm2_g(n, 60.0) * m for n, m in zip(names, mass, strict=True))
    assert np.allclose(intensity, np.exp(-depth), rtol=1e-4)


@pytest.mark.parametrize("iodine", [0.0, 0.01])
@pytest.mark.parametrize(("kvp", "grid_ratio"), [(50, 0), (80, 8), (120, 12)])
def test_few_energies_and_coarse_scatter_agree_with_the_renderer(kvp, grid_ratio, iodine):
    mass, names = changed(scene(), MATERIALS, same(iodine_g_cm3=np.array([0, iodine, 0])))
    exposure = Exposure(kvp=kvp, mas=5, grid_ratio=grid_ratio)
    geometry = Geometry(2.0, 1100, 700)
    air = Air(detector.gap_behind(mass.sum(axis=0), geometry))
    oracle = detector.expose(
        mass, exposure, geometry, None, materials=names, without=frozenset({"blur", "falloff", "heel", "noise"})
    )
    assert np.allclose(detected(mass, names, exposure, 2.0, air=air), oracle, rtol=0.02)


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_noise_falls_with_dose_and_with_the_pixels_area(spacing_mm):
    mass, names = np.full((1, 200, 200), 10, np.float32), ("soft_tissue",)

    def variance(mas: float) -> float:
        rng = np.random.default_rng(0)
        return float(detected(mass, names, Exposure(80, mas), spacing_mm, rng, NO_SCATTER).var())

    # photons that arrive, each with the energy that weighs: variance = mean / (photons per unit of signal)
    energy, _, signal = redraw._response((80, 1, 2.5, 0, None), 0, detector.Detector().scintillator_g_cm2, False)
    area = (spacing_mm / 10 * 1000 / redraw.SOURCE_TO_DETECTOR_MM) ** 2
    behind = signal * np.exp(-10 * physics.mass_attenuation_cm2_g("soft_tissue", energy))
    expected = (behind * energy).sum() / (signal.sum() ** 2 * 8 * area)
    assert variance(8) == pytest.approx(expected, rel=0.05)
    assert variance(1) / variance(8) == pytest.approx(8, rel=0.05)


def test_each_tissue_changes_alone():
    before, names = changed(scene(), MATERIALS, same())
    body = same(gained_g_cm3=np.array([0, 0.1, 0]), factor=np.array([0.5, 1, 2.0]), iodine_g_cm3=np.array([0, 0.02, 0]))
    after, more = changed(scene(), MATERIALS, body)
    old, new = dict(zip(names, before, strict=True)), dict(zip(more, after, strict=True))
    liver = np.zeros((SIDE, SIDE), bool)
    liver[SIDE // 2 :, SIDE // 2 :] = True
    assert "iodine" not in old  # what is not there costs nothing
    assert np.allclose(new["iodine"], 0.2 * liver, atol=1e-6)  # 20 mg/ml on 10 cm
    assert np.allclose(new["soft_tissue"] - old["soft_tissue"], 1.0 * liver, atol=1e-3)
    assert np.allclose(new["lung"], old["lung"] / 2)
    assert np.allclose(new["bone"], old["bone"] * 2)
    assert np.array_equal(new["adipose"], old["adipose"])


def test_gas_and_opacities_stay_in_their_tissue():
    half = np.full((SIDE, SIDE), 0.5, np.float32)
    before, names = changed(scene(), MATERIALS, same())
    after, _ = changed(scene(), MATERIALS, same(gas={"liver": half}, opacity_g_cm3=half))
    gain = (after - before)[names.index("soft_tissue")]
    assert np.allclose(gain[:, : SIDE // 2], 6, atol=0.02)  # 0.5 g/cm3 on 12 cm of lung
    assert np.allclose(gain[SIDE // 2 :, SIDE // 2 :], -5, atol=0.02)
    assert np.allclose(gain[: SIDE // 2, SIDE // 2 :], 0)


def test_bodies_stay_near_the_one_rendered_and_within_nature():
    rng = np.random.default_rng(0)
    bodies = [draw_body(rng, ("lung_left", "liver", "ribs"), (SIDE, SIDE)) for _ in range(400)]
    factors = np.log([body.factor[[0, 2]] for body in bodies])
    assert np.abs(factors.mean(axis=0)).max() < 0.05
    assert np.abs(factors).max() < 1.2
    assert all((body.factor[1], body.gained_g_cm3[0], body.gained_g_cm3[2]) == (1, 0, 0) for body in bodies)
    assert np.mean([body.iodine_g_cm3[1] > 0 for body in bodies]) == pytest.approx(0.04, abs=0.03)
    for body in bodies:
        mass, _ = changed(scene(), MATERIALS, body)
        assert (mass >= 0).all()


def test_exposures_are_those_of_the_body_part():
    rng = np.random.default_rng(0)
    hands = [draw_exposure(rng, "hand_pa_left")[0] for _ in range(200)]
    chests = [draw_exposure(rng, "chest_pa")[0] for _ in range(200)]
    assert max(e.kvp for e in hands) < min(e.kvp for e in chests)
    assert {e.grid_ratio for e in hands} == {0.0}
    assert len({(e.kvp, e.filtration_mm_al, e.filtration_mm_cu, e.grid_ratio) for e in chests}) < 80  # spectra are kept


def test_the_same_generator_draws_the_same_picture():
    pictures = [redrawn(scene(), MATERIALS, "chest_pa", 2.0, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    for picture in pictures:
        assert picture.dtype == np.float32
        assert picture.shape == (SIDE, SIDE)
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_the_field_stays_where_it_was():
    field = Collimation("rectangle", (24.0, 24.0, 72.0, 72.0))  # of an image twice as fine
    seen = np.mean(
        [redrawn(scene(), MATERIALS, "chest_pa", 2.0, np.random.default_rng(s), field, 2.0) for s in range(40)], axis=0
    )
    inside = seen[13:35, 13:35]
    outside = np.concatenate([seen[:10].ravel(), seen[38:].ravel(), seen[:, :10].ravel(), seen[:, 38:].ravel()])
    assert outside.max() < 0.4  # black in nine pictures of ten, white in the others
    assert inside.mean() > 0.3

"""From HU and labels to materials, against the calibration's figures and against the HU themselves."""

import numpy as np
import pytest

from fluorosam_cli.render import materials, physics

IODINE, LUNG, BONE = (materials.MATERIALS.index(name) for name in ("iodine", "lung", "bone"))


def row(hu: int, kind: str = "unlabelled") -> np.ndarray:
    """Densities by material of a voxel of that HU and kind."""
    start = materials.KINDS.index(kind) * materials.ROWS_PER_KIND
    return materials.material_table()[start + hu + materials.ROW_OFFSET]


def density(hu: int, kind: str = "unlabelled") -> float:
    return float(row(hu, kind).sum())


def test_material_table_is_a_density_calibration():
    table = materials.material_table()
    assert table.shape == (len(materials.KINDS) * materials.ROWS_PER_KIND, len(materials.MATERIALS))
    assert table.dtype == np.float32
    assert table.min() == 0
    total = table[: materials.ROWS_PER_KIND].sum(axis=1, dtype=np.float64)
    steps = np.diff(total)
    assert steps.min() >= -1e-6  # monotone
    assert steps.max() < 0.003  # continuous
    assert total[: 1024 - 950 + 1].max() == 0  # air, padding and the foam of the table
    assert density(0) == pytest.approx(1.0, rel=0.02)
    assert density(-100) == pytest.approx(0.93, rel=0.02)  # fat: 0.92-0.95
    assert density(50) == pytest.approx(1.05, rel=0.01)  # muscle
    assert density(1000) == pytest.approx(1.61, rel=0.02)
    assert density(1524) == pytest.approx(1.92, rel=0.01)  # cortical bone


def test_material_table_names_the_tissue():
    table = materials.material_table()
    for hu, material in ((-800, "lung"), (-98, "adipose"), (14, "soft_tissue"), (60, "soft_tissue"), (1524, "bone")):
        shares = table[hu + materials.ROW_OFFSET] / density(hu)
        assert shares[materials.MATERIALS.index(material)] == pytest.approx(1, abs=1e-4), hu


@pytest.mark.parametrize("hu", [-800, -500, -100, 0, 60, 300, 700, 1000, 1500])
def test_material_table_gives_back_the_hu_it_was_given(hu):
    """At 70 keV, the effective energy of CT at 120 kVp, the attenuation of the mixture is the HU."""
    attenuation = np.array([physics.mass_attenuation_cm2_g(material, 70.0) for material in materials.MATERIALS])
    water = physics.mass_attenuation_cm2_g("water", 70.0)
    mixture = row(hu) @ attenuation
    assert 1000 * (mixture / water - 1) == pytest.approx(hu, abs=35)


@pytest.mark.parametrize("hu", [150, 300, 600])
def test_contrast_agent_in_a_vessel_gives_back_its_hu_without_any_bone(hu):
    """At 70 keV iodine is worth about 26 HU per mg/ml, so blood and iodine together have the HU that were there."""
    mixture = row(hu, "soft")
    assert mixture[BONE] == 0
    assert mixture[IODINE] > 0
    assert row(hu)[BONE] > 0  # without a label it can only be bone
    attenuation = np.array([physics.mass_attenuation_cm2_g(material, 70.0) for material in materials.MATERIALS])
    found = 1000 * (mixture @ attenuation / physics.mass_attenuation_cm2_g("water", 70.0) - 1)
    assert found == pytest.approx(hu, rel=0.15)


def test_a_labelled_lung_weighs_what_its_air_leaves():
    assert density(-980) == 0
    assert row(-980, "lung")[LUNG] == pytest.approx(0.0219, abs=0.002)  # Schneider's line
    assert np.allclose(row(-600, "lung"), row(-600), atol=1e-3)


def test_injected_structures_hold_a_fixed_concentration():
    for hu in (30, 400):
        assert row(hu, "injected")[IODINE] == pytest.approx(materials.INJECTED_MG_IODINE_ML / 1000)


def test_labels_choose_the_rows_in_place():
    names = {1: "femur_left", 2: "aorta", 3: "lung_upper_lobe_left", 4: "somebody's own label"}
    kinds = materials.kinds_of_labels(names, contrast=())
    assert [materials.KINDS[kinds[i]] for i in range(5)] == ["unlabelled", "unlabelled", "soft", "lung", "unlabelled"]
    assert materials.KINDS[materials.kinds_of_labels(names, ("aorta",))[2]] == "injected"
    assert materials.KINDS[materials.kinds_of_labels(names, ("lungs",))[3]] == "injected"  # a group
    hu = np.full((2, 1, 5), 250, np.int16)
    hu[1] = 5000
    materials.set_rows(hu, np.arange(5, dtype=np.uint8).reshape(1, 1, 5).repeat(2, axis=0), kinds)
    assert hu[0, 0].tolist() == [250, 250, 250 + 2 * 4096, 250 + 4096, 250]
    assert hu[1, 0, 0] == 3071

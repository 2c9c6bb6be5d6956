import numpy as np
import pytest

from fluorosam_cli.errors import UsageError
from fluorosam_cli.geometry.views import standard_views
from fluorosam_cli.render import physics
from fluorosam_cli.render.exposure import TERMS, Exposure, check_terms, draw_exposure, technique_for, techniques
from fluorosam_cli.render.scatter import GRID_RATIOS
from tests.render.beams import air_kerma_ugy


def drawn(view: str, count: int = 200, size: int = 512) -> list[Exposure]:
    return [draw_exposure(np.random.default_rng(seed), view, size, size) for seed in range(count)]


@pytest.mark.parametrize(
    ("view", "low", "high"),
    [
        ("chest_pa", 100, 125),
        ("chest_ap_portable", 80, 110),
        ("pelvis_ap", 70, 85),
        ("hand_pa", 50, 65),
        ("knee_lateral", 55, 68),
        ("skull_lateral", 65, 85),
        ("random", 70, 110),
    ],
)
def test_exposures_fit_the_body_part(view, low, high):
    exposures = drawn(view)
    kvps = np.array([exposure.kvp for exposure in exposures])
    assert low <= kvps.min() < kvps.max() <= high
    assert np.ptp(kvps) > 0.8 * (high - low)
    assert all(0.5 < exposure.mas < 130 and exposure.filtration_mm_al >= 2.5 for exposure in exposures)
    assert exposures == drawn(view)


def test_usual_exposures_give_a_usual_detector_dose():
    """Behind 20 cm of water (trunk) and 12 cm (chest): within a factor of three of the 1-10 microgray aimed at."""
    for view, g_cm2, distance_mm in (("abdomen_ap", 20, 1150), ("pelvis_ap", 20, 1150), ("chest_pa", 12, 1800)):
        for exposure in drawn(view, 30):
            spectrum = physics.tube_spectrum(exposure.kvp, exposure.filtration_mm_al, exposure.filtration_mm_cu)
            behind = physics.filtered(spectrum, {"water": 10 * g_cm2})
            dose = air_kerma_ugy(behind) * exposure.mas * (1000 / distance_mm) ** 2
            assert 0.3 < dose < 30, (view, exposure, dose)


def test_the_technique_decides_about_the_grid():
    shares = {view: np.mean([e.grid_ratio > 0 for e in drawn(view)]) for view in ("hand_pa", "chest_pa", "pelvis_ap")}
    assert shares["hand_pa"] == 0
    assert 0.65 < shares["chest_pa"] < 0.95
    assert shares["pelvis_ap"] == 1
    assert {technique.grid_ratio for technique in techniques()} <= {0, *GRID_RATIOS}


def test_every_standard_view_has_the_technique_of_a_body_part():
    assert not [view.name for view in standard_views() if technique_for(view.name) is techniques()[-1]]


def test_fields_are_within_a_tenth_of_the_image_or_outside():
    shapes = set()
    for view in ("chest_pa", "cardiac_lao_cranial"):
        for exposure in drawn(view, size=400):
            if exposure.collimation is None:
                shapes.add(None)
                continue
            shapes.add(exposure.collimation.shape)
            left, top, right, bottom = exposure.collimation.box_xyxy
            for inset in (left, top, 399 - right, 399 - bottom):
                assert -0.06 * 400 <= inset <= 0.1 * 400 + 1
    assert shapes == {None, "rectangle", "circle"}
    assert not any(e.collimation and e.collimation.shape == "circle" for e in drawn("chest_pa"))


def test_terms_are_checked_by_name():
    assert check_terms(["scatter", "noise"]) == {"scatter", "noise"}
    assert check_terms(TERMS) == set(TERMS)
    with pytest.raises(UsageError, match="scater: not a term") as error:
        check_terms(["scater"])
    assert "scatter" in error.value.hint

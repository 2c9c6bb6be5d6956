"""NSD and HD95 against DeepMind's surface-distance, MedPy and plain geometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fluorosam_cli.evaluation.surfaces import surface_scores

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of surface-distance's imports from SciPy
SHAPE = (14, 19)
masks = arrays(bool, SHAPE)
hundredths = st.integers(20, 300).map(lambda n: n / 100)
sizes = st.tuples(hundredths, hundredths)


def edge_cases():
    empty = np.zeros(SHAPE, bool)
    one, corner, frame, left, gap = (empty.copy() for _ in range(5))
    one[6, 8] = corner[-1, -1] = True
    frame[0], frame[-1], frame[:, 0], frame[:, -1] = True, True, True, True
    left[3:9, :7] = True
    gap[2:12, 2:6], gap[2:12, 10:15] = True, True
    return [~empty, one, corner, frame, left, gap, np.random.default_rng(0).random(SHAPE) < 0.5]


def theirs(predicted, real, pixel_size, tolerance):
    surface = pytest.importorskip("surface_distance", reason="the dev extra has the independent implementation")
    distances = surface.compute_surface_distances(real, predicted, pixel_size)
    nsd = surface.compute_surface_dice_at_tolerance(distances, tolerance)
    return nsd, surface.compute_robust_hausdorff(distances, 95)


@pytest.mark.parametrize("pixel_size", [(1.0, 1.0), (0.3, 0.3), (0.7, 1.9)])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0])
def test_edge_cases_agree_with_surface_distance(pixel_size, tolerance):
    for predicted in edge_cases():
        for real in edge_cases():
            ours = surface_scores(predicted, real, pixel_size, tolerance)
            assert ours == pytest.approx(theirs(predicted, real, pixel_size, tolerance), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(masks, masks, sizes, st.integers(10, 500))
def test_any_masks_agree_with_surface_distance(predicted, real, pixel_size, tolerance_hundredths):
    tolerance = tolerance_hundredths / 100 + 0.0012  # no distance lies within rounding of it
    if predicted.any() and real.any():
        ours = surface_scores(predicted, real, pixel_size, tolerance)
        assert ours == pytest.approx(theirs(predicted, real, pixel_size, tolerance), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(masks, masks, sizes)
def test_order_does_not_matter_and_units_scale(one, other, pixel_size):
    nsd, hd95 = surface_scores(one, other, pixel_size, 2.0)
    assert surface_scores(other, one, pixel_size, 2.0) == pytest.approx((nsd, hd95), abs=1e-9)
    double = (2 * pixel_size[0], 2 * pixel_size[1])
    assert surface_scores(one, other, double, 4.0) == pytest.approx((nsd, 2 * hd95), rel=1e-9)
    assert surface_scores(one, one, pixel_size, 0.0) == (1.0, 0.0)


def test_empty_masks():
    empty, one = np.zeros(SHAPE, bool), edge_cases()[1]
    assert surface_scores(empty, empty, (1, 1), 2) == (1.0, 0.0)
    diagonal = np.hypot(14 * 0.5, 19 * 2)
    assert surface_scores(empty, one, (0.5, 2.0), 2) == (0.0, pytest.approx(diagonal))
    assert surface_scores(one, empty, (0.5, 2.0), 2) == (0.0, pytest.approx(diagonal))


@pytest.mark.parametrize("pixel_size", [(1.0, 1.0), (0.5, 2.0)])
def test_smooth_shapes_agree_with_medpy_to_a_pixel(pixel_size):
    """MedPy counts border pixels, not lengths between them, so it may differ by a pixel's diagonal."""
    binary = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    y, x = np.mgrid[:80, :90]
    real = ((y - 38) / 22) ** 2 + ((x - 40) / 30) ** 2 < 1
    for shift, grow in ((0, 3), (6, 0), (9, -5)):
        predicted = ((y - 38 - shift) / (22 + grow)) ** 2 + ((x - 40) / (30 + grow)) ** 2 < 1
        _, hd95 = surface_scores(predicted, real, pixel_size, 2.0)
        assert hd95 == pytest.approx(binary.hd95(predicted, real, pixel_size), abs=np.hypot(*pixel_size))


def test_a_shifted_square():
    real, predicted = np.zeros((2, 40, 40), bool)
    real[10:30, 10:30] = predicted[10:30, 13:33] = True
    nsd, hd95 = surface_scores(predicted, real, (1.0, 1.0), 2.0)
    assert hd95 == 3.0
    # top and bottom lie on each other but for the last 3 columns, one of which is out of reach; so do all of one side
    assert 0.4 < nsd < 0.6
    assert surface_scores(predicted, real, (1.0, 1.0), 3.0)[0] == 1.0

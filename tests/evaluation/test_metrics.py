import numpy as np
import pytest
from scipy.spatial import distance

from fluorosam_cli.evaluation.metrics import auroc, clicks_needed, dice, iou, roc

SHAPE = (13, 21)


def masks():
    rng = np.random.default_rng(0)
    empty, full = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    one, corner, border = empty.copy(), empty.copy(), empty.copy()
    one[5, 7] = corner[0, 0] = True
    border[0], border[-1], border[:, 0], border[:, -1] = True, True, True, True
    return [empty, full, one, corner, border, *(rng.random((6, *SHAPE)) < np.linspace(0.05, 0.95, 6)[:, None, None])]


def test_iou_and_dice_agree_with_scipy():
    for a in masks():
        for b in masks():
            if a.any() or b.any():
                assert iou(a, b) == pytest.approx(1 - distance.jaccard(a.ravel(), b.ravel()), abs=1e-12)
                assert dice(a, b) == pytest.approx(1 - distance.dice(a.ravel(), b.ravel()), abs=1e-12)
            assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)), abs=1e-12)
            assert iou(a, b) == iou(b, a)


def test_two_empty_masks_agree():
    empty = np.zeros(SHAPE, bool)
    assert iou(empty, empty) == dice(empty, empty) == 1


def test_auroc_counts_pairs():
    rng = np.random.default_rng(1)
    for _ in range(20):
        present = rng.integers(0, 6, rng.integers(1, 12)) / 5  # few values, so that there are ties
        absent = rng.integers(0, 6, rng.integers(1, 12)) / 5
        pairs = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
        assert auroc(present, absent) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auroc(np.array([0.9]), np.array([0.1, 0.2])) == 1
    assert auroc(np.array([]), np.array([0.1])) is None
    assert auroc(np.array([0.1]), np.array([])) is None


def test_area_under_the_roc_is_the_auroc():
    rng = np.random.default_rng(4)
    present, absent = rng.integers(0, 8, 30) / 7, rng.integers(0, 6, 20) / 7
    false, true = roc(present, absent)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) == pytest.approx(auroc(present, absent), abs=1e-12)


def test_clicks_needed_is_the_first_that_reaches_the_goal():
    ious = [(1, 0.5), (2, 0.86), (3, 0.7), (4, 0.92)]
    assert [clicks_needed(ious, goal, 20) for goal in (0.5, 0.8, 0.85, 0.9, 0.95)] == [1, 2, 2, 4, 20]
    assert clicks_needed([(0, 0.95), (1, 0.2)], 0.9, 20) == 0  # words alone sufficed
    assert clicks_needed([], 0.8, 20) == 20

import numpy as np
import pytest

from fluorosam_cli.evaluation.bootstrap import bootstrap_weights, grouped_estimate


def test_interval_is_that_of_resampling_with_plain_loops():
    rng = np.random.default_rng(2)
    values, groups, units = rng.random(60), rng.integers(0, 4, 60), rng.integers(0, 5, 60)
    weights = bootstrap_weights(5, seed=3)
    found = grouped_estimate(values, groups, units, weights)

    def mean_of_means(chosen_units):
        by_group = {}
        for unit in chosen_units:
            for value, group in zip(values[units == unit], groups[units == unit], strict=True):
                by_group.setdefault(group, []).append(value)
        return np.mean([np.mean(v) for v in by_group.values()])

    draws = [mean_of_means(np.repeat(np.arange(5), row.astype(int))) for row in weights[1:]]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found.mean == pytest.approx(mean_of_means(range(5)), abs=1e-6)
    assert (found.ci95_low, found.ci95_high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert found.count == 60


def test_bootstrap_width_is_the_standard_error():
    """For a plain mean over many units the interval is +- 1.96 standard errors."""
    values = np.random.default_rng(5).normal(0.5, 0.1, 400)
    weights = bootstrap_weights(400, seed=0)
    found = grouped_estimate(values, np.zeros(400, int), np.arange(400), weights)
    error = values.std() / 20
    assert (found.ci95_high - found.ci95_low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_bootstrap_weights_draw_every_unit_equally():
    weights = bootstrap_weights(7, seed=1)
    assert (weights[0] == 1).all()  # the mean itself
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_allclose(weights[1:].mean(axis=0), 1, atol=0.15)
    np.testing.assert_array_equal(weights, bootstrap_weights(7, seed=1))
    assert (weights != bootstrap_weights(7, seed=2)).any()


def test_a_single_unit_has_no_width():
    found = grouped_estimate(np.array([0.2, 0.4]), np.array([0, 1]), np.array([0, 0]), bootstrap_weights(1, 0))
    assert found.mean == found.ci95_low == found.ci95_high == 0.3


def test_a_group_in_few_units_is_left_out_where_it_is_not_drawn():
    values, groups, units = np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]), np.array([0, 1, 1])
    found = grouped_estimate(values, groups, units, bootstrap_weights(2, 0))
    assert (found.mean, found.ci95_low, found.ci95_high) == (0.5, 0.5, 1.0)

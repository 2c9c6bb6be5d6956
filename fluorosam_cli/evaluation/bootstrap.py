"""Means over structures or samples with 95 % intervals, by resampling cases: masks of one body are not independent."""

import numpy as np

from fluorosam_cli.contracts import Estimate

DRAWS = 1000
PERCENTILES = (2.5, 97.5)


def bootstrap_weights(units: int, seed: int) -> np.ndarray:
    """How often each unit (case or image) counts, (1 + draws, units): once, then as in resamples with replacement."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, units]))
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=DRAWS)
    return np.vstack([np.ones(units), drawn])


def grouped_estimate(values: np.ndarray, groups: np.ndarray, units: np.ndarray, weights: np.ndarray) -> Estimate:
    """Mean over groups (structures) of the mean of each group's values, with its 95 % interval over resampled units.

    values, groups and units are (n,); `weights` (1 + draws, units) come from `bootstrap_weights`. A group
    none of whose units is drawn is left out of that resample.
    """
    columns = int(groups.max()) + 1
    sums = np.zeros((weights.shape[1], columns))
    counts = np.zeros_like(sums)
    np.add.at(sums, (units, groups), values)
    np.add.at(counts, (units, groups), 1)
    means = _mean_of_means(weights, sums, counts)
    low, high = np.percentile(means[1:][np.isfinite(means[1:])], PERCENTILES)
    return Estimate(
        mean=round(float(means[0]), 6),
        ci95_low=round(float(low), 6),
        ci95_high=round(float(high), 6),
        count=len(values),
    )


def _mean_of_means(weights: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    drawn = weights @ counts
    seen = drawn > 0
    means = np.where(seen, weights @ sums, 0) / np.where(seen, drawn, 1)
    groups = seen.sum(axis=1)
    return np.where(groups > 0, means.sum(axis=1) / np.maximum(groups, 1), np.nan)

"""How good one mask is, how many clicks it took, and how well presence is told: IoU, Dice, NoC, AUROC."""

from collections.abc import Sequence

import numpy as np


def iou(predicted: np.ndarray, real: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 when both are empty."""
    union = np.count_nonzero(predicted | real)
    return np.count_nonzero(predicted & real) / union if union else 1.0


def dice(predicted: np.ndarray, real: np.ndarray) -> float:
    """Twice the intersection over the sum of the areas (Dice 1945); 1 when both are empty."""
    total = np.count_nonzero(predicted) + np.count_nonzero(real)
    return 2 * np.count_nonzero(predicted & real) / total if total else 1.0


def clicks_needed(ious: Sequence[tuple[int, float]], goal: float, cap: int) -> int:
    """NoC: the fewest clicks whose mask has an IoU of `goal`, from (clicks, IoU) pairs; `cap` when none has."""
    return min((clicks for clicks, value in ious if value >= goal), default=cap)


def auroc(present: np.ndarray, absent: np.ndarray) -> float | None:
    """How probably a present one scores above an absent one, ties counting half (Mann-Whitney); None without both."""
    from scipy.stats import rankdata

    if not len(present) or not len(absent):
        return None
    ranks = rankdata(np.concatenate([present, absent]))[: len(present)]
    above = ranks.sum() - len(present) * (len(present) + 1) / 2
    return float(above / (len(present) * len(absent)))


def roc(present: np.ndarray, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (n,) as the threshold falls, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([present, absent]))[::-1]
    rates = [
        [0.0, *(1 - np.searchsorted(np.sort(scores), thresholds) / len(scores)).tolist()]
        for scores in (absent, present)
    ]
    return np.array(rates[0]), np.array(rates[1])

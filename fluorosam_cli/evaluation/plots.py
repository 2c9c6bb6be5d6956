"""The figures of reports, as matplotlib draws them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fluorosam_cli.contracts import Estimate, Metrics, PairedScores
from fluorosam_cli.evaluation.metrics import roc
from fluorosam_cli.evaluation.page import spoken

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"text": "#1f6feb", "points": "#d9730d", "box": "#5f6b6d"}
LABELS = {"text": "text, then points", "points": "points alone", "box": "box, then points"}


def dice_by_points(metrics: Metrics) -> "Figure":
    """Mean Dice over structures against the number of points, its 95 % interval as a band."""
    figure, axes = _figure(7.6, 4.2)
    for start, colour in COLOURS.items():
        curve = [
            (int(s.prompt.partition("+")[2] or 0), s.over_structures.dice)
            for s in metrics.prompts
            if s.prompt.partition("+")[0] == start and s.over_structures.dice
        ]
        if curve:
            x = [count for count, _ in curve]
            axes.plot(x, [d.mean for _, d in curve], "o-", color=colour, markersize=4.5, label=LABELS[start])
            axes.fill_between(
                x, [d.ci95_low for _, d in curve], [d.ci95_high for _, d in curve], color=colour, alpha=0.16, lw=0
            )
            if len(curve) == 1:
                axes.errorbar(x, [curve[0][1].mean], yerr=_bars([curve[0][1]]), color=colour, capsize=3)
    axes.set(xlabel="number of points", ylabel="Dice, mean over structures", ylim=(0, 1))
    axes.set_xticks(range(max(int(s.prompt.partition("+")[2] or 0) for s in metrics.prompts) + 1))
    axes.legend(frameon=False, loc="best")
    return figure


def dice_by_structure(dice: dict[str, Estimate], after: dict[str, Estimate], first: str, last: str) -> "Figure":
    """Bars with intervals for the first prompt, a dot after the last click; best at the top."""
    order = sorted(dice, key=lambda name: dice[name].mean)
    values = [dice[name] for name in order]
    figure, axes = _figure(7.6, 1.0 + 0.21 * len(order))
    y = np.arange(len(order))
    axes.barh(y, [v.mean for v in values], height=0.7, color=COLOURS["text"], alpha=0.75, label=first)
    axes.errorbar([v.mean for v in values], y, xerr=_bars(values), fmt="none", ecolor="#333", lw=0.9, capsize=1.5)
    if after:
        means = [after[name].mean if name in after else np.nan for name in order]
        axes.plot(means, y, "o", color=COLOURS["points"], markersize=4, label=last)
    axes.set(xlabel="Dice", xlim=(0, 1), ylim=(-0.7, len(order) - 0.3))
    axes.set_yticks(y, [spoken(name) for name in order], fontsize=8)
    figure.legend(frameon=False, loc="outside upper right", ncols=2, fontsize=9)
    return figure


def presence_roc(present: np.ndarray, absent: np.ndarray, threshold: float) -> "Figure":
    """True against false positives as the threshold on the presence probability falls; a dot at `threshold`."""
    figure, axes = _figure(4.2, 4.0)
    false, true = roc(present, absent)
    axes.plot(false, true, color=COLOURS["text"], lw=2)
    axes.plot([0, 1], [0, 1], color="#bbb", lw=1, ls="--")
    axes.plot((absent >= threshold).mean(), (present >= threshold).mean(), "o", color=COLOURS["points"])
    axes.set(xlabel="false positives (absent, called present)", ylabel="true positives", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")
    return figure


def code_map(shares: np.ndarray, structures: Sequence[str]) -> "Figure":
    """Structures down, the codes in use across: each row is how a structure's phrases (their shares) fall on codes."""
    side = 2.0 + 0.052 * max(len(structures), 30)
    figure, axes = _figure(min(9.5, 2.4 + 0.045 * shares.shape[1]), side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    step = max(1, len(structures) // 45)
    axes.set_yticks(range(0, len(structures), step), [spoken(n) for n in structures[::step]], fontsize=6.5)
    axes.set(xlabel="codes in use, in the order of the structures that use them first")
    return figure


def paired_differences(pairs: Sequence[PairedScores], labels: Sequence[str], title: str) -> "Figure":
    """Differences with their intervals, a line each; right of zero B is better."""
    figure, axes = _figure(7.6, 1.0 + 0.24 * len(pairs))
    y = np.arange(len(pairs))[::-1]
    values = [pair.difference for pair in pairs]
    clear = [(v.ci95_low > 0 or v.ci95_high < 0) and v.ci95_low < v.ci95_high for v in values]
    axes.axvline(0, color="#888", lw=1)
    for at, value, sure in zip(y, values, clear, strict=True):
        axes.errorbar(
            [value.mean], [at], xerr=_bars([value]), fmt="o", color=COLOURS["text"] if sure else "#999", capsize=2, ms=4
        )
    axes.set(xlabel=title, ylim=(-0.7, len(pairs) - 0.3))
    axes.set_yticks(y, labels, fontsize=8)
    return figure


def _figure(width: float, height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _bars(values: Sequence[Estimate]) -> np.ndarray:
    """(2, n) distances below and above the mean."""
    return np.array([(max(0.0, v.mean - v.ci95_low), max(0.0, v.ci95_high - v.mean)) for v in values]).T

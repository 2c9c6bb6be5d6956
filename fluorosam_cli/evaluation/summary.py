"""From the rows of `samples.csv` to the numbers of `metrics.json`: means, intervals, NoC, presence, paraphrases."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fluorosam_cli.anatomy.structures import groups, names
from fluorosam_cli.contracts import (
    ClicksNeeded,
    Estimate,
    MaskScores,
    ParaphraseScores,
    PartScores,
    PresenceScores,
    PromptScores,
    StructureScores,
)
from fluorosam_cli.evaluation.bootstrap import bootstrap_weights, grouped_estimate
from fluorosam_cli.evaluation.metrics import auroc, clicks_needed
from fluorosam_cli.evaluation.protocol import GOALS
from fluorosam_cli.evaluation.regions import region_of
from fluorosam_cli.evaluation.samples import ABSENT, PARAPHRASE, Row
from fluorosam_cli.prediction.answers import PRESENT

METRICS = ("iou", "dice", "nsd", "hd95")
LARGEST = 10


@dataclass(frozen=True)
class Resampling:
    """What the bootstrap draws: cases; when there is only one, its images."""

    over_cases: bool
    units: dict[str | int, int]
    weights: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Row], seed: int) -> "Resampling":
        rows = list(rows)
        over_cases = len({row.case for row in rows}) > 1
        units = {key: i for i, key in enumerate(dict.fromkeys(r.case if over_cases else r.image for r in rows))}
        return cls(over_cases, units, bootstrap_weights(len(units), seed))

    def estimate(self, rows: Sequence[Row], values: Sequence[float], over_structures: bool = True) -> Estimate:
        """The mean over structures of each one's mean, or over all rows."""
        order = {name: i for i, name in enumerate(dict.fromkeys(row.structure for row in rows))}
        grouped = np.array([order[row.structure] if over_structures else 0 for row in rows])
        unit = np.array([self.units[row.case if self.over_cases else row.image] for row in rows])
        return grouped_estimate(np.array(values, float), grouped, unit, self.weights)


def kinds(rows: Iterable[Row], clicks: int) -> dict[str, list[Row]]:
    """Rows by prompt, in the protocol's order, without those that only count clicks."""
    wanted = [f"{start}{f'+{n}' if n else ''}" for start in ("text", "points", "box") for n in range(clicks + 1)]
    found: dict[str, list[Row]] = {kind: [] for kind in wanted}
    for row in rows:
        if row.prompt in found:
            found[row.prompt].append(row)
    return {kind: chosen for kind, chosen in found.items() if chosen}


def surface_unit(rows: Iterable[Row]) -> str:
    """mm if any pixel size is known: HD95 and NSD are then means over those masks."""
    units = {row.unit for row in rows}
    return "mm" if "mm" in units else "px"


def mask_scores(rows: Sequence[Row], resampling: Resampling, unit: str, over_structures: bool = True) -> MaskScores:
    def estimate(metric: str) -> Estimate | None:
        chosen = [row for row in rows if getattr(row, metric) is not None]
        if metric in ("nsd", "hd95"):
            chosen = [row for row in chosen if row.unit == unit]
        values = [getattr(row, metric) for row in chosen]
        return resampling.estimate(chosen, values, over_structures) if chosen else None

    return MaskScores(masks=len(rows), **{metric: estimate(metric) for metric in METRICS})


def prompt_scores(by_kind: dict[str, list[Row]], resampling: Resampling, unit: str) -> list[PromptScores]:
    found = []
    for kind, rows in by_kind.items():
        oracle = [row for row in rows if row.oracle_iou is not None]
        mean = resampling.estimate(oracle, [row.oracle_iou or 0 for row in oracle]).mean if oracle else None
        found.append(
            PromptScores(
                prompt=kind,
                over_structures=mask_scores(rows, resampling, unit),
                over_samples=mask_scores(rows, resampling, unit, over_structures=False),
                oracle_iou=mean,
            )
        )
    return found


def structure_scores(by_kind: dict[str, list[Row]], resampling: Resampling, unit: str) -> list[StructureScores]:
    return [
        StructureScores(
            structure=structure,
            prompt=kind,
            mean_area_px=round(float(np.mean([row.area_px for row in chosen])), 1),
            scores=mask_scores(chosen, resampling, unit),
        )
        for kind, rows in by_kind.items()
        for structure, chosen in sorted(_by(rows, lambda row: [row.structure]).items())
    ]


def part_scores(by_kind: dict[str, list[Row]], resampling: Resampling, unit: str) -> list[PartScores]:
    """Means over the structures of each group, each region of the body and each view that several images show."""
    images = Counter(view for view, _ in {(row.view, row.image) for rows in by_kind.values() for row in rows})
    keys: dict[str, Callable[[Row], list[str]]] = {
        "group": lambda row: _groups_of(row.structure),
        "region": lambda row: [region_of(row.structure)],
        "view": lambda row: [row.view] if row.view and images[row.view] > 1 else [],
    }
    return [
        PartScores(of=of, name=name, prompt=kind, scores=mask_scores(chosen, resampling, unit))  # pyright: ignore
        for of, key in keys.items()
        for kind, rows in by_kind.items()
        for name, chosen in sorted(_by(rows, key).items())
    ]


def noc_scores(rows: Sequence[Row], resampling: Resampling, cap: int) -> list[ClicksNeeded]:
    """Clicks needed from each start that was clicked until `cap`, for each goal."""
    found = []
    clicked = {row.start for row in rows if row.clicks} if cap else set()
    for start in ("text", "points", "box"):
        tries: dict[tuple[int, str], list[Row]] = {}
        for row in rows:
            if row.start == start and start in clicked:
                tries.setdefault((row.image, row.structure), []).append(row)
        firsts = [one[0] for one in tries.values()]
        pairs = [[(row.clicks, row.iou or 0.0) for row in one if row.clicks <= cap] for one in tries.values()]
        for goal in GOALS if tries else ():
            needed = [clicks_needed(one, goal, cap) for one in pairs]
            failed = [all(value < goal for _, value in one) for one in pairs]
            found.append(
                ClicksNeeded(
                    start=start,
                    goal_iou=goal,
                    cap=cap,
                    clicks=resampling.estimate(firsts, needed),
                    failed=round(float(np.mean(failed)), 6),
                )
            )
    return found


def presence_scores(rows: Sequence[Row]) -> PresenceScores | None:
    present, absent = presence_values(rows)
    if not len(present) or not len(absent):
        return None
    area = auroc(present, absent)
    return PresenceScores(
        present=len(present),
        absent=len(absent),
        auroc=None if area is None else round(area, 6),
        threshold=PRESENT,
        false_positive_rate=round(float((absent >= PRESENT).mean()), 6),
        true_positive_rate=round(float((present >= PRESENT).mean()), 6),
    )


def presence_values(rows: Iterable[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Presence probabilities of text-only answers where the structure is there, and where it is not."""
    told = [row for row in rows if row.presence is not None]
    present = [row.presence for row in told if row.prompt == "text"]
    return np.array(present, float), np.array([row.presence for row in told if row.prompt == ABSENT], float)


def paraphrase_scores(rows: Iterable[Row], resampling: Resampling) -> ParaphraseScores | None:
    asked: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if row.prompt == PARAPHRASE:
            asked.setdefault((row.image, row.structure), []).append(row)
    if not asked:
        return None
    firsts = [several[0] for several in asked.values()]
    values = [np.array([row.iou for row in several], float) for several in asked.values()]
    return ParaphraseScores(
        masks=len(asked),
        phrases=round(float(np.mean([len(v) for v in values])), 3),
        iou=resampling.estimate(firsts, [float(v.mean()) for v in values]),
        range=resampling.estimate(firsts, [float(np.ptp(v)) for v in values]),
        sd=resampling.estimate(firsts, [float(v.std()) for v in values]),
    )


def largest_text(structures: Sequence[StructureScores]) -> list[StructureScores]:
    """The ten structures, groups and outlines with the largest mean area, asked for in words."""
    asked = [s for s in structures if s.prompt == "text" and s.scores.iou]
    return sorted(asked, key=lambda s: (-s.mean_area_px, s.structure))[:LARGEST]


@cache
def _groups_of(name: str) -> list[str]:
    if name not in names():
        return ["tools"]
    return [group for group, members in groups().items() if name in members]


def _by(rows: Iterable[Row], keys: Callable[[Row], list[str]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        for key in keys(row):
            found.setdefault(key, []).append(row)
    return found

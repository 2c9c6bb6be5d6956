"""Seconds per view of the projector and its peers, round by round and view by view, so that drift hits all alike."""

from statistics import median

import numpy as np

from tests.bench.bench import Bench, say
from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.rows import Row

SAME_PICTURE = 0.02  # mean difference over mean; Siddon and interpolating projectors differ by less
OURS = ("siddon", "joseph")


def rows(bench: Bench) -> list[Row]:
    seconds, differences, failures = measure(bench, list(CONTENDERS))

    def row(name: str, ours: str, peer: str, ratio_at_least: float | None) -> Row:
        notes = [f"{who}: {failures[who]}" for who in (ours, peer) if who in failures]
        if peer in differences and peer not in failures:
            notes.append(f"pictures differ by {differences[peer]:.2%} on average")
        return Row(name, seconds.get(ours), "s/view", peer, seconds.get(peer), ratio_at_least, None, "; ".join(notes))

    table = []
    for ours in OURS:
        masks = f"{ours} + masks"
        one_pass = ours == "siddon"  # with Joseph the masks, which are Siddon's, take a pass of their own
        table.append(row(f"image and all masks, {ours}", masks, "nanodrr + labels", 10.0 if one_pass else None))
        table += [row(f"image alone, {ours}, {peer}", ours, peer, 1.2) for peer in ("itk-rtk Joseph", "plastimatch")]
        known = ours in seconds and masks in seconds
        extra = (seconds[masks] / seconds[ours] - 1) * 100 if known else None
        why = "; ".join(f"{name}: {failures[name]}" for name in (ours, masks) if name in failures)
        most = 25.0 if one_pass else None
        table.append(Row(f"what all masks add, {ours}", extra, "%", value_at_most=most, note=why))
    return table


def measure(bench: Bench, names: list[str]) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """Median seconds; how much the picture differs from ours; why a contender is out. All by contender."""
    folder, scale = bench.scene(), bench.scale
    contenders = []
    try:
        for name in names:
            contenders.append(Contender(name, folder, bench.scale_name))
            contenders[-1].wait_until_ready()  # one after another, so that loading one disturbs no other's warm-up
            say(f"{name}: {contenders[-1].failure or 'ready'}")
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(scale.rounds):
            for view in range(len(scale.views)):
                for contender in contenders:
                    took = contender.seconds(view)
                    if took is not None:
                        seconds[contender.name].append(took)
            say(f"round {number + 1} of {scale.rounds}")
    finally:
        for contender in contenders:
            contender.close()
    failures = {contender.name: contender.failure for contender in contenders if contender.failure}
    taken = {name: median(values) for name, values in seconds.items() if values and name not in failures}
    differences = {name: _difference(bench, contenders, name) for name in taken} if OURS[0] in taken else {}
    for name, difference in differences.items():
        if difference > SAME_PICTURE:
            failures[name] = f"not the same picture: it differs by {difference:.1%}"
            del taken[name]
    return taken, differences, failures


def _difference(bench: Bench, contenders: list[Contender], name: str) -> float:
    """Mean absolute difference from our own picture over its mean, the largest of all views."""
    of = {contender.name: contender for contender in contenders}
    largest = 0.0
    for view in range(len(bench.scale.views)):
        ours, theirs = of[OURS[0]].picture(view), of[name].picture(view)
        largest = max(largest, float(np.abs(ours - theirs).mean() / ours.mean()))
    return largest

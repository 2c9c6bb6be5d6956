"""Progress on stderr: a bar on a terminal, otherwise a line now and then."""

import logging
import sys
import time
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 15.0

log = logging.getLogger("fluoro")


def track(items: Iterable[Item], description: object, total: int, unit: str) -> Iterable[Item]:
    """Pass `items` on while showing how many of `total` are done, their rate and the time left."""
    if sys.stderr.isatty():
        yield from _bar(items, description, total, unit)
        return
    started = last = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES:
            rate = count / (now - started)
            left = _span((total - count) / rate)
            log.info("%s: %d/%d %s, %s, %s left", description, count, total, unit, _pace(rate, unit), left)
            last = now
    log.info("%s: %d %s in %.1f s", description, count, unit, time.monotonic() - started)


def _bar(items: Iterable[Item], description: object, total: int, unit: str) -> Iterable[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(str(description), total=total, rate="")
        for item in items:
            yield item
            speed = progress.tasks[0].speed
            rate = _pace(speed, unit) if speed else ""
            progress.update(task, advance=1, description=str(description), rate=rate)


def _pace(rate: float, unit: str) -> str:
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s per {unit.removesuffix('s')}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

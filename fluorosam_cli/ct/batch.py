"""Many scans: how each becomes a case, in which process, and what happens when one fails.

A scan that fails, or takes its process down with it, is an outcome like any other; the batch goes on. Memory is that of
one scan per process: measured for 512 x 512 x 1000 voxels, 1.6 GB at most to import labels, and 8.1 GB with
TotalSegmentator at 6 mm, which keeps copies of the scan in double precision; at 1.5 mm its networks' output is added.
"""

import contextlib
import errno
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, TypeVar

from fluorosam_cli.contracts import Case, CaseQuality, CaseStructure, Segmenter
from fluorosam_cli.ct.cases import describe_structures, is_finished, write_case
from fluorosam_cli.ct.label_names import LabelsMap
from fluorosam_cli.ct.labels import LabelSource, find_labels, read_labels
from fluorosam_cli.ct.scans import Scan, read_scan
from fluorosam_cli.ct.segment import Run, describe_runs, installed_version, segment
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.processes import end_with_parent

Item = TypeVar("Item")
PATIENCE_S = 10.0  # for a process that has been told to end
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class Recipe:
    """How every scan of a batch becomes a case: by importing `labels`, or by TotalSegmentator's `runs`."""

    out: Path
    labels: Path | None = None
    labels_map: LabelsMap | None = None
    runs: tuple[Run, ...] = ()
    keep_table: bool = False
    single: bool = False  # the only scan, whose labels need not bear its name


class Labelled(NamedTuple):
    """A scan and its labels, ready to be written."""

    ct: Volume
    labels: Volume
    segmenter: Segmenter
    structures: list[CaseStructure]
    quality: CaseQuality
    notes: list[str]


class Outcome(NamedTuple):
    scan: Scan
    case: Case | None  # None: it failed
    notes: list[str]  # remarks, or the one problem
    stops: bool = False  # no other scan can do better

    @property
    def recorded(self) -> str:
        """The problem as `run.json` has it: without paths, whose folders may name a person."""
        problem = self.notes[0].removeprefix(f"{self.scan.subject}: ")
        subject, _, what = problem.partition(": ")
        return f"{self.scan.name}: {what if what and os.path.exists(subject) else problem}"


class Shard(NamedTuple):
    """The share of a batch that one machine works on: every `count`-th item from the `number`-th on."""

    number: int
    count: int

    @property
    def name(self) -> str:
        return f"{self.number}-of-{self.count}"

    def of(self, items: Sequence[Item]) -> list[Item]:
        return list(items[self.number - 1 :: self.count])


def parse_shard(text: str) -> Shard:
    """`3/16` as a shard. Raises UsageError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(*(int(part) for part in match.groups())) if match else Shard(0, 0)
    if not 1 <= shard.number <= shard.count:
        raise UsageError(f"--shard {text}: not a shard", "give its number and how many there are, as in 3/16")
    return shard


def labels_of(scan: Scan, recipe: Recipe) -> LabelSource | None:
    return None if recipe.labels is None else find_labels(recipe.labels, scan, recipe.single)


def segmenter_of(source: LabelSource | None, recipe: Recipe) -> Segmenter:
    """Who makes the labels, as the case's header has it."""
    from fluorosam_cli import __version__

    if source is None:
        version = installed_version() or "unknown"
        return Segmenter(name="TotalSegmentator", version=version, task=describe_runs(recipe.runs))
    return Segmenter(name="imported", version=__version__, task=source.form, source_sha256=source.sha256())


def is_done(scan: Scan, recipe: Recipe) -> bool:
    """Whether an earlier run wrote this case just so; False also when its labels cannot be found now."""
    try:
        return is_finished(recipe.out, scan, segmenter_of(labels_of(scan, recipe), recipe))
    except FluoroError:
        return False


def label_scan(scan: Scan, recipe: Recipe, device: str) -> Labelled:
    """Read a scan, label it and look at what came out. Writes nothing. Raises FluoroError."""
    from fluorosam_cli.ct.body import set_table_aside
    from fluorosam_cli.ct.quality import assess
    from fluorosam_cli.ct.sides import tell_sides

    source = labels_of(scan, recipe)
    ct = read_scan(scan)
    if source is None:
        labels, notes = segment(ct, recipe.runs, device), []
    else:
        labels, notes = read_labels(source, ct, recipe.labels_map)
    labels = tell_sides(labels, ct)
    table_ml = 0.0 if recipe.keep_table else set_table_aside(ct, labels)
    found = describe_structures(labels, ct.borders)
    quality = assess(ct, labels, found, table_ml)
    return Labelled(ct, labels, segmenter_of(source, recipe), found, quality, notes)


def save(scan: Scan, recipe: Recipe, labelled: Labelled) -> Case:
    ct, labels, segmenter, structures, quality, _ = labelled
    return write_case(recipe.out, scan, ct, labels, segmenter, structures, quality)


def make_case(scan: Scan, recipe: Recipe, device: str) -> Outcome:
    """Label and write a scan here, whatever comes of it."""
    try:
        labelled = label_scan(scan, recipe, device)
        return Outcome(scan, save(scan, recipe, labelled), labelled.notes)
    except FluoroError as error:
        return Outcome(scan, None, [error.problem])
    except MemoryError:
        return Outcome(scan, None, [f"{scan.subject}: not enough memory"])
    except OSError as error:
        problem = f"{scan.subject}: {(error.strerror or str(error)).lower()}"
        return Outcome(scan, None, [problem], stops=error.errno in CANNOT_WRITE)
    except Exception as error:  # one odd scan of thousands must not stop the rest
        return Outcome(scan, None, [f"{scan.subject}: unexpected {type(error).__name__}: {error}"])


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    device: str
    scan: Scan | None = None


def _start(recipe: Recipe, device: str) -> _Worker:
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, recipe, device))  # no daemon: those may start none
    process.start()
    theirs.close()
    return _Worker(process, ours, device)


def _serve(connection: Connection, recipe: Recipe, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # tidily, so that its own children end too
    end_with_parent()
    try:
        while (scan := connection.recv()) is not None:
            connection.send(make_case(scan, recipe, device)[1:])
    except (EOFError, BrokenPipeError):
        return


def make_cases(scans: Sequence[Scan], recipe: Recipe, devices: Sequence[str]) -> Iterator[Outcome]:
    """One outcome per scan, in order of completion.

    Each device gets a process of its own that outlives its scans, so that networks stay loaded; one that dies is
    replaced.
    """
    waiting = iter(scans)
    workers = [_start(recipe, device) for device in devices[: len(scans)]]
    try:
        for worker in workers:
            _give(worker, waiting)
        while busy := [worker for worker in workers if worker.scan is not None]:
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection not in ready or worker.scan is None:
                    continue
                try:
                    outcome = Outcome(worker.scan, *worker.connection.recv())
                except (EOFError, OSError):
                    worker.process.join()
                    code = worker.process.exitcode
                    problem = f"{worker.scan.subject}: its process died (exit code {code}); short of memory?"
                    outcome = Outcome(worker.scan, None, [problem])
                    fresh = _start(recipe, worker.device)
                    worker.connection.close()
                    worker.process, worker.connection = fresh.process, fresh.connection
                yield outcome
                _give(worker, waiting)
    finally:
        for worker in workers:
            worker.connection.close()
            if worker.scan is not None:  # the others have been told that there is no more to do
                worker.process.terminate()
        for worker in workers:
            worker.process.join(PATIENCE_S)
            worker.process.kill()
            worker.process.join()


def _give(worker: _Worker, waiting: Iterator[Scan]) -> None:
    worker.scan = next(waiting, None)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has died, as reading from it will tell
        worker.connection.send(worker.scan)

"""The render stage: cases -> 16-bit radiographs, each with the mask of every structure in it.

While one view is projected, those before it are exposed, encoded and written by a few threads, and the next case is
read. Each view's randomness comes from `[seed, case, view]` alone and records are sorted at the end, so that neither
threads, processes nor an interruption change a byte. In memory are the case being rendered and the next one.
"""

import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

from fluorosam_cli.allocator import return_freed_memory
from fluorosam_cli.artefacts import Lines, Track, silent
from fluorosam_cli.contracts import Projector as ProjectorHeader
from fluorosam_cli.contracts import View, Views, ViewsCase
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.poses import poses_of
from fluorosam_cli.geometry.views import RANDOM, StandardView, impossible_views, possible_views
from fluorosam_cli.output import Output
from fluorosam_cli.processes import end_with_parent
from fluorosam_cli.render import deepdrr, projector
from fluorosam_cli.render.body import Body, CaseFolder, load_body
from fluorosam_cli.render.materials import MATERIALS
from fluorosam_cli.render.projector import Projector
from fluorosam_cli.render.settings import Physics, Settings
from fluorosam_cli.render.view import Shot, aim, develop, project

HEADER = "views.json"
LINES = "views.jsonl"
WAITING_BYTES = 2**30  # of maps of views that are projected and not yet written; a single view may have more

Done = set[tuple[str, int]]


@dataclass(frozen=True)
class Failure:
    """A case that could not be rendered, or something asked for that it does not allow."""

    problem: str
    hint: str


def render(
    cases: Sequence[CaseFolder], output: Output, settings: Settings, devices: Sequence[str], track: Track = silent
) -> None:
    """Render views of every case into `output`: images, `views.jsonl`, and at last `views.json`.

    With several `devices`, each gets a process and a share of the cases. A case that cannot be read is put on
    `output.failed`; when there is no view at all, its error is raised.
    """
    numbers = {item.case.name: number for number, item in enumerate(cases)}
    failures: list[Failure] = []
    with Lines(output.path / LINES, View, key=lambda view: (numbers[view.case], view.index)) as lines:
        done = {(cases[number].case.name, index) for number, index in lines.done}
        counts = dict.fromkeys(numbers, 0)
        for name, _ in done:
            counts[name] += 1
        output.skipped = len(done)
        total = sum(settings.views_of(name) for name in numbers) - len(done)
        if len(devices) == 1:
            found = _rendered(cases, output.path, settings, done)
        else:
            found = _in_processes(cases, output.path, settings, devices, done)
        for item in track(_views_of(found, failures), "render", total, "views"):
            lines.append(item)
            counts[item.case] += 1
            output.done += 1
        output.failed += [failure.problem for failure in failures]
        if failures and not any(counts.values()):
            raise FluoroError(failures[0].problem, failures[0].hint)
    output.finish(
        Views(
            count=sum(counts.values()),
            seed=settings.seed,
            polarity=settings.physics.polarity,
            projector=_projector_header(settings.physics),
            contrast=list(settings.physics.contrast),
            without=sorted(settings.physics.without),
            integrals=settings.extras.integrals,
            cases=[
                ViewsCase(
                    name=item.case.name,
                    case_sha256=item.case.source_sha256,
                    views=counts[item.case.name],
                    segmenter=item.case.segmenter.name,
                    task=item.case.segmenter.task,
                    structures=[structure.name for structure in item.case.structures],
                )
                for item in cases
                if counts[item.case.name]
            ],
        )
    )


def _projector_header(physics: Physics) -> ProjectorHeader:
    """Which projector made the images, of which materials; the masks are always ours."""
    other = physics.deepdrr
    return ProjectorHeader(
        name="deepdrr" if other else "fluoro",
        version=version("deepdrr") if other else projector.VERSION,
        interpolation=physics.interpolation,
        min_path_mm=physics.min_path_mm,
        materials=list(deepdrr.MATERIALS if other else MATERIALS),
    )


def _views_of(found: Iterator[View | Failure], failures: list[Failure]) -> Iterator[View]:
    for item in found:
        if isinstance(item, View):
            yield item
        else:
            failures.append(item)


# --- one process ------------------------------------------------------------------------------------------------------


def _rendered(cases: Sequence[CaseFolder], out: Path, settings: Settings, done: Done) -> Iterator[View | Failure]:
    """The records of all views not done yet, each when its files are written."""
    return_freed_memory()
    waiting: deque[Future[View]] = deque()
    told: set[str] = set()
    developers = 1 if settings.physics.deepdrr else settings.threads  # DeepDRR draws one view at a time
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(developers) as pool:
        bodies = [(item, deformation) for item in cases for deformation in range(settings.deformations + 1)]
        left = [body for body in bodies if _indices(*body, settings, done)]
        ahead = reader.submit(_loaded, *left[0], settings) if left else None
        for number, (item, deformation) in enumerate(left):
            assert ahead is not None
            loaded = ahead.result()
            if number + 1 < len(left):
                ahead = reader.submit(_loaded, *left[number + 1], settings)
            body, possible, refused = (None, (), [loaded]) if isinstance(loaded, Failure) else loaded
            for failure in refused:
                if failure.problem not in told:  # of a case's other deformations it need not be said again
                    told.add(failure.problem)
                    yield failure
            if body is None:
                continue
            shots = (aim(body, possible, index, settings) for index in _indices(item, deformation, settings, done))
            for batch in _batches(shots, body.projector):
                for shot, projected in zip(batch, project(body, batch), strict=True):
                    waiting.append(pool.submit(develop, out, body, shot, *projected, settings))
                size = body.projector.view_bytes(*batch[0].size_px, paths=bool(body.projector.paths))
                while len(waiting) >= max(1, min(settings.threads, WAITING_BYTES // size)):
                    yield waiting.popleft().result()
            if body.deepdrr:
                pool.submit(body.deepdrr.close)  # after this case's views, as its pool has one thread
        while waiting:
            yield waiting.popleft().result()


def _batches(shots: Iterable[Shot], on: Projector) -> Iterator[list[Shot]]:
    """Shots that follow each other and have one size, as many as one launch takes; each aimed when it is needed."""
    batch: list[Shot] = []
    most = 1  # on a CPU the threads of a launch share one view
    for shot in shots:
        if batch and (len(batch) == most or shot.size_px != batch[0].size_px):
            yield batch
            batch = []
        batch.append(shot)
        if on.device != "cpu":
            most = on.views_per_launch(*shot.size_px, paths=bool(on.paths))
    if batch:
        yield batch


def _indices(item: CaseFolder, deformation: int, settings: Settings, done: Done) -> list[int]:
    """The views still to be taken of a case's deformation: the case's are dealt out in turn."""
    name = item.case.name
    dealt = range(deformation, settings.views_of(name), settings.deformations + 1)
    return [index for index in dealt if (name, index) not in done]


def _loaded(
    item: CaseFolder, deformation: int, settings: Settings
) -> tuple[Body, tuple[StandardView, ...], list[Failure]] | Failure:
    """A case ready to be rendered, the views it allows, and those asked for that it does not."""
    name = item.case.name
    try:
        body = load_body(item, settings, deformation)
        for camera in poses_of(settings.aim.poses, name):
            camera.check_meets(body.rows.shape, body.world_from_voxel, name)
    except FluoroError as error:
        return Failure(f"{name}: {error.problem}", error.hint)
    if settings.aim.poses:
        return body, (), []
    possible = possible_views(body.scanned, settings.aim.names)  # the same for all its deformations
    if settings.physics.deepdrr:
        possible = tuple(view for view in possible if view.whole_body)
    hint = "fluoro render --list-views says what each view needs"
    refused = [
        Failure(f"{name}: no view {view}: {reason}", hint)
        for view, reason in impossible_views(body.scanned, settings.aim.names).items()
    ]
    if refused and not possible and RANDOM not in settings.aim.names:
        return refused[0]
    return body, possible, refused


# --- several processes ------------------------------------------------------------------------------------------------


def _in_processes(
    cases: Sequence[CaseFolder], out: Path, settings: Settings, devices: Sequence[str], done: Done
) -> Iterator[View | Failure]:
    """Like `_rendered`, in one process per device; each takes every so-manyth case."""
    context = get_context("spawn")
    threads = max(1, settings.threads // len(devices))
    workers: dict[Connection, BaseProcess] = {}
    try:
        for number, device in enumerate(devices):
            ours, theirs = context.Pipe(duplex=False)
            share = list(cases[number :: len(devices)])
            arguments = (theirs, share, out, replace(settings, device=device, threads=threads), done)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            workers[ours] = worker
            theirs.close()  # the process holds the only other end, so that its death closes the pipe
        running = list(workers)
        while running:
            for connection in cast(list[Connection], wait(running)):
                try:
                    item = connection.recv()
                except (EOFError, OSError) as error:  # the end of the pipe, between two records or within one
                    workers[connection].join()
                    raise FluoroError(
                        f"a render process ended with exit code {workers[connection].exitcode}",
                        "continue with --resume on fewer --gpus",
                    ) from error
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    running.remove(connection)
                else:
                    yield item
    finally:
        for worker in workers.values():
            worker.terminate()


def _work(pipe: Connection, cases: list[CaseFolder], out: Path, settings: Settings, done: Done) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business
    end_with_parent()
    try:
        for item in _rendered(cases, out, settings, done):
            pipe.send(item)
        pipe.send(None)
    except BrokenPipeError:  # the parent is gone
        return
    except (FluoroError, OSError) as error:  # raised again by the parent
        pipe.send(error)
    except Exception as error:
        pipe.send(FluoroError(f"unexpected {type(error).__name__}: {error}", "repeat with --gpus 1 --verbose"))

"""The images of one `predict` call: which frames of which files, what each result is called, and reading stdin."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.contracts import Prediction
from fluorosam_cli.dataset.image_files import stem_of
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.prediction.answers import Request, answer_everything, answer_prompts
from fluorosam_cli.prediction.images import probe, read_frames
from fluorosam_cli.prediction.predictor import Predictor
from fluorosam_cli.prediction.write import Segmented, is_done, read_prediction

log = logging.getLogger("fluoro")

STDIN_MAX_BYTES = 2**30
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Job:
    """One file and the frames of it that are wanted."""

    path: Path
    name: str  # of its results
    frames: tuple[int, ...]
    of: int  # frames in the file

    def folder_name(self, frame: int) -> str:
        return self.name if self.of == 1 else f"{self.name}-frame-{frame:04d}"


def job_of(path: Path, name: str, frames: "Frames | None") -> Job:
    """Raises FluoroError when the file cannot be read, or `frames` are needed to choose or are not there."""
    legible = str(path).encode(errors="replace").decode()
    if legible != str(path):  # JSON and other tools could not name it
        raise FluoroError(f"{legible}: its name is not UTF-8", "rename it")
    count, cine = probe(path)
    if frames is not None:
        chosen = frames.chosen(path, count)
    elif count > 1 and not cine:
        raise FluoroError(
            f"{path}: holds {count} pages or slices, one image is expected", "--frames 1, or --frames all"
        )
    else:
        chosen = tuple(range(1, count + 1))
    return Job(path, name, chosen, count)


def segment(predictor: Predictor, request: Request, job: Job, frames: Sequence[int]) -> Iterator[Segmented]:
    """The answers for these frames of a file, one by one. Raises FluoroError at what cannot be read or asked."""
    for radiograph in read_frames(job.path, frames, request.invert):
        if radiograph.pixels.min() == radiograph.pixels.max():
            log.warning("warning: %s: every pixel is %g: nothing can be seen", job.path, radiograph.pixels.flat[0])
        predictor.set_image(radiograph.for_network, request.tta)
        if request.prompts:
            answers, absent = answer_prompts(predictor, request.prompts, request.masks), {}
        else:
            answers, absent = answer_everything(predictor)
        yield Segmented(job.path, radiograph, answers, predictor.checkpoint_sha256, absent)


@dataclass(frozen=True)
class Batch:
    """The images of one call, and what was wrong with those that had to be left out."""

    source: str
    alone: bool  # one file: what is wrong with it ends the call
    jobs: list[Job] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        return sum(len(job.frames) for job in self.jobs)

    @property
    def single(self) -> bool:
        return self.alone and self.images == 1

    @property
    def places(self) -> dict[tuple[Job, int], str]:
        """Job and frame -> the folder of its results; that of a single image is the output folder itself."""
        return {(job, n): "" if self.single else job.folder_name(n) for job in self.jobs for n in job.frames}

    @property
    def title(self) -> str:
        """What an output folder for this is called."""
        if self.alone:
            job = self.jobs[0]
            return job.folder_name(job.frames[0]) if self.single else job.name
        source = Path(self.source).resolve()
        return source.name if source.is_dir() else "images"

    @contextmanager
    def listing(self) -> Iterator[None]:
        """Of one image among several, what is wrong goes into the list, and the others go on."""
        try:
            yield
        except FluoroError as error:
            if self.alone:
                raise
            self.failed.append(error.problem)

    def done(self, folder: Path) -> dict[str, Prediction]:
        """What an earlier call left in `folder`, by place, of images that have not changed since."""
        digests = {job: sha256_of(job.path) for job in self.jobs}
        there = ((job, name, folder / name) for (job, _), name in self.places.items())
        found = {name: (job, read_prediction(path)) for job, name, path in there if is_done(path)}
        return {name: header for name, (job, header) in found.items() if header.image_sha256 == digests[job]}

    def segmented(
        self, predictor: Predictor, request: Request, done: Collection[str]
    ) -> Iterator[tuple[str, Segmented]]:
        """The place and the answers of each image whose place is not among those that are done."""
        places = self.places
        for job in self.jobs:
            with self.listing():
                for one in segment(predictor, request, job, [n for n in job.frames if places[job, n] not in done]):
                    yield places[job, one.radiograph.frame], one


def batch_of(source: str, paths: Sequence[Path], frames: "Frames | None") -> Batch:
    """The images in these files, which `source` names.

    Raises FluoroError where the results of two would be called alike, and where the only file is of no use.
    """
    batch = Batch(source, alone=len(paths) == 1 and not Path(source).is_dir())
    for path, name in zip(paths, names_of(paths), strict=True):
        with batch.listing():
            batch.jobs.append(job_of(path, name, frames))
    name, count = next(iter(Counter(batch.places.values()).most_common(1)), ("", 0))
    if count > 1:
        raise FluoroError(f"{source}: the results of two images would be called {name}", "rename one of them")
    return batch


@dataclass(frozen=True)
class Frames:
    """What `--frames` says: frames and ranges of them, counted from 1, or all."""

    text: str
    ranges: tuple[tuple[int, int], ...]  # first and last; empty for all

    def chosen(self, path: Path, count: int) -> tuple[int, ...]:
        for _, last in self.ranges:
            if last > count:
                raise FluoroError(f"{path}: --frames {self.text}: it has {count}, counted from 1", "choose among them")
        wanted = {number for first, last in self.ranges for number in range(first, last + 1)}
        return tuple(sorted(wanted)) or tuple(range(1, count + 1))


def parse_frames(text: str) -> Frames:
    """`1,5-10` or `all`. Raises UsageError for anything else."""
    if text == "all":
        return Frames(text, ())
    ranges = []
    for word in text.split(","):
        first, dash, last = word.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) < 1e6):
            raise UsageError(f"--frames {text}: not of the form 1,5-10 or all", "frames are counted from 1")
        ranges.append((int(first), int(last)))
    return Frames(text, tuple(ranges))


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each image's results: its stem, or its whole name where two stems are equal."""
    stems = [stem_of(path) for path in paths]
    met = Counter(stems)
    names = [stem if met[stem] == 1 else path.name for path, stem in zip(paths, stems, strict=True)]
    met = Counter(names)
    return [name if met[name] == 1 else f"{name}-{i + 1}" for i, name in enumerate(names)]


def read_stdin(stream: IO[bytes], folder: Path) -> Path:
    """Keep what comes through a pipe as a file in `folder`, for the readers that need one."""
    path, left = folder / "stdin", STDIN_MAX_BYTES
    with open(path, "wb") as file:
        for chunk in _chunks(stream):
            left -= len(chunk)
            if left < 0:
                raise FluoroError(f"stdin: more than {STDIN_MAX_BYTES} bytes", "give a file")
            file.write(chunk)
    if left == STDIN_MAX_BYTES:
        raise FluoroError("stdin: is empty", "pipe an image into it, as in `fluoro predict - heart < img.png`")
    return path


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk

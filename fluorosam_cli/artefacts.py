"""Writing and reading artefact folders: atomic files, headers last, overwrite and resume, `run.json`.

A stage writes into an `Output`. Items (images, case folders, lines of a JSON Lines file) are written one by one, each
whole or not at all; the header comes last, by rename, so that a folder with a header is finished. A stage killed at
any moment loses at most the item it was on.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby, pairwise
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from pydantic import ValidationError

from fluorosam_cli.contracts import Model, Run
from fluorosam_cli.errors import FluoroError, UsageError

RUN_FILE = "run.json"
TEMPORARY = ".tmp-"  # files with this prefix are leftovers of a killed run and may be deleted
PATIENCE_S = 15.0  # for another process that writes into the same folder

Item = TypeVar("Item")
AnyModel = TypeVar("AnyModel", bound=Model)


class Track(Protocol):
    """Wraps an iterable to show progress; `commands.progress.track` draws it, `silent` does not.

    The description's `str()` is asked for every time it is shown, so it may change on the way.
    """

    def __call__(self, items: Iterable[Item], description: object, total: int, unit: str) -> Iterable[Item]: ...


def silent(items: Iterable[Item], description: object, total: int, unit: str) -> Iterable[Item]:
    """The `Track` of library use and of tests."""
    return items


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, same suffixes, that becomes `path` by rename if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, model: Model) -> None:
    write_bytes(path, (model.model_dump_json(indent=1) + "\n").encode())


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


WRITERS = {  # header -> the command that writes it
    "case.json": "segment-ct",
    "views.json": "render",
    "descriptions.json": "describe",
    "words.json": "words",
    "shards.json": "pack",
    "checkpoint.json": "train",
    "metrics.json": "eval",
    "prediction.json": "predict",
}


def read_header(path: Path, model: type[AnyModel]) -> AnyModel:
    """Read an artefact's JSON header. The format is compared before anything is validated.

    Raises FluoroError when the file is absent, not JSON, of another format or version, or does not validate.
    """
    expected = str(model.model_fields["format"].default)
    subject = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        writer = WRITERS.get(path.name)
        hint = f"`fluoro {writer}` writes it" if writer else f"the stage that writes {path.name} has to run first"
        if not path.parent.exists():
            raise FluoroError(f"{path.parent}: no such folder", f"check the path; {path.name} is looked for: {hint}")
        raise FluoroError(f"{path}: not found, or not finished", hint)
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise FluoroError(
            f"{subject}: not valid JSON ({error})", "write the artefact again with --overwrite"
        ) from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != expected:
        newer = isinstance(found, str) and found.rpartition("/")[0] == expected.rpartition("/")[0]
        raise FluoroError(
            f"{subject}: format is {found!r}, this version reads {expected!r}",
            "use the fluoro version that wrote it, or write it again" if newer else f"give a folder with a {expected}",
        )
    return validate(model, data, subject)


REWRITE = "write the artefact again with --overwrite"


def validate(model: type[AnyModel], data: object, subject: str, hint: str = REWRITE) -> AnyModel:
    """Validate plain data against a contract; the first error becomes a FluoroError that names `subject`."""
    try:
        return model.model_validate_json(json.dumps(data))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise FluoroError(f"{subject}: {where}: {first['msg']}", hint) from error


def read_lines(path: Path, model: type[AnyModel]) -> Iterator[AnyModel]:
    """The records of a JSON Lines file."""
    if not path.is_file():
        raise FluoroError(f"{path}: not found", "the folder is incomplete: write it again with --overwrite")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            yield _record(model, line, path, number)


def _record(model: type[AnyModel], line: bytes, path: Path, number: int) -> AnyModel:
    subject = f"{path.parent.name}/{path.name}: line {number}"
    try:
        data = json.loads(line)
    except ValueError as error:
        raise FluoroError(f"{subject} is not valid JSON", "write the artefact again with --overwrite") from error
    return validate(model, data, subject)


class Lines:
    """A JSON Lines file that grows record by record and is renamed into place when complete.

    `done` holds the records a killed run had already written; a half-written last line is dropped. With `order`, a sort
    key of records, those of a complete file are in that order, whichever they came in.
    """

    def __init__(self, path: Path, model: type[AnyModel], order: Callable[[Any], Any] | None = None) -> None:
        self.path = path
        self._model = model
        self._order = order
        self._growing = path.with_name(path.name + ".part")
        if path.is_file() and not self._growing.is_file():
            os.replace(path, self._growing)
        self.done: list[Any] = []
        whole = 0
        if self._growing.is_file():
            for line in self._growing.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                self.done.append(_record(model, line, path, len(self.done) + 1))
                whole += len(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = open(self._growing, "ab")  # noqa: SIM115 - closed by close()
        self._file.truncate(whole)

    def append(self, record: Model) -> None:
        self._file.write((record.model_dump_json() + "\n").encode())
        self._file.flush()

    def close(self, complete: bool) -> None:
        self._file.close()
        if complete:
            if self._order:
                self._sort(self._order)
            with open(self._growing, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self._growing, self.path)
        elif not self._growing.stat().st_size:
            self._growing.unlink()

    def _sort(self, order: Callable[[Any], Any]) -> None:
        lines = self._growing.read_bytes().splitlines(keepends=True)
        keys = [order(_record(self._model, line, self.path, number)) for number, line in enumerate(lines, 1)]
        if any(one > other for one, other in pairwise(keys)):
            ordered = [line for _, line in sorted(zip(keys, lines, strict=True))]
            with atomic_path(self._growing) as temporary:
                temporary.write_bytes(b"".join(ordered))

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(complete=kind is None)


# --- output folders ---------------------------------------------------------------------------------------------------


class Output:
    """The folder a stage writes: refused, replaced or continued, and its `run.json`.

    Use as a context manager. `done`, `skipped` and `failed` are counted by the stage. Two runs are the same, and the
    second may resume the first, when `config` and `inputs_sha256` are equal. Runs that write one `part` each, say
    `3-of-16`, share a folder, also at the same time: each has its own `run-3-of-16.json` and touches nothing else.
    `private` words of the command line are not recorded, only how many there were.
    """

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        header: str | None,
        config: dict[str, object],
        seed: int = 0,
        device: str = "cpu",
        inputs: Iterable[Path] = (),
        overwrite: bool = False,
        resume: bool = False,
        part: str | None = None,
        private: Collection[str] = (),
    ) -> None:
        if overwrite and resume:
            raise UsageError("--overwrite and --resume exclude each other", "give one of them")
        self.path = path
        self.part = part
        self.run_file = f"run-{part}.json" if part else RUN_FILE
        self.header = header
        self.done = 0
        self.skipped = 0
        self.failed: list[str] = []
        self._failed_before = False
        self._lock: int | None = None
        self._started = time.monotonic()
        self._run = Run(
            stage=stage,
            status="running",
            argv=_command_line(sys.argv[1:], private),
            versions=_versions(),
            commit=_commit(),
            device=device,
            seed=seed,
            config={key: _plain(value) for key, value in config.items()},
            inputs_sha256={file.parent.name + "/" + file.name: sha256_of(file) for file in inputs},
            done=0,
            skipped=0,
            failed=[],
            seconds=0.0,
        )
        self.resuming = self._prepare(overwrite, resume)

    def _prepare(self, overwrite: bool, resume: bool) -> bool:
        """Decide between a new, a replaced and a continued folder; True when there is something to continue."""
        if self.path.exists() and not self.path.is_dir():
            raise FluoroError(f"{self.path}: is a file, a folder is needed", "give another folder with -o")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return False
        ours = (self.path / self.run_file).is_file()
        if self.part and not ours and any(self.path.glob("run-*-of-*.json")) and not (self.path / RUN_FILE).is_file():
            return False  # other parts have begun
        if overwrite:
            if not ours:
                raise FluoroError(
                    f"{self.path}: not empty and not written by fluoro (no {RUN_FILE}), so it is not deleted",
                    "give another folder with -o, or empty this one yourself",
                )
            return False
        if not resume:
            raise FluoroError(
                f"{self.path}: not empty", "add --resume to continue it, --overwrite to replace it, or -o for another"
            )
        if not ours:
            raise FluoroError(f"{self.path}: nothing to resume (no {self.run_file})", "give another folder with -o")
        before = read_header(self.path / self.run_file, Run)
        now = json.loads(self._run.model_dump_json())
        if before.stage != self._run.stage:
            raise FluoroError(f"{self.path}: was written by `fluoro {before.stage}`", "give another folder with -o")
        for name in sorted(before.config.keys() | now["config"].keys()):
            old, new = before.config.get(name), now["config"].get(name)
            if old != new:
                raise FluoroError(
                    f"{self.path}: was begun with {name} = {old!r}, now {new!r}",
                    "repeat the first command's options with --resume, or start again with --overwrite",
                )
        if before.inputs_sha256 != self._run.inputs_sha256:
            raise FluoroError(f"{self.path}: its inputs have changed since", "start again with --overwrite")
        self._failed_before = bool(before.failed)
        return True

    @property
    def finished(self) -> bool:
        """Whether an earlier run completed this folder (only when resuming); what had failed is tried again."""
        done = self.header is not None and (self.path / self.header).is_file()
        return self.resuming and done and not self._failed_before

    def _write_run(self, status: str) -> None:
        update = {
            "status": status,
            "done": self.done,
            "skipped": self.skipped,
            "failed": [_without_roots(problem) for problem in self.failed],
            "seconds": round(time.monotonic() - self._started, 3),
        }
        write_json(self.path / self.run_file, self._run.model_copy(update=update))

    def __enter__(self) -> "Output":
        if self.part:
            self._write_run("running")
            return self
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.path)
        if self.header is not None and not self.finished:  # first, so that a folder half done does not look finished
            (self.path / self.header).unlink(missing_ok=True)
        if not self.resuming and self.path.is_dir():
            for entry in self.path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for leftover in self.path.rglob(TEMPORARY + "*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self._write_run("running")
        return self

    def finish(self, header: Model) -> None:
        """Write the header: from here on the folder is complete."""
        assert self.header is not None
        self._write_run("running")  # with what failed
        write_json(self.path / self.header, header)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "done" if kind is None else "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        try:
            self._write_run(status)
            nothing = status == "failed" or (self.failed and not self.done and not self.skipped)
            alone = [entry.name for entry in self.path.iterdir()] == [self.run_file]
            if status != "interrupted" and nothing and (alone or (self.part and not self.done + self.skipped)):
                (self.path / self.run_file).unlink()  # nothing was made, so nothing stands in the way of another try
                if alone:
                    self.path.rmdir()
        except OSError:
            if kind is None:
                raise
        finally:
            if self._lock is not None:
                os.close(self._lock)


def locked(folder: Path) -> int | None:
    """A descriptor that keeps other processes from locking the folder until it is closed; None where nothing locks.

    Raises FluoroError when another process has done so, and does not end within PATIENCE_S: a killed one's helpers may
    outlive it by seconds.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    held = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(held)
                raise FluoroError(f"{folder}: another process writes there", "let it end, or give another -o") from None
            time.sleep(0.1)
        except OSError:  # some network file systems lock no folders
            return held
        else:
            return held


def _plain(value: object) -> object:
    """Configuration as it goes into JSON, without absolute paths."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (Path, str)):
        return _without_roots(str(value))
    return value if isinstance(value, (int, float, bool, type(None), dict)) else str(value)


def _command_line(words: list[str], private: Collection[str]) -> list[str]:
    hidden = {str(Path(word)) for word in private}
    found: list[str] = []
    for is_hidden, group in groupby(words, key=lambda word: str(Path(word)) in hidden):
        group = list(group)
        if is_hidden:
            found.append(f"({len(group)} not recorded)")
            continue
        for word in group:
            option, equals, value = word.partition("=")
            is_hidden = bool(equals) and str(Path(value)) in hidden
            found.append(f"{option}=(1 not recorded)" if is_hidden else _without_roots(word))
    return found


def _without_roots(text: str) -> str:
    """The text with absolute paths cut to their last part, as the folders above it may name a person; URLs stay."""
    return re.sub(r"(^|[\s=:,('\"])/(?![/\s])[^=:,'\"]+", _last_part, text)


def _last_part(match: re.Match[str]) -> str:
    return match[1] + Path(match[0][len(match[1]) :]).name


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("fluorosam-cli", "numpy", "torch", "warp-lang", "timm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of a source checkout, read from its files; None for an installed wheel."""
    git = Path(__file__).parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return head if not head.startswith("ref: ") else (git / head[5:]).read_text().strip()
    except OSError:
        return None


def find_artefacts(path: Path, header: str, model: type[AnyModel]) -> list[tuple[Path, AnyModel]]:
    """The artefact folders at `path`: the folder itself, or those directly below it, sorted by name.

    Raises FluoroError when there are none.
    """
    if not path.exists():
        raise FluoroError(f"{path}: no such folder", "check the path")
    folders = [path] if (path / header).is_file() else sorted(file.parent for file in path.glob(f"*/{header}"))
    if not folders:
        raise FluoroError(f"{path}: holds no {header}", f"give a folder with a {header} in it or in its subfolders")
    return [(folder, read_header(folder / header, model)) for folder in folders]

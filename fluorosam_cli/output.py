"""The folder a stage writes: refused, replaced or continued, one process's at a time, with its `run.json`.

Items (images, case folders, lines of a JSON Lines file) are written one by one, each whole or not at all; the header
comes last, by rename, so that a folder with a header is finished. A stage killed at any moment loses at most the item
it was on.
"""

import fcntl
import json
import os
import platform
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from fluorosam_cli.artefacts import TEMPORARY, read_header, sha256_of, write_json
from fluorosam_cli.contracts import Model, Run
from fluorosam_cli.errors import FluoroError, UsageError

RUN_FILE = "run.json"
RUN_NAME = re.compile(r"run(-\d+-of-\d+)?\.json")  # of a whole folder, or of a part
PATIENCE_S = 15.0  # for another process that writes into the same folder


class Output:
    """The folder of one run.

    Use as a context manager. `done`, `skipped` and `failed` are counted by the stage. Two runs are the same, and the
    second may resume the first, when `config` and `inputs_sha256` are equal. Runs that write one `part` each, say
    `3-of-16`, share a folder, also at the same time: each has its own `run-3-of-16.json` and touches nothing else.
    `private` words of the command line are not recorded, only how many there were. Whether the folder may be written is
    looked at twice: when this is made, and under its lock when it is entered.
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
        self._lock_file = f"{TEMPORARY}run-{part}.lock" if part else None
        self.header = header
        self._overwrite, self._resume = overwrite, resume
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
            inputs_sha256=_digests(inputs),
            done=0,
            skipped=0,
            failed=[],
            seconds=0.0,
        )
        self.resuming = self._prepare()

    def _prepare(self) -> bool:
        """Decide between a new, a replaced and a continued folder; True when there is something to continue."""
        if self.path.exists() and not self.path.is_dir():
            raise FluoroError(f"{self.path}: is a file, a folder is needed", "give another folder with -o")
        if not self.path.is_dir() or all(entry.name.startswith(TEMPORARY) for entry in self.path.iterdir()):
            return False
        ours = (self.path / self.run_file).is_file()
        runs = sorted(path.name for path in self.path.glob("run*.json") if RUN_NAME.fullmatch(path.name))
        if runs and not ours:
            if self.part and all(name.endswith("-of-" + self.part.partition("-of-")[2] + ".json") for name in runs):
                self._compare(read_header(self.path / runs[0], Run), besides=("shard", "device"))
                return False  # other parts have begun
            named = ", ".join(runs[:3]) + ", ..." * (len(runs) > 3)
            raise FluoroError(
                f"{self.path}: not empty, and written with another --shard or with none ({named})",
                "repeat the --shard of before, or give another folder with -o",
            )
        if self._overwrite:
            if not ours:
                raise FluoroError(
                    f"{self.path}: not empty and not written by fluoro (no {RUN_FILE}), so it is not deleted",
                    "give another folder with -o, or empty this one yourself",
                )
            return False
        if not self._resume:
            raise FluoroError(
                f"{self.path}: not empty", "add --resume to continue it, --overwrite to replace it, or -o for another"
            )
        if not ours:
            raise FluoroError(f"{self.path}: nothing to resume (no {self.run_file})", "give another folder with -o")
        before = read_header(self.path / self.run_file, Run)
        self._compare(before)
        if before.inputs_sha256 != self._run.inputs_sha256:
            raise FluoroError(f"{self.path}: its inputs have changed since", "start again with --overwrite")
        self._failed_before = bool(before.failed)
        return True

    def _compare(self, before: Run, besides: Collection[str] = ()) -> None:
        """Raise FluoroError where another run of this folder had other options, `besides` some."""
        now = json.loads(self._run.model_dump_json())
        if before.stage != self._run.stage:
            raise FluoroError(f"{self.path}: was written by `fluoro {before.stage}`", "give another folder with -o")
        for name in sorted((before.config.keys() | now["config"].keys()) - set(besides)):
            old, new = before.config.get(name), now["config"].get(name)
            if old != new:
                raise FluoroError(
                    f"{self.path}: was begun with {name} = {old!r}, now {new!r}",
                    "repeat the first command's options with --resume, or start again with --overwrite",
                )

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
        self._lock = locked(self.path, self._lock_file)
        try:
            self.resuming = self._prepare()  # again: another process may have written meanwhile
            if not self.part:
                self._clear()
            self._write_run("running")
        except BaseException:
            self._unlock()
            raise
        return self

    def _unlock(self) -> None:
        if self._lock is None:
            return
        if self._lock_file:
            (self.path / self._lock_file).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def _clear(self) -> None:
        if self.header is not None and not self.finished:  # first, so that a folder half done does not look finished
            (self.path / self.header).unlink(missing_ok=True)
        if not self.resuming:
            for entry in self.path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for leftover in self.path.rglob(TEMPORARY + "*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

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
            alone = {entry.name for entry in self.path.iterdir()} <= {self.run_file, self._lock_file}
            if status != "interrupted" and nothing and (alone or (self.part and not self.done + self.skipped)):
                (self.path / self.run_file).unlink()  # nothing was made, so nothing stands in the way of another try
                if alone:
                    self._unlock()
                    self.path.rmdir()
        except OSError:
            if kind is None:
                raise
        finally:
            self._unlock()


def locked(folder: Path, file: str | None) -> int:
    """A descriptor that keeps other processes from locking the folder, or a file in it, until it is closed.

    Raises FluoroError when another process has done so, and does not end within PATIENCE_S: a killed one's helpers may
    outlive it by seconds.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder / file, os.O_RDONLY | os.O_CREAT) if file else os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            if time.monotonic() > deadline:
                raise FluoroError(f"{folder}: another process writes there", "let it end, or give another -o") from None
            time.sleep(0.1)
        except OSError:  # some network file systems lock no folders
            return held
        else:
            if os.fstat(held).st_nlink:
                return held
            os.close(held)  # deleted meanwhile by the process that had it


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


def _digests(files: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each file by its name and folder; of files that share both, the later ones are numbered."""
    found: dict[str, str] = {}
    met: Counter[str] = Counter()
    for file in files:
        name = f"{file.parent.name}/{file.name}"
        met[name] += 1
        found[name if met[name] == 1 else f"{name} ({met[name]})"] = sha256_of(file)
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

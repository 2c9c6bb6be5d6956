"""Files of artefacts: whole or not at all, headers checked when read, records that grow line by line."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from pydantic import ValidationError

from fluorosam_cli.contracts import Model
from fluorosam_cli.errors import FluoroError

TEMPORARY = ".tmp-"  # files with this prefix are leftovers of a killed run and may be deleted

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
        raise _invalid(error, subject, hint) from error


def _invalid(error: ValueError, subject: str, hint: str) -> FluoroError:
    first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
    where = ".".join(map(str, first["loc"]))
    return FluoroError(": ".join(filter(None, (subject, where, first["msg"]))), hint)


def read_lines(path: Path, model: type[AnyModel]) -> Iterator[AnyModel]:
    """The records of a JSON Lines file."""
    if not path.is_file():
        raise FluoroError(f"{path}: not found", "the folder is incomplete: write it again with --overwrite")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            yield _record(model, line, path, number)


def _record(model: type[AnyModel], line: bytes, path: Path, number: int) -> AnyModel:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise _invalid(error, f"{path.parent.name}/{path.name}: line {number}", REWRITE) from error


class Lines:
    """A JSON Lines file that grows record by record and is renamed into place when complete.

    `done` holds the records a killed run had already written; a half-written last line is dropped. With `key`, a sort
    key of records, it holds their keys instead, and the records of a complete file are in their order, whichever they
    came in; the file may then be larger than memory.
    """

    def __init__(self, path: Path, model: type[AnyModel], key: Callable[[Any], Any] | None = None) -> None:
        self.path = path
        self._key = key
        self._lines: list[tuple[Any, int, int]] = []  # key, first byte, bytes; of all lines, if there are keys
        self._growing = path.with_name(path.name + ".part")
        if path.is_file() and not self._growing.is_file():
            os.replace(path, self._growing)
        self.done: list[Any] = []
        whole = 0
        if self._growing.is_file():
            with open(self._growing, "rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        break
                    record = _record(model, line, path, number)
                    self.done.append(record if key is None else key(record))
                    self._note(record, whole, len(line))
                    whole += len(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = open(self._growing, "ab")  # noqa: SIM115 - closed by close()
        self._file.truncate(whole)
        self._file.seek(whole)

    def append(self, record: Model) -> None:
        line = (record.model_dump_json() + "\n").encode()
        self._note(record, self._file.tell(), len(line))
        self._file.write(line)
        self._file.flush()

    def _note(self, record: Model, first: int, size: int) -> None:
        if self._key is not None:
            self._lines.append((self._key(record), first, size))

    def close(self, complete: bool) -> None:
        self._file.close()
        if complete:
            self._sort()
            with open(self._growing, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self._growing, self.path)
        elif not self._growing.stat().st_size:
            self._growing.unlink()

    def _sort(self) -> None:
        ordered = sorted(self._lines)
        if ordered != self._lines:
            with (
                atomic_path(self._growing) as temporary,
                open(self._growing, "rb") as source,
                open(temporary, "wb") as target,
            ):
                for _, first, size in ordered:
                    source.seek(first)
                    target.write(source.read(size))

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(complete=kind is None)


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

"""`samples.csv`: one line per prompt put to the model, written image by image, so that a killed run loses one image."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

from fluorosam_cli.artefacts import write_bytes
from fluorosam_cli.errors import FluoroError

ABSENT = "absent"  # the prompt kind of a phrase whose structure is not in the image
PARAPHRASE = "paraphrase"  # that of one of several held-out phrases for the same mask


class Row(NamedTuple):
    image: int  # position in the split or folder
    case: str
    view: str
    structure: str
    prompt: str  # "text", "text+1", ..., "points+1", ..., "box", "box+1", ..., ABSENT or PARAPHRASE
    phrase: str | None
    area_px: int
    iou: float | None  # of the mask with the highest predicted IoU
    dice: float | None
    nsd: float | None
    hd95: float | None
    unit: str | None  # of hd95: mm or px
    oracle_iou: float | None  # of the best of all masks
    predicted_iou: float
    presence: float | None  # probability, for prompts with text

    @property
    def start(self) -> str:
        """What it began with: text, points or box."""
        return self.prompt.partition("+")[0]

    @property
    def clicks(self) -> int:
        return int(self.prompt.partition("+")[2] or 0)


FLOATS = ("iou", "dice", "nsd", "hd95", "oracle_iou", "predicted_iou", "presence")
FIRST_LINE = ",".join(Row._fields) + "\n"
NUMBERS = {"image": int, "area_px": int} | dict.fromkeys(FLOATS, float)


class RowFile:
    """Grows as `samples.csv.part`; sorted by image when complete. A continued run passes over `scored` images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._growing = path.with_name(path.name + ".part")
        if path.is_file() and not self._growing.is_file():
            os.replace(path, self._growing)
        self.scored = self._drop_last_image() if self._growing.is_file() else set()
        new = not self._growing.is_file()
        self._file: IO[str] = open(self._growing, "a", encoding="utf-8", newline="")  # noqa: SIM115 - closed by close()
        if new:
            self._write(FIRST_LINE)

    def _drop_last_image(self) -> set[int]:
        """The images known to be complete, as there are lines of another one after them; the last one's are cut off."""
        text = self._growing.read_bytes().decode("utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        if not whole.startswith(FIRST_LINE):
            self._growing.unlink()
            return set()
        rows = _parse(whole, self._growing)
        kept = [row for row in rows if row.image != rows[-1].image]
        _write_whole(self._growing, kept)
        return {row.image for row in kept}

    def append(self, rows: Iterable[Row]) -> None:
        """All rows of one image."""
        self._write(_format(rows))

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def close(self, complete: bool) -> None:
        self._file.close()
        if complete:
            _write_whole(self.path, sorted(read_rows(self._growing), key=lambda row: row.image))
            self._growing.unlink()

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(complete=kind is None)


def read_rows(path: Path) -> list[Row]:
    """The rows of a complete file, in the order in which they were written."""
    return _parse(path.read_text(encoding="utf-8"), path)


def _write_whole(path: Path, rows: Iterable[Row]) -> None:
    write_bytes(path, (FIRST_LINE + _format(rows)).encode())


def _format(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow("" if v is None else f"{v:.6f}" if isinstance(v, float) else v for v in row)
    return text.getvalue()


def _parse(text: str, path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(csv.DictReader(io.StringIO(text)), 2):
        try:
            values = {key: (NUMBERS.get(key, str)(value) if value else None) for key, value in line.items()}
            values["view"] = line["view"]
            rows.append(Row(**values))  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError) as error:
            raise FluoroError(f"{path}: line {number} is damaged", "start again with --overwrite") from error
    return rows

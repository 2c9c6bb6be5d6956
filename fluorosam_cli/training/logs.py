"""What a run reports: `log.csv` (what was learnt), `speed.csv` (how fast, on this machine), TensorBoard, the bar."""

import csv
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.errors import FluoroError

FIGURES = ("loss", "mask", "iou", "presence", "travel", "first_iou", "gradient_norm")
VALIDATED = ("text_iou", "clicks_1_iou", "clicks_3_iou")
LOG_COLUMNS = ("step", *FIGURES, "codes", "learning_rate", *(f"validation_{name}" for name in VALIDATED))
SPEED_COLUMNS = ("step", "images_per_second", "data_wait_share", "gpu_memory_mib")


class Table:
    """A CSV that grows; rows after the step a run resumes from are dropped, so that log.csv is the same either way."""

    def __init__(self, path: Path, columns: tuple[str, ...], start: int) -> None:
        rows: list[list[str]] = [list(columns)]
        if start and path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                rows += [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= start]
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        self.path = path
        self.columns = columns

    def write(self, step: int, values: dict[str, float]) -> None:
        cells = [f"{values[name]:.6g}" if name in values else "" for name in self.columns[1:]]
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([str(step), *cells])


class Logs:
    """The first process's reports. `tensorboard` None: where it is installed."""

    def __init__(self, folder: Path, start: int, tensorboard: bool | None) -> None:
        self.learnt = Table(folder / "log.csv", LOG_COLUMNS, start)
        self.speed = Table(folder / "speed.csv", SPEED_COLUMNS, start)
        self.writer: Any = None
        if tensorboard or (tensorboard is None and has_tensorboard()):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)

    def write_step(self, step: int, values: dict[str, float]) -> None:
        self.learnt.write(step, values)
        self._draw(step, values)

    def write_speed(self, step: int, values: dict[str, float]) -> None:
        self.speed.write(step, values)
        self._draw(step, values)

    def _draw(self, step: int, values: dict[str, float]) -> None:
        if self.writer is not None:
            for name, value in values.items():
                kind, _, rest = name.partition("_")
                self.writer.add_scalar(f"validation/{rest}" if kind == "validation" else name, value, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class Line:
    """What stands before the bar: `str()` of it changes as training goes on."""

    def __init__(self) -> None:
        self.loss: float | None = None
        self.text_iou: float | None = None
        self.images_per_second: float | None = None

    def __str__(self) -> str:
        parts = ["train"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.text_iou is not None:
            parts.append(f"text IoU {self.text_iou:.3f}")
        if self.images_per_second is not None:
            parts.append(f"{self.images_per_second:.1f} images/s")
        return "  ".join(parts)


class Stopwatch:
    """Images per second over all processes, and the share of the time this one waited for data, since the last `lap`.

    On a GPU a step ends when a figure of it is read, so laps are taken after that.
    """

    def __init__(self, device: torch.device, world: int) -> None:
        self.device = device
        self.world = world
        self._start = time.perf_counter()
        self._waited = 0.0
        self._images = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def waited(self, seconds: float, images: int) -> None:
        self._waited += seconds
        self._images += images

    def exclude(self, seconds: float) -> None:
        """Leave out what was not training."""
        self._start += seconds

    def lap(self) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        found = {"images_per_second": self.world * self._images / seconds, "data_wait_share": self._waited / seconds}
        if self.device.type == "cuda":
            found["gpu_memory_mib"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        self._start, self._waited, self._images = time.perf_counter(), 0.0, 0
        return found


def has_tensorboard() -> bool:
    return find_spec("tensorboard") is not None


def check_tensorboard(wanted: bool | None) -> None:
    """Raises FluoroError where it was asked for and is not installed."""
    if wanted and not has_tensorboard():
        raise FluoroError("--tensorboard: TensorBoard is not installed", 'pip install "fluorosam-cli[log]"')

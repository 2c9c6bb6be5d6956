"""What a run carries from step to step, and how it survives a kill: `last/` and `best/`.

`last/trainer.pt` is all that a resumed run needs; it is replaced whole, after the checkpoint beside it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.contracts import Checkpoint
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.fluorosam import FluoroSAM
from fluorosam_cli.training.devices import Process
from fluorosam_cli.training.exchange import from_all
from fluorosam_cli.training.optimise import Optimiser

SECONDS_BETWEEN_SAVES = 45.0  # so much a kill may cost ...
SAVING_SHARE = 0.05  # ... unless saving would take more than this share of the time


@dataclass
class State:
    model: FluoroSAM
    average: FluoroSAM
    optimiser: Optimiser
    step: int = 0
    best: float = -1.0  # highest `validate.selection`
    stale: int = 0  # validations since
    stopped: bool = False  # by --patience
    metrics: dict[str, float] = field(default_factory=dict)

    def restore(self, folder: Path, process: Process) -> None:
        """Continue from `last/trainer.pt`, if it is there. Raises FluoroError where other processes see another."""
        if (folder / "last" / "trainer.pt").is_file():
            self._load(load_state(folder))
        steps = sorted(set(from_all([self.step], process)))
        if len(steps) > 1:
            raise FluoroError(
                f"{folder}: its last step is {' or '.join(map(str, steps))}, depending on the process that looks",
                "the folder must lie on a file system that all nodes share",
            )

    def _load(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.best, self.stale = int(saved["step"]), float(saved["best"]), int(saved["stale"])
        self.stopped, self.metrics = bool(saved["stopped"]), dict(saved["metrics"])

    def saved(self) -> dict[str, Any]:
        parts = {"model": self.model, "average": self.average, "optimiser": self.optimiser}
        plain = {name: getattr(self, name) for name in ("step", "best", "stale", "stopped", "metrics")}
        return {name: part.state_dict() for name, part in parts.items()} | plain


def load_state(folder: Path) -> dict[str, Any]:
    """`last/trainer.pt`, read without executing anything in it. Raises FluoroError when it is damaged."""
    import pickle

    path = folder / "last" / "trainer.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise FluoroError(
            f"{path}: cannot be read ({str(error).splitlines()[0]})", "train again with --overwrite"
        ) from error


class Saver:
    """Writes checkpoints of the averaged weights: `best` when told, `last` when told or when it is time.

    `save` is `save_checkpoint` with what stays the same throughout a run.
    """

    def __init__(self, folder: Path, save: Callable[..., Checkpoint]) -> None:
        self.folder = folder
        self.save = save
        self._cost = 0.0
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last > max(SECONDS_BETWEEN_SAVES, self._cost / SAVING_SHARE)

    def save_best(self, state: State) -> None:
        self.save(self.folder / "best", state.average, step=state.step, metrics=state.metrics)

    def save_last(self, state: State) -> None:
        began = time.monotonic()
        self.save(self.folder / "last", state.average, step=state.step, metrics=state.metrics)
        with atomic_path(self.folder / "last" / "trainer.pt") as temporary:
            torch.save(state.saved(), temporary)
        self._last = time.monotonic()
        self._cost = self._last - began

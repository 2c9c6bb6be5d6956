"""The processes of a run: one here, several started here (`--gpus N`), or those a launcher has started.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; under SLURM the job script sets them
(examples/train_slurm.sh). Processes talk over NCCL on GPUs, over gloo on CPUs.
"""

import atexit
import logging
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from fluorosam_cli.allocator import keep_freed_memory
from fluorosam_cli.devices import available_threads, choose_devices
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.processes import end_with_parent

log = logging.getLogger("fluoro")

PATIENCE = timedelta(hours=2)  # of processes that wait for the first one, which validates and learns the words
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Devices:
    """`world` processes on "cuda" or "cpu". `rank` is None where this process starts them, or works alone."""

    kind: str
    world: int
    rank: int | None = None
    local_rank: int = 0


@dataclass(frozen=True)
class Process:
    """One of the processes, as it sees itself."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


ALONE = Process(0, 1, torch.device("cpu"))


def plan_processes(gpus: int | None, device: str) -> Devices:
    """What `--gpus`, `--device` and a launcher's environment mean here.

    Raises FluoroError when the GPUs asked for are not there, UsageError for a contradiction.
    """
    if not all(name in os.environ for name in LAUNCHER):
        chosen = choose_devices(device, gpus, torch.cuda.device_count)
        kind, _, number = chosen[0].partition(":")
        return Devices(kind, len(chosen), local_rank=int(number or 0))
    rank, world, local = (int(os.environ[name]) for name in LAUNCHER)
    if gpus not in (None, 0, world):
        raise UsageError(f"--gpus {gpus}: a launcher has started {world} processes", "leave --gpus out")
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: a launcher numbers its processes' GPUs", "give --device cuda")
    if choose_devices(device, 0 if gpus == 0 else None, torch.cuda.device_count) == ["cpu"]:
        return Devices("cpu", world, rank, local)
    found = torch.cuda.device_count()
    if found == 1 and "SLURM_PROCID" in os.environ:
        local = 0  # SLURM has given each process a GPU, and each sees its own alone
    if local >= found:
        raise FluoroError(f"process {local} of this node has no GPU: {found} found", f"start {found} on each node")
    return Devices("cuda", world, rank, local)


def run(work: Callable[[Process], None], devices: Devices) -> None:
    """Run `work`, which must be picklable, in every process. What it raises in one that is started here is raised."""
    if devices.rank is not None:
        try:
            _joined(work, devices, devices.rank, devices.local_rank, "env://")
        except BaseException as error:
            atexit.register(_leave, error)  # when it has been reported
            raise
    elif devices.world == 1:
        keep_freed_memory()
        work(Process(0, 1, _own_device(devices, devices.local_rank)))
    else:
        _start(work, devices)


def _start(work: Callable[[Process], None], devices: Devices) -> None:
    # NumPy's BLAS asks for it when each process imports it; with more threads than cores, loading takes twice as long.
    os.environ.setdefault("OMP_NUM_THREADS", str(cores_each(devices) if devices.kind == "cpu" else 1))
    problems = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (work, devices, f"file://{meeting}/store", problems)
        try:
            torch.multiprocessing.spawn(_started, arguments, nprocs=devices.world)  # pyright: ignore
        except torch.multiprocessing.ProcessExitedException as error:  # pyright: ignore
            if error.signal_name is None and not problems.empty():
                raise problems.get() from None
            raise FluoroError(
                f"a training process was ended from outside ({error.signal_name or error.exit_code})",
                "if the memory was full: a smaller --micro-batch, then --resume",
            ) from None


def _started(rank: int, work: Callable[[Process], None], devices: Devices, store: str, problems: Any) -> None:
    if not log.handlers:
        logging.basicConfig(format="%(message)s")
        log.setLevel(logging.INFO)
    end_with_parent()
    try:
        _joined(work, devices, rank, rank, store)
    except BaseException as error:
        if isinstance(error, Exception):
            problems.put(_portable(error))
        _leave(error)


def _portable(error: Exception) -> Exception:
    """The error as another process can raise it, with the traceback that it has here as a note."""
    try:
        found = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class may raise
        found = RuntimeError(f"{type(error).__name__}: {error}")
    found.add_note("".join(traceback.format_tb(error.__traceback__)))
    return found


def _leave(error: BaseException) -> NoReturn:
    """End at once after an error: taking leave of the others would wait for them, and they wait for this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    interrupted = isinstance(error, KeyboardInterrupt)
    os._exit(128 + signal.SIGINT if interrupted else getattr(error, "exit_code", 1))


def _joined(work: Callable[[Process], None], devices: Devices, rank: int, local: int, store: str) -> None:
    device = _own_device(devices, local)
    keep_freed_memory()
    cores = cores_each(devices)
    torch.set_num_threads(cores if devices.kind == "cuda" else min(torch.get_num_threads(), cores))
    backend = "nccl" if devices.kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=devices.world, timeout=PATIENCE)
    work(Process(rank, devices.world, device))
    dist.destroy_process_group()  # not where it failed: NCCL would wait for processes that wait for this one


def cores_each(devices: Devices) -> int:
    """The cores of this machine that each of the processes on it may use."""
    if devices.rank is not None and "SLURM_CPUS_PER_TASK" in os.environ:
        return min(int(os.environ["SLURM_CPUS_PER_TASK"]), available_threads())
    here = devices.world if devices.rank is None else int(os.environ.get("LOCAL_WORLD_SIZE", devices.world))
    return max(1, available_threads() // max(1, here))


def _own_device(devices: Devices, local: int) -> torch.device:
    if devices.kind == "cpu":
        return torch.device("cpu")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)

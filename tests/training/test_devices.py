"""Which devices a run gets, the cores of each process, and how errors end them: here, under torchrun, under SLURM."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.training import devices
from fluorosam_cli.training.devices import Devices, Process, cores_each, plan_processes, run
from fluorosam_cli.training.exchange import from_all
from fluorosam_cli.training.settings import choose_workers


@pytest.fixture
def launched(monkeypatch):
    """Eight processes on two nodes, of which this is the second node's second."""
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_PROCID", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_processes_started_here(monkeypatch):
    gpus(monkeypatch, 2)
    assert plan_processes(2, "cpu") == Devices("cpu", 2)
    assert plan_processes(None, "auto") == Devices("cuda", 1)
    assert plan_processes(2, "auto") == Devices("cuda", 2)
    assert plan_processes(1, "cuda:1") == Devices("cuda", 1, local_rank=1)


def test_a_launchers_processes_are_counted(launched):
    assert plan_processes(None, "cpu") == Devices("cpu", 8, rank=5, local_rank=1)
    with pytest.raises(UsageError):
        plan_processes(2, "cpu")


def test_a_launchers_processes_cannot_all_have_one_gpu(launched):
    gpus(launched, 4)
    with pytest.raises(UsageError, match="--device cuda:1: a launcher"):
        plan_processes(None, "cuda:1")


def test_gpus_of_a_launchers_processes(launched):
    gpus(launched, 4)
    assert plan_processes(None, "auto") == Devices("cuda", 8, rank=5, local_rank=1)
    gpus(launched, 1)
    with pytest.raises(FluoroError, match="process 1 of this node has no GPU: 1 found"):
        plan_processes(None, "auto")
    launched.setenv("SLURM_PROCID", "5")  # one GPU for each task, who sees no other
    assert plan_processes(None, "auto") == Devices("cuda", 8, rank=5, local_rank=0)
    gpus(launched, 0)
    with pytest.raises(FluoroError, match="no CUDA device; --device cuda was requested"):
        plan_processes(None, "cuda")


def test_cores_are_shared_by_the_processes_of_one_machine(launched):
    launched.setattr(devices, "available_threads", lambda: 64)
    there = Devices("cuda", 8, rank=5, local_rank=1)
    assert (cores_each(there), choose_workers(None, there)) == (16, 8)
    assert cores_each(Devices("cuda", 8)) == 8  # all of them started here
    launched.setenv("SLURM_CPUS_PER_TASK", "6")
    assert (cores_each(there), choose_workers(None, there)) == (6, 6)
    launched.setattr(devices, "available_threads", lambda: 1)
    assert choose_workers(None, there) == 1
    assert choose_workers(None, Devices("cpu", 2)) == 0


class Unportable(Exception):
    """Cannot be made from its message alone, so not unpickled."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(problem)


def disk_is_full(process: Process) -> None:
    if process.rank == 1:
        raise OSError(errno.ENOSPC, "No space left on device", "last/trainer.pt")
    from_all([0], process)  # the other waits


def options_are_wrong(process: Process) -> None:
    raise UsageError("--steps: too many", "give fewer")


def something_odd_happens(process: Process) -> None:
    raise Unportable("odd", "very")


@pytest.mark.parametrize(
    ("work", "kind", "said"),
    [
        (disk_is_full, OSError, "No space left on device: 'last/trainer.pt'"),
        (options_are_wrong, UsageError, "--steps: too many"),
        (something_odd_happens, RuntimeError, "Unportable: odd"),
    ],
)
def test_an_error_in_a_process_is_raised_as_it_was_there(work, kind, said):
    with pytest.raises(kind, match=said) as caught:
        run(work, Devices("cpu", 2))
    assert f"in {work.__name__}" in caught.value.__notes__[0]  # the traceback
    if kind is UsageError:
        assert caught.value.hint == "give fewer"


def test_after_its_error_a_launchers_process_ends_at_once():
    """NCCL would wait for the others when the interpreter ends, and they for this process."""
    code = """
import atexit, sys
from fluorosam_cli.errors import UsageError
from fluorosam_cli.training.devices import Devices, run
def work(process):
    raise UsageError("wrong", "right")
atexit.register(print, "farewell")
try:
    run(work, Devices("cpu", 1, rank=0))
except UsageError as error:
    print("error:", error)
    sys.exit(error.exit_code)
"""
    meeting = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=meeting, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "error: wrong\n")


def test_jobs_of_one_node_meet_at_ports_of_their_own(tmp_path):
    for name, line in {"srun": "echo $MASTER_PORT", "scontrol": "echo node1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    ports = set()
    for job in ("4711", "4712"):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "node1"}
        script = Path(__file__).parents[2] / "examples" / "train_slurm.sh"
        done = subprocess.run(["bash", script, "shards"], env=environment, capture_output=True, text=True, check=True)
        ports.add(int(done.stdout))
    assert len(ports) == 2
    assert all(1024 < port < 32768 for port in ports)  # below those that a system hands out

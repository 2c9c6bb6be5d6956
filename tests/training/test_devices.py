"""Which devices a run gets, and the cores of each process: here, under torchrun, under SLURM."""

import pytest
import torch

from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.training import devices
from fluorosam_cli.training.devices import Devices, cores_each, plan_processes
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

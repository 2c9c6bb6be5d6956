"""What `--device` and `--gpus` mean, and how many cores there are."""

import os

import pytest

from fluorosam_cli import devices
from fluorosam_cli.devices import available_threads, choose_devices
from fluorosam_cli.errors import FluoroError, UsageError


@pytest.mark.parametrize(
    ("name", "gpus", "found", "devices"),
    [
        ("auto", None, 0, ["cpu"]),
        ("auto", None, 2, ["cuda:0"]),
        ("auto", 2, 2, ["cuda:0", "cuda:1"]),
        ("auto", 0, 2, ["cpu"]),
        ("cuda", None, 2, ["cuda:0"]),
        ("cuda:1", None, 2, ["cuda:1"]),
        ("cuda:1", 1, 2, ["cuda:1"]),
        ("cpu", 3, 2, ["cpu"] * 3),
        ("cpu", None, 2, ["cpu"]),
    ],
)
def test_devices_of_the_processes(name, gpus, found, devices):
    assert choose_devices(name, gpus, lambda: found) == devices


@pytest.mark.parametrize(
    ("name", "gpus", "said"),
    [
        ("auto", 3, "2 CUDA devices; --gpus 3 was requested"),
        ("cuda:2", None, "2 CUDA devices; --device cuda:2 was requested"),
        ("cuda:2", 1, "2 CUDA devices; --device cuda:2 was requested"),
    ],
)
def test_a_gpu_that_is_not_there_is_an_error_and_not_a_slow_cpu(name, gpus, said):
    with pytest.raises(FluoroError, match=said):
        choose_devices(name, gpus, lambda: 2)
    with pytest.raises(FluoroError, match="no CUDA device; "):
        choose_devices(name, gpus, lambda: 0)


@pytest.mark.parametrize(
    ("name", "gpus"),
    [("tpu", None), ("cuda:", None), ("cuda:-1", None), ("cuda:1", 2), ("cuda", 0), ("cuda:1", 0)],
)
def test_contradictions_are_wrong_usage(name, gpus):
    with pytest.raises(UsageError):
        choose_devices(name, gpus, lambda: 4)


@pytest.mark.parametrize(
    ("quota", "threads"), [("300000 100000", 3), ("50000 100000", 1), ("max 100000", 8), (None, 8)]
)
def test_a_containers_quota_counts_as_cores(tmp_path, monkeypatch, quota, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(devices, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_threads() == threads

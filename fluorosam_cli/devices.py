"""What `--device` and `--gpus` mean, the same for every command, and the cores there are."""

import os
import re
from collections.abc import Callable
from math import ceil
from pathlib import Path

from fluorosam_cli.errors import FluoroError, UsageError

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds in a period, of all cores together, and the period


def choose_devices(name: str, gpus: int | None, count_gpus: Callable[[], int]) -> list[str]:
    """The device of each process, `cpu` or `cuda:N`: `gpus` GPUs, or so many times the CPU with `cpu`.

    `name` is auto, cpu, cuda or cuda:N. `count_gpus` is asked only where it matters: torch and Warp each know, and take
    seconds to load. Raises UsageError for what cannot be meant, FluoroError for a GPU that is not there.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,4}))?", name)
    if not match:
        raise UsageError(f"--device {name}: not known", "use auto, cpu, cuda or cuda:N")
    if (match[1] and gpus not in (None, 1)) or (name == "cuda" and gpus == 0):
        raise UsageError(f"--gpus {gpus} and --device {name} exclude each other", "give one of them")
    if name == "cpu" or gpus == 0:
        return ["cpu"] * max(1, gpus or 1)
    found = count_gpus()
    if name == "auto" and gpus is None and not found:
        return ["cpu"]
    first, wanted = int(match[1] or 0), gpus or 1
    if first + wanted > found:
        asked = f"--device {name}" if match[1] or gpus is None else f"--gpus {gpus}"
        there = f"{found or 'no'} CUDA device{'s' if found > 1 else ''}"
        on_cpu = "--device cpu" + (f" to run {wanted} processes on the CPU" if wanted > 1 else "")
        raise FluoroError(f"{there}; {asked} was requested", f"use {on_cpu}, or check nvidia-smi")
    return [f"cuda:{number}" for number in range(first, first + wanted)]


def available_threads() -> int:
    """The cores this process may use: no more than its container's share of processor time (cgroup v2) amounts to."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # no such file, or "max"
        return cores
    return min(cores, ceil(quota / period))

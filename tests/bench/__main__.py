"""The benchmark: `python -m tests.bench [--small] [--only NAME] [-o FILE]`; `make bench` installs the peers first.

Every `bench_NAME.py` beside this file has `rows(bench) -> list[Row]`. Their rows go into one table and one file; those
of measurements not repeated stay in the file.
"""

import argparse
import importlib
import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.bench import Bench, say
from tests.bench.contenders import THREADS
from tests.bench.rows import keep, table

HERE = Path(__file__).parent
QUIET = 0.5  # a load above this means that somebody else is using the cores


def main() -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure fluoro beside its peers.")
    parser.add_argument("--small", action="store_true", help="a small volume: does everything run?")
    parser.add_argument("--only", action="append", choices=known, help="this measurement alone (repeatable)")
    parser.add_argument("-o", "--out", type=Path, help="default: bench.json, or bench-small.json")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:THREADS]
    os.sched_setaffinity(0, cores)  # inherited by every contender
    load = os.getloadavg()[0]
    if load > QUIET:
        say(f"the machine is not idle (load {load:.1f}): times will be too long, and ratios uncertain")
    scale = "small" if options.small else "full"
    out = options.out or Path("bench-small.json" if options.small else "bench.json")
    rows = []
    with tempfile.TemporaryDirectory(prefix="fluoro-bench-") as folder:
        bench = Bench(Path(folder), scale)
        for name in options.only or known:
            rows += importlib.import_module(f"tests.bench.bench_{name}").rows(bench)
            keep(out, rows, about(scale, cores, load))
    sys.stdout.write(table(rows) + "\n")
    return 0


def about(scale: str, cores: list[int], load: float) -> dict[str, object]:
    """What the numbers depend on besides the code."""
    peers = [line.split("==")[0] for line in (HERE / "peers.txt").read_text().split()]
    return {
        "scale": scale,
        "cpu": cpu(),
        "cores": len(cores),
        "threads": THREADS,
        "load_before": round(load, 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("fluorosam-cli", "warp-lang", "numpy", "torch", *peers)},
    }


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())

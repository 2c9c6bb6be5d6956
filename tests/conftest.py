import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads OpenMP: tests share few cores

import pytest

from fluorosam_cli import cli

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no CTs at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def fluoro(capfd):
    """Run one command line in this process: `code, out, err = fluoro("render", folder, "--views", 2)`."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run([str(word) for word in words])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run

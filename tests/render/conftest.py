"""Fixtures of the render tests."""

from pathlib import Path

import pytest

from tests.render.chest import BLOCKS, write_body


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    write_body(folder, "one")
    write_body(folder, "two", {name: block for name, block in BLOCKS.items() if name != "heart"})
    return folder

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.training import start
from tests.shapes import write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), images=3)


def test_train_draws_a_sheet_and_stops(fluoro, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = fluoro("train", shapes, "--preset", "tiny", "--show-augmentations", "sheet.png")
    assert (code, out.strip()) == (0, "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open("sheet.png") as sheet:
        cells = np.asarray(sheet).reshape(3, sheet.height // 3, 6 + 1, sheet.width // 7, 3).swapaxes(1, 2)
    assert all((cell.max(axis=-1) != cell.min(axis=-1)).any() for row in cells for cell in row)  # outlines in colour
    assert not np.array_equal(cells[0, 1], cells[0, 2])


def test_the_sheet_asks_with_the_phrases_of_training(fluoro, shapes, tmp_path, monkeypatch):
    sheets = []
    for count in (1, 8):
        monkeypatch.setattr(start, "PHRASES_PER_NAME", count)
        sheets.append(tmp_path / f"{count}.png")
        assert fluoro("train", shapes, "--preset", "tiny", "--show-augmentations", sheets[-1])[0] == 0
    assert sheets[0].read_bytes() != sheets[1].read_bytes()


def test_a_sheet_replaces_nothing_unasked(fluoro, shapes, tmp_path):
    there = tmp_path / "sheet.png"
    there.write_bytes(b"mine")
    command = ("train", shapes, "--preset", "tiny", "--show-augmentations")
    assert fluoro(*command, there)[0] == 2
    assert there.read_bytes() == b"mine"
    assert fluoro(*command, tmp_path / "sheet.jpg")[0] == 2
    assert fluoro(*command, tmp_path / "no" / "sheet.png")[0] == 2
    assert fluoro(*command, there, "--augment", "off", "--overwrite")[0] == 0
    assert there.read_bytes() != b"mine"

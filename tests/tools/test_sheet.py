"""The contact sheet and the list of tools on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.tools import sheet
from fluorosam_cli.tools.catalogue import catalogue
from fluorosam_cli.tools.shapes import arrays_of, ball, ring


def test_path_lengths_are_those_of_a_ball_and_a_torus():
    row, column = np.mgrid[:200, :200] + 0.5
    off = np.hypot(row - 100, column - 100)
    vertices, triangles = arrays_of(ball(80, (100, 100, 0), 512))
    chord = sheet.path_lengths(vertices, triangles, (200, 200))
    inside = off < 72
    assert np.allclose(chord[inside], 2 * np.sqrt(80**2 - off[inside] ** 2), rtol=2e-3)
    assert np.abs(chord[off > 81]).max() < 1e-9
    vertices, triangles = arrays_of(ring(60, 20, 512, 256).translate((100, 100, 0)))
    chord = sheet.path_lengths(vertices, triangles, (200, 200))
    inside = np.abs(off - 60) < 17
    assert np.allclose(chord[inside], 2 * np.sqrt(20**2 - (off[inside] - 60) ** 2), rtol=5e-3)


@pytest.mark.parametrize("name", ["total_hip_52_32_mm", "pacemaker_dual_48_mm", "kirschner_wire_1_6_mm", "coin_dime"])
def test_a_thumbnail_shows_its_tool(name):
    tool = next(tool for tool in catalogue() if tool.name == name)
    picture = np.asarray(sheet.thumbnail(tool, lambda material: 0.5))
    assert picture.max() > 120
    assert 0.001 < (picture > 30).mean() < 0.9


def test_info_lists_every_tool(fluoro):
    code, out, _ = fluoro("info", "tools", "--json")
    assert code == 0
    rows = json.loads(out)["tools"]
    assert [row["name"] for row in rows] == [tool.name for tool in catalogue()]
    assert rows[0].keys() >= {"name", "family", "material", "size"}


def test_info_draws_the_sheet(fluoro, tmp_path, monkeypatch):
    monkeypatch.setattr("fluorosam_cli.tools.catalogue.catalogue", lambda: catalogue()[:40:8])
    code, out, _ = fluoro("info", "tools", "--sheet", tmp_path / "sheet.png")
    assert code == 0
    assert out.strip() == str(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 1000
        assert np.asarray(picture).max() > 200


def test_info_refuses_a_sheet_of_anything_else(fluoro, tmp_path):
    assert fluoro("info", "structures", "--sheet", tmp_path / "a.png")[0] == 2
    assert fluoro("info", "tools", "--sheet", tmp_path / "a.bmp")[0] == 2
    assert not list(tmp_path.iterdir())

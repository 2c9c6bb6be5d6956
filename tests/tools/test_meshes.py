"""User meshes: what is read, repaired, refused."""

import json

import numpy as np
import pytest
import trimesh

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.tools.catalogue import parts
from fluorosam_cli.tools.meshes import UNITS_MM, load_tools, read_mesh


def mesh(tool):
    ((_, made),) = parts(tool)
    return made


def volume_mm3(made) -> float:
    return trimesh.Trimesh(made.vertices_mm, made.triangles, process=False).volume


def write(path, solid) -> None:
    solid.export(path)


@pytest.mark.parametrize("suffix", ["stl", "obj", "ply"])
def test_three_formats_give_the_same_solid(tmp_path, suffix):
    write(tmp_path / f"ball.{suffix}", trimesh.creation.icosphere(3, 10.0))
    made = read_mesh(tmp_path / f"ball.{suffix}")
    assert volume_mm3(made) == pytest.approx(trimesh.creation.icosphere(3, 10.0).volume, rel=1e-4)
    assert made.vertices_mm.dtype == np.float64
    assert made.triangles.dtype == np.int32


def test_tools_toml_gives_words_material_unit_and_place(tmp_path):
    write(tmp_path / "a.stl", trimesh.creation.box((0.01, 0.02, 0.03)))
    write(tmp_path / "My Plate 2.stl", trimesh.creation.box((10, 20, 30)))
    (tmp_path / "tools.toml").write_text(
        '[a]\nname = "small block"\nmaterial = "titanium"\nunit = "m"\nplacement = "in_bone"\nsites = ["femur"]\n'
        'description = "a block"\nsynonyms = ["brick"]\n'
    )
    plate, block = load_tools(tmp_path)
    assert (block.display_name, block.material, block.placement, block.sites) == (
        "small block", "titanium", "in_bone", ("femur",),
    )  # fmt: skip
    assert (block.use, block.synonyms) == ("a block", ("brick",))
    assert volume_mm3(mesh(block)) == pytest.approx(6000, rel=1e-5)
    assert (plate.name, plate.display_name, plate.material) == ("my_plate_2", "My Plate 2", "stainless_steel")
    assert volume_mm3(mesh(plate)) == pytest.approx(6000, rel=1e-5)


def test_without_a_unit_a_mesh_smaller_than_a_millimetre_is_in_metres(tmp_path):
    write(tmp_path / "a.stl", trimesh.creation.box((0.01, 0.02, 0.03)))
    assert volume_mm3(mesh(load_tools(tmp_path)[0])) == pytest.approx(6000, rel=1e-5)


def test_flipped_open_and_torn_meshes_are_repaired(tmp_path):
    ball = trimesh.creation.icosphere(3, 10.0)
    inside_out = ball.copy()
    inside_out.invert()
    write(tmp_path / "inside_out.stl", inside_out)
    third = (np.arange(len(ball.faces)) % 3 == 0)[:, None]
    mixed = trimesh.Trimesh(ball.vertices, np.where(third, ball.faces[:, ::-1], ball.faces), process=False)
    write(tmp_path / "mixed.stl", mixed)
    holed = trimesh.Trimesh(ball.vertices, ball.faces[30:], process=False)
    write(tmp_path / "holed.stl", holed)
    tube = trimesh.creation.cylinder(5, 40, sections=64)
    without_lids = trimesh.Trimesh(tube.vertices, tube.faces[np.abs(tube.face_normals[:, 2]) < 0.5], process=False)
    write(tmp_path / "open_tube.stl", without_lids)
    assert volume_mm3(read_mesh(tmp_path / "inside_out.stl")) == pytest.approx(ball.volume, rel=1e-4)
    assert volume_mm3(read_mesh(tmp_path / "mixed.stl")) == pytest.approx(ball.volume, rel=1e-4)
    assert volume_mm3(read_mesh(tmp_path / "holed.stl")) == pytest.approx(ball.volume, rel=0.02)
    assert volume_mm3(read_mesh(tmp_path / "open_tube.stl")) == pytest.approx(tube.volume, rel=1e-3)


def test_overlapping_pieces_count_once_and_hollows_stay_hollow(tmp_path):
    a, b = trimesh.creation.box((10, 10, 10)), trimesh.creation.box((10, 10, 10))
    b.apply_translation((5, 1, 2))
    write(tmp_path / "two.stl", trimesh.util.concatenate([a, b]))
    assert volume_mm3(read_mesh(tmp_path / "two.stl")) == pytest.approx(2000 - 5 * 9 * 8, rel=1e-5)
    outer, inner = trimesh.creation.icosphere(2, 10.0), trimesh.creation.icosphere(2, 8.0)
    inner.invert()
    write(tmp_path / "shell.stl", trimesh.util.concatenate([outer, inner]))
    assert volume_mm3(read_mesh(tmp_path / "shell.stl")) == pytest.approx(outer.volume + inner.volume, rel=1e-4)


def refused(folder) -> FluoroError:
    with pytest.raises(FluoroError) as caught:
        load_tools(folder)
    return caught.value


def test_what_is_no_solid_is_refused_by_name(tmp_path):
    sheet = trimesh.Trimesh([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]], [[0, 1, 2], [0, 2, 3]])
    for name, content in (
        ("sheet.stl", sheet.export(file_type="stl")),
        ("empty.stl", b""),
        ("noise.stl", bytes(range(256)) * 20),
        ("words.obj", b"not a mesh at all\n"),
        ("cut.ply", trimesh.creation.box((9, 9, 9)).export(file_type="ply")[:150]),
        ("huge.stl", trimesh.creation.box((9000, 9, 9)).export(file_type="stl")),
        ("nan.obj", b"v 0 0 0\nv 1 0 nan\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"),
    ):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(content)
        error = refused(folder)
        assert name in error.problem, (name, error.problem)
        assert error.hint
        assert "\n" not in error.problem


def test_a_folder_without_meshes_and_a_wrong_table_are_refused(tmp_path):
    assert "no such folder" in refused(tmp_path / "absent").problem
    assert "no STL" in refused(tmp_path).problem
    write(tmp_path / "a.stl", trimesh.creation.box((10, 20, 30)))
    for text, found in (
        ("[b]\n", "[b]"),
        ("[a]\nplacemnt = 'skin'\n", "placemnt"),
        ("[a]\nunit = 'furlong'\n", "furlong"),
        ("[a]\nplacement = 'moon'\n", "moon"),
        ("[a]\nplacement = 'vein'\n", "vein"),  # for what follows a line
        ("[a]\nsites = ['femurr']\n", "femurr"),
        ("[a]\nname = 3\n", "3"),
        ("[a\n", "TOML"),
    ):
        (tmp_path / "tools.toml").write_text(text)
        assert found in refused(tmp_path).problem
    (tmp_path / "tools.toml").unlink()
    write(tmp_path / "A.ply", trimesh.creation.box((10, 20, 30)))
    assert "two tools named a" in refused(tmp_path).problem


def test_two_folders_may_not_hold_a_tool_of_the_same_name(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "a.stl", trimesh.creation.box((10, 20, 30)))
    with pytest.raises(FluoroError, match="two tools named a"):
        load_tools(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("name", ["heart", "kirschner_wire_1_6_mm", "kirschner_wire", "bone_screws", "user_tools"])
def test_a_mesh_named_like_something_else_is_refused(tmp_path, name):
    write(tmp_path / f"{name}.stl", trimesh.creation.box((10, 20, 30)))
    assert name in refused(tmp_path).problem


def test_an_obj_cannot_make_other_files_be_opened(tmp_path, monkeypatch):
    write(tmp_path / "a.obj", trimesh.creation.box((10, 20, 30)))
    text = (tmp_path / "a.obj").read_text()
    (tmp_path / "a.obj").write_text("mtllib secret.mtl\nmtllib http://example.org/x.mtl\nusemtl x\n" + text)
    (tmp_path / "secret.mtl").write_text("newmtl x\nmap_Kd secret.png\n")
    opened = []
    real = open

    def watched(file, *args, **kwargs):
        opened.append(str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", watched)
    assert len(load_tools(tmp_path)) == 1
    assert not [name for name in opened if "secret" in name or name.startswith("http")]


@pytest.mark.data
def test_all_meshes_of_the_shared_data_load(shared_data):
    folder = shared_data / "tool_meshes"
    inventory = json.loads((folder / "inventory.json").read_text())
    tools = load_tools(folder)
    assert len(tools) == len(inventory) == 54
    for tool in tools:
        about = inventory[tool.source]
        made = mesh(tool)
        assert tool.unit_mm == UNITS_MM[about["unit"]], tool.source
        extent = np.array(about["extent"]) * tool.unit_mm
        assert np.allclose(np.ptp(made.vertices_mm, axis=0), extent, atol=0.5 * tool.unit_mm / 1000 + 0.02), tool.source
        assert volume_mm3(made) > 0

"""The whole catalogue: how many, how different, and that every mesh of it is a sound solid of a believable size."""

from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render.physics import all_materials
from fluorosam_cli.tools.catalogue import MODULES, PLACEMENTS, Mesh, Tool, catalogue, families, parts


def tool_named(name: str) -> Tool:
    return next(tool for tool in catalogue() if tool.name == name)


def mesh(tool: Tool, centre_line_mm: np.ndarray | None = None) -> Mesh:
    """All parts of a tool as one."""
    made = [part for _, part in parts(tool, centre_line_mm)]
    first = np.cumsum([0, *(len(part.vertices_mm) for part in made)])
    triangles = [part.triangles + offset for part, offset in zip(made, first, strict=False)]
    return Mesh(np.concatenate([part.vertices_mm for part in made]), np.concatenate(triangles))


@cache
def built(name: str) -> list[tuple[str, Mesh]]:
    return parts(tool_named(name))


def tools_of(design: str) -> list[Tool]:
    return [tool for tool in catalogue() if tool.design == design]


def is_closed(triangles: np.ndarray) -> bool:
    """Each directed edge occurs once and has exactly one neighbour that runs the other way."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    base = int(edges.max()) + 1
    ways, back = np.sort(edges[:, 0] * base + edges[:, 1]), np.sort(edges[:, 1] * base + edges[:, 0])
    return np.array_equal(ways, back) and bool((np.diff(ways) > 0).all())


def volume_mm3(vertices: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def test_at_least_464_tools_of_80_designs_in_at_most_12_sizes():
    sizes = Counter(tool.design for tool in catalogue())
    assert len(catalogue()) >= 464
    assert len(sizes) >= 80
    assert max(sizes.values()) <= 12
    assert (
        len({tool.name for tool in catalogue()}) == len({tool.display_name for tool in catalogue()}) == len(catalogue())
    )


def test_every_tool_says_what_it_is():
    sided = {structure.name.removesuffix("_left").removesuffix("_right") for structure in structures()}
    groups = {group for structure in structures() for group in structure.groups}
    for tool in catalogue():
        assert tool.name.isidentifier(), tool.name
        assert tool.name.islower(), tool.name
        assert tool.family in families()
        assert tool.placement in PLACEMENTS, tool.name
        assert set(tool.materials.values()) <= set(all_materials()), tool.name
        assert tool.synonyms, tool.name
        assert tool.use, tool.name
        assert tool.source, tool.name
        assert set(tool.sites) <= sided | groups | {structure.name for structure in structures()}, (
            tool.name,
            tool.sites,
        )
        assert not tool.flexible or "length_mm" in tool.parameters, tool.name
    assert {tool.placement for tool in catalogue()} == set(PLACEMENTS)


def test_a_placement_gives_either_poses_or_lines():
    """A rigid tool where only lines are drawn would lie at the world's origin."""
    assert not {t.placement for t in catalogue() if t.flexible} & {t.placement for t in catalogue() if not t.flexible}


@pytest.mark.parametrize("module", MODULES)
def test_every_mesh_is_a_closed_solid_of_a_believable_size(module):
    for tool in (tool for tool in catalogue() if tool.module == module):
        made = built(tool.name)
        assert [material for material, _ in made] == list(tool.materials.values()), tool.name
        for _, part in made:
            assert np.isfinite(part.vertices_mm).all(), tool.name
            assert is_closed(part.triangles), tool.name
            assert volume_mm3(part.vertices_mm, part.triangles) > 0, tool.name
        vertices = np.concatenate([part.vertices_mm for _, part in made])
        extent = np.ptp(vertices, axis=0)
        length = tool.parameters.get("length_mm", 0)
        assert 0.9 < extent.max() < max(700, 1.6 * length + 40), (tool.name, extent)
        assert extent.min() > 0.2, (tool.name, extent)
        assert 60 < sum(len(part.triangles) for _, part in made) < 30_000, tool.name
        if length and tool.placement in ("in_bone", "medullary", "pedicle"):
            assert extent[2] > 0.9 * length, (tool.name, extent)


def test_parts_do_not_overlap():
    """The volume of the union of the parts is the sum of their volumes, on every design of several materials."""
    from fluorosam_cli.tools.shapes import solid_of, union

    several = {tool.design: tool for tool in catalogue() if len(tool.materials) > 1 and not tool.flexible}
    for tool in several.values():
        solids = [solid_of(part.vertices_mm, part.triangles) for _, part in built(tool.name)]
        apart = sum(solid.volume() for solid in solids)
        assert union(solids).volume() == pytest.approx(apart, rel=0.01), tool.name


def test_designs_differ_in_shape_and_not_only_in_size():
    """No two designs have the same mesh up to scale: sorted, normalised distances from the middle differ."""
    seen = defaultdict(list)
    for design in {tool.design for tool in catalogue()}:
        vertices = np.concatenate([part.vertices_mm for _, part in built(tools_of(design)[0].name)])
        radii = np.sort(np.linalg.norm((vertices - vertices.mean(0)) / np.ptp(vertices, axis=0).max(), axis=1))
        seen[tuple(np.round(np.quantile(radii, np.linspace(0, 1, 12)), 5)), len(vertices)].append(design)
    assert [designs for designs in seen.values() if len(designs) > 1] == []


def test_a_screw_has_the_length_thread_and_head_it_says():
    tool = tool_named("cortical_screw_3_5_x_32_mm")
    vertices = mesh(tool).vertices_mm
    radius = np.hypot(vertices[:, 0], vertices[:, 1])
    shaft = (vertices[:, 2] > 5) & (vertices[:, 2] < 31)
    assert radius[shaft].max() == pytest.approx(1.75, rel=0.05)
    assert radius[shaft].min() == pytest.approx(1.2, rel=0.02)
    assert radius.max() == pytest.approx(3.0, rel=0.01)
    assert vertices[:, 2].min() == 0
    # One turn of the thread further up the same profile comes back.
    angle = np.arctan2(vertices[:, 1], vertices[:, 0])
    crest = shaft & (radius > 1.7) & (np.abs(angle) < 0.01)
    turns = np.diff(np.unique(np.round(vertices[crest, 2], 3))) / 1.25
    assert np.allclose(turns[turns > 0.5], np.round(turns[turns > 0.5]), atol=0.25)


def test_a_wire_has_the_volume_of_its_cylinder_and_point():
    part = mesh(tool_named("kirschner_wire_1_6_mm"))
    expected = np.pi * 0.8**2 * (150 - 4 + 4 / 3)
    assert volume_mm3(part.vertices_mm, part.triangles) == pytest.approx(expected, rel=0.02)


def test_a_flexible_tool_follows_its_line_and_keeps_its_volume():
    tool = tool_named("guidewire_0_035_inch")
    angle = np.linspace(0, np.pi, 60)
    line = np.stack([10 + 60 * np.cos(angle), np.full(60, 20.0), 30 + 60 * np.sin(angle)], 1)
    made = mesh(tool, line)
    distance = np.hypot(made.vertices_mm[:, 0] - 10, made.vertices_mm[:, 2] - 30)
    assert np.abs(distance - 60).max() < 0.5
    assert np.abs(made.vertices_mm[:, 1] - 20).max() < 0.46
    assert volume_mm3(made.vertices_mm, made.triangles) == pytest.approx(np.pi * 0.445**2 * 60 * np.pi, rel=0.12)
    assert made.vertices_mm[np.argmin(np.linalg.norm(made.vertices_mm - line[0], axis=1))] == pytest.approx(
        line[0], abs=0.5
    )


def test_a_tool_longer_than_its_line_ends_with_it_and_a_shorter_one_before():
    line = np.linspace([0, 0, 0], [300, 0, 0], 20)
    assert np.ptp(mesh(tool_named("guidewire_0_035_inch"), line).vertices_mm[:, 0]) == pytest.approx(300, abs=0.1)
    assert np.ptp(mesh(tool_named("self_expanding_stent_8_x_60_mm"), line).vertices_mm[:, 0]) == pytest.approx(
        60, abs=0.5
    )


def test_rigid_ends_of_flexible_tools_are_not_bent():
    tool = tool_named("pacemaker_single_48_mm")
    straight = dict(parts(tool, np.linspace([0, 0, 0], [0, 0, 300], 20)))
    curve = np.linspace(0, 2, 50)
    bent = dict(parts(tool, 150 * np.stack([np.sin(curve), 0 * curve, 1 - np.cos(curve)], 1)))
    for material in ("copper", "titanium"):
        volumes = [volume_mm3(made[material].vertices_mm, made[material].triangles) for made in (straight, bent)]
        assert volumes[0] == pytest.approx(volumes[1], rel=1e-6)


def test_meshes_are_the_same_each_time():
    tool = tool_named("j_guidewire_0_035_inch_3_mm")
    line = np.linspace([0, 0, 0], [0, 0, 200], 20)
    once, again = mesh(tool, line), mesh(tool, line)
    assert np.array_equal(once.vertices_mm, again.vertices_mm)
    assert np.array_equal(once.triangles, again.triangles)


@pytest.mark.parametrize("line", [np.zeros((1, 3)), np.zeros((5, 3)), np.zeros((4, 2)), np.full((3, 3), np.nan)])
def test_a_centre_line_without_length_is_refused(line):
    with pytest.raises(FluoroError):
        mesh(tool_named("guidewire_0_035_inch"), line)

"""Where tools go: in bones, on them, along vessels, on the skin, over the field; only what lies in the beam.

`place_tools` draws tools and poses from one random stream. The rules of each kind of placement (`PLACEMENTS` in
`catalogue.py`) stand in `placement_bones.py`, `_spine`, `_joints`, `_lines` and `_free`; each answers None where its
anatomy is missing, outside the beam, or too small for the tool.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluorosam_cli.contracts import ViewTool
from fluorosam_cli.tools import placement_bones, placement_free, placement_joints, placement_lines, placement_spine
from fluorosam_cli.tools.catalogue import Tool, parts
from fluorosam_cli.tools.placement_anatomy import BodyMap
from fluorosam_cli.tools.placement_pose import Beam, Size, Where

TRIES = 12  # tools drawn for each that is wanted
CLOSEST_MM = 120.0  # to the source: no hand or tool comes nearer to the tube's housing
SHARE_IN_BEAM = 0.1  # of a tool's corners, at least
SHARE_IN_RANGE = 0.5  # of the corners of a tool in the body, between the depths that the view shows
LEAST_PX = 8.0  # a tool's extent on the image, at least

SOLVERS = {
    kind: solver
    for module in (placement_bones, placement_spine, placement_joints, placement_lines, placement_free)
    for kind, solver in module.SOLVERS.items()
}


@dataclass(frozen=True, eq=False)
class PlacedPart:
    """A closed mesh of one material in the world."""

    vertices_lps_mm: np.ndarray  # (V, 3)
    triangles: np.ndarray  # (T, 3), counter-clockwise from outside
    material: str  # of `render/physics`

    @cached_property
    def thickness_mm(self) -> float:
        """Four times volume over surface, the mean chord of a convex body (Cauchy); of a bar or tube, its width."""
        a, b, c = (self.vertices_lps_mm[self.triangles[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        area = float(np.sqrt((normal**2).sum(axis=1)).sum()) / 2
        return 4 * abs(float((a * normal).sum())) / 6 / area if area > 0 else 0.0


@dataclass(frozen=True, eq=False)
class PlacedTool:
    """A tool in the body; `where` says in which structure, and its pose or its centre line."""

    tool: Tool
    where: Where
    parts: tuple[PlacedPart, ...]

    @property
    def name(self) -> str:
        return self.tool.name

    @property
    def family(self) -> str:
        return self.tool.family


LINE_POINTS = 64  # of a centre line that are recorded


def record(placed: PlacedTool) -> ViewTool:
    """What the view says about a tool."""
    line = placed.where.centre_line_lps_mm
    if line is not None:
        line = line[np.unique(np.linspace(0, len(line) - 1, LINE_POINTS).astype(int))].round(1)
    return ViewTool(
        name=placed.name,
        family=placed.family,
        placement=placed.tool.placement,
        structure=placed.where.structure,
        world_from_tool=None if line is not None else placed.where.world_from_tool.round(4).tolist(),
        centre_line_lps_mm=None if line is None else line.tolist(),
    )


def place_tools(
    rng: np.random.Generator, tools: Sequence[Tool], anatomy: BodyMap, beam: Beam, count: int
) -> list[PlacedTool]:
    """Up to `count` tools in the beam, fewer where few suit what it shows.

    A placement is drawn first and then a tool of it, so that a kind with many sizes is not shown more often.
    """
    by_placement: dict[str, list[Tool]] = {}
    for tool in tools:
        by_placement.setdefault(tool.placement, []).append(tool)
    kinds = sorted(by_placement)
    placed: list[PlacedTool] = []
    for _ in range(TRIES * count if kinds else 0):
        if len(placed) == count:
            break
        kind = kinds[int(rng.integers(len(kinds)))]
        designs = sorted({tool.design for tool in by_placement[kind]})
        design = designs[int(rng.integers(len(designs)))]
        sizes = [tool for tool in by_placement[kind] if tool.design == design]
        found = place(rng, sizes[int(rng.integers(len(sizes)))], anatomy, beam)
        if found is not None:
            placed.append(found)
    return placed


def place(rng: np.random.Generator, tool: Tool, anatomy: BodyMap, beam: Beam) -> PlacedTool | None:
    """One tool where it belongs, or None where this view has no place for it."""
    where = SOLVERS[tool.placement](rng, tool, Size(tool), anatomy, beam)
    if where is None:
        return None
    made = PlacedTool(tool, where, tuple(_parts(tool, where)))
    return made if _shown(made, beam) else None


def _parts(tool: Tool, where: Where) -> list[PlacedPart]:
    matrix = where.world_from_tool
    mirrored = bool(np.linalg.det(matrix[:3, :3]) < 0)
    placed = []
    for material, mesh in parts(tool, where.centre_line_lps_mm):
        points = mesh.vertices_mm @ matrix[:3, :3].T + matrix[:3, 3]
        triangles = mesh.triangles[:, ::-1] if mirrored else mesh.triangles
        placed.append(PlacedPart(points, np.ascontiguousarray(triangles), material))
    return placed


def _shown(placed: PlacedTool, beam: Beam) -> bool:
    points = np.concatenate([part.vertices_lps_mm for part in placed.parts])
    depth = beam.depth_mm(points)
    if depth.min() < CLOSEST_MM:
        return False
    low, high = beam.depths_mm
    if placed.where.structure is not None and np.mean((depth > low) & (depth < high)) < SHARE_IN_RANGE:
        return False
    pixels = beam.pixels(points)
    seen = beam.holds(pixels)
    extent = np.ptp(pixels[seen], axis=0).max() if seen.any() else 0.0
    return bool(seen.mean() > SHARE_IN_BEAM and extent > LEAST_PX)

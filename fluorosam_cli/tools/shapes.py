"""Solids from few numbers: revolved, extruded, swept, threaded and bent, all closed and oriented outward.

Solids are manifold3d's `Manifold`, whose unions and differences keep them closed. Lengths are millimetres, angles
degrees, and z is a tool's axis unless said otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import cast

import numpy as np
from manifold3d import CrossSection, Manifold, Mesh64, OpType

SEGMENTS = 32  # around a circle: a radius is short by at most half a percent
_SAGITTA_MM = 0.03  # how far the facets of a bent tool may stand off its curve
_THIN = 1e-3

Solid = Manifold
Parts = dict[str, Solid]  # of a tool of several materials: the name of each part and its solid
Outline = CrossSection
Vector = Sequence[float] | np.ndarray
Points = Sequence[Vector] | np.ndarray


# --- round solids -----------------------------------------------------------------------------------------------------


def cylinder(
    radius: float, low: float, high: float, top_radius: float | None = None, segments: int = SEGMENTS
) -> Solid:
    """A cylinder or cone about z from `low` to `high`."""
    top = radius if top_radius is None else top_radius
    return Manifold.cylinder(high - low, radius, top, segments).translate((0, 0, low))


def tube(outer: float, inner: float, low: float, high: float, segments: int = SEGMENTS) -> Solid:
    return cylinder(outer, low, high, segments=segments) - cylinder(inner, low - 1, high + 1, segments=segments)


def ball(radius: float, centre: Vector = (0, 0, 0), segments: int = SEGMENTS) -> Solid:
    return Manifold.sphere(radius, segments).translate(_triple(centre))


def shell(outer: float, inner: float, segments: int = SEGMENTS) -> Solid:
    """The upper half (z > 0) of a hollow sphere: a cup."""
    return (ball(outer, segments=segments) - ball(inner, segments=segments)).trim_by_plane((0, 0, 1), 0)


def revolve(profile_rz: Points) -> Solid:
    """The solid of a closed outline in (radius, z), turned about z."""
    return CrossSection([_ccw(profile_rz)]).revolve(SEGMENTS)


def ring(radius: float, wire_radius: float, segments: int = 48, section_segments: int = 16) -> Solid:
    """A torus in the x-y plane about the origin."""
    return CrossSection.circle(wire_radius, section_segments).translate((radius, 0)).revolve(segments)


# --- flat solids ------------------------------------------------------------------------------------------------------


def outline(points: Points, rounding: float = 0.0) -> Outline:
    """A polygon; `rounding` rounds its corners, convex and concave, to that radius."""
    flat = CrossSection([_ccw(points)])
    if rounding:
        flat = flat.offset(-rounding, circular_segments=24).offset(2 * rounding, circular_segments=24)
        flat = flat.offset(-rounding, circular_segments=24)
    return flat


def circle(radius: float, centre: Vector = (0, 0), segments: int = SEGMENTS) -> Outline:
    return CrossSection.circle(radius, segments).translate((centre[0], centre[1]))


def stadium(points: Points, radius: float, segments: int = 24) -> Outline:
    """Everything within `radius` of a polyline in the plane."""
    circles = [circle(radius, point, segments) for point in points]
    if len(circles) == 1:
        return circles[0]
    hulls = [CrossSection.batch_hull([a, b]) for a, b in pairwise(circles)]
    return CrossSection.batch_boolean(hulls, OpType.Add)


def flats(outlines: Iterable[Outline]) -> Outline:
    """The union of outlines."""
    return CrossSection.batch_boolean(list(outlines), OpType.Add)


def extrude(flat: Outline, low: float, high: float, normal: str = "z") -> Solid:
    """A flat outline given thickness along z; or along y, its (x, y) becoming (x, z); or along x, becoming (y, z)."""
    solid = flat.extrude(high - low).translate((0, 0, low))
    if normal == "y":
        return solid.rotate((90, 0, 0)).mirror((0, 1, 0))
    return solid.rotate((90, 0, 90)) if normal == "x" else solid


def box(size: Vector, centre: Vector = (0, 0, 0)) -> Solid:
    return Manifold.cube(_triple(size), center=True).translate(_triple(centre))


def block(size: Vector, rounding: float, centre: Vector = (0, 0, 0), segments: int = 16) -> Solid:
    """A box with rounded edges and corners."""
    half = np.asarray(size) / 2 - rounding
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half + np.asarray(centre)
    return Manifold.batch_hull([ball(rounding, corner, segments) for corner in corners])


# --- solids along curves ----------------------------------------------------------------------------------------------


def rod(start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Solid:
    """A straight round bar, or a cone, between two points."""
    radii = [radius, radius if end_radius is None else end_radius]
    return sweep(np.array([start, end], float), radii, segments=20)


def sweep(
    path: Points,
    radius: float | Vector = 1.0,
    section: Points | None = None,
    closed: bool = False,
    segments: int = 12,
) -> Solid:
    """A round bar along a path (N, 3), of one radius or one per point; `section` gives another outline in the plane
    across the path, which a radius scales. With `closed` the path returns to its first point."""
    points = np.asarray(path, float)
    radii = np.broadcast_to(np.asarray(radius, float), len(points))
    angle = np.arange(segments) * 2 * np.pi / segments
    flat = np.stack([np.cos(angle), np.sin(angle)], 1) if section is None else _ccw(section)
    tangent, normal = frames(points, closed)
    across = np.cross(tangent, normal)
    grid = points[:, None] + radii[:, None, None] * (
        flat[None, :, :1] * normal[:, None] + flat[None, :, 1:] * across[:, None]
    )
    return _solid_of_grid(grid, closed)


def frames(points: np.ndarray, closed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Unit tangents and normals (N, 3) that turn as little as possible along a path (the double reflection of Wang et
    al., ACM Trans Graph 27:2, 2008). On a closed path the leftover turn is spread evenly."""
    ahead = np.roll(points, -1, 0) - points
    if not closed:
        ahead[-1] = ahead[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    behind = np.roll(ahead, 1, 0)
    if not closed:
        behind[0] = ahead[0]
    tangent = ahead + behind
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.zeros_like(points)
    side = (1.0, 0, 0) if abs(tangent[0, 0]) < 0.9 else (0, 1.0, 0)
    normal[0] = side - (tangent[0] @ side) * tangent[0]
    normal[0] /= np.linalg.norm(normal[0])
    for i in range(len(points) - 1):
        normal[i + 1] = _carried(normal[i], tangent[i], tangent[i + 1], points[i + 1] - points[i])
    if closed:
        back = _carried(normal[-1], tangent[-1], tangent[0], points[0] - points[-1])
        turn = np.arctan2(back @ np.cross(tangent[0], normal[0]), back @ normal[0])
        angle = -turn * np.arange(len(points))[:, None] / len(points)
        normal = np.cos(angle) * normal + np.sin(angle) * np.cross(tangent, normal)
    return tangent, normal


def _carried(normal: np.ndarray, tangent: np.ndarray, next_tangent: np.ndarray, step: np.ndarray) -> np.ndarray:
    def reflected(vector: np.ndarray, across: np.ndarray) -> np.ndarray:
        length = across @ across
        return vector - 2 * (across @ vector) / length * across if length > 1e-18 else vector

    mirror = next_tangent - reflected(tangent, step)
    return reflected(reflected(normal, step), mirror)


def helix(radius: float, pitch: float, low: float, high: float, per_turn: int = 16) -> np.ndarray:
    """Points (N, 3) of a right-handed helix about z."""
    turns = (high - low) / pitch
    angle = np.linspace(0, 2 * np.pi * turns, max(int(turns * per_turn), 2))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), low + pitch * angle / (2 * np.pi)], 1)


def arc(centre: Vector, radius: float, start: float, end: float, count: int = 24, plane: str = "xz"):
    """Points (count, 3) of a circle's arc from one angle to another in a coordinate plane, e.g. "xz"."""
    angle = np.radians(np.linspace(start, end, count))
    points = np.tile(np.asarray(centre, float), (count, 1))
    points[:, "xyz".index(plane[0])] += radius * np.cos(angle)
    points[:, "xyz".index(plane[1])] += radius * np.sin(angle)
    return points


def smooth(points: Points, count: int = 40) -> np.ndarray:
    """A curve (count, D) through the points given, without corners."""
    from scipy.interpolate import CubicSpline

    knots = np.asarray(points, float)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))]
    return CubicSpline(length, knots)(np.linspace(0, length[-1], count))


def threaded(profile: Points, pitch: float, segments: int = 20, crest: float = 0.12, flank: float = 0.28) -> Solid:
    """A screw about z, thread, shank, tip and head in one: `profile` rows are (z, core radius, outer radius), and where
    the two radii differ a right-handed helical ridge runs. `crest` and `flank` are widths in pitches."""
    rows = np.asarray(profile, float)
    with_thread = (rows[:, 2] - rows[:, 1]) > 1e-6
    per_turn = 6 if (rows[-1, 0] - rows[0, 0]) / pitch < 40 else 4
    stations = [rows[:1, 0]]
    for i, (a, b) in enumerate(pairwise(rows[:, 0])):
        count = max(round((b - a) / pitch * per_turn), 1) if with_thread[i] or with_thread[i + 1] else 1
        stations.append(np.linspace(a, b, count + 1)[1:])
    z = np.unique(np.concatenate(stations))
    core, outer = (np.interp(z, rows[:, 0], rows[:, column]) for column in (1, 2))
    angle = np.arange(segments) * 2 * np.pi / segments
    phase = (z[:, None] / pitch - angle[None] / (2 * np.pi)) % 1.0
    ridge = np.clip((0.5 * crest + flank - np.abs(phase - 0.5)) / flank, 0, 1)
    radius = np.maximum(core[:, None] + (outer - core)[:, None] * ridge, 0.02)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return _solid_of_grid(np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], 2), closed=False)


def _solid_of_grid(grid: np.ndarray, closed: bool) -> Solid:
    """The solid whose surface is a grid (rows, around, 3) of points, capped at both ends unless closed upon itself."""
    rows, around = grid.shape[:2]
    index = np.arange(rows * around).reshape(rows, around)
    below, above = (index, np.roll(index, -1, 0)) if closed else (index[:-1], index[1:])
    a, b, c, d = below, np.roll(below, -1, 1), np.roll(above, -1, 1), above
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    points = grid.reshape(-1, 3)
    if not closed:
        points = np.vstack([points, grid[0].mean(0), grid[-1].mean(0)])
        first, last = np.full(around, rows * around), np.full(around, rows * around + 1)
        faces.append(np.stack([np.roll(index[0], -1), index[0], first], -1))
        faces.append(np.stack([index[-1], np.roll(index[-1], -1), last], -1))
    return solid_of(points, np.concatenate(faces))


# --- a centre line ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Line:
    """The curve (N, 3) a flexible tool follows, from its tip outward. Bent tools are drawn straight along +z, tip at
    the origin, and z becomes the distance along the curve; beyond its ends the curve goes on straight."""

    points_mm: np.ndarray

    @classmethod
    def straight(cls, length_mm: float) -> "Line":
        return cls(np.linspace([0, 0, 0], [0, 0, length_mm], 9))

    @cached_property
    def _along(self) -> np.ndarray:
        return np.r_[0, np.cumsum(np.linalg.norm(np.diff(self.points_mm, axis=0), axis=1))]

    @property
    def length_mm(self) -> float:
        return float(self._along[-1])

    @cached_property
    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        return frames(self.points_mm)

    @cached_property
    def _facets(self) -> np.ndarray:
        """How many facets fit between the start and each point, so that none stands off the curve by more than
        `_SAGITTA_MM`: many in a bend, few where it is straight."""
        tangent = self._frames[0]
        spans = np.diff(self._along)
        turn = np.arccos(np.clip((tangent[1:] * tangent[:-1]).sum(1), -1, 1)) / spans
        step = np.clip(np.sqrt(8 * _SAGITTA_MM / np.maximum(turn, 1e-9)), 0.7, 15.0)
        return np.r_[0, np.cumsum(spans / step)]

    def cut(self, length_mm: float) -> "Line":
        """The first `length_mm` of the line, or all of it where it is shorter."""
        if length_mm >= self.length_mm:
            return self
        keep = self._along < length_mm - 1e-6
        return Line(np.vstack([self.points_mm[keep], self.at(length_mm)[0]]))

    def beside(self, offset_mm: float) -> "Line":
        """The line moved sideways along its normals."""
        return Line(self.points_mm + offset_mm * self._frames[1])

    def with_tip(self, tip_xz: Points) -> "Line":
        """The line with a shaped tip before its start: points (N, 2) from the tip to (0, 0), z pointing back along the
        line, in the plane of the line's first normal."""
        (tangent,), (normal,) = self._frames[0][:1], self._frames[1][:1]
        tip = np.asarray(tip_xz, float)[:-1]
        return Line(np.vstack([self.points_mm[0] + tip[:, :1] * normal + tip[:, 1:] * tangent, self.points_mm]))

    def at(self, distance_mm: float | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points, tangents and normals (N, 3) at distances from the tip."""
        s = np.atleast_1d(np.asarray(distance_mm, float))
        inside = np.clip(s, 0, self.length_mm)
        point, tangent, normal = (
            np.stack([np.interp(inside, self._along, values[:, i]) for i in range(3)], 1)
            for values in (self.points_mm, *self._frames)
        )
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        normal -= (normal * tangent).sum(1, keepdims=True) * tangent
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return point + (s - inside)[:, None] * tangent, tangent, normal

    def bend(self, solid: Solid) -> Solid:
        """A straight solid laid along the line."""

        def facets(points: np.ndarray) -> np.ndarray:
            """z counted in facets, with x and y too small to be divided."""
            beyond = points[:, 2] - np.clip(points[:, 2], 0, self.length_mm)
            z = np.interp(points[:, 2], self._along, self._facets) + beyond / 15.0
            return np.stack([points[:, 0] * _THIN, points[:, 1] * _THIN, z], 1)

        def bent(points: np.ndarray) -> np.ndarray:
            beyond = points[:, 2] - np.clip(points[:, 2], 0, self._facets[-1])
            z = np.interp(points[:, 2], self._facets, self._along) + beyond * 15.0
            centre, tangent, normal = self.at(z)
            return centre + (points[:, :1] * normal + points[:, 1:2] * np.cross(tangent, normal)) / _THIN

        return solid.warp_batch(facets).refine_to_length(1.0).warp_batch(bent)

    def place(self, solid: Solid, at_mm: float) -> Solid:
        """A solid kept rigid: its origin at a distance along the line, its z along the line there."""
        (point,), (tangent,), (normal,) = self.at(at_mm)
        return solid.transform(np.column_stack([normal, np.cross(tangent, normal), tangent, point]))


# --- sets of solids ---------------------------------------------------------------------------------------------------


def union(solids: Iterable[Solid]) -> Solid:
    return Manifold.batch_boolean(list(solids), OpType.Add)


def together(solids: Iterable[Solid]) -> Solid:
    """Solids side by side as one, much faster than their union: they must not overlap, or only where wires cross."""
    pieces = [arrays_of(solid) for solid in solids]
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in pieces)])
    triangles = np.concatenate([faces + offset for (_, faces), offset in zip(pieces, offsets, strict=False)])
    return solid_of(np.concatenate([vertices for vertices, _ in pieces]), triangles)


def hull(solids: Iterable[Solid]) -> Solid:
    return Manifold.batch_hull(list(solids))


def without(solid: Solid, holes: Iterable[Solid]) -> Solid:
    return Manifold.batch_boolean([solid, *holes], OpType.Subtract)


def both_sides(solid: Solid, normal: Vector = (1, 0, 0)) -> Solid:
    """A solid and its mirror image."""
    return solid + solid.mirror(_triple(normal))


def around(solid: Solid, count: int, start: float = 0.0) -> Solid:
    """Copies of a solid at equal angles about z."""
    return union(solid.rotate((0, 0, start + 360 * i / count)) for i in range(count))


def solid_of(vertices: np.ndarray, triangles: np.ndarray) -> Solid:
    """A solid from a closed triangle mesh; turned right side out if all of it is inside out."""
    solid = Manifold(Mesh64(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(triangles, np.uint64)))
    if solid.volume() < 0:
        return solid_of(vertices, triangles[:, ::-1])
    return solid


def arrays_of(solid: Solid) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 and triangles (T, 3) int32 of a solid."""
    mesh = solid.to_mesh64()
    return np.array(mesh.vert_properties)[:, :3].astype(np.float64), np.array(mesh.tri_verts).astype(np.int32)


def _ccw(points: Points) -> np.ndarray:
    flat = np.asarray(points, float)
    x, y = flat.T
    return flat if (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0 else flat[::-1]


def _triple(values: Vector) -> tuple[float, float, float]:
    return cast(tuple[float, float, float], tuple(float(value) for value in values))

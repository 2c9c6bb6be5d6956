"""Implicit shapes and how they fill a voxel grid.

A shape is a list of `Piece`s: a bounding box and a signed distance in mm, negative inside, good near the surface. A
`Solid` is the union of its pieces, cut by other solids. Each piece is evaluated only inside its own box.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

FAR = np.float32(1e3)
Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Box = tuple[slice, slice, slice]  # z, y, x


@dataclass(frozen=True)
class Grid:
    """Cubic voxels, axis-aligned in LPS: voxel (z, y, x) = (0, 0, 0) has its centre at `origin_xyz_mm`."""

    origin_xyz_mm: tuple[float, float, float]
    spacing_mm: float
    shape: tuple[int, int, int]  # z, y, x

    @property
    def world_from_voxel(self) -> np.ndarray:
        matrix = np.diag([self.spacing_mm] * 3 + [1.0])
        matrix[:3, 3] = self.origin_xyz_mm
        return matrix

    def box(self, low_xyz: np.ndarray, high_xyz: np.ndarray) -> Box:
        """The voxels whose centres lie between two corners (mm); may be empty."""
        x, y, z = (
            _range(float(low), float(high), origin, self.spacing_mm, size)
            for low, high, origin, size in zip(low_xyz, high_xyz, self.origin_xyz_mm, self.shape[::-1], strict=True)
        )
        return z, y, x

    def coordinates(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and z (mm, float32) of a box, shaped to broadcast to (z, y, x)."""
        z, y, x = (
            (origin + self.spacing_mm * np.arange(part.start, part.stop)).astype(np.float32)
            for origin, part in zip(self.origin_xyz_mm[::-1], box, strict=True)
        )
        return x[None, None, :], y[None, :, None], z[:, None, None]


def _range(low: float, high: float, origin: float, spacing: float, size: int) -> slice:
    first = 0 if low <= origin else min(math.ceil((low - origin) / spacing), size)
    last = size if high >= origin + size * spacing else math.floor((high - origin) / spacing) + 1
    return slice(first, max(first, last))


@dataclass(frozen=True)
class Piece:
    low_xyz: np.ndarray
    high_xyz: np.ndarray
    distance: Distance
    half_thickness_mm: float  # of its thinnest part: labels of thinner pieces are widened on coarse grids


@dataclass(frozen=True)
class Solid:
    """The union of `pieces`, grown by `grow_mm`, within all of `inside` and outside all of `outside`."""

    pieces: tuple[Piece, ...]
    inside: tuple["Solid", ...] = ()
    outside: tuple["Solid", ...] = ()
    grow_mm: float = 0.0

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low = np.min([piece.low_xyz for piece in self.pieces], axis=0) - self.grow_mm
        high = np.max([piece.high_xyz for piece in self.pieces], axis=0) + self.grow_mm
        return low, high


def is_empty(box: Box) -> bool:
    return any(part.start >= part.stop for part in box)


def overlap(a: Box, b: Box) -> Box:
    z, y, x = (
        slice(max(p.start, q.start), max(p.start, q.start, min(p.stop, q.stop))) for p, q in zip(a, b, strict=True)
    )
    return z, y, x


def within(inner: Box, outer: Box) -> Box:
    """`inner` in the indices of an array that covers `outer`."""
    z, y, x = (slice(p.start - q.start, p.stop - q.start) for p, q in zip(inner, outer, strict=True))
    return z, y, x


def evaluate(
    solid: Solid,
    grid: Grid,
    box: Box,
    thinnest_mm: float = 0.0,
    widened: np.ndarray | None = None,
    thickness_mm: np.ndarray | None = None,
) -> np.ndarray:
    """Signed distance (mm, float32) to a solid at the voxels of a box; `FAR` beyond its pieces' boxes.

    Two more arrays of the box's shape can be filled on the way. `widened` (given full of `FAR`): the distance when
    pieces thinner than `thinnest_mm` (half thickness) are widened to it, so that they catch voxels of a coarse grid.
    `thickness_mm`: the half thickness of the piece that each voxel belongs to.
    """
    distance = np.full([part.stop - part.start for part in box], FAR, np.float32)
    for piece in solid.pieces:
        lacking = max(0.0, thinnest_mm - piece.half_thickness_mm)
        margin = solid.grow_mm + grid.spacing_mm + lacking
        part = overlap(grid.box(piece.low_xyz - margin, piece.high_xyz + margin), box)
        if is_empty(part):
            continue
        here = within(part, box)
        found = piece.distance(*grid.coordinates(part))
        if widened is not None:
            np.minimum(widened[here], found - np.float32(lacking), out=widened[here])
        if thickness_mm is not None:
            thickness_mm[here][found < distance[here]] = piece.half_thickness_mm
        np.minimum(distance[here], found, out=distance[here])
    results = [distance] if widened is None else [distance, widened]
    for result in results:
        result -= np.float32(solid.grow_mm)
    for cut in [evaluate(other, grid, box) for other in solid.inside] + [
        -evaluate(other, grid, box) for other in solid.outside
    ]:
        for result in results:
            np.maximum(result, cut, out=result)
    return distance


# --- shapes -----------------------------------------------------------------------------------------------------------


def ball(centre: np.ndarray, axes: np.ndarray, power: float = 2.0) -> list[Piece]:
    """An ellipsoid whose semi-axes are the columns of `axes` (3, 3); towards a cylinder along the third as power grows.

    Distance of the ellipsoid: first-order estimate k0 (k0 - 1) / k1 with k0 = |A^-1 p|, k1 = |A^-T A^-1 p|.
    """
    inverse = np.linalg.inv(axes).astype(np.float32)
    gradient = inverse.T @ inverse
    reach = np.abs(axes).sum(axis=1) if power > 2 else np.sqrt((axes**2).sum(axis=1))
    cx, cy, cz = (np.float32(value) for value in centre)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        px, py, pz = x - cx, y - cy, z - cz
        qx, qy, qz = (row[0] * px + row[1] * py + row[2] * pz for row in inverse)
        if power > 2:
            size = np.maximum(((qx * qx + qy * qy) ** (power / 2) + np.abs(qz) ** power) ** np.float32(1 / power), 1e-3)
            return np.sqrt(px * px + py * py + pz * pz) * (1 - 1 / size)
        size = np.sqrt(qx * qx + qy * qy + qz * qz)
        gx, gy, gz = (row[0] * px + row[1] * py + row[2] * pz for row in gradient)
        slope = np.sqrt(gx * gx + gy * gy + gz * gz)
        return np.where(slope > 1e-9, size * (size - 1) / np.maximum(slope, 1e-9), -1 / np.sqrt(gradient.trace()))

    return [Piece(centre - reach, centre + reach, distance, float(np.linalg.norm(axes, axis=0).min()))]


def tube(points: np.ndarray, metric: Sequence[float] = (1.0, 1.0, 1.0)) -> list[Piece]:
    """A smooth curve of balls through `points` (n, 4): x, y, z, radius. `metric` below 1 widens it along that axis."""
    curve = smooth_curve(points) if len(points) > 2 else points
    return [_cone(a, b, np.asarray(metric)) for a, b in pairwise(curve)]


def smooth_curve(points: np.ndarray) -> np.ndarray:
    """Catmull-Rom curve through `points` (n, k), resampled at steps near the radius in the last column."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    padded[[0, -1], -1] = points[[0, -1], -1]
    curve = []
    for p0, p1, p2, p3 in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        length = np.linalg.norm(p2[:3] - p1[:3])
        steps = int(np.clip(np.ceil(length / max(5.0, 0.8 * min(p1[-1], p2[-1]))), 1, 12))
        t = np.linspace(0, 1, steps, endpoint=False)[:, None]
        curve.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    return np.vstack([*curve, points[-1:]])


def _cone(a: np.ndarray, b: np.ndarray, metric: np.ndarray) -> Piece:
    """The balls between two points, radius changing linearly."""
    scale = metric.astype(np.float32)
    start = (a[:3] * metric).astype(np.float32)
    along = (b[:3] * metric - a[:3] * metric).astype(np.float32)
    squared = np.float32(max(float(along @ along), 1e-9))
    radius, change = np.float32(a[3]), np.float32(b[3] - a[3])
    reach = max(a[3], b[3]) / metric

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        px, py, pz = x * scale[0] - start[0], y * scale[1] - start[1], z * scale[2] - start[2]
        t = np.clip((px * along[0] + py * along[1] + pz * along[2]) / squared, 0, 1)
        dx, dy, dz = px - t * along[0], py - t * along[1], pz - t * along[2]
        return np.sqrt(dx * dx + dy * dy + dz * dz) - (radius + change * t)

    low, high = np.minimum(a[:3], b[:3]) - reach, np.maximum(a[:3], b[:3]) + reach
    return Piece(low, high, distance, float(min(a[3], b[3]) / metric.max()))


def sheet(points: np.ndarray) -> list[Piece]:
    """A plate over a grid of points (rows, columns, 4): x, y, z, half thickness; curved from 3 x 3 points up."""
    if min(points.shape[:2]) > 2:
        points = _refined(_refined(points).swapaxes(0, 1)).swapaxes(0, 1)
    pieces = []
    for row in range(points.shape[0] - 1):
        for column in range(points.shape[1] - 1):
            a, b, c, d = (points[row + i, column + j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
            pieces += [_triangle(a, b, c), _triangle(d, c, b)]
    return pieces


def _refined(points: np.ndarray) -> np.ndarray:
    """Points (n, ...) with the Catmull-Rom midpoints put between them: (2 n - 1, ...)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    middle = (9 * (padded[1:-2] + padded[2:-1]) - padded[:-3] - padded[3:]) / 16
    fine = np.empty((2 * len(points) - 1, *points.shape[1:]))
    fine[::2], fine[1::2] = points, middle
    return fine


def _triangle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Piece:
    """A triangle with rounded thickness; barycentric weights are clipped and renormalised, exact inside its prism."""
    corners = np.stack([a, b, c]).astype(np.float32)
    u, v = corners[1, :3] - corners[0, :3], corners[2, :3] - corners[0, :3]
    uu, uv, vv = float(u @ u), float(u @ v), float(v @ v)
    determinant = np.float32(max(uu * vv - uv * uv, 1e-6))
    row_u, row_v = (u * vv - v * uv) / determinant, (v * uu - u * uv) / determinant

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        px, py, pz = x - corners[0, 0], y - corners[0, 1], z - corners[0, 2]
        wb = np.maximum(row_u[0] * px + row_u[1] * py + row_u[2] * pz, 0)
        wc = np.maximum(row_v[0] * px + row_v[1] * py + row_v[2] * pz, 0)
        total = np.maximum(wb + wc, 1)
        wb, wc = wb / total, wc / total
        dx, dy, dz = (p - wb * u[i] - wc * v[i] for i, p in enumerate((px, py, pz)))
        half = corners[0, 3] + wb * (corners[1, 3] - corners[0, 3]) + wc * (corners[2, 3] - corners[0, 3])
        return np.sqrt(dx * dx + dy * dy + dz * dz) - half

    reach = corners[:, 3].max()
    thinnest = float(corners[:, 3].min())
    return Piece(corners[:, :3].min(axis=0) - reach, corners[:, :3].max(axis=0) + reach, distance, thinnest)


def half_space(point: np.ndarray, normal: np.ndarray) -> list[Piece]:
    """Everything on the side of a plane that `normal` points to."""
    unit = (normal / np.linalg.norm(normal)).astype(np.float32)
    offset = np.float32(unit @ point)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return offset - (unit[0] * x + unit[1] * y + unit[2] * z)

    return [Piece(np.full(3, -np.inf), np.full(3, np.inf), distance, np.inf)]


@dataclass(frozen=True)
class Loft:
    """Superellipses stacked along z. `stations` (n, 7): x, y, z of the centre, half width, front, back, power.

    The whole is turned by `roll_deg` about the vertical through (0, `pivot_y`).
    """

    stations: np.ndarray
    roll_deg: float = 0.0
    pivot_y: float = 0.0

    @cached_property
    def _between(self) -> Callable[[np.ndarray], np.ndarray]:
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(self.stations[:, 2], self.stations)

    def at(self, z: np.ndarray) -> np.ndarray:
        """The stations interpolated at heights z (n,): (n, 7)."""
        found = self._between(np.clip(z, self.stations[0, 2], self.stations[-1, 2]))
        found[:, 2] = z
        return found

    def outline(self, z: float, angle_deg: float) -> tuple[float, float]:
        """A point of the unrolled outline at height z: 0 degrees is the back, 90 the left, 180 the front."""
        x, y, _, width, front, back, power = self.at(np.array([z]))[0]
        sine, cosine = np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
        reach = (back if cosine > 0 else front) * np.sign(cosine)
        return x + width * abs(sine) ** (2 / power) * np.sign(sine), y + reach * abs(cosine) ** (2 / power)

    def pieces(self, inset_mm: float = 0.0) -> list[Piece]:
        heights = self.stations[:, 2]
        widest = np.abs(self.stations[:, 0]).max() + self.stations[:, 3].max()
        deepest = np.abs(self.stations[:, 1] - self.pivot_y).max() + self.stations[:, 4:6].max()
        angle = np.radians(self.roll_deg)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        reach_x = widest + deepest * abs(float(sine))
        reach_y = deepest + widest * abs(float(sine))

        def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
            table = self.at(z.ravel().astype(float)).astype(np.float32)
            cx, cy, _, width, front, back, power = (column[:, None, None] for column in table.T)
            local_x = cosine * x + sine * (y - np.float32(self.pivot_y)) - cx
            local_y = -sine * x + cosine * (y - np.float32(self.pivot_y)) + np.float32(self.pivot_y) - cy
            u = np.abs(local_x) / np.maximum(width - inset_mm, 1)
            v = np.abs(local_y) / np.maximum(np.where(local_y < 0, front, back) - inset_mm, 1)
            size = np.maximum((u**power + v**power) ** (1 / power), 1e-3)
            side = np.sqrt(local_x**2 + local_y**2) * (1 - 1 / size)
            return np.maximum(side, np.maximum(heights[0] - z, z - heights[-1]))

        low = np.array([-reach_x, self.pivot_y - reach_y, heights[0]])
        high = np.array([reach_x, self.pivot_y + reach_y, heights[-1]])
        return [Piece(low, high, distance, float(self.stations[:, 3:6].min()))]

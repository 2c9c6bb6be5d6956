"""A labelled body as placement sees it: where structures and skin are, how deep a point lies, the course of a vessel.

Prepared lazily and kept, so that a view costs little once its case has been looked at. Points are LPS mm, (N, 3);
names are those of the structure table. Everything is deterministic; chance is left to the callers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fluorosam_cli.anatomy.structures import groups, structures

COARSE_MM = 2.0  # of the grid on which vessels are followed and the skin is found
BODY_HU = -400
FINE_VOXELS = 600_000  # a structure's box with more than these is looked at on every other voxel
MAX_POINTS = 6000  # of a structure that are kept
NOT_OPERATED = ("rib_", "costal_cartilages", "teeth", "hyoid")  # by tools that may go into any bone


@dataclass(frozen=True, eq=False)
class Grid:
    """An array (z, y, x) in the world."""

    array: np.ndarray
    world_from_index: np.ndarray

    @cached_property
    def index_from_world(self) -> np.ndarray:
        return np.linalg.inv(self.world_from_index)

    @property
    def spacing_zyx_mm(self) -> np.ndarray:
        return np.linalg.norm(self.world_from_index[:3, :3], axis=0)[::-1]

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """Values at the voxels nearest to points (..., 3), and 0 beyond the grid."""
        matrix = self.index_from_world
        index = np.rint(points @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.int64)
        size = np.array(self.array.shape[::-1])
        within = ((index >= 0) & (index < size)).all(axis=-1)
        x, y, z = np.moveaxis(np.clip(index, 0, size - 1), -1, 0)
        return np.where(within, self.array[z, y, x], 0)

    def crop(self, start_zyx: Sequence[int], stop_zyx: Sequence[int], step: Sequence[int] = (1, 1, 1)) -> "Grid":
        part = self.array[tuple(slice(a, b, s) for a, b, s in zip(start_zyx, stop_zyx, step, strict=True))]
        matrix = np.diag([*step[::-1], 1.0])
        matrix[:3, 3] = start_zyx[::-1]
        return Grid(part, self.world_from_index @ matrix)

    def points(self, where: np.ndarray) -> np.ndarray:
        index = np.argwhere(where)[:, ::-1]
        return index @ self.world_from_index[:3, :3].T + self.world_from_index[:3, 3]


@dataclass(frozen=True, eq=False)
class Shape:
    """One structure: points of it, its depth field, and its own axes, the longest first."""

    points: np.ndarray
    mask: Grid  # its box of the labels, bool
    centre: np.ndarray
    axes: np.ndarray  # (3, 3), rows
    spread_mm: np.ndarray  # standard deviations along them

    @cached_property
    def depth(self) -> Grid:
        """How deep inside each voxel is: mm to the surface, 0 outside."""
        from scipy.ndimage import distance_transform_edt

        padded = np.pad(self.mask.array, 1)
        depth = np.asarray(distance_transform_edt(padded, sampling=self.mask.spacing_zyx_mm))[1:-1, 1:-1, 1:-1]
        return Grid(depth, self.mask.world_from_index)

    @property
    def is_long(self) -> bool:
        return bool(self.spread_mm[0] > 2.5 * self.spread_mm[1])


class BodyMap:
    """The labels of one case; `ids` says which label ids each structure has, `volume_hu` shows the skin."""

    def __init__(
        self,
        labels: np.ndarray,
        world_from_voxel: np.ndarray,
        volume_hu: np.ndarray | None = None,
        ids: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        from scipy.ndimage import find_objects

        self.grid = Grid(labels, np.asarray(world_from_voxel, np.float64))
        self._hu = volume_hu
        known = ids or {item.name: (item.label_id,) for item in structures()}
        boxes = dict(enumerate(find_objects(labels), 1))
        self.ids = {name: tuple(i for i in own if boxes.get(i)) for name, own in known.items()}
        self.ids = {name: own for name, own in self.ids.items() if own}
        self._boxes = boxes
        self._shapes: dict[str, Shape] = {}
        self._kept: dict[object, np.ndarray | None] = {}
        self._tables: dict[tuple[str, ...], np.ndarray] = {}

    # --- names

    def named(self, sites: Iterable[str]) -> list[str]:
        """The structures present that sites stand for: themselves, either side, or the members of a group."""
        found: dict[str, None] = {}
        for site in sites:
            for name in (site, f"{site}_left", f"{site}_right", *groups().get(site, ())):
                if name in self.ids:
                    found[name] = None
        return list(found)

    @cached_property
    def bones(self) -> list[str]:
        bone = {item.name for item in structures() if item.material == "bone"}
        return [name for name in self.ids if name in bone and not name.startswith(NOT_OPERATED)]

    @cached_property
    def vertebrae(self) -> list[str]:
        """From the head down."""
        levels = [f"C{i}" for i in range(1, 8)] + [f"T{i}" for i in range(1, 13)] + [f"L{i}" for i in range(1, 6)]
        return [f"vertebrae_{level}" for level in levels if f"vertebrae_{level}" in self.ids]

    # --- points

    @cached_property
    def middle(self) -> np.ndarray:
        """The volume's centre (3,)."""
        last = np.array(self.grid.array.shape[::-1]) - 1
        return self.grid.world_from_index[:3, :3] @ (last / 2) + self.grid.world_from_index[:3, 3]

    def inside(self, names: str | Sequence[str], points: np.ndarray) -> np.ndarray:
        """Whether points (..., 3) lie in one of the structures."""
        key = (names,) if isinstance(names, str) else tuple(names)
        if key not in self._tables:
            table = np.zeros(1 << 16, bool)
            table[[i for name in key for i in self.ids.get(name, ())]] = True
            self._tables[key] = table
        return self._tables[key][self.grid.nearest(points).astype(np.int64)]

    def name_at(self, point: np.ndarray) -> str | None:
        """The structure a point (3,) lies in."""
        label = int(self.grid.nearest(point))
        return next((name for name, own in self.ids.items() if label in own), None)

    def shape(self, name: str) -> Shape:
        if name not in self._shapes:
            self._shapes[name] = self._measured(name)
        return self._shapes[name]

    def _measured(self, name: str) -> Shape:
        boxes = [self._boxes[i] for i in self.ids[name]]
        start = [max(min(box[k].start for box in boxes) - 2, 0) for k in range(3)]
        stop = [max(box[k].stop for box in boxes) + 2 for k in range(3)]
        size = np.prod(np.subtract(stop, start))
        step = [2 if size > FINE_VOXELS and self.grid.spacing_zyx_mm[k] < 2 else 1 for k in range(3)]
        part = self.grid.crop(start, stop, step)
        mask = np.isin(part.array, self.ids[name])
        if not mask.any():
            part = self.grid.crop(start, stop)
            mask = np.isin(part.array, self.ids[name])
        points = part.points(mask)
        points = points[:: -(-len(points) // MAX_POINTS)]
        centre = points.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((points - centre).T) if len(points) > 3 else np.eye(3))
        axes = vectors.T[::-1].copy()
        axes[axes[:, 2] < 0] *= -1
        return Shape(points, Grid(mask, part.world_from_index), centre, axes, np.sqrt(np.maximum(values[::-1], 0)))

    def along(self, points: np.ndarray, direction: np.ndarray, reach_mm: float, step_mm: float = 1.0) -> np.ndarray:
        """Points (..., steps, 3) from each of `points` in its direction."""
        return points[..., None, :] + np.arange(0, reach_mm, step_mm)[:, None] * direction[..., None, :]

    # --- skin

    @cached_property
    def body(self) -> Grid:
        """The body with everything in it, smoothed, 0 to 1, on a coarse grid."""
        from scipy.ndimage import binary_fill_holes, binary_opening, gaussian_filter, label

        step = [max(int(4.0 / s + 0.5), 1) for s in self.grid.spacing_zyx_mm]
        source = self.grid if self._hu is None else Grid(self._hu, self.grid.world_from_index)
        coarse = source.crop((0, 0, 0), source.array.shape, step)
        mask = coarse.array > (0 if self._hu is None else BODY_HU)
        mask = np.stack([np.asarray(binary_fill_holes(layer)) for layer in np.asarray(binary_opening(mask))])
        parts, count = label(mask)  # pyright: ignore[reportGeneralTypeIssues] - its stubs say int
        if count > 1:
            mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        return Grid(gaussian_filter(mask.astype(np.float32), 1.0, mode="nearest"), coarse.world_from_index)

    def in_body(self, points: np.ndarray) -> np.ndarray:
        return self.body.nearest(points) > 0.5

    def skin_from(self, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """How far from each point (N, 3) in its direction the body is left for good, mm; 0 if never in it."""
        inside = self.in_body(self.along(points, direction, 700.0, 2.0))
        last = inside.shape[-1] - np.argmax(inside[..., ::-1], axis=-1)
        return np.where(inside.any(axis=-1), last * 2.0, 0.0)

    def skin_normal(self, point: np.ndarray) -> np.ndarray:
        """Unit vector out of the body near a point of the skin."""
        offsets = np.array([[6.0, 0, 0], [0, 6.0, 0], [0, 0, 6.0]])
        change = self.body.nearest(point - offsets) - self.body.nearest(point + offsets)
        wider = self.body.nearest(point - 2 * offsets) - self.body.nearest(point + 2 * offsets)
        normal = change + wider
        return normal / max(np.linalg.norm(normal), 1e-6) if np.linalg.norm(normal) > 1e-6 else np.array([0, -1.0, 0])

    # --- courses

    @cached_property
    def coarse(self) -> Grid:
        step = [max(int(COARSE_MM / s + 0.5), 1) for s in self.grid.spacing_zyx_mm]
        return self.grid.crop((0, 0, 0), self.grid.array.shape, step)

    def course(self, names: tuple[str, ...], start: str, end: str) -> np.ndarray | None:
        """The centre line (N, 3), 2 mm apart, through structures that touch; None where they do not.

        It runs from the end of the first structure that lies `start` ("high", "low", "lateral", "anterior") to that
        of the last one, on the path of least cost, where the cost of a voxel falls with its depth.
        """
        return self.kept((names, start, end), lambda: self._followed(names, start, end))

    def kept(self, key: object, make: Callable[[], np.ndarray | None]) -> np.ndarray | None:
        """What `make` gives, made once for each key."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _followed(self, names: tuple[str, ...], start: str, end: str) -> np.ndarray | None:
        from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects
        from skimage.graph import MCP_Geometric

        if not all(name in self.ids for name in names):
            return None
        mask = np.isin(self.coarse.array, [i for name in names for i in self.ids[name]])
        found = find_objects(mask.astype(np.uint8))
        if not found:
            return None
        low = [max(part.start - 3, 0) for part in found[0]]
        region = self.coarse.crop(low, [part.stop + 3 for part in found[0]])
        mask = np.isin(region.array, [i for name in names for i in self.ids[name]])
        spacing = region.spacing_zyx_mm
        depth = np.asarray(distance_transform_edt(np.pad(mask, 1), sampling=spacing))[1:-1, 1:-1, 1:-1]
        near = np.asarray(binary_dilation(mask, iterations=2))  # bridges a gap between two labels, at a price
        cost = np.where(mask, 1 / np.maximum(depth, 1.0) ** 2, np.where(near, 30.0, -1.0))
        ends = [self._end(region, names[0], start), self._end(region, names[-1], end)]
        paths = MCP_Geometric(cost, sampling=tuple(spacing))
        total, _ = paths.find_costs([ends[0]], [ends[1]])
        if not np.isfinite(total[ends[1]]):
            return None
        index = np.array(paths.traceback(ends[1]))[:, ::-1]
        points = index @ region.world_from_index[:3, :3].T + region.world_from_index[:3, 3]
        return smoothed(points, 5.0) if len(points) > 3 else None

    def _end(self, region: Grid, name: str, which: str) -> tuple[int, int, int]:
        """The index of the deepest voxel near the end of a structure."""
        mask = np.isin(region.array, self.ids[name])
        index = np.argwhere(mask)
        points = region.points(mask)
        key = {
            "high": points[:, 2],
            "low": -points[:, 2],
            "lateral": np.abs(points[:, 0] - self.middle[0]),
            "anterior": -points[:, 1],
        }[which]
        close = key > key.max() - 6.0
        best = np.argmin(np.linalg.norm(points[close] - points[close].mean(axis=0), axis=1))
        z, y, x = index[close][best]
        return int(z), int(y), int(x)


def smoothed(points: np.ndarray, sigma_mm: float, step_mm: float = 2.0) -> np.ndarray:
    """The same line (N, 3) without its corners, resampled at equal steps; its ends stay."""
    from scipy.ndimage import gaussian_filter1d

    even = resampled(points, step_mm)
    if len(even) < 4:
        return even
    reflected = np.concatenate([2 * even[0] - even[:0:-1], even, 2 * even[-1] - even[-2::-1]])
    curve = gaussian_filter1d(reflected, sigma_mm / step_mm, axis=0)[len(even) - 1 : 2 * len(even) - 1]
    return resampled(curve, step_mm)


def resampled(points: np.ndarray, step_mm: float) -> np.ndarray:
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    at = np.linspace(0, length[-1], max(int(length[-1] / step_mm) + 1, 2))
    return np.stack([np.interp(at, length, points[:, axis]) for axis in range(3)], axis=1)

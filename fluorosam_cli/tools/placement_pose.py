"""What the rules of placement share: the beam, a tool's size, the pose they answer with, frames and directions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from fluorosam_cli.geometry.carm import CArm, project_points
from fluorosam_cli.geometry.poses import Camera
from fluorosam_cli.tools.catalogue import Tool, parts
from fluorosam_cli.tools.placement_anatomy import BodyMap

LEFT, BACK, UP = np.eye(3)  # LPS


@dataclass(frozen=True, eq=False)
class Beam:
    """What a view sees."""

    intrinsic: np.ndarray
    camera_from_world: np.ndarray
    width_px: int
    height_px: int
    depths_mm: tuple[float, float] = (0.0, np.inf)  # between which the body is in the beam

    @classmethod
    def of(cls, carm: CArm | Camera) -> "Beam":
        size = carm.detector_width_px, carm.detector_height_px
        return cls(carm.intrinsic, carm.camera_from_world, *size, (carm.nearest_mm, carm.farthest_mm))

    @property
    def source(self) -> np.ndarray:
        return -self.camera_from_world[:3, :3].T @ self.camera_from_world[:3, 3]

    def ray(self, x: float, y: float) -> np.ndarray:
        """Unit vector (3,) in the world from the source to a pixel."""
        ray = self.camera_from_world[:3, :3].T @ np.linalg.inv(self.intrinsic) @ [x, y, 1]
        return ray / np.linalg.norm(ray)

    def depth_mm(self, points: np.ndarray) -> np.ndarray:
        return points @ self.camera_from_world[2, :3] + self.camera_from_world[2, 3]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        return project_points(self.intrinsic, self.camera_from_world, points)

    def holds(self, pixels: np.ndarray, margin: float = 0.02) -> np.ndarray:
        """Which pixels (N, 2) are in the picture, off its edge by a share of its size."""
        size = np.array([self.width_px, self.height_px])
        return np.all((pixels > margin * size) & (pixels < (1 - margin) * size), axis=-1)

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Which points (N, 3) are in the picture and in front of the source."""
        front = self.depth_mm(points) > 50.0
        shown = np.zeros(len(points), bool)
        shown[front] = self.holds(self.pixels(points[front]), 0.05)
        return shown

    def draw_pixel(self, rng: np.random.Generator, margin: float = 0.15) -> tuple[float, float]:
        x, y = rng.uniform(margin, 1 - margin, 2) * [self.width_px, self.height_px]
        return float(x), float(y)


@dataclass(frozen=True, eq=False)
class Size:
    """A tool's bounds in its own frame, mm; its mesh is made when they are first asked for."""

    tool: Tool

    @property
    def low(self) -> np.ndarray:
        return _bounds(self.tool)[0]

    @property
    def high(self) -> np.ndarray:
        return _bounds(self.tool)[1]

    @property
    def length(self) -> float:
        """From the origin, where the tip is, along z."""
        return float(self.high[2])


@lru_cache(maxsize=1024)
def _bounds(tool: Tool) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([mesh.vertices_mm for _, mesh in parts(tool)])
    return points.min(axis=0), points.max(axis=0)


@dataclass(frozen=True, eq=False)
class Where:
    """The structure a tool was placed in, and its pose; a flexible tool's centre line is in the world already."""

    structure: str | None
    world_from_tool: np.ndarray = field(default_factory=lambda: np.eye(4))
    centre_line_lps_mm: np.ndarray | None = None


Solver = Callable[[np.random.Generator, Tool, Size, BodyMap, Beam], Where | None]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def pose(origin: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
    """World from tool (4, 4) with that z axis, y as near as it can be, and x to the side given (which may mirror)."""
    z = unit(z)
    y = unit(y - (y @ z) * z)
    across = np.cross(y, z)
    if x is not None and across @ x < 0:
        across = -across
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([across, y, z, origin])
    return matrix


def any_normal(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    """A random unit vector across z."""
    while True:
        vector = rng.standard_normal(3)
        across = vector - (vector @ z) * z / (z @ z)
        if np.linalg.norm(across) > 0.1:
            return unit(across)


def tilted(rng: np.random.Generator, direction: np.ndarray, most_deg: float) -> np.ndarray:
    angle = np.radians(rng.uniform(0, most_deg))
    return np.cos(angle) * unit(direction) + np.sin(angle) * any_normal(rng, direction)


def lateral(anatomy: BodyMap, name: str) -> np.ndarray:
    """Unit vector away from the middle of the body, on a structure's side."""
    if "left" in name or "right" in name:
        return LEFT if "left" in name else -LEFT
    return LEFT if anatomy.shape(name).centre[0] > middle_x(anatomy) else -LEFT


def middle_x(anatomy: BodyMap) -> float:
    spine = anatomy.vertebrae or (["sacrum"] if "sacrum" in anatomy.ids else [])
    if spine:
        return float(np.mean([anatomy.shape(name).centre[0] for name in spine]))
    corner = anatomy.grid.world_from_index @ [*((np.array(anatomy.grid.array.shape[::-1]) - 1) / 2), 1]
    return float(corner[0])


def choose_seen(rng: np.random.Generator, anatomy: BodyMap, names: list[str], beam: Beam) -> str | None:
    """One of the structures that show in the beam with a good part of themselves."""
    seen = [name for name in names if beam.sees(anatomy.shape(name).points).mean() > 0.1]
    return seen[int(rng.integers(len(seen)))] if seen else None

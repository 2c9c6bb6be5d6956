"""`--poses poses.json`: views given by their matrices, read and checked (`fluoro.poses/1`)."""

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from fluorosam_cli.contracts import Matrix3x3, Matrix4x4, Model
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import positioner_angles

RIGID_TOLERANCE = 1e-4  # of rotation matrices written with five digits
FOCAL_RANGE = (0.2, 200.0)  # focal length over the detector's longer side: from a fan of 136 degrees to nearly parallel
MAX_ASPECT = 1.01  # of a pixel, whose area and blur are worked out as a square's
ISOCENTRE_SHARES = (0.05, 1.0)  # of the detector's distance, between which an isocentre lies
INFEASIBLE = 2  # status of scipy's linprog
MAX_OFFSET = 5.0  # of the central ray from the detector's middle, in detector sides


class Pose(Model):
    """One view; the matrices of a line of `views.jsonl` can be pasted here."""

    name: str = "pose"  # becomes the view's name; a body part in it (`knee_1`) chooses its exposure
    case: str | None = None  # None: every case
    intrinsic: Matrix3x3  # pixels from camera mm; first focal length negative in a mirrored view
    camera_from_world: Matrix4x4  # rigid, from LPS mm to x right, y down, z from the source to the detector
    width: int = Field(ge=1, le=8192)
    height: int = Field(ge=1, le=8192)
    source_to_detector_mm: float = Field(1000.0, gt=0)
    source_to_isocenter_mm: float | None = Field(None, gt=0)  # None: the depth of the body's middle
    nearest_mm: float = Field(0.0, ge=0)
    farthest_mm: float | None = Field(None, gt=0)
    kvp: float | None = Field(None, ge=40, le=150)  # None: drawn
    mas: float | None = Field(None, gt=0)


class Poses(Model):
    format: Literal["fluoro.poses/1"] = "fluoro.poses/1"
    poses: list[Pose] = Field(min_length=1)


@dataclass(frozen=True)
class Camera:
    """A view given by its matrices; it has the attributes of a `CArm`, derived from them."""

    name: str
    subject: str  # file, number and name, for messages
    case: str | None  # None: every case
    intrinsic: np.ndarray
    camera_from_world: np.ndarray
    detector_width_px: int
    detector_height_px: int
    source_to_detector_mm: float
    source_to_isocenter_mm: float  # NaN until `around` is called, where the file does not say
    nearest_mm: float = 0.0
    farthest_mm: float = np.inf
    kvp: float | None = None
    mas: float | None = None

    def around(self, middle_lps_mm: np.ndarray) -> "Camera":
        """The same view with its isocentre as deep as that point, unless the file says how deep it is."""
        if not np.isnan(self.source_to_isocenter_mm):
            return self
        depth = float(self.camera_from_world[2, :3] @ middle_lps_mm + self.camera_from_world[2, 3])
        lowest, highest = (share * self.source_to_detector_mm for share in ISOCENTRE_SHARES)
        return replace(self, source_to_isocenter_mm=min(max(depth, lowest), highest))

    def check_meets(self, shape_zyx: tuple[int, ...], world_from_voxel: np.ndarray, case: str) -> None:
        """Raise FluoroError unless a ray meets the box of a body's voxels, within the depths that are seen."""
        camera_from_voxel = self.camera_from_world @ world_from_voxel
        bounds = [(-0.5, size - 0.5) for size in shape_zyx[::-1]]
        corners = np.array(list(product(*bounds))) @ camera_from_voxel[:3, :3].T + camera_from_voxel[:3, 3]
        if corners[:, 2].max() <= 0:
            raise FluoroError(
                f"{self.subject}: the whole body of {case} lies behind the source",
                "in camera_from_world z points from the source to the detector, x right and y down: turn y and z round",
            )
        if not self._meets(camera_from_voxel, bounds):
            middle = ", ".join(f"{value:.0f}" for value in corners.mean(axis=0))
            raise FluoroError(
                f"{self.subject}: no ray meets the body of {case}, whose middle is at ({middle}) mm in the camera",
                "camera_from_world goes from LPS mm, as in case.json, to x right, y down, z from source to detector",
            )

    def _meets(self, camera_from_voxel: np.ndarray, bounds: list[tuple[float, float]]) -> bool:
        """Whether some point within the bounds of (x, y, z) voxels is seen: a linear programme without a goal."""
        from scipy.optimize import linprog

        column, row, depth = self.intrinsic @ camera_from_voxel[:3]  # the first two times the depth
        width, height = self.detector_width_px, self.detector_height_px
        sides = np.array([column, row, depth * (width - 1) - column, depth * (height - 1) - row])  # all at least 0
        sides /= np.linalg.norm(sides[:, :3], axis=1, keepdims=True)
        depths = [depth - [0, 0, 0, self.nearest_mm]]
        if np.isfinite(self.farthest_mm):
            depths.append([0, 0, 0, self.farthest_mm] - depth)
        at_least_0 = np.array([*sides, *depths])
        return linprog(np.zeros(3), -at_least_0[:, :3], at_least_0[:, 3], bounds=bounds).status != INFEASIBLE

    @property
    def whole_body(self) -> bool:
        """Whether everything on the rays is in the beam."""
        return self.nearest_mm == 0 and np.isinf(self.farthest_mm)

    @property
    def pixel_spacing_mm(self) -> float:
        return self.source_to_detector_mm / float(self.intrinsic[1, 1])

    @property
    def positioner_primary_angle_deg(self) -> float:
        return positioner_angles(self.camera_from_world[:3, :3])[0]

    @property
    def positioner_secondary_angle_deg(self) -> float:
        return positioner_angles(self.camera_from_world[:3, :3])[1]

    @property
    def image_rotation_deg(self) -> float:
        return positioner_angles(self.camera_from_world[:3, :3])[2]


def read_poses(path: Path) -> tuple[Camera, ...]:
    """The cameras of a poses file, in its order. Raises FluoroError that names the pose and what is wrong with it."""
    expected = Poses.model_fields["format"].default
    example = f'{{"format": "{expected}", "poses": [...]}}'
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise FluoroError(f"{path}: {error.strerror or error}", "give a JSON file with --poses") from error
    except ValueError as error:
        raise FluoroError(f"{path}: not valid JSON ({error})", f"it has to look like {example}") from error
    if not isinstance(data, dict) or data.get("format") != expected:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise FluoroError(f"{path}: format is {found!r}, expected {expected!r}", f"it has to look like {example}")
    try:
        poses = Poses.model_validate_json(json.dumps(data)).poses  # UTF-8 now, whatever the file was
    except ValidationError as error:
        first = error.errors()[0]
        hint = "intrinsic, camera_from_world, width and height are needed, as in a line of views.jsonl"
        raise FluoroError(f"{path}: {_where(first['loc'], data)}: {first['msg']}", hint) from error
    return tuple(_camera(pose, f"{path}: pose {number} ({pose.name})") for number, pose in enumerate(poses, 1))


def poses_of(cameras: tuple[Camera, ...], case: str) -> tuple[Camera, ...]:
    """Those meant for one case, in order."""
    return tuple(camera for camera in cameras if camera.case in (None, case))


def _where(location: tuple[int | str, ...], data: dict) -> str:
    if len(location) < 2 or not isinstance(location[1], int):
        return ".".join(map(str, location)) or "the file"
    pose = data["poses"][location[1]]
    name = pose.get("name") if isinstance(pose, dict) else None
    field = ".".join(map(str, location[2:]))
    return f"pose {location[1] + 1}" + (f" ({name})" if name else "") + (f": {field}" if field else "")


def _camera(pose: Pose, subject: str) -> Camera:
    intrinsic = _matrix(pose.intrinsic, (3, 3), f"{subject}: intrinsic")
    camera_from_world = _matrix(pose.camera_from_world, (4, 4), f"{subject}: camera_from_world")
    _check_rigid(camera_from_world, f"{subject}: camera_from_world")
    _check_intrinsic(intrinsic, pose.width, pose.height, f"{subject}: intrinsic")
    if pose.farthest_mm is not None and pose.farthest_mm <= pose.nearest_mm:
        raise FluoroError(
            f"{subject}: farthest_mm is {pose.farthest_mm:g}, nearest_mm {pose.nearest_mm:g}", "nothing lies between"
        )
    return Camera(
        name=pose.name,
        subject=subject,
        case=pose.case,
        intrinsic=intrinsic,
        camera_from_world=camera_from_world,
        detector_width_px=pose.width,
        detector_height_px=pose.height,
        source_to_detector_mm=pose.source_to_detector_mm,
        source_to_isocenter_mm=pose.source_to_isocenter_mm or np.nan,
        nearest_mm=pose.nearest_mm,
        farthest_mm=np.inf if pose.farthest_mm is None else pose.farthest_mm,
        kvp=pose.kvp,
        mas=pose.mas,
    )


def _matrix(rows: list[list[float]], shape: tuple[int, int], subject: str) -> np.ndarray:
    if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
        found = " x ".join(map(str, (len(rows), *sorted({len(row) for row in rows}))))
        raise FluoroError(f"{subject} is {found}, expected {shape[0]} x {shape[1]}", "give its rows, outermost first")
    matrix = np.array(rows, np.float64)
    last = [0.0] * (shape[1] - 1) + [1.0]
    if not np.allclose(matrix[-1], last, atol=1e-9):
        raise FluoroError(f"{subject}: last row is {matrix[-1].tolist()}, expected {last}", "is it transposed?")
    return matrix


def _check_rigid(matrix: np.ndarray, subject: str) -> None:
    rotation = matrix[:3, :3]
    off = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if off > RIGID_TOLERANCE:
        raise FluoroError(
            f"{subject} is no rigid motion: its rotation is off by {off:.2g}, at most {RIGID_TOLERANCE:g} is allowed",
            "scaling and pixel sizes belong into intrinsic",
        )
    if np.linalg.det(rotation) < 0:
        raise FluoroError(
            f"{subject} mirrors the patient: its determinant is -1, expected +1",
            "for a mirrored image make the first focal length in intrinsic negative",
        )


def _check_intrinsic(matrix: np.ndarray, width: int, height: int, subject: str) -> None:
    side = max(width, height)
    low, high = (limit * side for limit in FOCAL_RANGE)
    fx, fy = float(matrix[0, 0]), float(matrix[1, 1])
    if matrix[1, 0] != 0 or abs(matrix[0, 1]) > 0.1 * abs(fx):
        raise FluoroError(f"{subject}: pixels are skewed or turned", "turn the camera in camera_from_world instead")
    if fy < 0:
        raise FluoroError(
            f"{subject}: second focal length is {fy:g}, expected above 0", "turn the camera in camera_from_world"
        )
    if not (low <= abs(fx) <= high and low <= fy <= high):
        raise FluoroError(
            f"{subject}: focal lengths are {fx:g} and {fy:g} pixels, expected {low:g} to {high:g}",
            "source-to-detector distance over pixel spacing",
        )
    if not 1 / MAX_ASPECT <= abs(fx) / fy <= MAX_ASPECT:
        raise FluoroError(
            f"{subject}: focal lengths {fx:g} and {fy:g} differ, square pixels are needed",
            "give both in pixels of one size, with width and height to match",
        )
    if np.abs(matrix[:2, 2] - [(width - 1) / 2, (height - 1) / 2]).max() > MAX_OFFSET * side:
        raise FluoroError(
            f"{subject}: the central ray meets pixel {matrix[:2, 2].tolist()}, far off the {width} x {height} detector",
            "the last column is in pixels, about half the width and height",
        )

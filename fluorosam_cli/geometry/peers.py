"""The same camera in the conventions of other projectors, so that one pose can be rendered, and compared, in all.

Here pixel centres lie at integers, the world is LPS mm, and a camera is an `intrinsic` (3, 3), whose first focal length
is negative in a mirrored view, with a `camera_from_world` (4, 4). Each function returns what a peer's constructors
want, as plain numbers and NumPy arrays; none of the peers has to be installed, except killeengeo for its own function.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fluorosam_cli.errors import FluoroError

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
HALF_PIXEL = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # to where the first pixel's centre is (0.5, 0.5)


@dataclass(frozen=True)
class NanoDrrCamera:
    """Arguments of `nanodrr.drr.render`: `k_inv` (3, 3), `rt_inv` (4, 4), `sdd`; without the batch dimension."""

    k_inv: np.ndarray
    rt_inv: np.ndarray
    sdd: float


def nanodrr_camera(intrinsic: np.ndarray, camera_from_world: np.ndarray, source_to_detector_mm: float) -> NanoDrrCamera:
    """The camera for nanodrr 0.1.7, whose volumes keep the RAS affine of their file.

    Its rays run from the source to `rt_inv @ (sdd * k_inv @ (u + 0.5, v + 0.5, 1))` for column u and row v; camera
    axes are x right, y down, z to the detector, as here.
    """
    return NanoDrrCamera(
        k_inv=np.linalg.inv(HALF_PIXEL @ intrinsic),
        rt_inv=RAS_FROM_LPS @ np.linalg.inv(camera_from_world),
        sdd=source_to_detector_mm,
    )


@dataclass(frozen=True)
class DiffDrrCamera:
    """Arguments of `diffdrr.drr.DRR`, and the `pose` (4, 4) for its call as a `RigidTransform`."""

    sdd: float
    height: int
    width: int
    delx: float
    dely: float
    x0: float
    y0: float
    reverse_x_axis: bool
    pose: np.ndarray


# What DiffDRR's `read(orientation=...)` puts between its detector, which looks along z with y up, and the pose.
DIFFDRR_REORIENT = {
    "AP": np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
    None: np.eye(4),
}


def diffdrr_camera(
    intrinsic: np.ndarray,
    camera_from_world: np.ndarray,
    width: int,
    height: int,
    source_to_detector_mm: float,
    centre_lps_mm: np.ndarray | None = None,
    orientation: Literal["AP"] | None = "AP",
) -> DiffDrrCamera:
    """The camera for DiffDRR 0.6.1.

    `centre_lps_mm` is the middle of the volume (between its first and last voxel centre), which `diffdrr.data.read`
    moves to the world's origin; None for `read(center_volume=False)`. With orientation "PA" DiffDRR mirrors the patient
    by a pose of determinant -1; here a mirrored image turns `reverse_x_axis` off instead. Raises FluoroError for a
    skewed intrinsic matrix, which DiffDRR cannot express.
    """
    if intrinsic[0, 1]:
        raise FluoroError("DiffDRR has no skewed pixels", "give an intrinsic matrix with 0 in row 1, column 2")
    delx, dely = source_to_detector_mm / abs(intrinsic[0, 0]), source_to_detector_mm / intrinsic[1, 1]
    mirrored = bool(intrinsic[0, 0] < 0)
    from_middle_x = (intrinsic[0, 2] - (width - 1) / 2) * delx
    from_middle_y = (intrinsic[1, 2] - (height - 1) / 2) * dely
    to_origin = np.eye(4)
    if centre_lps_mm is not None:
        to_origin[:3, 3] = -np.asarray(centre_lps_mm)
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])  # from DiffDRR's detector, y up, to a camera with y down
    world_from_detector = RAS_FROM_LPS @ to_origin @ np.linalg.inv(camera_from_world) @ half_turn
    return DiffDrrCamera(
        sdd=source_to_detector_mm,
        height=height,
        width=width,
        delx=float(delx),
        dely=float(dely),
        x0=float(-from_middle_x if mirrored else from_middle_x),
        y0=float(from_middle_y),
        reverse_x_axis=not mirrored,
        pose=world_from_detector @ np.linalg.inv(DIFFDRR_REORIENT[orientation]),
    )


def killeengeo_projection(intrinsic: np.ndarray, camera_from_world: np.ndarray, width: int, height: int) -> Any:
    """The camera as a `killeengeo.CameraProjection`, DeepDRR's; its world is LPS mm.

    Its indices put the first pixel's centre at (0.5, 0.5), where DeepDRR's kernel samples.
    """
    import killeengeo

    return killeengeo.CameraProjection(
        killeengeo.CameraIntrinsicTransform(HALF_PIXEL @ intrinsic, sensor_height=height, sensor_width=width),
        killeengeo.FrameTransform(np.asarray(camera_from_world, np.float64)),
    )


def unmirrored(intrinsic: np.ndarray, width: int) -> tuple[np.ndarray, bool]:
    """The intrinsic matrix with a positive focal length, and whether columns have to be reversed afterwards."""
    if intrinsic[0, 0] > 0:
        return intrinsic, False
    return np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ intrinsic, True

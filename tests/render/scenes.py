"""What the projector's tests share: small bodies, cameras, and a plain NumPy walk of the same rays."""

import numpy as np

from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render.projector import Projector

AIR, SOFT, BONE = -1000, 0, 1000  # HU of the tests' own materials
HU_OFFSET = 1024
ONE = [("a", (1,))]


def table() -> np.ndarray:
    """Four materials; water at 1 g/cm3 in the third around 0 HU, bone at 2 g/cm3 in the fourth around 1000."""
    densities = np.zeros((4096, 4), np.float32)
    densities[HU_OFFSET - 500 : HU_OFFSET + 500, 2] = 1.0
    densities[HU_OFFSET + 500 :, 3] = 2.0
    return densities


def centred(shape_zyx: tuple[int, int, int], spacing_xyz: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """`world_from_voxel` of an axis-aligned grid whose middle is the world's origin."""
    matrix = np.diag([*spacing_xyz, 1.0])
    matrix[:3, 3] = -(np.array(shape_zyx[::-1]) - 1) / 2 * spacing_xyz
    return matrix


def carm(primary: float = 180, secondary: float = 0, size: int = 32, spacing: float = 2.0) -> CArm:
    return CArm(1000, 700, primary, secondary, size, size, spacing)


def project(projector: Projector, view: CArm, paths: bool = True):
    size = view.detector_width_px, view.detector_height_px
    return projector.project(view.intrinsic, view.camera_from_world, *size, paths=paths)


def assert_together_as_alone(projector: Projector, views: list[CArm]) -> None:
    """Views of one size in one call are the same, to the bit, as each by itself."""
    cameras = [(view.intrinsic, view.camera_from_world, (0.0, np.inf)) for view in views]
    size = views[0].detector_width_px, views[0].detector_height_px
    for view, found in zip(views, projector.project_views(cameras, *size, paths=True), strict=True):
        alone = project(projector, view)
        assert np.array_equal(found.mass_g_cm2, alone.mass_g_cm2)
        assert np.array_equal(found.bits, alone.bits)
        assert np.array_equal(found.path_mm, alone.path_mm)


def rays(view: CArm) -> tuple[np.ndarray, np.ndarray]:
    """Source (3,) and unit directions (H, W, 3) in the world, worked out without the projector."""
    y, x = np.mgrid[0 : view.detector_height_px, 0 : view.detector_width_px].astype(float)
    pixels = np.stack([x, y, np.ones_like(x)], axis=-1)
    directions = pixels @ np.linalg.inv(view.intrinsic).T @ view.camera_from_world[:3, :3]
    return view.source_lps_mm, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def box_chords(view: CArm, half_mm: np.ndarray) -> np.ndarray:
    """Lengths of the rays within a box around the origin, (H, W)."""
    source, directions = rays(view)
    with np.errstate(divide="ignore"):
        near_far = np.stack([(-half_mm - source) / directions, (half_mm - source) / directions])
    return np.maximum(near_far.max(axis=0).min(axis=-1) - near_far.min(axis=0).max(axis=-1), 0)


def siddon_reference(volume_hu, labels, world_from_voxel, view: CArm):
    """Mass (M, H, W) and path by label (256, H, W): sorted crossings of all grid planes, in double precision."""
    source, directions = rays(view)
    voxel_from_world = np.linalg.inv(world_from_voxel)
    origin = voxel_from_world[:3, :3] @ source + voxel_from_world[:3, 3] + 0.5
    shape = np.array(volume_hu.shape[::-1])
    densities = table().astype(float)
    mass = np.zeros((densities.shape[1], *directions.shape[:2]))
    path = np.zeros((256, *directions.shape[:2]))
    for row, column in np.ndindex(*directions.shape[:2]):
        step = voxel_from_world[:3, :3] @ directions[row, column]
        crossings = np.concatenate([(np.arange(n + 1) - o) / d for n, o, d in zip(shape, origin, step, strict=True)])
        at = np.sort(crossings)
        x, y, z = np.floor(origin + (at[1:] + at[:-1])[:, None] / 2 * step).astype(int).T
        inside = (x >= 0) & (x < shape[0]) & (y >= 0) & (y < shape[1]) & (z >= 0) & (z < shape[2]) & (at[:-1] > 0)
        x, y, z, length = x[inside], y[inside], z[inside], np.diff(at)[inside]
        mass[:, row, column] = densities[volume_hu[z, y, x] + HU_OFFSET].T @ length / 10
        np.add.at(path[:, row, column], labels[z, y, x], length)
    return mass, path


def slab(shape=(24, 20, 28), inside=(slice(4, 20), slice(5, 15), slice(3, 25))) -> tuple[np.ndarray, np.ndarray]:
    """A box of water, 22 x 10 x 16 voxels (x, y, z), in air."""
    hu, labels = np.full(shape, AIR, np.int16), np.zeros(shape, np.uint8)
    hu[inside], labels[inside] = SOFT, 1
    return hu, labels


def random_body(shape=(17, 22, 19), labels: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hu = rng.choice(np.array([AIR, SOFT, BONE], np.int16), shape)
    return hu, rng.integers(0, labels + 1, shape).astype(np.uint8)

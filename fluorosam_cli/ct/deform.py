"""Other bodies from one scan: scaled, bent and breathing differently, with the labels following the tissue.

A learner that has seen few patients takes their proportions for everyone's. The scale is in the affine, so that it
costs nothing; what bends is resampled plane by plane. Nothing is mirrored: hearts would come to lie on the right.
"""

from dataclasses import dataclass

import numpy as np

from fluorosam_cli.ct.volume import HU_MIN, Volume

SCALE = 0.8, 1.2  # along each axis
BEND_MM = 5.0  # standard deviation of the displacement along each axis
BEND_LENGTH_MM = 90.0  # over which it changes: shorter ones fold the tissue
GRID_MM = 30.0  # between the points at which it is known
BREATH_MM = 20.0  # the dome of the diaphragm moves 10 to 20 mm in quiet breathing (Wade, J Physiol 124:193, 1954)
MAX_STRAIN = 0.5  # by breathing, above and below the dome: at 1 the tissue folds


@dataclass(frozen=True)
class Deformation:
    """Where each point of the deformed body, before it is scaled, is found in the scan: displacements in LPS mm."""

    scale_xyz: np.ndarray
    bend_mm: np.ndarray  # (3, z, y, x) on a grid over the scan, xyz components
    breath_mm: np.ndarray  # (z,) downwards, for each plane of the scan


def draw_deformation(
    rng: np.random.Generator, volume: Volume, chest_mm: tuple[float, float, float] | None
) -> Deformation:
    """A random deformation; `chest_mm` are the heights of the lungs' top and base and of the pelvis' top, if known."""
    from scipy.ndimage import gaussian_filter

    extent = np.array(volume.array.shape) * np.array(volume.spacing_xyz_mm)[::-1]
    grid = np.maximum(2, np.ceil(extent / GRID_MM).astype(int) + 1)
    margin = int(np.ceil(3 * BEND_LENGTH_MM / GRID_MM))  # so that the smoothing meets no border
    noise = rng.standard_normal((3, *(grid + 2 * margin)))
    smooth = np.stack([gaussian_filter(one, BEND_LENGTH_MM / GRID_MM / 2) for one in noise])
    inner = smooth[:, margin:-margin, margin:-margin, margin:-margin]
    scale = rng.uniform(*SCALE, size=3)
    breath = rng.uniform(-BREATH_MM, BREATH_MM)
    planes = volume.array.shape[0]
    height = volume.world_from_voxel[2, 2] * np.arange(planes) + volume.world_from_voxel[2, 3]
    moved = np.zeros(planes)
    top, base, pelvis = chest_mm or (0.0, 0.0, 0.0)
    room_mm = min(top - base, base - pelvis)
    if room_mm > 0:
        moved = (
            min(1.0, MAX_STRAIN * room_mm / BREATH_MM)
            * breath
            * np.interp(height, [pelvis, base, top], [0.0, 1.0, 0.0])
        )
    return Deformation(scale, inner * (BEND_MM / smooth.std()), moved)


def deformed(ct: Volume, labels: np.ndarray, deformation: Deformation) -> tuple[Volume, np.ndarray]:
    """CT (int16 HU) and labels on the scan's own grid, deformed; the CT's affine carries the scale.

    Memory: a second copy of both. What would come from beyond the scan repeats its border.
    """
    from scipy.ndimage import map_coordinates

    hu, shape = ct.array, ct.array.shape
    linear = ct.world_from_voxel[:3, :3]
    voxel_from_mm = np.linalg.inv(linear)
    along = [_between(n, few) for n, few in zip(shape, deformation.bend_mm.shape[1:], strict=True)]
    new_hu, new_labels = np.empty_like(hu), np.empty_like(labels)
    y, x = np.mgrid[: shape[1], : shape[2]].astype(np.float32)
    for z in range(shape[0]):
        coarse = np.tensordot(along[0][z], deformation.bend_mm, axes=(0, 1))  # (3, grid y, grid x)
        bend = along[1] @ coarse @ along[2].T
        bend[2] += deformation.breath_mm[z]
        i, j, k = np.tensordot(voxel_from_mm, bend, axes=1).astype(np.float32)  # voxels along x, y, z
        source = np.stack([k + z, j + y, i + x])
        low, high = _planes(source[0], shape[0])
        source[0] -= low
        part = np.s_[low:high]
        new_hu[z] = map_coordinates(hu[part], source, np.float32, order=1, mode="nearest").round()
        new_labels[z] = map_coordinates(labels[part], source, order=0, mode="nearest")
    np.maximum(new_hu, HU_MIN, out=new_hu)
    scale = np.diag([*deformation.scale_xyz, 1.0])
    return Volume(new_hu, scale @ ct.world_from_voxel), new_labels


def _between(many: int, few: int) -> np.ndarray:
    """Weights (many, few) of linear interpolation from `few` points spread over `many` voxels."""
    at = np.linspace(0, few - 1, many)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(few)))


def _planes(z: np.ndarray, count: int) -> tuple[int, int]:
    """The planes that these coordinates touch: the others need not be looked at."""
    low = int(np.clip(np.floor(z.min()), 0, count - 1))
    return low, int(np.clip(np.ceil(z.max()) + 1, low + 1, count))

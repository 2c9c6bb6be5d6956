"""CT and label volumes: HU as int16, geometry in LPS millimetres, the standard grid, and writing as NIfTI.

NIfTI stores RAS; `LPS_FROM_RAS` is the one place that says so. Arrays are `(z, y, x)`; `world_from_voxel` maps
homogeneous voxel indices `(x, y, z, 1)` to LPS mm, voxel centres at integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.errors import FluoroError

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HU_MIN, HU_MAX = -1024, 3071  # 12-bit CT
SPACING_MIN_MM, SPACING_MAX_MM = 0.01, 100.0  # outside: a header in metres or micrometres, or a broken one
EXTENT_MAX_MM = 5000.0  # no table moves further
MAX_VOXELS = 2**31 - 1  # 4 GB as int16; the projector numbers them with 32 bits
SHEAR_TOLERANCE = 1e-3  # cosine between axes; less moves the last of 500 slices by half a slice
TILT_MAX_DEG = 45.0  # gantries tilt up to 30 degrees
NIFTI_SUFFIXES = (".nii.gz", ".nii")

Direction = Literal["superior", "inferior", "left", "right", "anterior", "posterior"]
LPS_DIRECTIONS: tuple[tuple[Direction, Direction], ...] = (
    ("right", "left"),
    ("anterior", "posterior"),
    ("inferior", "superior"),
)  # per world axis: towards its negative, towards its positive end


@dataclass(frozen=True)
class Volume:
    """A CT (`int16` HU) or label volume (`uint8`/`uint16`), shape (z, y, x)."""

    array: np.ndarray
    world_from_voxel: np.ndarray  # (4, 4) float64, LPS mm
    borders: dict[Direction, np.ndarray] | None = None  # flat indices of the scan's, where they are not the grid's

    @property
    def spacing_xyz_mm(self) -> np.ndarray:
        return np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)

    @property
    def voxel_volume_ml(self) -> float:
        return float(abs(np.linalg.det(self.world_from_voxel[:3, :3]))) / 1000

    def steps_zyx(self, coarse_mm: float) -> list[int]:
        """Every how many voxels are at most `coarse_mm` apart, and at least 1."""
        return [max(1, int(coarse_mm / spacing)) for spacing in self.spacing_xyz_mm[::-1]]


def check_grid(subject: str, shape: Sequence[int], affine: np.ndarray) -> None:
    """Raise FluoroError unless `shape` is 3D, of a size that fits in memory, and the affine is plausible in mm."""
    if len(shape) != 3 or min(shape) < 1:
        raise FluoroError(
            f"{subject}: shape is {tuple(map(int, shape))}, a 3D volume is needed", "give one 3D CT per file"
        )
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        found = "x".join(map(str, shape))
        raise FluoroError(f"{subject}: has {found} voxels, at most {MAX_VOXELS} are read", "crop it, or resample it")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise FluoroError(f"{subject}: its affine is not finite or not invertible", "mend the header's sform or qform")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SPACING_MIN_MM or spacing.max() > SPACING_MAX_MM or (spacing * shape).max() > EXTENT_MAX_MM:
        found = " x ".join(f"{value:g}" for value in spacing)
        raise FluoroError(
            f"{subject}: voxel spacing is {found} mm, between {SPACING_MIN_MM:g} and {SPACING_MAX_MM:g} mm "
            f"and an extent below {EXTENT_MAX_MM:g} mm is expected",
            "write the header in millimetres",
        )


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI (`.nii.gz`), whole or not at all; equal volumes give equal bytes."""
    import gzip

    import nibabel

    image = nibabel.Nifti1Image(volume.array.T, LPS_FROM_RAS @ volume.world_from_voxel)
    image.header.set_xyzt_units("mm")
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=3, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())


def plane_to_hu(stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """Stored values of one plane -> int16 HU, rounded and clipped to 12-bit CT range; NaN counts as air."""
    small = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2 and slope == 1 and abs(intercept) < 2**30
    if small and intercept == int(intercept):
        return np.clip(stored.astype(np.int32) + int(intercept), HU_MIN, HU_MAX).astype(np.int16)
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.rint(stored.astype(np.float64) * slope + intercept)
        return np.nan_to_num(np.clip(values, HU_MIN, HU_MAX), nan=HU_MIN).astype(np.int16)


def check_hu(array: np.ndarray, subject: str) -> None:
    """Raise FluoroError when int16 values cannot be a CT's.

    Fat, lung and air lie below 0 HU, so a volume without a negative value is an MRI, a label map or unscaled.
    """
    low, high = int(array.min()), int(array.max())
    if low >= 0:
        raise FluoroError(
            f"{subject}: values run from {low} to {high}, a CT in HU has some below 0",
            "give a CT in HU; a label volume goes after --labels",
        )
    if low == high:
        raise FluoroError(f"{subject}: every voxel is {low} HU", "give a CT that shows something")


# --- the standard grid ------------------------------------------------------------------------------------------------


def standard_grid(
    shape_zyx: tuple[int, ...], world_from_voxel: np.ndarray, subject: str = "the volume"
) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and matrix that `standardise` gives a volume of this shape and matrix. Raises FluoroError as it does."""
    shape_xyz, matrix, _ = _straight_grid(shape_zyx[::-1], world_from_voxel, subject)
    order, signs = _nearest_axes(matrix)
    shape = tuple(shape_xyz[axis] for axis in order)
    return shape[::-1], matrix @ _standard_from(order, signs, shape)


def standardise(volume: Volume, fill: int, nearest: bool = False, subject: str = "the volume") -> Volume:
    """The volume with its axes permuted and flipped so that x grows to the left, y to posterior and z to superior.

    Oblique volumes stay oblique: each axis becomes the nearest one. Sheared slices (a tilted gantry) are first shifted
    in their plane until the axes are orthogonal, by linear interpolation or to the `nearest` voxel, on a grid widened
    with `fill`; `borders` are then those of the slices. Raises FluoroError when the first two axes are not orthogonal
    or the tilt is beyond TILT_MAX_DEG.
    """
    shape_xyz, matrix, shifts = _straight_grid(volume.array.shape[::-1], volume.world_from_voxel, subject)
    array = volume.array
    if shifts is not None:
        array = _shift_slices(array, shape_xyz[::-1], shifts, fill, nearest)
    order, signs = _nearest_axes(matrix)
    array = array.transpose([2 - axis for axis in order[::-1]])[tuple(slice(None, None, sign) for sign in signs[::-1])]
    grid_from_standard = _standard_from(order, signs, array.shape[::-1])
    borders: dict[Direction, np.ndarray] | None = None
    if shifts is not None:
        standard_from_grid = np.linalg.inv(grid_from_standard)
        borders = {
            direction: _flat(standard_from_grid @ _shifted_border(volume.array.shape, border, shifts), array.shape)
            for border, direction in border_directions(matrix).items()
        }
    return Volume(np.ascontiguousarray(array), matrix @ grid_from_standard, borders)


def _nearest_axes(matrix: np.ndarray) -> tuple[list[int], list[int]]:
    """For each world axis x, y, z: the voxel axis nearest to it, and 1 or -1 for its direction."""
    from nibabel.orientations import io_orientation

    nearest = io_orientation(matrix)
    order = [int(np.flatnonzero(nearest[:, 0] == world)[0]) for world in range(3)]
    return order, [int(nearest[axis, 1]) for axis in order]


def _standard_from(order: list[int], signs: list[int], shape_xyz: Sequence[int]) -> np.ndarray:
    """Matrix from standard voxel indices to the indices before permutation and flips."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for world, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[axis, world] = sign
        matrix[axis, 3] = 0 if sign > 0 else shape_xyz[world] - 1
    return matrix


def _straight_grid(shape_xyz: Sequence[int], world_from_voxel: np.ndarray, subject: str):
    """The orthogonal grid round a sheared one: shape (x, y, z), matrix, and each slice's shift, (z, 2) voxels in x, y.

    The shifts are None for a grid that is orthogonal already.
    """
    matrix = world_from_voxel.astype(np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    unit = matrix[:3, :3] / spacing
    cosines = unit.T @ unit
    if max(abs(cosines[0, 2]), abs(cosines[1, 2]), abs(cosines[0, 1])) <= SHEAR_TOLERANCE:
        return tuple(shape_xyz), matrix, None
    normal = np.cross(unit[:, 0], unit[:, 1])
    tilt_deg = float(np.degrees(np.arccos(min(1.0, abs(float(normal @ unit[:, 2]))))))
    if abs(cosines[0, 1]) > SHEAR_TOLERANCE or tilt_deg > TILT_MAX_DEG:
        raise FluoroError(
            f"{subject}: voxel axes are sheared by {tilt_deg:.0f} degrees, at most a gantry's tilt of "
            f"{TILT_MAX_DEG:.0f} is straightened",
            "resample the scan to an orthogonal grid",
        )
    step = cosines[2, :2] * spacing[2] / spacing[:2]  # in-plane voxels from slice to slice
    shifts = np.arange(shape_xyz[2])[:, None] * step
    first = np.floor(shifts.min(axis=0))
    grown = np.ceil(shifts.max(axis=0)) - first
    straight = matrix.copy()
    straight[:3, 2] = normal * (normal @ matrix[:3, 2])
    straight[:3, 3] = matrix[:3, 3] + matrix[:3, :2] @ first
    return (shape_xyz[0] + int(grown[0]), shape_xyz[1] + int(grown[1]), shape_xyz[2]), straight, shifts - first


def _shift_slices(array: np.ndarray, shape_zyx: Sequence[int], shifts: np.ndarray, fill: int, nearest: bool):
    shifted = np.full(shape_zyx, fill, dtype=array.dtype)
    for out, plane, shift_xy in zip(shifted, array, shifts, strict=True):
        for axis, shift in ((1, shift_xy[0]), (0, shift_xy[1])):
            whole = round(shift) if nearest else int(np.floor(shift))
            size = out.shape[axis]
            padded = np.full((*plane.shape[:axis], size, *plane.shape[axis + 1 :]), fill, dtype=plane.dtype)
            kept = min(plane.shape[axis], size - whole)
            _along(padded, axis, whole, whole + kept)[:] = _along(plane, axis, 0, kept)
            if not nearest and shift > whole:
                before = np.full_like(padded, fill)
                _along(before, axis, 1, size)[:] = _along(padded, axis, 0, size - 1)
                plane = padded + (shift - whole) * (before.astype(np.float64) - padded)
            else:
                plane = padded
        out[:] = np.rint(plane)
    return shifted


def _shifted_border(shape_zyx: tuple[int, ...], border: tuple[int, int], shifts: np.ndarray) -> np.ndarray:
    """Homogeneous indices (x, y, z, 1), (4, n), on the straight grid of the voxels at a border of a sheared one."""
    axis, index = border
    planes = [np.arange(size) for size in shape_zyx]
    planes[axis] = planes[axis][[index]]
    z, y, x = (values.ravel() for values in np.meshgrid(*planes, indexing="ij"))
    shift_xy = np.rint(shifts[z])  # as labels are shifted
    return np.array([x + shift_xy[:, 0], y + shift_xy[:, 1], z, np.ones(len(z))])


def _flat(voxels: np.ndarray, shape_zyx: tuple[int, ...]) -> np.ndarray:
    """Flat indices, (n,), of homogeneous ones (x, y, z, 1)."""
    x, y, z = np.rint(voxels[:3]).astype(np.int64)
    return (z * shape_zyx[1] + y) * shape_zyx[2] + x


def _along(array: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    return array[start:stop] if axis == 0 else array[:, start:stop]


def corner_distance_mm(a_from_voxel: np.ndarray, b_from_voxel: np.ndarray, shape_zyx: tuple[int, ...]) -> float:
    """The largest distance between the same corner voxel of two grids of one shape, in mm."""
    corners = np.array(list(product(*((0, size - 1) for size in reversed(shape_zyx)), (1,))), dtype=np.float64)
    return float(np.linalg.norm(corners @ (a_from_voxel - b_from_voxel).T, axis=1).max())


def label_counts(array: np.ndarray) -> np.ndarray:
    """Voxels per label id, (65536,) int64, of a uint8 or uint16 volume; slice by slice, to save memory."""
    counts = np.zeros(65536, dtype=np.int64)
    for plane in array:
        found = np.bincount(plane.ravel())
        counts[: len(found)] += found
    return counts


def border_directions(world_from_voxel: np.ndarray) -> dict[tuple[int, int], Direction]:
    """The patient direction of each border of the grid.

    Keys are (array axis of (z, y, x), index 0 or -1). Oblique grids: each voxel axis gets the world axis it is closest
    to, no world axis twice.
    """
    from nibabel.orientations import io_orientation

    borders: dict[tuple[int, int], Direction] = {}
    for voxel_axis, (world_axis, sign) in enumerate(io_orientation(world_from_voxel)):
        negative, positive = LPS_DIRECTIONS[int(world_axis)]
        first, last = (negative, positive) if sign > 0 else (positive, negative)
        borders[(2 - voxel_axis, 0)] = first
        borders[(2 - voxel_axis, -1)] = last
    return borders

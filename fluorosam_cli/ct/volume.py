"""CT and label volumes: NIfTI in and out, HU as int16, geometry in LPS millimetres.

NIfTI stores RAS; the sign of x and y is flipped here and nowhere else. Arrays are `(z, y, x)`; `world_from_voxel` maps
homogeneous voxel indices `(x, y, z, 1)` to LPS mm, voxel centres at integers.
"""

import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HU_MIN, HU_MAX = -1024, 3071  # 12-bit CT
SPACING_MIN_MM, SPACING_MAX_MM = 0.01, 100.0  # outside: a header in metres or micrometres, or a broken one
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

    @property
    def spacing_xyz_mm(self) -> np.ndarray:
        return np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)

    @property
    def voxel_volume_ml(self) -> float:
        return float(abs(np.linalg.det(self.world_from_voxel[:3, :3]))) / 1000


def open_nifti(path: Path) -> "Nifti1Image":
    """Open a 3D NIfTI file and check its header; the voxels are read only when asked for.

    Raises FluoroError for anything that is not a readable 3D NIfTI with a usable affine.
    """
    import nibabel
    from nibabel import imageglobals
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError

    if not path.is_file():
        raise FluoroError(f"{path}: no such file", "check the path")
    if not path.name.endswith(NIFTI_SUFFIXES):
        raise FluoroError(f"{path}: not a NIfTI file by its name, .nii or .nii.gz is needed", _how_to_convert(path))
    imageglobals.logger.disabled = True  # what it would print about a header, it also raises or mends
    try:
        image = cast("Nifti1Image", nibabel.load(path))
        affine = np.asarray(image.affine, dtype=np.float64)
    except (ImageFileError, HeaderDataError, HeaderTypeError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error) from error
    shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
    if len(shape) != 3 or min(shape) < 2:
        raise FluoroError(f"{path}: shape is {image.shape}, a 3D volume is needed", "give one 3D CT per file")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise FluoroError(f"{path}: its affine is not finite or not invertible", "mend the header's sform or qform")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SPACING_MIN_MM or spacing.max() > SPACING_MAX_MM:
        found = " x ".join(f"{value:g}" for value in spacing)
        raise FluoroError(
            f"{path}: voxel spacing is {found} mm, between {SPACING_MIN_MM:g} and {SPACING_MAX_MM:g} mm is expected",
            "write the header in millimetres",
        )
    return image


def read_nifti(path: Path) -> Volume:
    """Read a 3D NIfTI file as stored, without resampling or reorienting; values keep their type.

    Raises FluoroError for anything that is not a readable 3D NIfTI with a usable affine.
    """
    image = open_nifti(path)
    try:
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, TypeError, OverflowError, MemoryError, zlib.error) as error:
        raise _unreadable(path, error) from error
    if array.ndim == 4:
        array = array[..., 0]
    return Volume(np.ascontiguousarray(array.T), world_from_voxel_of(image))


def world_from_voxel_of(image: "Nifti1Image") -> np.ndarray:
    """The image's affine in LPS, (4, 4) float64."""
    return LPS_FROM_RAS @ np.asarray(image.affine, dtype=np.float64)


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


def to_hu(volume: Volume, subject: str) -> Volume:
    """The volume as int16 HU clipped to 12-bit CT range. Raises FluoroError when the values cannot be HU.

    Fat, lung and air lie below 0 HU, so a volume without a negative value is an MRI, a label map or unscaled.
    """
    array = volume.array
    if array.dtype.kind not in "iuf":
        kind = "colour" if array.dtype.kind == "V" else array.dtype.name
        raise FluoroError(f"{subject}: voxel type is {kind}, numbers are needed", "give a CT in HU")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        array = np.nan_to_num(array, nan=HU_MIN, posinf=HU_MAX, neginf=HU_MIN)
    low, high = array.min(), array.max()
    if low >= 0:
        raise FluoroError(
            f"{subject}: values run from {low:g} to {high:g}, a CT in HU has some below 0",
            "give a CT in HU; a label volume goes after --labels",
        )
    return Volume(np.clip(np.rint(array), HU_MIN, HU_MAX).astype(np.int16), volume.world_from_voxel)


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


def _unreadable(path: Path, error: BaseException) -> FluoroError:
    detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    return FluoroError(f"{path}: not a readable NIfTI file ({detail})", "check the file, or fetch it again")


def _how_to_convert(path: Path) -> str:
    return f"convert it, for DICOM for example with: dcm2niix -z y {path.parent}"

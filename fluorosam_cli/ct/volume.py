"""CT volumes: NIfTI in and out, HU as int16, geometry in LPS millimetres.

NIfTI stores RAS; the sign of x and y is flipped here and nowhere else. Arrays are `(z, y, x)`; `world_from_voxel` maps
homogeneous voxel indices `(x, y, z, 1)` to LPS mm, voxel centres at integers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.errors import FluoroError

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HU_MIN, HU_MAX = -1024, 3071  # 12-bit CT


@dataclass(frozen=True)
class Volume:
    """A CT (`int16` HU) or label volume (`uint8`/`uint16`), shape (z, y, x)."""

    array: np.ndarray
    world_from_voxel: np.ndarray  # (4, 4) float64, LPS mm

    @property
    def spacing_xyz_mm(self) -> np.ndarray:
        return np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)


def read_nifti(path: Path) -> Volume:
    """Read a 3D NIfTI file as stored, without resampling or reorienting; values keep their type.

    Raises FluoroError for anything that is not a readable 3D NIfTI with a usable affine.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path)
        array = np.asanyarray(image.dataobj)  # pyright: ignore[reportAttributeAccessIssue]
        affine = np.asarray(image.affine, dtype=np.float64)  # pyright: ignore[reportAttributeAccessIssue]
    except (ImageFileError, OSError, EOFError, ValueError, TypeError, OverflowError, MemoryError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FluoroError(f"{path}: not a readable NIfTI file ({detail})", "check or download the file again") from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or min(array.shape) < 2:
        raise FluoroError(f"{path}: shape is {array.shape}, a 3D volume is needed", "give one 3D CT per file")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise FluoroError(f"{path}: its affine is not invertible or not finite", "mend the header's sform or qform")
    return Volume(np.ascontiguousarray(array.T), LPS_FROM_RAS @ affine)


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI (`.nii.gz`), whole or not at all; equal volumes give equal bytes."""
    import gzip

    import nibabel

    image = nibabel.Nifti1Image(volume.array.T, LPS_FROM_RAS @ volume.world_from_voxel)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=3, mtime=0) as packed:
            packed.write(image.to_bytes())


def to_hu(volume: Volume, subject: str) -> Volume:
    """The volume as int16 HU clipped to 12-bit CT range. Raises FluoroError when values cannot be HU."""
    array = volume.array
    if array.dtype.kind not in "iuf":
        raise FluoroError(f"{subject}: voxel type is {array.dtype}, numbers are needed", "give a CT in HU")
    array = np.nan_to_num(array, nan=HU_MIN, posinf=HU_MAX, neginf=HU_MIN) if array.dtype.kind == "f" else array
    return Volume(np.clip(np.rint(array), HU_MIN, HU_MAX).astype(np.int16), volume.world_from_voxel)

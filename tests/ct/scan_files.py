"""A tiny phantom of noise, on a grid that is told apart in every direction, and files of it for tests."""

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from fluorosam_cli.ct.volume import LPS_FROM_RAS, Volume

MATRIX = np.array([[0.8, 0, 0, -7.5], [0, 0.7, 0, 12], [0, 0, 2.5, -100], [0, 0, 0, 1.0]])
SHAPE = (12, 14, 16)


def phantom(seed: int = 0, shape: tuple[int, ...] = SHAPE, matrix: np.ndarray = MATRIX) -> Volume:
    return Volume(np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16), matrix)


def write(path: Path, volume: Volume, packed: bool = True) -> Path:
    """With a reference writer: nibabel for NIfTI, SimpleITK for NRRD and MetaImage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = volume.world_from_voxel
    if ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(volume.array.T, LPS_FROM_RAS @ matrix), path)
        return path
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing_xyz_mm.tolist())
    image.SetDirection((matrix[:3, :3] / volume.spacing_xyz_mm).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def zipped(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def assert_phantom(volume: Volume) -> None:
    np.testing.assert_array_equal(volume.array, phantom().array)
    np.testing.assert_allclose(volume.world_from_voxel, MATRIX, atol=1e-4)

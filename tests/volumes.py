"""Volumes as nibabel reads them: what our own reader and writer are held to."""

from pathlib import Path

import nibabel
import numpy as np

from fluorosam_cli.ct.volume import LPS_FROM_RAS, Volume


def read_nifti(path: Path) -> Volume:
    """As stored, neither resampled nor turned; values keep their type."""
    image = nibabel.Nifti1Image.from_filename(path)
    return Volume(np.ascontiguousarray(np.asanyarray(image.dataobj).T), LPS_FROM_RAS @ np.asarray(image.affine))

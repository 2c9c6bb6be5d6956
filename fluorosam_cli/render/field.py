"""The beam without a patient: how strong it is in each pixel, relative to the central ray of an open field."""

from dataclasses import dataclass

import numpy as np

from fluorosam_cli.render import physics
from fluorosam_cli.render.exposure import Collimation, Exposure

COLLIMATOR_MM = 250.0  # from the focus to the leaves that shape the field; our choice
LEAF_TRANSMISSION = 1e-3  # our choice: dark, yet not nothing


@dataclass(frozen=True)
class Geometry:
    """The numbers of a view that its physics depends on.

    `centre_px` (x, y) is where the central ray meets the detector, by default the middle of the image.
    """

    pixel_spacing_mm: float
    source_to_detector_mm: float
    source_to_isocenter_mm: float
    centre_px: tuple[float, float] | None = None


def shading(
    exposure: Exposure, geometry: Geometry, shape: tuple[int, int], without: frozenset[str] = frozenset()
) -> np.ndarray | None:
    """Irradiance of the panel by an open field, (H, W) float32, 1 at the central ray; None where it is 1 everywhere.

    Inverse-square law and oblique incidence, together the cube of the cosine; and the anode's heel, the loss in the
    anode's own material on the way out: air kerma by SpekPy (tungsten, 12 degrees), in `physics.npz`.
    """
    x_mm, y_mm = (offsets * geometry.pixel_spacing_mm for offsets in _offsets_px(geometry, shape))
    result: np.ndarray | None = None
    if "falloff" not in without:
        squared = (x_mm**2 + (y_mm**2)[:, None]) / geometry.source_to_detector_mm**2
        result = ((1 + squared) ** -1.5).astype(np.float32)
    if exposure.anode_side is not None and "heel" not in without:
        across = exposure.anode_side in ("left", "right")
        away_mm = (x_mm if across else y_mm) * (1 if exposure.anode_side in ("left", "top") else -1)
        angle = np.degrees(np.arctan(away_mm / geometry.source_to_detector_mm))
        heel = physics.heel(exposure.kvp, angle).astype(np.float32)
        heel = np.broadcast_to(heel if across else heel[:, None], shape)
        result = heel if result is None else result * heel
    return result


def _offsets_px(geometry: Geometry, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = shape
    centre_x, centre_y = geometry.centre_px or ((width - 1) / 2, (height - 1) / 2)
    return np.arange(width) - centre_x, np.arange(height) - centre_y


def aperture(exposure: Exposure, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray | None:
    """What the collimator lets through, (H, W) float32: 1 inside, the leaves' transmission outside; None: no edges.

    In between, a straight ramp across the penumbra.
    """
    if exposure.collimation is None:
        return None
    width_px = _penumbra_px(exposure, geometry)
    opened = np.clip(_inside_px(exposure.collimation, shape) / np.float32(width_px) + np.float32(0.5), 0, 1)
    return opened + np.float32(LEAF_TRANSMISSION) * (1 - opened)


def exposed(exposure: Exposure, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
    """The pixels that the whole focal spot shines on, within the penumbra of the collimator's edges, (H, W) bool."""
    if exposure.collimation is None:
        return np.ones(shape, dtype=bool)
    return _inside_px(exposure.collimation, shape) >= _penumbra_px(exposure, geometry) / 2


def _penumbra_px(exposure: Exposure, geometry: Geometry) -> float:
    """The focal spot seen past a leaf: its width times (source to detector - source to leaf) / source to leaf."""
    penumbra_mm = exposure.focal_spot_mm * (geometry.source_to_detector_mm / COLLIMATOR_MM - 1)
    return max(penumbra_mm / geometry.pixel_spacing_mm, 1.0)


def _inside_px(collimation: Collimation, shape: tuple[int, int]) -> np.ndarray:
    """Distance of each pixel to the nearest edge of the field, (H, W) float32; negative outside."""
    left, top, right, bottom = collimation.box_xyxy
    x, y = np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)
    if collimation.shape == "rectangle":
        return np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, bottom - y)[:, None])
    radii = (right - left) / 2, (bottom - top) / 2
    u, v = (x - (left + right) / 2) / radii[0], (y - (top + bottom) / 2) / radii[1]
    return (1 - np.sqrt(u**2 + (v**2)[:, None])) * np.float32(min(radii))

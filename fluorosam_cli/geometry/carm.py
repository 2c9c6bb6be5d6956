"""Where source and detector stand, and the matrices that follow from it.

World: LPS mm (x to the patient's left, y to the back, z to the head). Camera: x right, y down, z from the source to the
detector, origin in the source. Pixels: `(x, y)`, x right, y down, centres at integers.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class CArm:
    """A source and a flat detector, aimed at an isocentre; angles as in DICOM XA.

    The angles say in which direction from the isocentre the detector stands (PS3.3 C.8.7.5, Positioner Primary and
    Secondary Angle): primary 0 in front of the patient's chest, +90 on the patient's left (LAO), 180 at the back;
    secondary +90 towards the head (CRA), -90 towards the feet (CAU). A PA view has primary 0, an AP view 180.

    `seen_from` is the side from which the picture is looked at. Seen from the source it is what a camera there takes;
    seen from the detector it is its mirror image. Frontal views are hung as if facing the patient, the patient's left
    on the right: AP from the source, PA from the detector. The mirror stands in `intrinsic` (its first focal length is
    negative), so that `camera_from_world` is a rigid motion, determinant +1, in both.

    The image's top points to the patient's head, turned about the central ray by `image_rotation_deg`: clockwise as
    seen from the source, so that 90 puts at the top what lay on the right there.

    Only what lies between the depths `nearest_mm` and `farthest_mm`, along the central ray from the source, is in the
    beam: a detector under a hand stands between it and the hip.
    """

    source_to_detector_mm: float
    source_to_isocenter_mm: float
    positioner_primary_angle_deg: float
    positioner_secondary_angle_deg: float
    detector_width_px: int
    detector_height_px: int
    pixel_spacing_mm: float
    isocenter_lps_mm: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))
    seen_from: Literal["source", "detector"] = "source"
    image_rotation_deg: float = 0.0
    nearest_mm: float = 0.0
    farthest_mm: float = np.inf

    @property
    def beam_lps(self) -> np.ndarray:
        """Unit vector from the source to the detector's centre, (3,)."""
        return camera_axes(self.positioner_primary_angle_deg, self.positioner_secondary_angle_deg)[2]

    @property
    def source_lps_mm(self) -> np.ndarray:
        """Position of the source, (3,)."""
        return np.asarray(self.isocenter_lps_mm) - self.source_to_isocenter_mm * self.beam_lps

    @cached_property
    def camera_from_world(self) -> np.ndarray:
        """Rigid motion (4, 4) from LPS mm to the camera's frame."""
        rotation = camera_axes(
            self.positioner_primary_angle_deg, self.positioner_secondary_angle_deg, self.image_rotation_deg
        )
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ self.source_lps_mm
        return matrix

    @cached_property
    def intrinsic(self) -> np.ndarray:
        """Pixels from camera coordinates, (3, 3); the central ray meets the middle of the detector."""
        focal_px = self.source_to_detector_mm / self.pixel_spacing_mm
        return np.array(
            [
                [-focal_px if self.seen_from == "detector" else focal_px, 0, (self.detector_width_px - 1) / 2],
                [0, focal_px, (self.detector_height_px - 1) / 2],
                [0, 0, 1],
            ]
        )


def camera_axes(primary_deg: float, secondary_deg: float, rotation_deg: float = 0.0) -> np.ndarray:
    """The camera's axes right, down, beam as rows (3, 3) of the world's coordinates: a rotation, at every angle."""
    primary, secondary, rotation = np.radians([primary_deg, secondary_deg, rotation_deg])
    beam = np.array([np.sin(primary) * np.cos(secondary), -np.cos(primary) * np.cos(secondary), np.sin(secondary)])
    # The derivative of the beam by the secondary angle: perpendicular to it at every angle, and never zero.
    up = np.array([-np.sin(primary) * np.sin(secondary), np.cos(primary) * np.sin(secondary), np.cos(secondary)])
    up = np.cos(rotation) * up + np.sin(rotation) * np.cross(-up, beam)
    return np.stack([np.cross(-up, beam), -up, beam])


def positioner_angles(axes: np.ndarray) -> tuple[float, float, float]:
    """Primary and secondary angle and image rotation in degrees of a camera with these axes: undoes `camera_axes`."""
    _, down, beam = axes
    primary = float(np.degrees(np.arctan2(beam[0], -beam[1])))
    secondary = float(np.degrees(np.arcsin(np.clip(beam[2], -1, 1))))
    right_of, down_of, _ = camera_axes(primary, secondary)
    return primary, secondary, float(np.degrees(np.arctan2(-down @ right_of, down @ down_of)))


def project_points(intrinsic: np.ndarray, camera_from_world: np.ndarray, points_lps_mm: np.ndarray) -> np.ndarray:
    """Pixel coordinates (N, 2) of points (N, 3) in LPS mm."""
    in_camera = points_lps_mm @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    homogeneous = in_camera @ intrinsic.T
    return homogeneous[:, :2] / homogeneous[:, 2:]

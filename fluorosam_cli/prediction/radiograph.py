"""One radiograph in memory: its grey values, which way round they are, and what a pixel measures."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fluorosam_cli.errors import FluoroError

SIDE_MIN_PX, SIDE_MAX_PX = 16, 10_000  # a mask below is meaningless, an image above is no radiograph

FRONTAL = "LFRHL"  # neighbours: where the right and the bottom of a frontal film point that is turned, if at all

Plane = Literal["detector", "patient", "unknown"]


@dataclass(frozen=True)
class PixelSpacing:
    """Distance of neighbouring pixels' centres, and where it holds.

    What lies between source and detector is magnified: a length on the detector is that in the patient times the
    magnification. `patient` is spacing that the device or a person has corrected or calibrated for that.
    """

    row_mm: float  # from one row to the next
    column_mm: float
    plane: Plane

    @property
    def area_mm2(self) -> float:
        """Of one pixel."""
        return self.row_mm * self.column_mm


@dataclass(frozen=True)
class Radiograph:
    """One image, or one frame of several."""

    pixels: np.ndarray  # (H, W) any number type, bright where a viewer shows it bright
    bone_bright: bool
    polarity_from: Literal["header", "detected", "option"] = "detected"
    spacing: PixelSpacing | None = None
    frame: int = 1  # from 1, as DICOM counts
    frames: int = 1  # in the file
    remarks: tuple[str, ...] = ()  # as of `Plain`

    @property
    def for_network(self) -> np.ndarray:
        """The pixels with bone bright, as the network was trained: what `Predictor.set_image` takes best."""
        return self.pixels if self.bone_bright else inverted(self.pixels)


class Found(NamedTuple):
    """What a file's header says before its pixels are read."""

    frames: int
    cine: bool  # frames of one film, which are all wanted unless some are asked for


class Plain(NamedTuple):
    """One frame as a reader gives it; what it does not know is None."""

    pixels: np.ndarray
    bone_bright: bool | None = None
    spacing: PixelSpacing | None = None
    remarks: tuple[str, ...] = ()  # what the user should know of the file, without its name


def inverted(pixels: np.ndarray) -> np.ndarray:
    """Black and white exchanged; the least and the greatest value stay what they are."""
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind in "ui":  # their sum may not fit the type
        return (high - pixels) + low
    return low + high - pixels


def unusual_hanging(to_right: str, to_bottom: str) -> str | None:
    """What to do about an image that does not hang as usual: head on top, the patient's left on a frontal one's right.

    Given are the ways, as DICOM's letters (L, R, A, P, H, F), in which its rows and its columns run.
    """
    mirrored = {to_right, to_bottom} <= set(FRONTAL) and to_right + to_bottom not in FRONTAL
    turn = "turn it by half" if to_bottom == "H" else "turn it by a quarter" if to_right in ("H", "F") else ""
    if turn:
        return f"the patient's head is not on top: {turn}{' and mirror it' if mirrored else ''} first"
    return "its right is the patient's right, so sides come out exchanged: mirror the image first" if mirrored else None


def check_size(subject: str, width: int, height: int) -> None:
    """Raise FluoroError for a size that no radiograph has."""
    if min(width, height) < SIDE_MIN_PX or max(width, height) > SIDE_MAX_PX:
        raise FluoroError(
            f"{subject}: is {width}x{height}, sides from {SIDE_MIN_PX} to {SIDE_MAX_PX} px are expected",
            "give the radiograph itself, or scale it",
        )

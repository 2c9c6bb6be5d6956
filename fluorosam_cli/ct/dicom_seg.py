"""DICOM segmentation objects: their segments as masks in patient space, named by label or SNOMED CT code.

Frames are decoded one at a time. Binary, fractional (from one half on) and label-map segmentations are read (DICOM
PS3.3 C.8.20).
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.ct.label_names import LabelsMap, ids_of, label_id_of, structure_name
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage
}
LATERALITY = {"7771000": "left", "24028007": "right"}  # SNOMED CT
PREAMBLE = 128
EVEN_SPACING = 0.01  # of the slice distance


class Segment(NamedTuple):
    label_id: int  # ours
    mask: Volume  # bool, on the object's own slices


def is_dicom_seg(path: Path) -> bool:
    """Whether a file is a DICOM segmentation object; reads its header only."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    with open(path, "rb") as file:
        if file.read(PREAMBLE + 4)[PREAMBLE:] != b"DICM":
            return False
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).SOPClassUID in (
            SEGMENTATION_CLASSES
        )
    except (InvalidDicomError, AttributeError, OSError, EOFError, ValueError):
        return False


def series_of(path: Path) -> str:
    """The UID of the series that a segmentation object says it belongs to, empty when it does not say."""
    import pydicom

    for series in pydicom.dcmread(path, stop_before_pixels=True).get("ReferencedSeriesSequence", []):
        return str(series.get("SeriesInstanceUID", ""))
    return ""


def read_dicom_seg(path: Path, labels_map: LabelsMap) -> Iterator[Segment]:
    """The segments of `path` that have voxels, one by one.

    Raises FluoroError when it cannot be read, its slices are not parallel and evenly spaced, or a segment is not known
    by its label nor by its code.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        data = pydicom.dcmread(path)
        ours = _segment_ids(data, path, labels_map)
        frames = _frames(data)
        yield from _masks(data, frames, ours, path)
    except (InvalidDicomError, AttributeError, KeyError, IndexError, ValueError, TypeError, OSError, EOFError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise FluoroError(f"{path}: not a readable DICOM segmentation ({detail})", "export it again") from error


def _segment_ids(data: "Dataset", path: Path, labels_map: LabelsMap) -> dict[int, int]:
    """Segment number -> our label id, 0 for one that is left out."""
    ours: dict[int, int] = {}
    for segment in data.SegmentSequence:
        number, word = int(segment.SegmentNumber), str(segment.get("SegmentLabel", ""))
        if data.SegmentationType == "LABELMAP" and number == 0:
            continue
        coded = None
        if structure_name(word) not in labels_map.names and label_id_of(word) is None:
            coded = _by_code().get(_code(segment))
        ours[number] = coded or ids_of([word], str(path), labels_map)[word]
    return ours


def _code(segment: "Dataset") -> tuple[str, str | None]:
    """SNOMED CT code and side of a segment's property type."""
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = [
        *kind.get("SegmentedPropertyTypeModifierCodeSequence", []),
        *segment.get("SegmentedPropertyTypeModifierCodeSequence", []),
    ]
    for region in segment.get("AnatomicRegionSequence", []):
        modifiers += region.get("AnatomicRegionModifierSequence", [])
    sides = [LATERALITY[str(item.CodeValue)] for item in modifiers if str(item.get("CodeValue", "")) in LATERALITY]
    return str(kind.get("CodeValue", "")), sides[0] if sides else None


@cache
def _by_code() -> dict[tuple[str, str | None], int]:
    """(code, side) -> label id, for the codes that mean one structure only."""
    found: dict[tuple[str, str | None], list[int]] = {}
    for structure in structures():
        if structure.snomed_ct:
            found.setdefault((structure.snomed_ct, structure.side), []).append(structure.label_id)
    return {key: label_ids[0] for key, label_ids in found.items() if len(label_ids) == 1}


class _Frame(NamedTuple):
    segment: int | None  # None in a label map, which has all of them
    origin: np.ndarray  # (3,) LPS mm, the first pixel's centre


def _frames(data: "Dataset") -> list[_Frame]:
    found = []
    for groups in data.PerFrameFunctionalGroupsSequence:
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        identity = groups.get("SegmentIdentificationSequence")
        found.append(_Frame(int(identity[0].ReferencedSegmentNumber) if identity else None, position))
    return found


def _masks(data: "Dataset", frames: list[_Frame], ours: dict[int, int], path: Path) -> Iterator[Segment]:
    from pydicom.pixels.utils import pixel_array

    shared = data.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(row, column)
    measures = shared.PixelMeasuresSequence[0]
    rows_mm, columns_mm = map(float, measures.PixelSpacing)
    heights = np.array([frame.origin @ normal for frame in frames])
    levels = np.unique(np.round(heights, 3))
    step = float(np.diff(levels).min()) if len(levels) > 1 else float(measures.get("SpacingBetweenSlices", 1.0))
    steps = (levels - levels[0]) / step
    if np.abs(steps - np.round(steps)).max() > EVEN_SPACING * max(1, len(levels)):
        raise FluoroError(f"{path}: its slices are not evenly spaced", "resample it to the scan")
    threshold = float(data.get("MaximumFractionalValue", 1)) / 2 if data.SegmentationType == "FRACTIONAL" else 0.5
    of_segment: dict[int, list[int]] = {}
    for index, frame in enumerate(frames):
        for number in [frame.segment] if frame.segment is not None else ours:
            of_segment.setdefault(number, []).append(index)
    for number, indices in of_segment.items():
        if not ours.get(number):
            continue
        slices = np.round((heights[indices] - levels[0]) / step).astype(int)
        first = int(slices.min())
        mask = np.zeros((int(slices.max()) - first + 2, data.Rows, data.Columns), dtype=bool)  # 2 slices at least
        for index, z in zip(indices, slices, strict=True):
            plane: Any = pixel_array(data, index=index)
            mask[z - first] |= plane == number if frames[index].segment is None else plane > threshold
        if mask.any():
            lowest = frames[indices[int(np.argmin(slices))]].origin
            matrix = np.eye(4)
            matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * columns_mm, column * rows_mm, normal * step
            matrix[:3, 3] = lowest
            yield Segment(ours[number], Volume(mask, matrix))

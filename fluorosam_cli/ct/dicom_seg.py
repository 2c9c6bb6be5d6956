"""DICOM segmentation objects: their segments as masks in patient space, named by label or SNOMED CT code.

Frames are decoded one at a time. Binary, fractional (from one half on) and label-map segmentations are read (DICOM
PS3.3 C.8.20). Of the header's text, only a segment's label gets into a message.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.ct.dicom import MAX_FRAMES, Refused, read_data_set, silenced
from fluorosam_cli.ct.label_names import LabelsMap, ids_of, label_id_of, structure_name
from fluorosam_cli.ct.series import ROUNDING_MM, UNIFORM_TOLERANCE
from fluorosam_cli.ct.volume import Volume, check_grid
from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage
}
MOST_EMPTY = 50  # slices between two frames
LATERALITY = {"7771000": "left", "24028007": "right"}  # SNOMED CT


class Segment(NamedTuple):
    label_id: int  # ours
    mask: Volume  # bool, on the object's own slices


def is_dicom_seg(path: Path) -> bool:
    """Whether a file is a DICOM segmentation object; reads its header only."""
    return str(_header(path, "SOPClassUID")) in SEGMENTATION_CLASSES


def series_of(path: Path) -> str:
    """The UID of the series that a segmentation object says it belongs to, empty when it does not say."""
    for series in _header(path, "ReferencedSeriesSequence") or []:
        return str(series.get("SeriesInstanceUID", ""))
    return ""


def read_dicom_seg(path: Path, labels_map: LabelsMap) -> Iterator[Segment]:
    """The segments of `path` that have voxels, one by one.

    Raises FluoroError when it cannot be read, its slices are not parallel and evenly spaced, or a segment is not known
    by its label nor by its code.
    """
    try:
        with silenced(), open(path, "rb") as file:
            data = read_data_set(file, path.stat().st_size)
            ours = _segment_ids(data, path, labels_map)
            yield from _masks(data, _frames(data), ours, path)
    except FluoroError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged file makes it trip over
        detail = str(error) if isinstance(error, Refused) else type(error).__name__
        raise FluoroError(f"{path}: not a readable DICOM segmentation ({detail})", "export it again") from None


def _header(path: Path, keyword: str) -> Any:
    """One element of a DICOM file; None when it has none, is damaged, or is no DICOM file."""
    try:
        with silenced(), open(path, "rb") as file:
            return read_data_set(file, path.stat().st_size, keywords=(keyword,)).get(keyword)
    except Exception:  # as above
        return None


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
    if len(data.PerFrameFunctionalGroupsSequence) > MAX_FRAMES * max(1, len(data.SegmentSequence)):
        raise Refused("too many frames")
    for groups in data.PerFrameFunctionalGroupsSequence:
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        identity = groups.get("SegmentIdentificationSequence")
        found.append(_Frame(int(identity[0].ReferencedSegmentNumber) if identity else None, position))
    return found


def _masks(data: "Dataset", frames: list[_Frame], ours: dict[int, int], path: Path) -> Iterator[Segment]:
    matrix, levels = _stack(data, frames, path)
    threshold = float(data.get("MaximumFractionalValue", 1)) / 2 if data.SegmentationType == "FRACTIONAL" else 0.5
    of_segment: dict[int, list[int]] = {}
    for index, frame in enumerate(frames):
        for number in [frame.segment] if frame.segment is not None else ours:
            of_segment.setdefault(number, []).append(index)
    for number, indices in of_segment.items():
        if not ours.get(number):
            continue
        first = min(levels[index] for index in indices)
        count = max(levels[index] for index in indices) - first + 1
        mask = np.zeros((max(2, count), data.Rows, data.Columns), dtype=bool)  # no volume has a single slice
        for index in indices:
            plane = _plane(data, index)
            mask[levels[index] - first] |= plane == number if frames[index].segment is None else plane > threshold
        if mask.any():
            placed = matrix.copy()
            placed[:3, 3] += first * matrix[:3, 2]
            yield Segment(ours[number], Volume(mask, placed))


def _plane(data: "Dataset", index: int) -> np.ndarray:
    """The stored values of one frame, (rows, columns)."""
    from pydicom.pixels.utils import pixel_array

    if data.BitsAllocated != 1 or data.file_meta.TransferSyntaxUID.is_encapsulated:
        return pixel_array(data, index=index)
    pixels = data.Rows * data.Columns  # eight to a byte, in which one frame may end and the next begin
    first, start = divmod(index * pixels, 8)
    packed = np.frombuffer(data.PixelData, np.uint8, count=-(-(start + pixels) // 8), offset=first)
    return np.unpackbits(packed, bitorder="little")[start : start + pixels].reshape(data.Rows, data.Columns)


def _spacing_mm(gaps_mm: np.ndarray, measures: "Dataset") -> float:
    """The slices' distance, of which each gap between frames is a multiple, as no frame lies on an empty slice."""
    smallest = float(gaps_mm.min())
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        stated = float(measures.get(name) or 0)
        if (
            smallest / MOST_EMPTY < stated < smallest
            and np.abs(gaps_mm / stated % 1 - 0.5).min() > 0.5 - UNIFORM_TOLERANCE
        ):
            return stated
    return smallest


def _stack(data: "Dataset", frames: list[_Frame], path: Path) -> tuple[np.ndarray, list[int]]:
    """world_from_voxel of all slices, sheared like them, and the slice that each frame lies on."""
    shared = data.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float), (2, 3))
    measures = shared.PixelMeasuresSequence[0]
    rows_mm, columns_mm = map(float, measures.PixelSpacing)
    normal = np.cross(row, column)
    origins = np.array([frame.origin for frame in frames])
    heights = np.round(origins @ normal, 2)
    lowest, highest = origins[heights.argmin()], origins[heights.argmax()]
    gaps = np.diff(np.unique(heights))
    if len(gaps):
        slices = int(np.round(gaps / _spacing_mm(gaps, measures)).sum())
        step = (highest - lowest) / slices
        levels = np.round((heights - heights.min()) / (step @ normal)).astype(int)
    else:
        step = normal * float(measures.get("SpacingBetweenSlices", 1.0))
        levels = np.zeros(len(frames), dtype=int)
    off_mm = np.linalg.norm(origins - lowest - levels[:, None] * step, axis=1).max()
    if off_mm > max(UNIFORM_TOLERANCE * float(np.linalg.norm(step)), ROUNDING_MM):
        raise FluoroError(f"{path}: its slices are not evenly spaced", "resample it to the scan")
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = row * columns_mm, column * rows_mm, step, lowest
    check_grid(str(path), (int(data.Columns), int(data.Rows), max(2, int(levels.max()) + 1)), matrix)
    return matrix, levels.tolist()

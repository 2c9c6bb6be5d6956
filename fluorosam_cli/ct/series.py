"""From DICOM slices to CT volumes: which belong together, in what order, on which grid, and their HU.

Nothing that comes out of here names a patient: a volume is called after its pixels.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fluorosam_cli.ct.decoder import is_readable, pixel_digest, stored_planes
from fluorosam_cli.ct.dicom import Refused, SeriesId, Slice, silenced
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import HU_MIN, Volume, check_grid, check_hu, plane_to_hu
from fluorosam_cli.errors import FluoroError

UNIFORM_TOLERANCE = 0.1  # of the slice spacing, from the evenly spaced grid that fits best
ROUNDING_MM = 0.06  # positions are often written to 0.1 mm
AXIAL_DEG = 45.0  # of the slices' normal from the long axis


@dataclass(frozen=True)
class Series:
    """Slices of one volume, from its first to its last along the stack."""

    id: SeriesId
    slices: tuple[Slice, ...]


def without_damaged_copies(slices: Iterable[Slice]) -> tuple[list[Slice], list[Slice]]:
    """The slices but for those that cannot be read while a copy of them can, and these.

    Only files that differ in length from a copy are decoded to find out, and of these one frame, the last.
    """
    copies: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for one in slices:
        copies[(one.series.uid, one.uid)].append(one)
    unequal = [one for same in copies.values() if len({one.source.size for one in same}) > 1 for one in same]
    last_of = {one.source: one for one in sorted(unequal, key=lambda one: one.frame)}
    damaged = {source for source, one in last_of.items() if not is_readable(one)}
    kept: list[Slice] = []
    dropped: list[Slice] = []
    for same in copies.values():
        whole = [one for one in same if one.source not in damaged]
        kept += whole or same
        dropped += [one for one in same if whole and one.source in damaged]
    return kept, dropped


def assemble(slices: Iterable[Slice]) -> list[Series]:
    """Sort slices into volumes, by series, size, orientation and pixel spacing, then by phase where positions repeat.

    Slices that are there twice count once. Each result has its slices in order along the stack.
    """
    groups: dict[tuple, list[Slice]] = defaultdict(list)
    for one in slices:
        geometry = (one.columns, one.rows, *np.round(one.orientation, 3), *np.round(one.spacing, 4))
        groups[(one.series.uid, *geometry)].append(one)
    return [series for _, group in sorted(groups.items(), key=lambda item: item[0]) for series in _volumes(group)]


def _volumes(group: list[Slice]) -> Iterator[Series]:
    unique = list({one.uid: one for one in sorted(group, key=_stack_order, reverse=True)}.values())
    unique.sort(key=_stack_order)
    if _repeats(unique):
        unique = _without_copies(unique)
    parts = [unique]
    for index in range(len(unique[0].phases)):
        if not _repeats(unique):
            break
        split: dict[str, list[Slice]] = defaultdict(list)
        for one in unique:
            split[one.phases[index]].append(one)
        if not any(map(_repeats, split.values())):
            parts = [split[phase] for phase in sorted(split)]
            break
    yield from (Series(part[0].series, tuple(part)) for part in parts)


def is_axial(series: Series) -> bool:
    return abs(_normal(series.slices[0])[2]) >= np.cos(np.radians(AXIAL_DEG))


def grid_of(series: Series, subject: str) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (z, y, x) and world_from_voxel of the slices as stored. Raises FluoroError when they are not evenly spaced.

    DICOM PS3.3 C.7.6.2.1.1: a column's step is along the first three values of the orientation, times the second
    value of the pixel spacing.
    """
    if _repeats(series.slices):
        raise FluoroError(
            f"{subject}: several slices at one position, and nothing in the headers tells them apart",
            "give the folder of one phase or reconstruction",
        )
    first = series.slices[0]
    positions = np.array([one.position for one in series.slices])
    index = np.arange(len(positions))
    step, origin = np.polynomial.polynomial.polyfit(index, positions, 1)[::-1]
    spacing = float(np.linalg.norm(step))
    off = np.linalg.norm(positions - origin - index[:, None] * step, axis=1)
    if not spacing > 0 or off.max() > max(UNIFORM_TOLERANCE * spacing, ROUNDING_MM):
        gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        worst = int(gaps.argmax())
        raise FluoroError(
            f"{subject}: slices are not evenly spaced, {np.median(gaps):.2f} mm but for "
            f"{gaps[worst]:.2f} mm between slices {worst + 1} and {worst + 2}",
            "slices may be missing: export the series again",
        )
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(first.orientation[:3]) * first.spacing[1]
    matrix[:3, 1] = np.array(first.orientation[3:]) * first.spacing[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = origin
    shape_zyx = (len(positions), first.rows, first.columns)
    check_grid(subject, shape_zyx[::-1], matrix)
    return shape_zyx, matrix


def name_of(series: Series) -> str:
    """`ct-` and 12 hexadecimal digits from the pixels of the middle slice and the geometry.

    Not from UIDs, whose few unknown digits could be guessed and found again; pixels are noise that cannot.
    """
    middle = series.slices[len(series.slices) // 2]
    geometry = (len(series.slices), middle.columns, middle.rows, middle.spacing, middle.position)
    return f"ct-{hashlib.sha256(repr(geometry).encode() + pixel_digest(middle)).hexdigest()[:12]}"


def read_series(series: Series, subject: str) -> Volume:
    """The series as int16 HU on its stored grid, padding as air; memory: the int16 volume and one file's bytes."""
    shape_zyx, world_from_voxel = grid_of(series, subject)
    hu = np.full(shape_zyx, HU_MIN, dtype=np.int16)
    in_files: dict[Source, list[int]] = defaultdict(list)
    for z, one in enumerate(series.slices):
        in_files[one.source].append(z)
    for number, planes in enumerate(in_files.values(), 1):
        planes.sort(key=lambda z: series.slices[z].frame)
        slices = [series.slices[z] for z in planes]
        try:
            with silenced():
                for z, one, stored in zip(planes, slices, stored_planes(slices), strict=True):
                    hu[z] = plane_to_hu(stored, one.slope, one.intercept)
                    if one.padding:
                        hu[z][_is_padding(stored, one.padding)] = HU_MIN
        except Refused as refused:
            raise FluoroError(f"{subject}: file {number} of {len(in_files)}: {refused}", "export it again") from None
        except Exception as error:  # pydicom and GDCM raise whatever a damaged file makes them trip over
            raise FluoroError(
                f"{subject}: the pixels of file {number} of {len(in_files)} are damaged ({type(error).__name__})",
                "export the series again",
            ) from None
    check_hu(hu, subject)
    return Volume(hu, world_from_voxel)


def _is_padding(stored: np.ndarray, padding: tuple[int, ...]) -> np.ndarray:
    """Which stored values of one plane are no image."""
    low, high = np.sort(np.array(padding).astype(stored.dtype))  # wraps: headers have it signed or not, as they like
    return (stored >= low) & (stored <= high)


def _normal(one: Slice) -> np.ndarray:
    return np.cross(one.orientation[:3], one.orientation[3:])


def _stack_order(one: Slice) -> tuple:
    return (_depth(one), one.source, one.frame)


def _depth(one: Slice) -> float:
    return round(float(_normal(one) @ one.position), 2)


def _repeats(part: Sequence[Slice]) -> bool:
    return len({_depth(one) for one in part}) < len(part)


def _without_copies(part: list[Slice]) -> list[Slice]:
    """Of slices at one position with equal pixels, the first."""
    at: dict[float, list[Slice]] = defaultdict(list)
    for one in part:
        at[_depth(one)].append(one)
    kept = []
    for same in at.values():
        kept += same if len(same) == 1 else {pixel_digest(one): one for one in reversed(same)}.values()
    return sorted(kept, key=_stack_order)

"""Importing label volumes: where a scan's labels lie, and bringing them onto the scan's grid.

Read are: volumes with many labels (one or, as MOOSE writes them, several per scan), a folder with one mask per
structure, as TotalSegmentator writes, an nnU-Net data set, and DICOM segmentation objects.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fluorosam_cli.ct.dicom_seg import is_dicom_seg, read_dicom_seg, series_of
from fluorosam_cli.ct.label_names import (
    LabelsMap,
    ids_of,
    label_id_of,
    our_table,
    segments_in_header,
    table_beside,
    table_in_header,
    to_our_ids,
)
from fluorosam_cli.ct.layout import NRRD_SUFFIXES, VOLUME_SUFFIXES, read_layout, stem_of, stored_planes
from fluorosam_cli.ct.scans import Scan, original_name
from fluorosam_cli.ct.sources import Source, digest_of
from fluorosam_cli.ct.volume import NIFTI_SUFFIXES, Volume, corner_distance_mm, standardise
from fluorosam_cli.errors import FluoroError

MASKS_FOLDER = "segmentations"  # inside a case folder of the TotalSegmentator data set, and of MOOSE
NNUNET_FOLDERS = ("labelsTr", "labelsTs")
LABEL_STEMS = ("labels", "seg", "segmentation")
SAME_PLACE_SPACINGS = 0.5  # grids further apart than half a voxel would move a label onto its neighbour
INSIDE = 0.9  # share of a resampled label volume that has to lie inside the scan

Form = Literal["label volume", "structure masks", "DICOM SEG"]


class LabelSource(NamedTuple):
    """Where the labels of one scan come from."""

    files: tuple[Path, ...]
    form: Form

    def sha256(self) -> str:
        """Of the files, and of the tables beside them that name their labels."""
        volumes = self.files if self.form == "label volume" else ()
        tables = dict.fromkeys(table[0] for file in volumes if (table := table_beside(file, _stem(file.name))))
        return digest_of(Source(file) for file in (*self.files, *tables))


def find_labels(path: Path, scan: Scan, single: bool = False) -> LabelSource:
    """The labels at `path` of a scan.

    A file is taken as it is. In a folder, which may be the scans' own, they are, first found, with CASE for the scan's
    own name, the case's or that of the folder that the scan lies in: `CASE` with any suffix that is read, there or in
    nnU-Net's `labelsTr`; `CASE/labels` or `CASE/seg`; the masks `CASE/segmentations/*` or `CASE/*`; MOOSE's
    `*_segmentation_*CASE`; a DICOM segmentation `CASE.dcm`, in `CASE/`, or anywhere that says it belongs to the series.
    For a single scan these also without `CASE`. Raises FluoroError when there are none.
    """
    if path.is_file():
        return LabelSource((path,), "DICOM SEG" if is_dicom_seg(path) else "label volume")
    scanned = {file.resolve() for file in scan.files}
    for word in _names_of(scan):
        for source in _candidates(path, word, scanned, single):
            return source
    if scan.series is not None:
        files = _segs_by_series(path).get(scan.series.id.uid)
        if files:
            return LabelSource(tuple(files), "DICOM SEG")
    raise FluoroError(
        f"{path}: no labels for {scan.name}",
        f"they may be {path / scan.name}.nii.gz, or masks in {path / scan.name}/",
    )


def read_labels(source: LabelSource, ct: Volume, labels_map: LabelsMap | None = None) -> tuple[Volume, list[str]]:
    """The labels as a volume of our ids on the scan's grid, and remarks on how they came there.

    Where parts of different files overlap, the smaller structure wins. Labels on another grid are resampled to the
    nearest voxel. Raises FluoroError for values that are not whole numbers, ids without a name, names that are not in
    the structure table, and labels that lie outside of the scan.
    """
    labels_map = labels_map or LabelsMap()
    notes: list[str] = []
    if source.form == "label volume" and len(source.files) == 1:
        return _volume_on_grid(source.files[0], ct, labels_map, notes), notes
    parts: list[tuple[int, int, np.ndarray]] = []
    for label_id, mask in _parts(source, ct, labels_map, notes):
        inside = np.flatnonzero(mask).astype(np.int64 if mask.size > 2**31 else np.int32)
        parts.append((-len(inside), label_id, inside))
    highest = max((label_id for _, label_id, _ in parts), default=0)
    labels = np.zeros(ct.array.shape, dtype=np.uint8 if highest < 256 else np.uint16)
    for _, label_id, inside in sorted(parts, key=lambda part: part[:2]):
        labels.ravel()[inside] = label_id
    return Volume(labels, ct.world_from_voxel), list(dict.fromkeys(notes))


# --- finding ----------------------------------------------------------------------------------------------------------


def _names_of(scan: Scan) -> list[str]:
    """What a scan's labels may be called after: its file as it is named, its case, its folder."""
    names = [scan.name] if scan.series is not None else [original_name(scan.sources[0]), scan.name]
    names += [name.removesuffix("_0000") for name in names]  # nnU-Net's channel 0
    names.append(scan.files[0].resolve().parent.name)
    return [name for name in dict.fromkeys(names) if name.strip(".")]


def _candidates(path: Path, case: str, scanned: set[Path], single: bool) -> Iterator[LabelSource]:
    folder = path / case
    volumes = [
        (path, case),
        *((path / name, case) for name in NNUNET_FOLDERS),
        *((folder, stem) for stem in LABEL_STEMS),
    ]
    if single:
        volumes += [(path, stem) for stem in LABEL_STEMS]
    for place, stem in volumes:
        for file in _volumes_in(place, scanned, re.escape(stem)):
            yield LabelSource((file,), "label volume")
    for place in (folder / MASKS_FOLDER, folder, *((path / MASKS_FOLDER, path) if single else ())):
        files = _volumes_in(place, scanned)
        if any(label_id_of(_stem(file.name)) for file in files):
            yield LabelSource(tuple(files), "structure masks")
        models = [file for file in files if "_segmentation_" in _stem(file.name)]
        if models:
            yield LabelSource(tuple(models), "label volume")
    for place in (path, path / MASKS_FOLDER):
        models = _volumes_in(place, scanned, ".+_segmentation_(.*_)?" + re.escape(case))
        if models:
            yield LabelSource(tuple(models), "label volume")
    for file in (path / f"{case}.dcm", path / f"{case}.seg.dcm"):
        if file.is_file() and is_dicom_seg(file):
            yield LabelSource((file,), "DICOM SEG")
    for place in (folder, *((path,) if single else ())):
        if place.is_dir():
            files = [file for file in sorted(place.iterdir()) if file.is_file() and is_dicom_seg(file)]
            if files:
                yield LabelSource(tuple(files), "DICOM SEG")


@lru_cache(maxsize=2)
def _segs_by_series(folder: Path) -> dict[str, list[Path]]:
    """The DICOM segmentations in and below a folder, by the series they say they belong to."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and is_dicom_seg(file):
            found.setdefault(series_of(file), []).append(file)
    return found


def _volumes_in(folder: Path, scanned: set[Path], stem: str = ".+") -> list[Path]:
    """The volume files whose stem matches, but for scans. Names are compared first: the folder may hold thousands."""
    if not folder.is_dir():
        return []
    matches = re.compile(stem).fullmatch
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(VOLUME_SUFFIXES))
    files = [folder / name for name in names if matches(_stem(name))]
    return [file for file in files if file.is_file() and file.resolve() not in scanned]


def _stem(name: str) -> str:
    return stem_of(name).removesuffix(".seg")  # as Slicer writes it


# --- reading ----------------------------------------------------------------------------------------------------------


def _parts(
    source: LabelSource, ct: Volume, labels_map: LabelsMap, notes: list[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """(our label id, mask on the scan's grid) of every structure."""
    if source.form == "structure masks":
        folder = str(source.files[0].parent)
        ours = ids_of([_stem(file.name) for file in source.files], folder, labels_map)
    for file in source.files:
        if source.form == "DICOM SEG":
            for segment in read_dicom_seg(file, labels_map):
                yield segment.label_id, _on_grid(segment.mask, ct, str(file), notes).array > 0
        elif source.form == "structure masks":
            if label_id := ours[_stem(file.name)]:  # pyright: ignore[reportPossiblyUnboundVariable]
                yield label_id, _on_grid(_read_mask(file), ct, str(file), notes).array > 0
        else:
            array = _volume_on_grid(file, ct, labels_map, notes).array
            for label_id in np.unique(array):
                if label_id:
                    yield int(label_id), array == label_id


def _read_volume(path: Path, labels_map: LabelsMap) -> Volume:
    """A label volume in our ids, on its own grid."""
    volume = _read_whole_numbers(path)
    file, names = path.name.lower(), None
    if file.endswith(NIFTI_SUFFIXES):
        names = table_in_header(path)
    elif file.endswith(NRRD_SUFFIXES):
        names = segments_in_header(path)
    beside = None if names else table_beside(path, _stem(path.name))
    names = names or (beside[1] if beside else our_table())
    return Volume(to_our_ids(volume.array, names, str(path), labels_map), volume.world_from_voxel)


def _read_mask(path: Path) -> Volume:
    """A file of 0 and one other value, usually 1 or 255."""
    volume = _read_whole_numbers(path)
    values = np.unique(volume.array)
    if len(values[values > 0]) > 1:
        raise FluoroError(
            f"{path}: holds {len(values[values > 0])} labels, a mask of 0 and 1 is needed", "check the file"
        )
    return Volume((volume.array > 0).astype(np.uint8), volume.world_from_voxel)


def _read_whole_numbers(path: Path) -> Volume:
    """The file's values, uint8 or uint16. Raises FluoroError when some are negative, fractional or too large."""
    layout = read_layout(Source(path), str(path))
    whole = np.empty(layout.shape_xyz[::-1], dtype=np.uint16)
    for out, plane in zip(whole, stored_planes(layout, str(path)), strict=True):
        values = plane if (layout.slope, layout.intercept) == (1, 0) else plane * layout.slope + layout.intercept
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 65535):  # NaN is neither
            value = high if low >= 0 else low
            raise FluoroError(
                f"{path}: holds {value:g}, labels are whole numbers from 0 to 65535",
                "give a label volume; the CT itself goes before --labels",
            )
        out[:] = values
        if values.dtype.kind == "f" and not np.array_equal(out, values):
            value = float(values[out != values].flat[0])
            raise FluoroError(
                f"{path}: holds {value:g}, labels are whole numbers",
                "resample labels with nearest-neighbour interpolation",
            )
    return Volume(whole.astype(np.uint8) if whole.max() < 256 else whole, layout.world_from_voxel)


# --- grids ------------------------------------------------------------------------------------------------------------


def _volume_on_grid(file: Path, ct: Volume, labels_map: LabelsMap, notes: list[str]) -> Volume:
    labels = standardise(_read_volume(file, labels_map), fill=0, nearest=True, subject=str(file))
    if _ends_inside(labels, ct):
        notes.append(f"{file}: ends inside the scan; what its border cuts counts as whole")
    return _on_grid(labels, ct, str(file), notes)


def _ends_inside(labels: Volume, ct: Volume) -> bool:
    """Whether something labelled touches a border of the labels' grid beyond which the scan goes on."""
    labels_from_ct = np.linalg.inv(labels.world_from_voxel) @ ct.world_from_voxel
    ends = product(*((0, size - 1) for size in ct.array.shape[::-1]))
    corners = np.array(list(ends)) @ labels_from_ct[:3, :3].T + labels_from_ct[:3, 3]
    sizes = labels.array.shape[::-1]
    return any(
        (corners[:, axis].min() < -1 and labels.array.take(0, axis=2 - axis).any())
        or (corners[:, axis].max() > sizes[axis] and labels.array.take(-1, axis=2 - axis).any())
        for axis in range(3)
    )


def _on_grid(labels: Volume, ct: Volume, subject: str, notes: list[str]) -> Volume:
    """The labels on the scan's grid; a remark is added to `notes` when voxels had to be resampled."""
    labels = standardise(labels, fill=0, nearest=True, subject=subject)
    tolerance = SAME_PLACE_SPACINGS * float(ct.spacing_xyz_mm.min())
    if labels.array.shape == ct.array.shape:
        apart = corner_distance_mm(labels.world_from_voxel, ct.world_from_voxel, ct.array.shape)
        if apart <= tolerance:
            return Volume(labels.array, ct.world_from_voxel)
        if labels.array.dtype != bool:  # of as many voxels, but elsewhere: a header that went missing
            raise FluoroError(
                f"{subject}: affine differs from the scan's by {apart:.2f} mm, at most {tolerance:.2f} mm is accepted",
                "check that the labels belong to this scan, or resample them to it",
            )
    from_ct = np.linalg.inv(labels.world_from_voxel) @ ct.world_from_voxel  # voxels of the scan -> of the labels
    offset = np.round(from_ct[:3, 3]).astype(int)
    if np.abs(from_ct[:3, :3] - np.eye(3)).max() < 1e-3 and np.abs(from_ct[:3, 3] - offset).max() < 0.1:
        found = _cropped(labels.array, ct.array.shape, offset[::-1])
    else:
        found = _resampled(labels.array, ct.array.shape, from_ct)
        shape, wanted = ("x".join(map(str, reversed(size))) for size in (labels.array.shape, ct.array.shape))
        notes.append(f"{subject}: resampled from {shape} to the scan's {wanted} voxels")
    before = np.count_nonzero(labels.array) * labels.voxel_volume_ml
    after = np.count_nonzero(found) * ct.voxel_volume_ml
    if after < INSIDE * before - ct.voxel_volume_ml:
        raise FluoroError(
            f"{subject}: only {after / before:.0%} of the labels lie inside the scan",
            "check that the labels belong to this scan, or resample them to it",
        )
    return Volume(found, ct.world_from_voxel)


def _cropped(array: np.ndarray, shape_zyx: tuple[int, ...], offset_zyx: np.ndarray) -> np.ndarray:
    """What a grid of `shape_zyx` that begins at voxel `offset_zyx` of `array` sees; 0 beyond its edges."""
    found = np.zeros(shape_zyx, dtype=array.dtype)
    source = tuple(
        slice(max(0, o), max(0, min(n, o + m))) for o, n, m in zip(offset_zyx, array.shape, shape_zyx, strict=True)
    )
    target = tuple(
        slice(part.start - o, part.start - o + max(0, part.stop - part.start))
        for part, o in zip(source, offset_zyx, strict=True)
    )
    if all(part.stop > part.start for part in source):
        found[target] = array[source]
    return found


def _resampled(array: np.ndarray, shape_zyx: tuple[int, ...], array_from_grid_xyz: np.ndarray) -> np.ndarray:
    from scipy.ndimage import affine_transform

    return affine_transform(
        array.astype(np.uint8) if array.dtype == bool else array,
        array_from_grid_xyz[:3, :3][::-1, ::-1],
        offset=array_from_grid_xyz[:3, 3][::-1],  # pyright: ignore[reportArgumentType]
        output_shape=shape_zyx,
        order=0,
        mode="grid-constant",  # whose voxels reach half a step beyond their centres
        cval=0,
        prefilter=False,
    )

"""Importing label volumes: where a scan's labels lie, which id means which structure, and whether they fit the scan.

Two forms are read: one volume with many labels, and a folder with one mask per structure, as TotalSegmentator writes
(`femur_left.nii.gz`, ...). The ids of a volume are named by, first found: the label table that TotalSegmentator puts
into the NIfTI header; `labels.json` in the same folder (`{"1": "spleen", ...}`, at the top or one level down); our own
table, whose ids 1-117 are TotalSegmentator's `total`.
"""

import difflib
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.ct.volume import (
    NIFTI_SUFFIXES,
    Volume,
    corner_distance_mm,
    label_counts,
    open_nifti,
    read_nifti,
    world_from_voxel_of,
)
from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

LABELS_JSON = "labels.json"
MASKS_FOLDER = "segmentations"  # inside a case folder of the TotalSegmentator data set
LABEL_FILES = tuple(stem + suffix for stem in ("labels", "seg") for suffix in NIFTI_SUFFIXES)
ALIASES = {"phalanges_foot": "phalanges_feet"}  # beginnings of names that other label tables spell differently
TOLERANCE_SPACINGS = 0.5  # grids further apart than half a voxel would move a label onto its neighbour

IdNames = dict[int, str]


class Source(NamedTuple):
    """Where the labels of one scan come from: one volume, or several one-structure masks."""

    files: tuple[Path, ...]
    is_masks: bool

    def sha256(self) -> str:
        digests = [sha256_of(file) for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def find_labels(path: Path, case: str, ct_path: Path, single: bool) -> Source:
    """The labels at `path` of the scan `ct_path`, whose case is called `case`.

    A file is taken as it is. In a folder, which may be the scans' own, they are, first found: `CASE.nii.gz`,
    `CASE/labels.nii.gz` (or `seg.nii.gz`), the masks `CASE/segmentations/*.nii.gz` or `CASE/*.nii.gz`; for a
    single scan also the masks in the folder itself. Raises FluoroError when there are none.
    """
    if path.is_file():
        return Source((path,), is_masks=False)
    folder = path / case
    for file in (*(path / (case + suffix) for suffix in NIFTI_SUFFIXES), *(folder / name for name in LABEL_FILES)):
        if file.is_file() and not file.samefile(ct_path):
            return Source((file,), is_masks=False)
    for masks in (folder / MASKS_FOLDER, folder, *((path / MASKS_FOLDER, path) if single else ())):
        volumes = (file for file in masks.glob("*") if file.name.endswith(NIFTI_SUFFIXES))
        files = tuple(sorted(file for file in volumes if not file.samefile(ct_path)))
        if any(structure_name(stem_of(file)) in _label_ids() for file in files):
            return Source(files, is_masks=True)
    raise FluoroError(f"{path}: no labels for {case}", f"they may be {path / case}.nii.gz, or masks in {folder}/")


def check_labels(source: Source, ct_shape_zyx: tuple[int, ...], ct_from_voxel: np.ndarray, ct_path: Path) -> None:
    """Compare the label files' grids, and the masks' names, with the scan's. Reads headers only; raises FluoroError."""
    if source.is_masks:
        _known({stem_of(file) for file in source.files}, str(source.files[0].parent))
    tolerance = TOLERANCE_SPACINGS * float(np.linalg.norm(ct_from_voxel[:3, :3], axis=0).min())
    for file in source.files:
        image = open_nifti(file)
        shape = tuple(reversed(image.shape[:3]))
        if shape != tuple(ct_shape_zyx):
            found, wanted = ("x".join(map(str, reversed(size))) for size in (shape, ct_shape_zyx))
            raise FluoroError(
                f"{file}: shape is {found}, {ct_path.name} is {wanted}", "resample the labels to the scan"
            )
        apart = corner_distance_mm(world_from_voxel_of(image), ct_from_voxel, shape)
        if apart > tolerance:
            raise FluoroError(
                f"{file}: affine differs from {ct_path.name} by {apart:.2f} mm, at most {tolerance:.2f} mm is accepted",
                "check that the labels belong to this scan, or resample them to it",
            )


def read_labels(source: Source, ct: Volume, ct_path: Path) -> Volume:
    """The labels as a volume of our ids on the scan's grid.

    Raises FluoroError for a grid that differs, values that are not whole numbers, ids without a name and names that
    are not in the structure table.
    """
    check_labels(source, ct.array.shape, ct.world_from_voxel, ct_path)
    array = _merge_masks(source.files, ct.array.shape) if source.is_masks else _read_volume(source.files[0])
    return Volume(array, ct.world_from_voxel)


def to_our_ids(array: np.ndarray, names: IdNames, subject: str) -> np.ndarray:
    """Replace ids by the ids of our structure table, by name. `array` holds non-negative integers, 0 is background."""
    present = np.flatnonzero(label_counts(array))
    present = present[present > 0]
    unnamed = [int(value) for value in present if int(value) not in names]
    if unnamed:
        raise FluoroError(
            f"{subject}: labels without a name: {_some(map(str, unnamed))}",
            f'name them in {LABELS_JSON} beside the file: {{"{unnamed[0]}": "spleen", ...}}',
        )
    _known({names[int(value)] for value in present}, subject)
    ours = np.zeros(int(present.max(initial=0)) + 1, dtype=np.uint16)
    for value in present:
        ours[value] = _label_ids()[structure_name(names[int(value)])]
    return ours.astype(np.uint8 if ours.max() < 256 else np.uint16)[array]


def table_in_header(image: "Nifti1Image") -> IdNames | None:
    """The label table that TotalSegmentator, like Connectome Workbench, keeps in a header extension, or None."""
    for extension in image.header.extensions:  # pyright: ignore[reportAttributeAccessIssue]
        content = extension.get_content()
        data = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable" not in data:
            continue
        try:
            root = ElementTree.fromstring(data.rstrip(b"\0 \r\n\t"))
            return {int(label.attrib["Key"]): (label.text or "").strip() for label in root.iter("Label")}
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            name = image.get_filename()
            raise FluoroError(
                f"{name}: the label table in its header is damaged ({error})", "write it again"
            ) from error
    return None


def table_beside(path: Path) -> IdNames | None:
    """The label table of `labels.json` in the folder of `path`, if there is one."""
    file = path.parent / LABELS_JSON
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_bytes())
    except ValueError as error:
        raise FluoroError(f"{file}: not valid JSON ({error})", "mend it, or move it away") from error
    for candidate in (data, *data.values()) if isinstance(data, dict) else ():
        if isinstance(candidate, dict) and candidate and all(_is_entry(*item) for item in candidate.items()):
            return {int(key): value for key, value in candidate.items()}
    raise FluoroError(f"{file}: holds no label table", 'write it as {"1": "spleen", "2": "kidney_right", ...}')


def structure_name(word: str) -> str:
    """A name in the form that is compared, lower case with underscores: `Vertebrae L1` -> `vertebrae_l1`."""
    name = "_".join(word.lower().replace("-", " ").replace("_", " ").split())
    for other, ours in ALIASES.items():
        name = ours + name.removeprefix(other) if name.startswith(other) else name
    return name


def stem_of(path: Path) -> str:
    """The file's name without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _is_entry(key: str, value: object) -> bool:
    return key.isascii() and key.isdigit() and isinstance(value, str)


@cache
def _label_ids() -> dict[str, int]:
    return {structure_name(structure.name): structure.label_id for structure in structures()}


def _known(words: set[str], subject: str) -> None:
    """Raise FluoroError, with the nearest names, unless every word names a structure."""
    known = _label_ids()
    unknown = sorted(word for word in words if structure_name(word) not in known)
    if not unknown:
        return
    spelt = {structure_name(structure.name): structure.name for structure in structures()}
    near = {word: difflib.get_close_matches(structure_name(word), known, n=1, cutoff=0.6) for word in unknown}
    described = _some(f"{word} (nearest: {spelt[near[word][0]]})" if near[word] else word for word in unknown)
    raise FluoroError(f"{subject}: not known structures: {described}", "fluoro info structures lists all names")


def _some(words, limit: int = 8) -> str:
    words = list(words)
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def _whole_numbers(array: np.ndarray, path: Path) -> np.ndarray:
    """The array as unsigned integers. Raises FluoroError when values are negative, fractional or too large."""
    if array.dtype.kind not in "iuf":
        raise FluoroError(f"{path}: voxel type is not a number", "labels are whole numbers from 0 to 65535")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 65535):  # NaN is neither
        raise FluoroError(
            f"{path}: values run from {low:g} to {high:g}, labels are whole numbers from 0 to 65535",
            "give a label volume; the CT itself goes before --labels",
        )
    whole = array.astype(np.uint16)
    if array.dtype.kind == "f" and not np.array_equal(whole, array):
        value = float(array[whole != array].flat[0])
        raise FluoroError(
            f"{path}: holds {value:g}, labels are whole numbers",
            "resample labels with nearest-neighbour interpolation",
        )
    return whole


def _read_volume(path: Path) -> np.ndarray:
    names = table_in_header(open_nifti(path)) or table_beside(path)
    if names is None:
        names = {structure.label_id: structure.name for structure in structures()}
    return to_our_ids(_whole_numbers(read_nifti(path).array, path), names, str(path))


def _merge_masks(files: tuple[Path, ...], shape_zyx: tuple[int, ...]) -> np.ndarray:
    """One label volume from one mask per structure. Where they overlap the smaller wins, then the higher id."""
    parts: list[tuple[int, int, np.ndarray]] = []
    for file in files:
        mask = _whole_numbers(read_nifti(file).array, file)
        if mask.max() > 1:
            raise FluoroError(f"{file}: holds labels up to {mask.max()}, a mask of 0 and 1 is needed", "check the file")
        inside = np.flatnonzero(mask).astype(np.int64 if mask.size > 2**31 else np.int32)
        parts.append((-len(inside), _label_ids()[structure_name(stem_of(file))], inside))
    highest = max(label_id for _, label_id, _ in parts)
    labels = np.zeros(shape_zyx, dtype=np.uint8 if highest < 256 else np.uint16)
    for _, label_id, inside in sorted(parts, key=lambda part: part[:2]):
        labels.ravel()[inside] = label_id
    return labels

"""Which id of a label volume means which structure: tables in and beside a file, and the names that others use."""

import csv
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fluorosam_cli.anatomy.structures import groups, structures
from fluorosam_cli.ct.layout import text_header
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import label_counts
from fluorosam_cli.errors import FluoroError

LABELS_JSON = "labels.json"
CHANNELS = ("channel_names", "modality")  # tables in nnU-Net's data sets that are not of labels
ALIASES = {  # beginnings of names that MOOSE, Slicer and others spell differently
    "phalanges_foot": "phalanges_feet",
    "fingers": "phalanges_hand",
    "toes": "phalanges_feet",
    "clavicle": "clavicula",
    "vertebra_": "vertebrae_",
    "spinal_chord": "spinal_cord",
    "heart_": "heart",
    "teeth_": "teeth",
}
OTHER_NAMES = {  # whole names
    "lung": "lungs",
    "both_lungs": "lungs",
    "kidney": "kidneys",
    "both_kidneys": "kidneys",
    "bladder": "urinary_bladder",
    "gall_bladder": "gallbladder",
    "spinalcord": "spinal_cord",
    "thyroid": "thyroid_gland",
    "thyroid_left": "thyroid_gland",
    "thyroid_right": "thyroid_gland",
    "postcava": "inferior_vena_cava",
    "oesophagus": "esophagus",
    "lung_trachea_bronchia": "bronchus",
}
PAIRED = {"lungs": 254, "kidneys": 255}  # ids until `sides.tell_sides` has told left from right
NO_STRUCTURE = {  # classes of MOOSE and TotalSegmentator that are tissue or body parts and no structure of ours
    *("skeletal_muscle", "subcutaneous_fat", "visceral_fat", "thoracic_fat", "torso_fat", "intermuscular_fat"),
    *("face", "eyes", "testicles", "body", "body_trunc", "body_extremities", "legs", "arms", "head", "background"),
}

IdNames = dict[int, str]


@dataclass(frozen=True)
class LabelsMap:
    """What the user says labels mean: `ids` by value, `names` by normalised name; an empty string leaves one out."""

    ids: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def read_labels_map(path: Path) -> LabelsMap:
    """Read a TOML file of `1 = "spleen"` and `"left lung tumour" = ""` lines.

    Raises FluoroError when it cannot be read or names structures that are not in our table.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FluoroError(f"{path}: cannot be read ({error.strerror})", "check the path after --labels-map") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FluoroError(f"{path}: not valid TOML ({error})", 'write lines like 1 = "spleen"') from error
    for key, value in data.items():
        if not isinstance(value, str):
            raise FluoroError(f"{path}: {key} = {value!r} is no name", 'write lines like 1 = "spleen" or 7 = ""')
    _refuse_unknown([value for value in data.values() if value and label_id_of(value) is None], str(path))
    ids = {int(key): value for key, value in data.items() if key.isascii() and key.isdigit()}
    return LabelsMap(ids, {structure_name(key): value for key, value in data.items() if not key.isdigit()})


def to_our_ids(
    array: np.ndarray,
    names: IdNames,
    subject: str,
    labels_map: LabelsMap | None = None,
    leave_out_unknown: bool = False,
) -> np.ndarray:
    """Replace ids by the ids of our structure table, by name. `array` holds non-negative integers, 0 is background."""
    present = np.flatnonzero(label_counts(array))
    present = [int(value) for value in present if value > 0]
    labels_map = labels_map or LabelsMap()
    named = {value: labels_map.ids.get(value, names.get(value)) for value in present}
    unnamed = [value for value, name in named.items() if name is None]
    if unnamed:
        raise FluoroError(
            f"{subject}: labels without a name: {_some(map(str, unnamed))}",
            f'name them in {LABELS_JSON} beside the file, {{"{unnamed[0]}": "spleen", ...}}, or after --labels-map',
        )
    ours = ids_of({name for name in named.values() if name}, subject, labels_map, leave_out_unknown)
    table = np.zeros(max(present, default=0) + 1, dtype=np.uint16)
    for value, name in named.items():
        table[value] = ours.get(name or "", 0)
    return table.astype(np.uint8 if table.max() < 256 else np.uint16)[array]


def ids_of(
    words: Iterable[str], subject: str, labels_map: LabelsMap, leave_out_unknown: bool = False
) -> dict[str, int]:
    """Our label id of each word, 0 for what is left out. Raises FluoroError, with the nearest names, for others."""
    ours: dict[str, int] = {}
    unknown = []
    for word in words:
        mapped = labels_map.names.get(structure_name(word), word)
        label_id = 0 if not mapped or structure_name(mapped) in NO_STRUCTURE else label_id_of(mapped)
        if label_id is None and not leave_out_unknown:
            unknown.append(word)
        ours[word] = label_id or 0
    _refuse_unknown(unknown, subject)
    return ours


def label_id_of(word: str) -> int | None:
    """Our id of a name in any usual spelling (`Left kidney`, `kidney_left`, `vertebra L1`), or None."""
    return _label_ids().get(structure_name(word))


def structure_name(word: str) -> str:
    """A name in the form that is compared, lower case with underscores: `Left  Vertebra-L1` -> `vertebrae_l1_left`."""
    name = "_".join(re.split(r"[\s_-]+", word.strip().lower()))
    if side := re.match(r"(left|right)_(?=.)", name):
        name = f"{name[side.end() :]}_{side[1]}"
    elif side := re.search(r"(?<=.)_([lr])$", name):
        name = f"{name[: side.start()]}_{'left' if side[1] == 'l' else 'right'}"
    if level := re.fullmatch(r"([ctl]\d+)(_vertebra)?", name):
        name = f"vertebrae_{level[1]}"
    name = OTHER_NAMES.get(name, name)
    for other, ours in ALIASES.items():
        if name.startswith(other):
            return ours if ours in ("heart", "teeth") else ours + name.removeprefix(other)
    return name


# --- tables -----------------------------------------------------------------------------------------------------------


def table_in_header(path: Path) -> IdNames | None:
    """The label table that TotalSegmentator, like Connectome Workbench, keeps in a NIfTI header extension, or None."""
    import nibabel
    from nibabel import imageglobals
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    imageglobals.logger.disabled = True  # what it would print about a header, it also raises or mends
    try:
        extensions = nibabel.load(path).header.extensions  # pyright: ignore[reportAttributeAccessIssue]
        for extension in extensions:
            content = extension.get_content()
            data = content if isinstance(content, bytes) else str(content).encode()
            if b"<LabelTable" in data:
                root = ElementTree.fromstring(data.rstrip(b"\0 \r\n\t"))
                return {int(label.attrib["Key"]): (label.text or "").strip() for label in root.iter("Label")}
    except (ImageFileError, HeaderDataError, ElementTree.ParseError, KeyError, ValueError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise FluoroError(f"{path}: the label table in its header is damaged ({detail})", "write it again") from error
    return None


def segments_in_header(path: Path) -> IdNames | None:
    """The names that 3D Slicer writes into a NRRD header, a segment for each value, or None."""
    fields, _ = text_header(Source(path), str(path), ":", last_key="")
    segments = [key.removesuffix("_name") for key in fields if re.fullmatch(r":segment\d+_name", key)]
    values = [fields.get(f"{segment}_labelvalue", "") for segment in segments]
    layers = {fields.get(f"{segment}_layer", "0") for segment in segments}
    if len(layers) > 1 or not all(map(str.isdecimal, values)) or len(set(values)) < len(values):
        raise FluoroError(f"{path}: its segments overlap, or have no value each", "export one label map from Slicer")
    return {int(value): fields[f"{segment}_name"] for value, segment in zip(values, segments, strict=True)} or None


def table_beside(path: Path, stem: str) -> tuple[Path, IdNames] | None:
    """The label table that lies beside the volume `path`, and its file, or None.

    First found: `STEM.json` or `.csv`; MOOSE's `MODEL_organ_indices.json` for `MODEL_segmentation_...`;
    `labels.json` or `.csv`; nnU-Net's `dataset.json`, there or in the folder above. JSON that dcm2niix writes beside a
    volume (`STEM.json`) is no table.
    """
    folder = path.parent
    model = re.split("segmentation_", stem, maxsplit=1)[0] if "segmentation_" in stem else None
    for file in (
        folder / f"{stem}.json",
        folder / f"{stem}.csv",
        *([folder / f"{model}organ_indices.json"] if model else []),
        folder / LABELS_JSON,
        folder / "labels.csv",
        folder / "dataset.json",
        folder.parent / "dataset.json",
    ):
        if file.is_file():
            table = _csv_table(file) if file.suffix == ".csv" else _json_table(file)
            if table is not None:
                return file, table
            if file.stem != stem:
                raise FluoroError(f"{file}: holds no label table", 'write it as {"1": "spleen", "2": "liver", ...}')
    return None


def our_table() -> IdNames:
    """Our own ids, of which 1-117 are TotalSegmentator's `total`."""
    return {structure.label_id: structure.name for structure in structures()}


def _json_table(file: Path) -> IdNames | None:
    try:
        data = json.loads(file.read_bytes())
    except ValueError as error:
        raise FluoroError(f"{file}: not valid JSON ({error})", "mend it, or move it away") from error
    known = data if isinstance(data, dict) else {}
    if isinstance(labels := known.get("labels"), dict) and any(isinstance(value, list) for value in labels.values()):
        raise FluoroError(f"{file}: its labels are regions of several values", "give each value its own name")
    for candidate in (known, labels, *(value for key, value in known.items() if key not in CHANNELS)):
        if isinstance(candidate, dict) and candidate:
            pairs = [_entry(key, value) for key, value in candidate.items()]
            if all(pairs):
                return dict(pair for pair in pairs if pair)
    return None


def _entry(key: str, value: object) -> tuple[int, str] | None:
    """One line of a table: `"1": "spleen"`, `"1": {"name": "spleen"}`, or nnU-Net's `"spleen": 1`."""
    if isinstance(value, dict):
        value = value.get("name")
    if isinstance(value, int) and not isinstance(value, bool) and not key.isdigit():
        return value, key
    return (int(key), value) if key.isascii() and key.isdigit() and isinstance(value, str) else None


def _csv_table(file: Path) -> IdNames:
    """A table with the id in one column and the name in another; a line without a whole number is a heading."""
    table: IdNames = {}
    for row in csv.reader(file.read_text(encoding="utf-8-sig", errors="replace").splitlines()):
        numbers = [cell.strip() for cell in row if cell.strip().isascii() and cell.strip().isdigit()]
        words = [cell.strip() for cell in row if re.search("[A-Za-z]", cell)]
        if numbers and words:
            table[int(numbers[0])] = words[0]
    if not table:
        raise FluoroError(f"{file}: holds no label table", "give it the columns id and name")
    return table


@cache
def _label_ids() -> dict[str, int]:
    shown = {structure_name(structure.display_name): structure.label_id for structure in structures()}
    return shown | {structure_name(structure.name): structure.label_id for structure in structures()} | PAIRED


def _refuse_unknown(words: Iterable[str], subject: str) -> None:
    words = sorted(words)
    if not words:
        return
    spelt = {structure_name(structure.name): structure.name for structure in structures()}
    described = []
    for word in words:
        near = difflib.get_close_matches(structure_name(word), spelt, n=1, cutoff=0.6)
        remark = (
            " (a group: its parts are needed)"
            if structure_name(word) in groups()
            else f" (nearest: {spelt[near[0]]})"
            if near
            else ""
        )
        described.append(word + remark)
    raise FluoroError(
        f"{subject}: not known structures: {_some(described)}",
        "fluoro info structures lists all names; --labels-map FILE.toml with "
        f'"{words[0]}" = "OURS", or = "" to leave it out',
    )


def _some(words: Iterable[str], limit: int = 8) -> str:
    words = list(words)
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more

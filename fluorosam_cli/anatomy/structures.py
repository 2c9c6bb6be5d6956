"""The one table of anatomical structures: names, label ids, sides, groups, codes. Every stage reads names from here.

Ids 1-117 are TotalSegmentator v2 `total`; 118-148 add sided limbs and parts; 149-159 are the limb bones where the side
is not known, 160 and 161 lungs whose lobes are not; their names are at the same time those of the groups of their
parts. Sides are the patient's.

Structures and groups are projected whole. Outlines (outlines.csv) are what a radiologist draws instead; they have no
labels of their own. The plain words belong to them: "left lung" is `lung_above_diaphragm_left`, as on a radiograph,
and `lung_left`, all that the rays cross of it, is the "whole left lung".
"""

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

from fluorosam_cli.errors import FluoroError

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Structure:
    label_id: int
    name: str
    display_name: str  # the words a person reads: "left femur", "L3 vertebra"
    side: Side | None
    level: str | None  # vertebra ("L3") or rib number ("5")
    groups: tuple[str, ...]
    material: Literal["bone", "lung", "air", "soft"]
    # Code of the unsided structure; `side` is its laterality, as DICOM's modifier sequence has it.
    snomed_ct: str | None
    snomed_term: str | None


@cache
def structures() -> tuple[Structure, ...]:
    """All structures in order of their label id."""
    return tuple(
        Structure(
            label_id=int(row["label_id"]),
            name=row["name"],
            display_name=row["display_name"],
            side=cast(Side | None, row["side"] or None),
            level=row["level"] or None,
            groups=tuple(row["groups"].split("|")) if row["groups"] else (),
            material=cast(Literal["bone", "lung", "air", "soft"], row["material"]),
            snomed_ct=row["snomed_ct"] or None,
            snomed_term=row["snomed_term"] or None,
        )
        for row in _rows("structures.csv")
    )


@cache
def outlines() -> dict[str, tuple[str, ...]]:
    """Radiographic outline -> the structures and groups it is drawn from.

    Where one of these is in a view and the outline is not, the outline is unknown there, not absent.
    """
    return {row["name"]: tuple(row["of"].split("|")) for row in _rows("outlines.csv")}


@cache
def _other_rows() -> dict[str, dict[str, str]]:
    """What is named without being a structure: groups and outlines."""
    return {row["name"]: row for file in ("groups.csv", "outlines.csv") for row in _rows(file)}


def _rows(file: str) -> csv.DictReader:
    text = (files("fluorosam_cli.anatomy") / file).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Group name -> names of the structures in it. A group may share its name with an unsided structure."""
    members: dict[str, list[str]] = {}
    for structure in structures():
        for group in structure.groups:
            members.setdefault(group, []).append(structure.name)
    return {group: tuple(names) for group, names in members.items()}


@cache
def _by_name() -> dict[str, Structure]:
    return {structure.name: structure for structure in structures()}


@cache
def levels() -> dict[str, str]:
    """Vertebra or rib -> its level: "L3", "5"."""
    return {structure.name: structure.level for structure in structures() if structure.level}


@cache
def names() -> tuple[str, ...]:
    """Every name that can be prompted for: structures, groups that are not themselves structures, then outlines."""
    return (*_by_name(), *(group for group in groups() if group not in _by_name()), *outlines())


def structure(name: str) -> Structure:
    """The structure of that name. Raises FluoroError with the nearest names when there is none."""
    try:
        return _by_name()[name]
    except KeyError:
        near = difflib.get_close_matches(name, _by_name(), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "fluoro info structures lists all names"
        raise FluoroError(f"{name}: not a known structure", hint) from None


def display_name(name: str) -> str:
    """The words a person reads for a structure, group or outline: `rib_left_5` -> `left fifth rib`."""
    return _other_rows()[name]["display_name"] if name in _other_rows() else structure(name).display_name


def side_of(name: str) -> Side | None:
    """The side of the body a structure, group or outline lies on; None for midline and two-sided ones."""
    return cast(Side | None, _other_rows()[name]["side"] or None) if name in _other_rows() else structure(name).side


def label_ids(name: str) -> tuple[int, ...]:
    """The label ids of a structure or group: its own (if any) and its members'; of an outline, those of its sources."""
    if name in outlines():
        return tuple(label_id for source in outlines()[name] for label_id in label_ids(source))
    own = (_by_name()[name].label_id,) if name in _by_name() else ()
    if not own and name not in groups():
        structure(name)  # raises, with the nearest names
    return own + tuple(_by_name()[member].label_id for member in groups().get(name, ()))


def mirrored(name: str) -> str:
    """The name on the other side of the body: `femur_left` -> `femur_right`, `spleen` -> `spleen`."""
    swap = {"left": "right", "right": "left"}
    other = "_".join(swap.get(part, part) for part in name.split("_"))
    return other if other in set(names()) else name

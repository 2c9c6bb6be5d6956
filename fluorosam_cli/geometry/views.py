"""Which views are taken of a body: the usual radiographs, placed from the structures' positions, and random ones.

`views.csv` holds the usual ones. `target` structures must all be in the scan, together at least `min_extent_mm` long
(a scan often ends in a stump of humerus), and so must those it `needs`; the isocentre is the middle of the targets'
common box, or of its top or bottom face, moved by `offset_z_mm`. Distances and field sizes (of a square detector) are
those of common practice: a chest at 1.8 m, the rest at 1.1 to 1.2 m, cardiac views on a C-arm. `{side}` in a name
stands for two views; the angle given is the left one's, the right one's is its mirror image.
"""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal, cast

import numpy as np

from fluorosam_cli.errors import UsageError
from fluorosam_cli.geometry.carm import CArm

RANDOM = "random"
SCALE_JITTER = 0.1  # of distances and field sizes
RANDOM_SECONDARY_DEG = 50.0  # C-arms reach no further towards head or feet, and the body is longest there
RANDOM_SOURCE_TO_DETECTOR_MM = (950.0, 1300.0)
RANDOM_ISOCENTER_SHARE = (0.55, 0.8)  # source to isocentre, as a share of source to detector
RANDOM_FIELD_MM = (180.0, 430.0)  # from a small image intensifier to the largest flat panels


@dataclass(frozen=True)
class StandardView:
    name: str
    target: tuple[str, ...]
    min_extent_mm: float
    needs: tuple[str, ...]
    anchor: Literal["centre", "top", "bottom"]
    offset_z_mm: float
    primary_deg: float
    secondary_deg: float
    seen_from: Literal["source", "detector"]
    source_to_detector_mm: float
    isocenter_to_detector_mm: float
    field_mm: float
    jitter_deg: float  # uniform to both sides, in both angles
    jitter_mm: float  # uniform to both sides, along each axis


@dataclass(frozen=True)
class Box:
    """Extent of a structure in LPS mm, two points (3,)."""

    low: np.ndarray
    high: np.ndarray


@cache
def standard_views() -> tuple[StandardView, ...]:
    """Every view of the table, sided ones as left and right."""
    text = (files("fluorosam_cli.geometry") / "views.csv").read_text(encoding="utf-8")
    views = []
    for row in csv.DictReader(text.splitlines()):
        if "{side}" in row["name"]:
            views += [_view(row, "left", 1), _view(row, "right", -1)]
        else:
            views.append(_view(row, "", 1))
    return tuple(views)


def _view(row: dict[str, str], side: str, sign: int) -> StandardView:
    def names(column: str) -> tuple[str, ...]:
        return tuple(row[column].format(side=side).split("|")) if row[column] else ()

    return StandardView(
        name=row["name"].format(side=side),
        target=names("target"),
        min_extent_mm=float(row["min_extent_mm"]),
        needs=names("needs"),
        anchor=cast(Literal["centre", "top", "bottom"], row["anchor"]),
        offset_z_mm=float(row["offset_z_mm"]),
        primary_deg=sign * float(row["primary_deg"]),
        secondary_deg=float(row["secondary_deg"]),
        seen_from=cast(Literal["source", "detector"], row["seen_from"]),
        source_to_detector_mm=float(row["source_to_detector_mm"]),
        isocenter_to_detector_mm=float(row["isocenter_to_detector_mm"]),
        field_mm=float(row["field_mm"]),
        jitter_deg=float(row["jitter_deg"]),
        jitter_mm=float(row["jitter_mm"]),
    )


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError for a name that is no view, with the nearest ones."""
    known = [RANDOM, *(view.name for view in standard_views())]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "fluoro render --list-views lists them"
            raise UsageError(f"{name}: not a known view", hint)


def possible_views(positions: Mapping[str, Box], names: Sequence[str] = ()) -> tuple[StandardView, ...]:
    """The standard views, all or those named, whose structures are all in `positions` and large enough."""
    return tuple(
        view
        for view in standard_views()
        if (not names or view.name in names)
        and all(name in positions for name in view.target + view.needs)
        and _extent_mm(_target_box(view, positions)) >= view.min_extent_mm
    )


def _target_box(view: StandardView, positions: Mapping[str, Box]) -> Box:
    return Box(
        np.min([positions[name].low for name in view.target], axis=0),
        np.max([positions[name].high for name in view.target], axis=0),
    )


def _extent_mm(box: Box) -> float:
    return float((box.high - box.low).max())


def draw_view(
    rng: np.random.Generator,
    positions: Mapping[str, Box],
    possible: Sequence[StandardView],
    random_share: float,
    size_px: int,
) -> tuple[str, CArm]:
    """The name and geometry of one view: random with probability `random_share`, else one of `possible`.

    `positions` holds the boxes of the structures by name, at least one; with nothing `possible`, all are random.
    """
    if not possible or rng.random() < random_share:
        return RANDOM, random_view(rng, list(positions.values()), size_px)
    view = possible[int(rng.integers(len(possible)))]
    return view.name, jittered(rng, placed(view, positions, size_px), view)


def placed(view: StandardView, positions: Mapping[str, Box], size_px: int) -> CArm:
    """The view without jitter."""
    box = _target_box(view, positions)
    centre = (box.low + box.high) / 2
    centre[2] = {"centre": centre[2], "top": box.high[2], "bottom": box.low[2]}[view.anchor] + view.offset_z_mm
    return CArm(
        source_to_detector_mm=view.source_to_detector_mm,
        source_to_isocenter_mm=view.source_to_detector_mm - view.isocenter_to_detector_mm,
        positioner_primary_angle_deg=view.primary_deg,
        positioner_secondary_angle_deg=view.secondary_deg,
        detector_width_px=size_px,
        detector_height_px=size_px,
        pixel_spacing_mm=view.field_mm / size_px,
        isocenter_lps_mm=_triple(centre),
        seen_from=view.seen_from,
    )


def jittered(rng: np.random.Generator, carm: CArm, view: StandardView) -> CArm:
    """The same view as another hand would have taken it."""
    angles = rng.uniform(-view.jitter_deg, view.jitter_deg, 2)
    shift = rng.uniform(-view.jitter_mm, view.jitter_mm, 3)
    distance, field = 1 + rng.uniform(-SCALE_JITTER, SCALE_JITTER, 2)
    to_detector = carm.source_to_detector_mm * distance
    behind = carm.source_to_detector_mm - carm.source_to_isocenter_mm  # the body's half, whatever the distance
    return replace(
        carm,
        source_to_detector_mm=_round(to_detector),
        source_to_isocenter_mm=_round(to_detector - behind),
        positioner_primary_angle_deg=_wrapped(carm.positioner_primary_angle_deg + angles[0]),
        positioner_secondary_angle_deg=_round(carm.positioner_secondary_angle_deg + angles[1]),
        pixel_spacing_mm=_round(carm.pixel_spacing_mm * field, 6),
        isocenter_lps_mm=_triple(np.asarray(carm.isocenter_lps_mm) + shift),
    )


def random_view(rng: np.random.Generator, boxes: Sequence[Box], size_px: int) -> CArm:
    """A view of a random point in a random box, from anywhere within a C-arm's reach (uniform on that zone)."""
    box = boxes[int(rng.integers(len(boxes)))]
    centre = rng.uniform(box.low, box.high)
    primary = rng.uniform(-180.0, 180.0)
    reach = np.sin(np.radians(RANDOM_SECONDARY_DEG))
    secondary = np.degrees(np.arcsin(rng.uniform(-reach, reach)))
    to_detector = rng.uniform(*RANDOM_SOURCE_TO_DETECTOR_MM)
    share = rng.uniform(*RANDOM_ISOCENTER_SHARE)
    field = rng.uniform(*RANDOM_FIELD_MM)
    return CArm(
        source_to_detector_mm=_round(to_detector),
        source_to_isocenter_mm=_round(to_detector * share),
        positioner_primary_angle_deg=_wrapped(primary),
        positioner_secondary_angle_deg=_round(secondary),
        detector_width_px=size_px,
        detector_height_px=size_px,
        pixel_spacing_mm=_round(field / size_px, 6),
        isocenter_lps_mm=_triple(centre),
        seen_from="detector" if abs(primary) < 90 else "source",  # hung as if facing the patient
    )


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (_round(value) for value in point)
    return x, y, z


def _round(value: float, digits: int = 3) -> float:
    return round(float(value), digits)


def _wrapped(angle_deg: float) -> float:
    """The same angle in [-180, 180), as DICOM wants it."""
    return _round((angle_deg + 180) % 360 - 180)

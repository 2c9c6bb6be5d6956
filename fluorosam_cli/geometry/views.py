"""Which views are taken of a body: the usual radiographs, placed from the structures' positions, and random ones.

`views.csv` holds the usual ones. `target` structures must all be in the scan, together at least `min_extent_mm` long
(a scan often ends in a stump of humerus), and so must those it `needs`. The angles, `primary` and `secondary` as in
DICOM XA and a rotation of the image, are those of a standing person and hold in the frame of the `part`
(`parts.py`). The isocentre is the middle of the targets, or of their top, bottom or outer (`lateral`) end, moved
outwards by `offset_mm`. `{side}` in a name stands for two views; the numbers are the left one's, the right one is its
mirror image. Distances and field sizes (of a square detector) are those of common practice. A limb is laid on the
detector: what lies more than `behind_mm` behind the isocentre, as the body behind a hand does, is not in the beam; nor
is what lies more than `in_front_mm` in front of it, which patients bend or lift away for some views.

The column `source` says where angles and distances come from: bontrager, Lampignano and Kendrick, Bontrager's Textbook
of Radiographic Positioning and Related Anatomy, 10th ed. (2021); radiopaedia, its articles on the ankle series; judet,
Judet, Judet and Letournel, J Bone Joint Surg Am 46:1615 (1964); merchant, Merchant et al., J Bone Joint Surg Am 56:1391
(1974); clements, Clements and Nakayama, Radiol Technol 51:589 (1980); dimario, Di Mario and Sutaria, Heart 91:968
(2005); carm, common working angles in angiography and trauma surgery, of no single source.
"""

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal, cast

import numpy as np

from fluorosam_cli.errors import UsageError
from fluorosam_cli.geometry.carm import CArm, camera_axes, positioner_angles, project_points
from fluorosam_cli.geometry.parts import part_axes
from fluorosam_cli.geometry.positions import Anatomy, Position, joined

RANDOM = "random"
SCALE_JITTER = 0.1  # of distances and field sizes
RANDOM_SECONDARY_DEG = 50.0  # C-arms reach no further towards head or feet, and the body is longest there
RANDOM_SOURCE_TO_DETECTOR_MM = (950.0, 1300.0)
RANDOM_ISOCENTER_SHARE = (0.55, 0.8)  # source to isocentre, as a share of source to detector
RANDOM_FIELD_MM = (180.0, 430.0)  # from a small image intensifier to the largest flat panels
RANDOM_DRAWS = 20  # until a view shows something
USEFUL_SHARE = (0.01, 0.9)  # of the image, that one structure has to cover; training uses 0.001 to 0.9
USEFUL_GRID = 32  # the image in so many squared cells, to tell how much of it a structure covers
END_MM = 40.0  # the end of a structure, whose middle a view is centred on

# A scan often ends within the field. Then the view moves, and then it closes its collimator, before it is given up.
MAX_MOVE_SHARE = 0.2  # of the field's height
MIN_FIELD_SHARE = 0.6  # of the usual field's sides, and never less than the targets
MAX_OUTSIDE_SHARE = 0.35  # of the field's height that may still lie beyond the scan

Anchor = Literal["centre", "top", "bottom", "lateral"]


@dataclass(frozen=True)
class StandardView:
    name: str
    side: Literal["left", "right", ""]
    part: str
    target: tuple[str, ...]
    min_extent_mm: float
    needs: tuple[str, ...]
    anchor: Anchor
    offset_mm: float
    primary_deg: float
    secondary_deg: float
    rotation_deg: float
    seen_from: Literal["source", "detector"]
    source_to_detector_mm: float
    isocenter_to_detector_mm: float
    field_mm: float
    in_front_mm: float  # of the isocentre, how much of the body is in the beam; infinite: all of it
    behind_mm: float
    jitter_deg: float  # uniform to both sides, in both angles
    jitter_mm: float  # uniform to both sides, along each axis
    note: str

    @property
    def whole_body(self) -> bool:
        """Whether everything on the rays is in the beam."""
        return bool(np.isinf([self.in_front_mm, self.behind_mm]).all())


# --- the table --------------------------------------------------------------------------------------------------------


@cache
def standard_views() -> tuple[StandardView, ...]:
    """Every view of the table, sided ones as left and right."""
    text = (files("fluorosam_cli.geometry") / "views.csv").read_text(encoding="utf-8")
    views = []
    for row in csv.DictReader(text.splitlines()):
        if "{side}" in row["name"]:
            views += [_view(row, "left"), _view(row, "right")]
        else:
            views.append(_view(row, ""))
    return tuple(views)


def _view(row: dict[str, str], side: Literal["left", "right", ""]) -> StandardView:
    def names(column: str) -> tuple[str, ...]:
        return tuple(row[column].format(side=side).split("|")) if row[column] else ()

    sign = -1 if side == "right" else 1
    return StandardView(
        name=row["name"].format(side=side),
        side=side,
        part=row["part"],
        target=names("target"),
        min_extent_mm=float(row["min_extent_mm"]),
        needs=names("needs"),
        anchor=cast(Anchor, row["anchor"]),
        offset_mm=float(row["offset_mm"]),
        primary_deg=sign * float(row["primary_deg"]),
        secondary_deg=float(row["secondary_deg"]),
        rotation_deg=sign * float(row["rotation_deg"]),
        seen_from=cast(Literal["source", "detector"], row["seen_from"]),
        source_to_detector_mm=float(row["source_to_detector_mm"]),
        isocenter_to_detector_mm=float(row["isocenter_to_detector_mm"]),
        field_mm=float(row["field_mm"]),
        in_front_mm=float(row["in_front_mm"] or "inf"),
        behind_mm=float(row["behind_mm"] or "inf"),
        jitter_deg=float(row["jitter_deg"]),
        jitter_mm=float(row["jitter_mm"]),
        note=row["note"],
    )


def view_rows() -> list[tuple[str, str, str, str, str]]:
    """What there is to say of each view: name, structures it needs, angles, distance and field, remark."""
    rows = [
        (
            view.name,
            ", ".join(view.target + view.needs),
            f"{view.primary_deg:g}/{view.secondary_deg:g} deg"
            + (f" of the {view.part}" if view.part != "body" else ""),
            f"{view.source_to_detector_mm:g} mm, field {view.field_mm:g} mm",
            view.note,
        )
        for view in standard_views()
    ]
    (near, far), (low, high) = RANDOM_SOURCE_TO_DETECTOR_MM, RANDOM_FIELD_MM
    return [*rows, (RANDOM, "any structure", "any", f"{near:g}-{far:g} mm, field {low:g}-{high:g} mm", "")]


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError for a name that is no view, with the nearest ones."""
    known = [RANDOM, *(view.name for view in standard_views())]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "fluoro render --list-views lists them"
            raise UsageError(f"{name}: not a known view", hint)


# --- what a scan allows -----------------------------------------------------------------------------------------------


def possible_views(anatomy: Anatomy, names: Sequence[str] = ()) -> tuple[StandardView, ...]:
    """The standard views, all or those named, that this scan allows."""
    named = (view for view in standard_views() if not names or view.name in names)
    return tuple(view for view in named if why_not(view, anatomy) is None)


def impossible_views(anatomy: Anatomy, names: Sequence[str]) -> dict[str, str]:
    """The views named that this scan does not allow, each with the reason."""
    reasons = {view.name: why_not(view, anatomy) for view in standard_views() if view.name in names}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def why_not(view: StandardView, anatomy: Anatomy) -> str | None:
    """Why a view cannot be taken of this scan; None when it can."""
    missing = [name for name in view.target + view.needs if name not in anatomy.positions]
    if missing:
        return f"for want of {', '.join(missing)}"
    targets = _targets(view, anatomy)
    extent = float((targets.high - targets.low).max())
    if extent < view.min_extent_mm:
        return f"only {extent:.0f} mm of {' and '.join(view.target)} in the scan, {view.min_extent_mm:g} mm are needed"
    outside = _fitted(_aimed(view, anatomy), anatomy)[1]
    if outside > MAX_OUTSIDE_SHARE:
        return f"the scan ends within its field, {100 * outside:.0f} % of which would be empty"
    return None


def _targets(view: StandardView, anatomy: Anatomy) -> Position:
    return joined([anatomy.positions[name] for name in view.target])


# --- placing a view ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Aim:
    """A view on its way: camera axes as rows (3, 3), isocentre (3,), distances and the detector's side, all in mm."""

    axes: np.ndarray
    isocenter: np.ndarray
    to_detector: float
    to_isocenter: float
    field: float
    targets: np.ndarray | None = None  # points (N, 3) that stay in the field
    in_front: float = np.inf
    behind: float = np.inf

    @property
    def half_field(self) -> float:
        """Half the field's side at the isocentre."""
        return self.field * self.to_isocenter / self.to_detector / 2


def draw_view(
    rng: np.random.Generator,
    anatomy: Anatomy,
    possible: Sequence[StandardView],
    random_share: float,
    size_px: int,
) -> tuple[str, CArm]:
    """The name and geometry of one view: random with probability `random_share`, else one of `possible`.

    `anatomy` holds at least one structure; with nothing `possible`, all views are random.
    """
    if not possible or rng.random() < random_share:
        return RANDOM, random_view(rng, anatomy, size_px)
    view = possible[int(rng.integers(len(possible)))]
    return view.name, placed(view, anatomy, size_px, rng)


def placed(view: StandardView, anatomy: Anatomy, size_px: int, rng: np.random.Generator | None = None) -> CArm:
    """A view that the scan allows; with `rng` as another hand would have taken it."""
    aim, _ = _fitted(_aimed(view, anatomy, rng), anatomy)
    return _carm(aim, view.seen_from, size_px)


def _aimed(view: StandardView, anatomy: Anatomy, rng: np.random.Generator | None = None) -> _Aim:
    targets = _targets(view, anatomy)
    part = part_axes(view.part, view.side, anatomy.positions)
    primary, secondary, rotation = view.primary_deg, view.secondary_deg, view.rotation_deg
    isocenter = _anchor(view, targets, part)
    to_detector, field = view.source_to_detector_mm, view.field_mm
    if rng is not None:
        turn = rng.uniform(-view.jitter_deg, view.jitter_deg, 3)
        primary, secondary = primary + turn[0], secondary + turn[1]
        rotation += turn[2] if view.part != "body" else 0  # a limb is laid on the detector, a body hardly ever askew
        isocenter = isocenter + rng.uniform(-view.jitter_mm, view.jitter_mm, 3)
        distance_scale, field_scale = 1 + rng.uniform(-SCALE_JITTER, SCALE_JITTER, 2)
        to_detector, field = to_detector * distance_scale, field * field_scale
    return _Aim(
        axes=camera_axes(primary, secondary, rotation) @ part.T,
        isocenter=isocenter,
        to_detector=to_detector,
        to_isocenter=to_detector - view.isocenter_to_detector_mm,  # the body's half stays behind it
        field=field,
        targets=targets.points,
        in_front=view.in_front_mm,
        behind=view.behind_mm,
    )


def _anchor(view: StandardView, targets: Position, part: np.ndarray) -> np.ndarray:
    """The isocentre: the middle of the targets, or of one of their ends, in the part's frame."""
    points = targets.points @ part
    if view.anchor != "centre":
        axis = 0 if view.anchor == "lateral" else 2
        outwards = {"top": 1.0, "bottom": -1.0, "lateral": -1.0 if view.side == "right" else 1.0}[view.anchor]
        along = points[:, axis] * outwards
        end = points[along > along.max() - END_MM]
        middle = (end.min(axis=0) + end.max(axis=0)) / 2
        middle[axis] = outwards * (along.max() + view.offset_mm)
    else:
        middle = (points.min(axis=0) + points.max(axis=0)) / 2 + [0, 0, view.offset_mm]
    return part @ middle


def _fitted(aim: _Aim, anatomy: Anatomy) -> tuple[_Aim, float]:
    """The view moved and collimated to where the body is in the scan, and the share of its height that is still not.

    Heights are taken at the isocentre, where the field's edges are `half_field` away.
    """
    low, high = anatomy.z_range_mm
    right, down, _ = aim.axes
    reach = float(aim.half_field * (abs(right[2]) + abs(down[2])))  # of the field, upwards and downwards
    centre = float(aim.isocenter[2])
    inside = np.clip(centre, low + reach, high - reach) if high - low >= 2 * reach else (low + high) / 2
    moved = centre + float(np.clip(inside - centre, -2 * MAX_MOVE_SHARE * reach, 2 * MAX_MOVE_SHARE * reach))
    isocenter = np.array([*aim.isocenter[:2], moved])
    available = min(high - moved, moved - low)
    share = 1.0
    if available < reach:
        needed = MIN_FIELD_SHARE
        if aim.targets is not None:
            across = np.abs((aim.targets - isocenter) @ np.stack([right, down], axis=1)).max()
            needed = max(needed, 1.05 * across / aim.half_field)
        share = float(np.clip(available / reach, min(1.0, needed), 1.0))
    beyond = max(0.0, moved + share * reach - high) + max(0.0, low - moved + share * reach)
    fitted = replace(aim, isocenter=isocenter, field=aim.field * share)
    return fitted, beyond / (2 * share * reach) if reach else 0.0


def _carm(aim: _Aim, seen_from: Literal["source", "detector"], size_px: int) -> CArm:
    primary, secondary, rotation = positioner_angles(aim.axes)
    return CArm(
        source_to_detector_mm=_round(aim.to_detector),
        source_to_isocenter_mm=_round(aim.to_isocenter),
        positioner_primary_angle_deg=_wrapped(primary),
        positioner_secondary_angle_deg=_round(secondary),
        detector_width_px=size_px,
        detector_height_px=size_px,
        pixel_spacing_mm=_round(aim.field / size_px, 6),
        isocenter_lps_mm=(_round(aim.isocenter[0]), _round(aim.isocenter[1]), _round(aim.isocenter[2])),
        seen_from=seen_from,
        image_rotation_deg=_wrapped(rotation),
        nearest_mm=max(0.0, _round(aim.to_isocenter - aim.in_front)),
        farthest_mm=_round(aim.to_isocenter + aim.behind),
    )


# --- random views -----------------------------------------------------------------------------------------------------


def random_view(rng: np.random.Generator, anatomy: Anatomy, size_px: int) -> CArm:
    """A view of a random voxel of a random structure, from anywhere within a C-arm's reach (uniform on that zone).

    Drawn again, up to `RANDOM_DRAWS` times, until the field lies in the scan and a structure of useful size in it.
    """
    names = list(anatomy.positions)
    for _ in range(RANDOM_DRAWS):
        name = names[int(rng.integers(len(names)))]
        points = anatomy.positions[name].points
        primary = rng.uniform(-180.0, 180.0)
        reach = np.sin(np.radians(RANDOM_SECONDARY_DEG))
        secondary = float(np.degrees(np.arcsin(rng.uniform(-reach, reach))))
        to_detector = rng.uniform(*RANDOM_SOURCE_TO_DETECTOR_MM)
        to_isocenter = to_detector * rng.uniform(*RANDOM_ISOCENTER_SHARE)
        centre = points[int(rng.integers(len(points)))]
        field = rng.uniform(*RANDOM_FIELD_MM)
        aim = _Aim(camera_axes(primary, secondary), centre, to_detector, to_isocenter, field)
        aim, outside = _fitted(aim, anatomy)
        carm = _carm(aim, "detector" if abs(primary) < 90 else "source", size_px)  # hung as if facing the patient
        if outside <= MAX_OUTSIDE_SHARE and shows_something(carm, anatomy, first=name):
            break
    return carm


def shows_something(carm: CArm, anatomy: Anatomy, first: str | None = None) -> bool:
    """Whether at least one structure covers a useful share of the image; `first` is looked at before the others."""
    names = sorted(anatomy.positions, key=lambda name: name != first)
    low, high = USEFUL_SHARE
    return any(low <= covered_share(carm, anatomy.positions[name]) <= high for name in names)


def covered_share(carm: CArm, position: Position) -> float:
    """The share of the image that a structure covers, from its sampled voxels; never more than it really does."""
    pixels = project_points(carm.intrinsic, carm.camera_from_world, position.points)
    size = np.array([carm.detector_width_px, carm.detector_height_px])
    cells = np.floor((pixels + 0.5) / size * USEFUL_GRID).astype(int)
    cells = cells[((cells >= 0) & (cells < USEFUL_GRID)).all(axis=1)]
    return len(np.unique(cells @ [1, USEFUL_GRID])) / USEFUL_GRID**2


def _round(value: float, digits: int = 3) -> float:
    return round(float(value), digits) + 0.0  # no -0.0


def _wrapped(angle_deg: float) -> float:
    """The same angle in [-180, 180), as DICOM wants it."""
    return _round((angle_deg + 180) % 360 - 180)

"""Radiographic outlines: what a radiologist draws, worked out from the path lengths through the tissues of one view.

A lung's projection reaches far below the dome of the diaphragm, behind the liver, the stomach and the spleen, and onto
the spine. Radiologists end it at the dome, which the organs beneath it silhouette, and beside the bodies of the
vertebrae, and count what lies behind the heart as lung.

Here a dome is, on each line of pixels that runs towards the feet, where the first of those organs begins; gaps between
organs are bridged as a hemidiaphragm bulges, convex towards the head. Thresholds were chosen by looking at simulated
outlines beside those that radiologists drew on chest radiographs, and by comparing their shapes.

| beam | lungs | cardiac silhouette | visible lung field, mediastinum |
|---|---|---|---|
| within 30 degrees of the median plane and 35 of the horizontal | to the dome and the spine | to the dome | yes |
| any other within 35 degrees of the horizontal | each to its own dome | to the dome | none |
| steeper | the whole projection | none | none |

Where the tissues that show a dome have no label in the case, the outlines that end at it are left out; where vertebrae
have none, lungs reach onto the spine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

STEEPEST_DEG = 35.0  # of a beam above or below the horizontal, for which the dome is an edge of the picture
FRONTAL_DEG = 30.0  # of a beam from the median plane, for which the lungs lie side by side
OBLIQUE_DEG = 60.0  # up to which they overlap but do not coincide

BENEATH = {"right": ("liver", "retroperitoneum"), "left": ("stomach", "spleen", "bowel", "retroperitoneum")}
DOME = {"right": ("liver",), "left": ("stomach", "spleen")}  # of these at least one must be labelled
BENEATH_BOTH = (*BENEATH["right"], *BENEATH["left"][:-1], "diaphragm")  # its label does not tell its halves apart

LUNGS = ("lung_left", "lung_right")
# All else is not looked at.
DRAWN_FROM = frozenset((*LUNGS, "heart", "great_vessels", "pulmonary_vessels", "vertebrae", *BENEATH_BOTH))

LUNG_MM, HEART_MM = 3.0, 4.0  # thinnest that an outline follows
ORGAN_MM = 5.0  # of an organ under the diaphragm, from which its edge shows
VESSEL_MM = 10.0  # of the mediastinum's vessels
LUNG_VESSEL_MM = 25.0  # of the pulmonary vessels, from which they are trunk and not branch
ARCH_MM = 40.0  # the aortic arch, seen end on, whose top is the mediastinum's
CAP_MM = 35.0  # over which that top is rounded
BODY_MM = 15.0  # of a vertebra's body, which is thicker than its processes
RECESS_MM = 8.0  # a costophrenic recess ends where it gets narrower
ROOT_MM = 12.0  # half the thickness of what a heart's label holds of the vessels at the lung's root
SMOOTH_MM = 12.0  # of the mediastinum's borders, along the body
SPINE_SMOOTH_MM = 40.0  # of the spine's, over a vertebra and its discs
STEP_MM = 1.5  # spacing at which curves are sampled
UPRIGHT = 0.01  # pixels sideways per pixel towards the feet, below which the image's columns are the body's lines

Paths = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _View:
    """Where pixels lie along the body: `down` towards the feet and `across`, in pixels, each broadcasting to (H, W).

    `paths` hold every `step`-th pixel, and so do `line` and `row`, which number strips of `step` pixels' width along
    and across the body.
    """

    paths: Paths
    down: np.ndarray
    across: np.ndarray
    line: np.ndarray
    row: np.ndarray
    step: int
    mm_per_px: float
    from_horizontal_deg: float
    from_median_deg: float

    @property
    def horizontal(self) -> bool:
        return self.from_horizontal_deg <= STEEPEST_DEG

    @property
    def frontal(self) -> bool:
        return self.horizontal and self.from_median_deg <= FRONTAL_DEG

    @property
    def sample_mm(self) -> float:
        return self.step * self.mm_per_px

    @cached_property
    def beneath_both(self) -> np.ndarray:
        """The sum of the paths through what lies under either dome, sampled."""
        return self.path(BENEATH_BOTH)

    def path(self, names: Sequence[str]) -> np.ndarray:
        """The sum of the paths through several tissues, sampled; those without a label count as nothing."""
        return sum((self.paths[name] for name in names if name in self.paths), np.zeros(self.line.shape, np.float32))

    def along_lines(self, curve: np.ndarray) -> np.ndarray:
        """A curve over the lines, in samples, as a value of `down` for every pixel, broadcasting to (H, W)."""
        return _at(curve, self.across, self.step) * self.step + self.down.min()

    def along_rows(self, curve: np.ndarray) -> np.ndarray:
        """A curve over the rows, in samples, as a value of `across` for every pixel, broadcasting to (H, W)."""
        return _at(curve, self.down, self.step) * self.step + self.across.min()


def outlines(
    paths_mm: np.ndarray,
    tissues: Sequence[str],
    intrinsic: np.ndarray,
    camera_from_world: np.ndarray,
    mm_per_px: float,
) -> dict[str, np.ndarray]:
    """The radiographic outlines of one view, name -> (H, W) bool: those defined for its beam that have a pixel.

    `paths_mm` (P, H, W): path length through each of `tissues`, which are those of `anatomy.tissues` that the case
    has labels of (`tissues_with`). `intrinsic` (3, 3) and `camera_from_world` (4, 4, from LPS mm) as for the projector;
    any rotation of the image will do. `mm_per_px` is the size of a pixel in the patient, not on the detector.
    """
    path = dict(zip(tissues, paths_mm, strict=True))
    view = _view(path, paths_mm.shape[1:], intrinsic, camera_from_world, mm_per_px)
    found = {f"lung_above_diaphragm_{side}": _lung(path, side, view) for side in ("left", "right")}
    lungs = found["lung_above_diaphragm_left"], found["lung_above_diaphragm_right"]
    found["lungs_above_diaphragm"] = _both(*lungs)
    if "heart" in path and view.horizontal:
        heart = _filled(_rounded(path["heart"] >= HEART_MM, view), view)
        found["cardiac_silhouette"] = _cardiac(heart, view)
        if view.frontal and heart.any() and "great_vessels" in path:
            mediastinum = found["mediastinum"] = _mediastinum(heart, view)
            hidden = mediastinum | heart
            visible = [None if lung is None else lung & ~hidden for lung in lungs]
            found["lung_visible_left"], found["lung_visible_right"] = visible
            found["lungs_visible"] = _both(*visible)
    return {name: mask for name, mask in found.items() if mask is not None and mask.any()}


def _view(
    path: Paths, shape: tuple[int, ...], intrinsic: np.ndarray, camera_from_world: np.ndarray, mm_per_px: float
) -> _View:
    rotation = np.asarray(camera_from_world, np.float64)[:3, :3]
    x, y = np.asarray(intrinsic, np.float64)[:2, :2] @ -rotation[:2, 2]  # the feet's direction, at the central ray
    length = float(np.hypot(x, y))
    x, y = (x / length, y / length) if length > 0 else (0.0, 1.0)
    rows, columns = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None]
    if abs(x) < UPRIGHT:
        down, across = np.sign(y) * rows, np.sign(y) * columns
    else:
        down, across = x * columns + y * rows, y * columns - x * rows
    step = max(1, int(STEP_MM / mm_per_px))
    beam = rotation[2]
    return _View(
        paths={name: image[::step, ::step] for name, image in path.items()},
        down=down,
        across=across,
        line=_number(across, step, shape),
        row=_number(down, step, shape),
        step=step,
        mm_per_px=mm_per_px,
        from_horizontal_deg=float(np.degrees(np.arcsin(min(abs(beam[2]), 1.0)))),
        from_median_deg=float(np.degrees(np.arctan2(abs(beam[0]), abs(beam[1])))),
    )


def _number(along: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    strips = ((along - along.min()) / step + 0.5).astype(np.int32)
    return np.broadcast_to(strips, shape)[::step, ::step]


def _at(curve: np.ndarray, along: np.ndarray, step: int) -> np.ndarray:
    """The curve's value at each coordinate, linear between its samples."""
    from_first = along - along.min()
    fine = np.interp(np.arange(int(from_first.max()) + 2) / step, np.arange(len(curve)), curve)
    return fine.astype(np.float32)[(from_first + 0.5).astype(np.int32)]


def _filled(mask: np.ndarray, view: _View) -> np.ndarray:
    """The mask without holes of more than a sample's size: whoever draws an outline draws none."""
    from scipy.ndimage import binary_dilation, label

    gaps = np.pad(~mask[:: view.step, :: view.step], 1, constant_values=True)
    pieces = np.empty(gaps.shape, np.int32)
    if label(gaps, output=pieces) == 1:
        return mask
    holes = binary_dilation(pieces > 1)[1:-1, 1:-1]  # piece 1 holds the corner, outside; widened to their finer rims
    return mask | _spread(holes, view.step, mask.shape)


def _spread(sampled: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    return sampled.repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]


def _both(left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray | None:
    return None if left is None or right is None else left | right


# --- lungs ------------------------------------------------------------------------------------------------------------


def _lung(path: Paths, side: str, view: _View) -> np.ndarray | None:
    """One lung, ended at its dome and where the costophrenic recess gets narrow; the whole projection of steep beams.

    Seen from the side the two domes cross, so that each lung is ended by the organs under its own; seen from the front,
    by all: the left lobe of the liver lies under the left dome too.
    """
    if f"lung_{side}" not in path or not any(name in path for name in DOME[side]):
        return None
    lung = _filled(path[f"lung_{side}"] >= LUNG_MM, view)
    inside = lung[:: view.step, :: view.step]
    if not view.horizontal or not inside.any():
        return lung
    dome = _bridged(_tops(view.beneath_both if view.frontal else view.path(BENEATH[side]), inside, view))
    if FRONTAL_DEG < view.from_median_deg <= OBLIQUE_DEG:
        dome = _levelled(dome, inside, view.path(["lung_right" if side == "left" else "lung_left"]), view)
    lung &= view.down < view.along_lines(_ended(dome, inside, view))
    return _beside_spine(lung, view) if view.frontal else lung


def _tops(organs: np.ndarray, inside: np.ndarray, view: _View) -> np.ndarray:
    """Row of the first organ on each line; infinite where there is none, or where no pixel of the line is `inside`."""
    tops = np.full(int(view.line.max()) + 1, np.inf, np.float32)
    seen = organs >= ORGAN_MM
    np.minimum.at(tops, view.line[seen], view.row[seen].astype(np.float32))
    lines = np.zeros(len(tops), bool)
    lines[view.line[inside]] = True
    return np.where(lines, tops, np.inf)


def _bridged(tops: np.ndarray) -> np.ndarray:
    """The hull of the tops, convex towards the head, by monotone chain (Andrew, Inf Process Lett 9:216, 1979)."""
    chain: list[int] = []
    for i in np.flatnonzero(np.isfinite(tops)).tolist():
        while len(chain) > 1:
            a, b = chain[-2:]
            if (tops[b] - tops[a]) * (i - a) < (tops[i] - tops[a]) * (b - a):
                break
            chain.pop()
        chain.append(i)
    return np.interp(np.arange(len(tops)), chain, tops[chain], left=np.inf, right=np.inf) if chain else tops


def _levelled(dome: np.ndarray, inside: np.ndarray, other: np.ndarray, view: _View) -> np.ndarray:
    """The dome carried on level from its apex towards the other lung, where it lies behind the other dome."""
    beyond = view.line[other >= LUNG_MM]
    if not np.isfinite(dome).any() or not len(beyond):
        return dome
    apex = int(np.argmin(dome))
    level = dome.copy()
    inwards = slice(apex, None) if beyond.mean() > view.line[inside].mean() else slice(0, apex)
    level[inwards] = dome[apex]
    return level


def _ended(dome: np.ndarray, inside: np.ndarray, view: _View) -> np.ndarray:
    """The dome, and on either side of its apex a level end where less than `RECESS_MM` of lung is left in a row."""
    if not np.isfinite(dome).any():
        return dome
    apex = int(np.argmin(dome))
    line, row = view.line[inside], view.row[inside]
    kept = (row > dome[apex]) & (row < dome[line])
    ended = dome.copy()
    for half, part in ((line < apex, slice(0, apex)), (line > apex, slice(apex + 1, None))):
        first = int(dome[apex]) + 1
        widths = np.bincount(row[kept & half] - first, minlength=1)
        narrow = np.flatnonzero(widths * view.sample_mm < RECESS_MM)
        end = first + (int(narrow[0]) if len(narrow) else len(widths)) - 0.5
        ended[part] = np.minimum(dome[part], end)
    return ended


def _beside_spine(lung: np.ndarray, view: _View) -> np.ndarray:
    """The lung without what lies before, behind and beyond the bodies of the vertebrae and the discs between them."""
    bodies = view.path(["vertebrae"]) >= BODY_MM
    if not bodies.any() or not lung.any():
        return lung
    low, high = (view.along_rows(border) for border in _borders(bodies, view, SPINE_SMOOTH_MM))
    across = np.broadcast_to(view.across, lung.shape)
    if across[lung].mean() < np.nanmean(low + high) / 2:
        return lung & ~(view.across >= low)  # all false where the spine does not reach: its borders are NaN there
    return lung & ~(view.across <= high)


# --- heart and mediastinum --------------------------------------------------------------------------------------------


def _rounded(mask: np.ndarray, view: _View) -> np.ndarray:
    """The mask without parts that a disc of radius `ROOT_MM` does not fit into."""
    from scipy.ndimage import distance_transform_edt

    step = 2 * view.step
    coarse = np.pad(mask[::step, ::step], 1, mode="edge")
    radius = ROOT_MM / (step * view.mm_per_px)
    core = np.asarray(distance_transform_edt(coarse)) > radius
    if not core.any():
        return mask
    # One sample more: the mask itself has the finer edge.
    kept = np.asarray(distance_transform_edt(~core)) <= radius + 1
    return mask & _spread(kept[1:-1, 1:-1], step, mask.shape)


def _cardiac(heart: np.ndarray, view: _View) -> np.ndarray | None:
    if not any(name in view.paths for names in DOME.values() for name in names):
        return None
    tops = _tops(view.beneath_both, heart[:: view.step, :: view.step], view)
    return heart & (view.down < view.along_lines(tops))


def _mediastinum(heart: np.ndarray, view: _View) -> np.ndarray:
    """Heart and great vessels as one, from the top of the aortic arch to the heart's lower border, filled across."""
    tops = _tops(view.beneath_both, np.ones(view.line.shape, bool), view)
    above = view.row < tops[view.line]
    vessels = view.path(["great_vessels"])
    part = (vessels >= VESSEL_MM) | (view.path(["pulmonary_vessels"]) >= LUNG_VESSEL_MM)
    part = (part & above) | heart[:: view.step, :: view.step]
    arch = view.row[(vessels >= ARCH_MM) & above]
    if len(arch):
        part &= view.row >= arch.min()
    if not part.any():  # of a heart at the image's edge, no pixel may be a sample
        return np.zeros_like(heart)
    low, high = _borders(part, view, SMOOTH_MM)
    first = int(np.flatnonzero(np.isfinite(low))[0])
    if len(arch) and first > 0:
        into = np.clip((np.arange(len(low)) - first + 0.5) * view.sample_mm / CAP_MM, 0, 1)
        middle, half = (low + high) / 2, (high - low) / 2 * np.sqrt(1 - (1 - into) ** 2)
        low, high = middle - half, middle + half
    return (view.across >= view.along_rows(low)) & (view.across <= view.along_rows(high))


def _borders(part: np.ndarray, view: _View, smooth_mm: float) -> np.ndarray:
    """Where a part begins and ends on each row, in lines, smooth along the body: (2, rows), NaN above and below it."""
    from scipy.ndimage import median_filter, uniform_filter1d

    rows = int(view.row.max()) + 1
    low, high = np.full(rows, np.inf), np.full(rows, -np.inf)
    np.minimum.at(low, view.row[part], view.line[part])
    np.maximum.at(high, view.row[part], view.line[part])
    held = np.flatnonzero(low <= high)
    span = np.arange(held[0], held[-1] + 1)
    size = max(3, round(smooth_mm / view.sample_mm))
    borders = np.full((2, rows), np.nan)
    for border, ends, outwards in zip(borders, (low, high), (-0.5, 0.5), strict=True):  # the outermost samples whole
        filled = np.interp(span, held, ends[held])
        border[span] = uniform_filter1d(median_filter(filled, size, mode="nearest"), size) + outwards
    return borders

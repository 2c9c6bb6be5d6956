"""How a radiograph is taken: tube, filter, grid, focal spot and collimation, drawn for the body part of a view.

`techniques.csv` holds the ranges, which are our choice: tube voltages about as in the European Guidelines on Quality
Criteria for Diagnostic Radiographic Images (EUR 16260, 1996), lower for the limbs; mAs that bring 1-10 microgray behind
a body of usual size to the detector; thick parts with a grid, limbs and most bedside chests without. `round_share` of
the views show the circle of an image intensifier. `window_share` of the image's sides, around its middle, is what the
display's window is taken from: a trunk beside a limb is let go white. The shares below are our choice too.
"""

import csv
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import numpy as np

from fluorosam_cli.errors import UsageError
from fluorosam_cli.render import TERMS

SHADED_SHARE = 0.2  # of exposures not divided by a flat field of the same orientation: bedside panels, turned tubes
COLLIMATED_SHARE = 0.6  # of exposures with an edge of the field inside the image
EDGE_SHARE = 0.5  # of its sides
DEEPEST_EDGE = 0.1  # of the image's side

AnodeSide = Literal["left", "right", "top", "bottom"]
ANODE_SIDES: tuple[AnodeSide, ...] = get_args(AnodeSide)


@dataclass(frozen=True)
class Collimation:
    """The part of the image that the beam reaches: a rectangle, or the ellipse that touches its four sides."""

    shape: Literal["rectangle", "circle"]
    box_xyxy: tuple[float, float, float, float]  # pixels; half-way points of the penumbra


@dataclass(frozen=True)
class Exposure:
    """How the tube is driven and what stands in its beam.

    With `energy_kev` all its photons have that one energy (for tests and calibration). A `grid_ratio` of 0 is no grid.
    `anode_side` is the side of the image where the beam is weakened by the anode's heel; None: no heel. An exposure
    that is `flat_fielded` is divided by an open field of the same geometry, so that shading leaves only its noise.
    """

    kvp: float
    mas: float
    filtration_mm_al: float = 2.5
    filtration_mm_cu: float = 0.0
    energy_kev: float | None = None
    grid_ratio: float = 0.0
    focal_spot_mm: float = 0.6
    anode_side: AnodeSide | None = None
    flat_fielded: bool = True
    collimation: Collimation | None = None


@dataclass(frozen=True)
class Technique:
    words: tuple[str, ...]  # of view names
    kvp: tuple[float, float]
    mas: tuple[float, float]
    grid_share: float
    grid_ratio: float
    round_share: float
    focal_spot_mm: float
    window_share: float


@cache
def techniques() -> tuple[Technique, ...]:
    """The table; the first part that has a word of a view's name is the view's, the last one takes all others."""
    text = (files("fluorosam_cli.render") / "techniques.csv").read_text(encoding="utf-8")
    return tuple(
        Technique(
            words=tuple(row["words"].split("|")),
            kvp=(float(row["kvp_low"]), float(row["kvp_high"])),
            mas=(float(row["mas_low"]), float(row["mas_high"])),
            grid_share=float(row["grid_share"]),
            grid_ratio=float(row["grid_ratio"]),
            round_share=float(row["round_share"]),
            focal_spot_mm=float(row["focal_spot_mm"]),
            window_share=float(row["window_share"]),
        )
        for row in csv.DictReader(text.splitlines())
    )


def technique_for(view_name: str) -> Technique:
    """The technique of the body part named in the view; a name with none (`random`) gets that of trunk work."""
    words = set(view_name.lower().replace("-", "_").split("_"))
    table = techniques()
    return next((technique for technique in table if words.intersection(technique.words)), table[-1])


def draw_exposure(rng: np.random.Generator, view_name: str, width_px: int, height_px: int) -> Exposure:
    """A plausible exposure for the body part named in the view.

    Uniform in kVp, log-uniform in mAs. Everything is drawn whether or not it will be used, so that switching a term
    off changes nothing else.
    """
    technique = technique_for(view_name)
    kvp = round(float(rng.uniform(*technique.kvp)), 1)
    mas = float(f"{np.exp(rng.uniform(*np.log(technique.mas))):.3g}")
    aluminium = round(float(rng.uniform(2.5, 4.0)), 2)
    copper = float(rng.choice([0.0, 0.1, 0.2]))
    grid = technique.grid_ratio if rng.random() < technique.grid_share else 0.0
    side = ANODE_SIDES[int(rng.integers(len(ANODE_SIDES)))]
    flat_fielded = bool(rng.random() >= SHADED_SHARE)
    collimation = _draw_collimation(rng, technique.round_share, width_px, height_px)
    return Exposure(
        kvp=kvp,
        mas=mas,
        filtration_mm_al=aluminium,
        filtration_mm_cu=copper,
        grid_ratio=grid,
        focal_spot_mm=technique.focal_spot_mm,
        anode_side=side,
        flat_fielded=flat_fielded,
        collimation=collimation,
    )


def _draw_collimation(
    rng: np.random.Generator, round_share: float, width_px: int, height_px: int
) -> Collimation | None:
    chance, *insets = rng.random(9).tolist()
    if chance < round_share:
        radius = min(width_px, height_px) / 2 * (0.96 + 0.08 * insets[0])
        x, y = (width_px - 1) / 2, (height_px - 1) / 2
        shift = 0.02 * radius
        x, y = x + shift * (2 * insets[1] - 1), y + shift * (2 * insets[2] - 1)
        return Collimation("circle", _rounded(x - radius, y - radius, x + radius, y + radius))
    if chance < round_share + (1 - round_share) * (1 - COLLIMATED_SHARE):
        return None
    outside = 0.05  # of a side, beyond the image: the penumbra too
    left, top, right, bottom = (
        DEEPEST_EDGE * depth if there < EDGE_SHARE else -outside
        for there, depth in zip(insets[:4], insets[4:], strict=True)
    )
    return Collimation(
        "rectangle",
        _rounded(
            left * width_px - 0.5,
            top * height_px - 0.5,
            (1 - right) * width_px - 0.5,
            (1 - bottom) * height_px - 0.5,
        ),
    )


def _rounded(*values: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(value, 1) for value in values)
    return left, top, right, bottom


def stripped(exposure: Exposure, without: frozenset[str]) -> Exposure:
    """The exposure as it stands in a record, without what is left out of it."""
    return replace(
        exposure,
        grid_ratio=0.0 if "grid" in without else exposure.grid_ratio,
        anode_side=None if "heel" in without else exposure.anode_side,
        collimation=None if "collimation" in without else exposure.collimation,
    )


def check_terms(names: Iterable[str]) -> frozenset[str]:
    """The terms to leave out, as a set. Raises UsageError for a name that is none of `TERMS`."""
    wanted = frozenset(names)
    for name in sorted(wanted - set(TERMS)):
        near = difflib.get_close_matches(name, TERMS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the terms are {', '.join(TERMS)}"
        raise UsageError(f"{name}: not a term of the physics", hint)
    return wanted

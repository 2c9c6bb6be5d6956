"""Placement of flexible tools: centre lines along vessels, airways and other ways through the body, from the tip out.

The ways through labelled structures stand in `placement_routes.toml`; those through places that have no label of their
own (pleura, skin, ureter) are drawn from the structures around them.
"""

import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fluorosam_cli.tools.catalogue import Tool
from fluorosam_cli.tools.placement_anatomy import BodyMap, smoothed
from fluorosam_cli.tools.placement_pose import (
    BACK,
    LEFT,
    UP,
    Beam,
    Size,
    Solver,
    Where,
    any_normal,
    choose_seen,
    lateral,
    middle_x,
    pose,
    unit,
)

OUTSIDE_MM = 120.0  # how far a tool's end may lie outside the body
LEAST_SEEN_MM = 20.0  # of a centre line in the picture
STEP_MM = 2.0


@cache
def routes() -> dict[str, list[dict[str, Any]]]:
    """The routes of each placement."""
    return tomllib.loads((files("fluorosam_cli.tools") / "placement_routes.toml").read_text(encoding="utf-8"))


def _courses(anatomy: BodyMap, kind: str) -> list[tuple[dict[str, Any], str, np.ndarray]]:
    """The routes of a kind that this anatomy has, with their sides and centre lines from outside to inside."""
    found = []
    for route in routes()[kind]:
        sided = any("{side}" in name for name in route["through"])
        for side in ("left", "right") if sided else ("",):
            names = tuple(name.format(side=side) for name in route["through"])
            line = anatomy.course(names, route["start"], route["end"])
            if line is not None and len(line) > 10:
                found.append((route, names[-1] if not side else names[0], line))
    return found


def _along_route(kind: str, pocket: bool = False) -> Solver:
    def solve(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
        courses = [item for item in _courses(anatomy, kind) if not pocket or item[0]["exit"][0][2] > 0]
        courses = [item for item in courses if beam.sees(item[2]).sum() * STEP_MM > LEAST_SEEN_MM]
        if not courses:
            return None
        route, name, line = courses[int(rng.integers(len(courses)))]
        tip = int(rng.uniform(*route["tip"]) * (len(line) - 1))
        inside = line[: tip + 1][::-1]
        out = _pocket(rng, anatomy, line[0], name) if pocket else _exit(rng, anatomy, route, line, name)
        return _line(np.vstack([inside, out]), name, beam, 4.0)

    return solve


def _exit(rng: np.random.Generator, anatomy: BodyMap, route: dict[str, Any], line: np.ndarray, name: str) -> np.ndarray:
    """The way out of the body, with a hand's variation, and a little beyond."""
    outward = lateral(anatomy, name) if "left" in name or "right" in name else LEFT * rng.choice([-1.0, 1.0])
    offsets = np.array(route["exit"], float) * rng.uniform(0.85, 1.15, (len(route["exit"]), 1))
    points = line[0] + offsets[:, :1] * outward + offsets[:, 1:2] * BACK + offsets[:, 2:] * UP
    start = line[: int(12 / STEP_MM)].mean(axis=0) - line[0]
    points = np.vstack([line[0] - 0.3 * start, points, points[-1] + 2 * (points[-1] - points[-2])])
    way = smoothed(points, 12.0)
    inside = np.flatnonzero(anatomy.in_body(way))
    last = (inside[-1] if len(inside) else 0) + int(rng.uniform(0.2, 1) * OUTSIDE_MM / STEP_MM)
    return way[1 : last + 1]


def _pocket(rng: np.random.Generator, anatomy: BodyMap, start: np.ndarray, name: str) -> np.ndarray:
    """From a vein at the neck to a pocket under the skin of the chest's front."""
    outward = lateral(anatomy, name)
    spot = start + rng.uniform(45, 75) * outward - rng.uniform(30, 60) * UP
    deep = float(anatomy.skin_from(spot[None], -BACK[None])[0])
    pocket = spot - max(deep - 10.0, 0.0) * BACK
    over = start + 22 * outward - 0.5 * max(deep - 10.0, 0.0) * BACK + 5 * UP
    return smoothed(np.stack([start + 8 * outward, over, pocket]), 8.0)


def _line(points: np.ndarray, name: str | None, beam: Beam, sigma_mm: float) -> Where | None:
    line = smoothed(points, sigma_mm, STEP_MM)
    if beam.sees(line).sum() * STEP_MM < LEAST_SEEN_MM:
        return None
    return Where(name, centre_line_lps_mm=line)


def in_vessel(kind: str) -> Solver:
    """Rigid implants: the middle somewhere along the course, z along it."""

    def solve(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
        courses = [item for item in _courses(anatomy, kind) if beam.sees(item[2]).sum() > 10]
        if not courses:
            return None
        _, name, line = courses[int(rng.integers(len(courses)))]
        seen = np.flatnonzero(beam.sees(line))
        here = int(seen[int(rng.integers(len(seen)))])
        low, high = max(here - 8, 0), min(here + 8, len(line) - 1)
        z = unit(line[high] - line[low])
        return Where(anatomy.name_at(line[here]) or name, pose(line[here], z, any_normal(rng, z)))

    return solve


# --- places without a label -------------------------------------------------------------------------------------------


def pleura(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Up along the side of a lung, from between two ribs; the tip at its apex or at its base behind."""
    sides = [s for s in ("left", "right") if anatomy.named([f"lung_{s}"])]
    if not sides:
        return None
    side = sides[int(rng.integers(len(sides)))]
    lobes = anatomy.named([f"lung_{side}"])
    points = np.concatenate([anatomy.shape(name).points for name in lobes])
    outward = LEFT if side == "left" else -LEFT
    low, high = np.percentile(points[:, 2], [3, 98])
    from_z, to_z = low + rng.uniform(0.35, 0.5) * (high - low), low + rng.uniform(0.75, 0.97) * (high - low)
    behind = rng.uniform(40, 75)
    rim = []
    for z in np.linspace(to_z, from_z, 9):
        layer = points[np.abs(points[:, 2] - z) < 5]
        if len(layer) < 8:
            return None
        band = layer[np.abs(layer[:, 1] - np.percentile(layer[:, 1], behind)) < 15]
        band = band if len(band) else layer
        edge = band[np.argmax(band @ outward)].copy()
        edge[2] = z
        rim.append(edge - 3 * outward)
    entry = rim[-1]
    skin = float(anatomy.skin_from(entry[None], outward[None])[0])
    outside = [entry + share * (skin + 60) * outward - share * 35 * UP for share in (0.3, 0.6, 1.0)]
    return _line(np.stack([*rim, *outside]), lobes[0], beam, 10.0)


def _between(start: Callable[..., np.ndarray | None], end: Callable[..., np.ndarray | None]) -> Solver:
    """A gently curved way from one place to another, each drawn by a function of the stream and the anatomy."""

    def solve(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
        names = [name for name in ("kidney_left", "kidney_right") if name in anatomy.ids]
        side = names[int(rng.integers(len(names)))] if names else ""
        tip, out = start(rng, anatomy, side), end(rng, anatomy, side)
        if tip is None or out is None:
            return None
        across = unit(out - tip)
        middle = (tip + out) / 2 + rng.uniform(8, 25) * any_normal(rng, across)
        return _line(np.stack([tip, middle, out]), side or None, beam, 20.0)

    return solve


def _centre(anatomy: BodyMap, name: str) -> np.ndarray | None:
    return anatomy.shape(name).centre if name in anatomy.ids else None


def _renal_pelvis(rng: np.random.Generator, anatomy: BodyMap, side: str) -> np.ndarray | None:
    if not side:
        return None
    return anatomy.shape(side).centre - 12 * lateral(anatomy, side)


def _bladder(rng: np.random.Generator, anatomy: BodyMap, side: str) -> np.ndarray | None:
    return _centre(anatomy, "urinary_bladder")


def bladder(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """From the middle of the bladder down and forward, under the symphysis."""
    middle = _centre(anatomy, "urinary_bladder")
    if middle is None:
        return None
    half = 0.5 * np.ptp(anatomy.shape("urinary_bladder").points[:, 2])
    way = np.array([[0, 4, half], [0, 4, half + 30], [0, -25, half + 55], [0, -90, half + 50], [20, -140, half + 90]])
    points = middle + way[:, :1] * LEFT * rng.choice([-1.0, 1.0]) + way[:, 1:2] * BACK - way[:, 2:] * UP
    return _line(np.vstack([middle, points]), "urinary_bladder", beam, 8.0)


def _through_wall(
    rng: np.random.Generator, anatomy: BodyMap, beam: Beam, name: str, inner: np.ndarray, coil_mm: float
) -> Where | None:
    """From points inside an organ out through the nearest wall, in front or at the side."""
    outward = unit(rng.uniform(0.2, 1.0) * lateral(anatomy, name) - rng.uniform(0.4, 1.0) * BACK)
    skin = float(anatomy.skin_from(inner[-1][None], outward[None])[0])
    out = inner[-1] + np.linspace(0.25, 1, 5)[:, None] * (skin + rng.uniform(20, OUTSIDE_MM)) * outward
    return _line(np.vstack([inner, out]), name, beam, coil_mm)


def abdomen(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    organs = anatomy.named(tool.sites or ("stomach", "small_bowel", "colon", "liver", "duodenum"))
    name = choose_seen(rng, anatomy, organs, beam)
    if name is None:
        return None
    points = anatomy.shape(name).points
    chosen = points[rng.integers(len(points), size=3)]
    chosen = chosen[np.argsort(chosen[:, 1])[::-1]]
    near = chosen[-1] + np.clip(chosen - chosen[-1], -60, 60)
    return _through_wall(rng, anatomy, beam, name, near, 12.0)


def biliary(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """From the duodenum or the liver's hilum through the liver to its right side."""
    if "liver" not in anatomy.ids:
        return None
    liver = anatomy.shape("liver")
    hilum = liver.points[np.argsort(np.abs(liver.points[:, 0] - middle_x(anatomy)) + liver.points[:, 2])[:50]].mean(
        axis=0
    )
    tip = _centre(anatomy, "duodenum")
    tip = hilum - 25 * UP if tip is None else hilum + 0.6 * (tip - hilum)
    return _through_wall(rng, anatomy, beam, "liver", np.stack([tip, hilum, liver.centre]), 10.0)


def brain(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """From near the middle of the brain out through a hole high in the skull, and on down behind the ear."""
    middle = _centre(anatomy, "brain")
    if middle is None:
        return None
    outward = LEFT * rng.choice([-1.0, 1.0])
    tip = middle + rng.uniform(-8, 8, 3) + 8 * outward
    hole = unit(0.35 * outward + rng.uniform(-0.7, 0.4) * BACK + UP)
    skin = float(anatomy.skin_from(tip[None], hole[None])[0])
    points = [tip + share * (skin - 6) * hole for share in (0.0, 0.5, 1.0)]
    for down in (25, 60, 100, 150, 210):
        level = tip + skin * (hole @ UP) * UP - down * UP
        side = float(anatomy.skin_from(level[None], outward[None])[0])
        points.append(level + max(side - 5, 10) * outward + 8 * BACK)
    return _line(np.stack(points), "brain", beam, 8.0)


def surface_line(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Along the skin that faces the source, or lies away from it, in a loose curve across the picture."""
    a, b = np.array(beam.draw_pixel(rng, 0.1)), np.array(beam.draw_pixel(rng, 0.1))
    bend = rng.uniform(-0.25, 0.25, 2) * [beam.width_px, beam.height_px]
    share = np.linspace(-0.3, 1.3, 40)[:, None]
    pixels = a * (1 - share) + b * share + bend * np.sin(np.pi * share)
    far_side = rng.random() < 0.5
    points = []
    for x, y in pixels:
        ray = beam.ray(x, y)
        inside = np.flatnonzero(anatomy.in_body(anatomy.along(beam.source, ray, 2000.0, 4.0)))
        if len(inside):
            points.append(beam.source + 4.0 * (inside[-1] + 1 if far_side else inside[0] - 1) * ray)
    return _line(np.stack(points), "skin", beam, 12.0) if len(points) > 8 else None


SOLVERS: dict[str, Solver] = {
    **{kind: _along_route(kind) for kind in ("artery", "vein", "airway", "neck_airway", "oesophagus", "spinal_canal")},
    "vein_pocket": _along_route("vein", pocket=True),
    "in_artery": in_vessel("artery"),
    "in_vein": in_vessel("vein"),
    "pleura": pleura,
    "abdomen": abdomen,
    "biliary": biliary,
    "ureter": _between(_renal_pelvis, _bladder),
    "bladder": bladder,
    "brain": brain,
    "surface_line": surface_line,
}

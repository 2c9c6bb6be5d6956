"""Placement in, on and between vertebrae."""

import numpy as np

from fluorosam_cli.tools.catalogue import Tool
from fluorosam_cli.tools.placement_anatomy import BodyMap
from fluorosam_cli.tools.placement_bones import CANDIDATES, LEAST_SHARE, first_gap, share_inside
from fluorosam_cli.tools.placement_pose import BACK, LEFT, UP, Beam, Size, Solver, Where, pose, unit

WALL_MM = 2.5  # how much bone should be left around a pedicle screw
PEDICLE_CANDIDATES = 6 * CANDIDATES


def _frame(anatomy: BodyMap, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Middle of a vertebra's body (3,) and its axes (3, 3) as rows: to the left, to the back, to the head."""
    centre = _body_centre(anatomy, name)
    levels = anatomy.vertebrae
    here = levels.index(name)
    above, below = max(here - 1, 0), min(here + 1, len(levels) - 1)
    up = _body_centre(anatomy, levels[above]) - _body_centre(anatomy, levels[below]) if above < below else UP
    up = unit(up if np.linalg.norm(up) > 1 else UP)
    back = anatomy.shape(name).centre - centre
    back = back - (back @ up) * up
    if np.linalg.norm(back) < 3:
        back = BACK - (BACK @ up) * up
    back = unit(back)
    return centre, np.stack([np.cross(back, up), back, up])


def _body_centre(anatomy: BodyMap, name: str) -> np.ndarray:
    """Where a vertebra is deepest: in the middle of its body."""
    depth = anatomy.shape(name).depth
    return depth.points(depth.array > 0.85 * depth.array.max()).mean(axis=0)


def _visible_vertebrae(anatomy: BodyMap, sites: tuple[str, ...], beam: Beam) -> list[str]:
    wanted = set(anatomy.named(sites)) if sites else set(anatomy.vertebrae)
    return [
        name
        for name in anatomy.vertebrae
        if name in wanted and beam.sees(_body_centre(anatomy, name)[None])[0] and not name.endswith(("_C1", "_C2"))
    ]


def pedicle(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """From behind through the pedicle: of many converging axes the one with most bone around it."""
    names = _visible_vertebrae(anatomy, tool.sites, beam)
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    centre, (left, back, up) = _frame(anatomy, name)
    side = rng.choice([-1.0, 1.0]) * left
    count = PEDICLE_CANDIDATES
    angle, tilt = np.radians(rng.uniform(0, 32, count)), np.radians(rng.uniform(-12, 12, count))
    radius = float(anatomy.shape(name).depth.array.max())
    out = np.cos(angle)[:, None] * back + np.sin(angle)[:, None] * side + np.tan(tilt)[:, None] * up
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    targets = centre - rng.uniform(0, 0.7, count)[:, None] * radius * back
    targets = targets + rng.uniform(0, 0.9, count)[:, None] * radius * side
    targets = targets + rng.uniform(-0.3, 0.6, count)[:, None] * radius * up
    samples = anatomy.along(targets, out, 75.0)
    inside = anatomy.inside(name, samples)
    reach = first_gap(inside)  # an axis that leaves through the canal or the side ends early
    length = min(size.length, float(tool.parameters.get("length_mm", size.length)))
    entry = targets + (reach - 0.5)[:, None] * out
    room = anatomy.shape(name).depth.nearest(samples)
    room = np.where(inside & (np.arange(75) < reach[:, None] - 2), room, np.inf)
    narrowest = np.min(room[:, 3:], axis=1, initial=np.inf)
    posterior = (entry - centre) @ back
    thick = float(tool.parameters.get("diameter_mm", 4.0))
    tips = entry - length * out
    share = share_inside(anatomy, name, tips, entry)
    canal = (
        anatomy.inside("spinal_cord", samples).any(axis=1) if "spinal_cord" in anatomy.ids else np.zeros(count, bool)
    )
    score = np.minimum(narrowest, WALL_MM + thick / 2) / WALL_MM + 2 * share - 2 * np.abs(tilt)
    score[
        (narrowest < 0.3 * thick) | (posterior < 1.3 * radius) | (share < LEAST_SHARE) | canal | ~np.isfinite(narrowest)
    ] = -np.inf
    best = int(np.argmax(score))
    return Where(name, pose(tips[best], out[best], up)) if np.isfinite(score[best]) else None


def spine_rods(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Beside the spinous processes, over the facets: behind the canal, off the middle by a pedicle's distance."""
    names = _visible_vertebrae(anatomy, tool.sites, beam)
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    centre, (left, back, up) = _frame(anatomy, name)
    radius = float(anatomy.shape(name).depth.array.max())
    side = rng.choice([-1.0, 1.0]) * rng.uniform(0.9, 1.2) * radius * left
    wide = float(size.high[0] - size.low[0]) > 15  # connectors and pairs of rods lie across the middle
    start = centre + (0 if wide else 1) * side
    surface = anatomy.inside(name, anatomy.along(start + 0.8 * radius * back, back, 70.0))
    rearmost = np.flatnonzero(surface)
    distance = 0.8 * radius + (float(rearmost[-1]) if len(rearmost) else 15.0) + rng.uniform(2, 6)
    return Where(name, pose(start + distance * back, up, -back))


def disc_space(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Half way between two neighbouring vertebral bodies."""
    names = _visible_vertebrae(anatomy, tool.sites, beam)
    levels = anatomy.vertebrae
    pairs = [(name, levels[levels.index(name) + 1]) for name in names if levels.index(name) + 1 < len(levels)]
    if not pairs:
        return None
    upper, lower = pairs[int(rng.integers(len(pairs)))]
    (top, axes), bottom = _frame(anatomy, upper), _body_centre(anatomy, lower)
    up = unit(top - bottom)
    line = bottom + np.arange(0, np.linalg.norm(top - bottom), 0.5)[:, None] * up
    disc = line[~anatomy.inside([upper, lower], line)]
    origin = disc.mean(axis=0) if len(disc) else (top + bottom) / 2
    if np.linalg.norm(top - bottom) > 70:  # a vertebra between them has no label
        return None
    if size.high[2] - size.low[2] > 22:  # it stands in for a vertebral body
        origin = top
    return Where(upper, pose(origin + rng.uniform(-2, 2, 3) * [1, 1, 0], up, -axes[1], LEFT))


def spine_front(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    names = _visible_vertebrae(anatomy, tool.sites, beam)
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    centre, (_, back, up) = _frame(anatomy, name)
    front = first_gap(anatomy.inside(name, anatomy.along(centre, -back, 60.0)))
    return Where(name, pose(centre - (float(front) + 0.5) * back, up, -back))


SOLVERS: dict[str, Solver] = {
    "pedicle": pedicle,
    "spine_rods": spine_rods,
    "disc_space": disc_space,
    "spine_front": spine_front,
}

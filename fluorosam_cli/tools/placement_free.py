"""Placement in soft tissue, on the skin, over the field and anywhere in the beam."""

import numpy as np

from fluorosam_cli.tools.catalogue import Tool
from fluorosam_cli.tools.placement_anatomy import BodyMap
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
    pose,
    tilted,
)

REACH_MM = 2500.0  # from the source, within which the patient lies
STEP_MM = 2.0
CLUTTER_TILT_DEG = 25.0


def _through_body(anatomy: BodyMap, beam: Beam, pixel: tuple[float, float]) -> tuple[np.ndarray, float, float] | None:
    """The ray (3,) of a pixel, and the distances from the source at which it enters and leaves the body."""
    ray = beam.ray(*pixel)
    inside = np.flatnonzero(anatomy.in_body(anatomy.along(beam.source, ray, REACH_MM, STEP_MM)))
    return (ray, STEP_MM * float(inside[0]), STEP_MM * float(inside[-1] + 1)) if len(inside) else None


def _within(names: tuple[str, ...]) -> Solver:
    def solve(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
        name = choose_seen(rng, anatomy, anatomy.named(tool.sites or names), beam)
        if name is None:
            return None
        shape = anatomy.shape(name)
        seen = shape.points[beam.sees(shape.points)]
        depth = shape.depth.nearest(seen)
        inner = seen[depth >= np.percentile(depth, 50)]
        z = tilted(rng, UP, 180)
        return Where(name, pose(inner[int(rng.integers(len(inner)))], z, any_normal(rng, z)))

    return solve


def soft_tissue(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Anywhere along a random ray that is in the body and not in bone."""
    if anatomy.named(tool.sites):
        return _within(())(rng, tool, size, anatomy, beam)
    found = _through_body(anatomy, beam, beam.draw_pixel(rng))
    if found is None:
        return None
    ray, enter, leave = found
    points = beam.source + rng.uniform(enter + 5, max(leave - 5, enter + 6), 20)[:, None] * ray
    soft = points[~anatomy.inside(anatomy.bones, points) & anatomy.in_body(points)]
    if not len(soft):
        return None
    z = tilted(rng, UP, 180)
    return Where(None, pose(soft[0], z, any_normal(rng, z)))


def pelvis(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Behind and above the bladder's middle; without a label for it, before the sacrum."""
    if "urinary_bladder" in anatomy.ids:
        origin = anatomy.shape("urinary_bladder").centre + 30 * BACK + 10 * UP
        name = "urinary_bladder"
    elif "sacrum" in anatomy.ids:
        origin, name = anatomy.shape("sacrum").centre - 55 * BACK - 15 * UP, "sacrum"
    else:
        return None
    if not beam.sees(origin[None])[0]:
        return None
    return Where(name, pose(origin + rng.uniform(-8, 8, 3), tilted(rng, UP, 25), -BACK))


def chest_wall(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """In the fat in front of an upper lung lobe, flat under the skin."""
    name = choose_seen(rng, anatomy, anatomy.named(("lung_upper_lobe_left", "lung_upper_lobe_right")), beam)
    if name is None:
        return None
    points = anatomy.shape(name).points
    front = points[(points[:, 1] < np.percentile(points[:, 1], 25)) & (points[:, 2] > np.percentile(points[:, 2], 40))]
    if not len(front):
        return None
    start = front[int(rng.integers(len(front)))]
    skin = start - float(anatomy.skin_from(start[None], -BACK[None])[0]) * BACK
    normal = anatomy.skin_normal(skin)
    return Where("skin", pose(skin - (float(size.high[2]) + 4.0) * normal, normal, UP))


def on_skin(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    found = _through_body(anatomy, beam, beam.draw_pixel(rng))
    if found is None:
        return None
    ray, enter, leave = found
    point = beam.source + (enter if rng.random() < 0.5 else leave) * ray
    normal = anatomy.skin_normal(point)
    return Where("skin", pose(point, normal, any_normal(rng, normal)))


def through_skin(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """The tip 20 to 90 mm under the skin that the ray enters or leaves by, or at the side where there is room."""
    found = _through_body(anatomy, beam, beam.draw_pixel(rng, 0.3))
    if found is None:
        return None
    ray, enter, leave = found
    from_source = rng.random() < 0.6
    skin = beam.source + (enter if from_source else leave) * ray
    out = tilted(rng, anatomy.skin_normal(skin), 40)
    depth = min(rng.uniform(20, 90), 0.6 * (leave - enter), 0.8 * size.length)
    tip = skin - depth * out
    name = anatomy.name_at(tip)
    if name in anatomy.bones:
        return None
    return Where(name, pose(tip, out, any_normal(rng, out)))


def over_field(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """The tip just above or in the patient, the handle leaning away, out of the beam, on the side of the source."""
    pixel = beam.draw_pixel(rng, 0.2)
    ray = beam.ray(*pixel)
    found = _through_body(anatomy, beam, pixel)
    enter = found[1] if found else float(beam.depth_mm(anatomy.grid.world_from_index[:3, 3][None])[0])
    tip = beam.source + (enter + rng.uniform(-60, 25)) * ray
    across = any_normal(rng, ray)
    lean = np.radians(rng.uniform(0, 35))
    handle = np.cos(lean) * across - np.sin(lean) * ray
    # Lying flat towards the beam more often than on edge: that is how instruments are held up to be seen.
    roll = np.radians(rng.normal(0, 30))
    flat = np.cos(roll) * ray + np.sin(roll) * np.cross(ray, handle)
    return Where(None, pose(tip, handle, flat))


def clutter(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """On the patient or under them, nearly flat across the beam; a letter L or R on the side it names."""
    pixel = beam.draw_pixel(rng, 0.05)
    found = _through_body(anatomy, beam, pixel)
    if found is None:
        return None
    ray, enter, leave = found
    gap = rng.uniform(0, 25)
    origin = beam.source + (enter - gap if rng.random() < 0.5 else leave + gap) * ray
    if tool.parameters.get("side", 0) * (origin - anatomy.middle) @ LEFT < 0:
        return None
    z = tilted(rng, -ray, CLUTTER_TILT_DEG)
    return Where(None, pose(origin, z, any_normal(rng, z)))


SOLVERS: dict[str, Solver] = {
    "heart": _within(("heart",)),
    "soft_tissue": soft_tissue,
    "pelvis": pelvis,
    "chest_wall": chest_wall,
    "skin": on_skin,
    "through_skin": through_skin,
    "over_field": over_field,
    "clutter": clutter,
}

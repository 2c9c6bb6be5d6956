"""Placement in and on bones.

Axes and surfaces are found by drawing candidates and measuring them in the label volume: the share of a screw's axis
inside its bone, the distance of a plate's underside from the surface.
"""

import numpy as np

from fluorosam_cli.tools.catalogue import Tool
from fluorosam_cli.tools.placement_anatomy import BodyMap, resampled, smoothed
from fluorosam_cli.tools.placement_pose import (
    BACK,
    UP,
    Beam,
    Size,
    Solver,
    Where,
    any_normal,
    choose_seen,
    lateral,
    pose,
    tilted,
    unit,
)

CANDIDATES = 96
LEAST_SHARE = 0.8  # of a screw's axis, from its tip to where it enters, that lies in bone
LEAST_PURCHASE = 0.7  # of a screw's length that its bone must take up
PLATE_GAP_MM = 2.0  # between plate and bone, over half of its length at least
PLATE_RMS_MM = 1.5  # how far the surface may depart from a plate's underside
PLATE_CONTACT = 0.7  # of the plate that must have bone under it

# The bone or joint next to the trunk, which tells a limb bone's near end from its far one however the limb lies.
PROXIMAL = {
    "femur": "hip", "tibia": "femur", "fibula": "femur", "tarsal": "tibia", "metatarsal": "tarsal",
    "humerus": "scapula", "radius": "humerus", "ulna": "humerus", "carpal": "radius", "metacarpal": "carpal",
    "clavicula": "sternum",
}  # fmt: skip


def proximal_axis(anatomy: BodyMap, name: str) -> np.ndarray:
    """A bone's long axis, pointing to its end nearer to the trunk."""
    shape = anatomy.shape(name)
    axis = shape.axes[0]
    base, _, side = name.partition("_")
    parent = PROXIMAL.get(base, "")
    for candidate in (f"{parent}_{side}" if side else parent, parent):
        if candidate in anatomy.ids:
            return axis if (anatomy.shape(candidate).centre - shape.centre) @ axis > 0 else -axis
    return axis if axis[2] > 0 else -axis


# --- in bone ----------------------------------------------------------------------------------------------------------


def in_bone(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """The best of many axes through visible points of one bone; across the shaft of a long one, within 30 degrees."""
    name = choose_seen(rng, anatomy, anatomy.named(tool.sites) if tool.sites else anatomy.bones, beam)
    if name is None:
        return None
    shape = anatomy.shape(name)
    depth = shape.depth.nearest(shape.points)
    inner = shape.points[(depth > min(2.0, np.percentile(depth, 60))) & beam.sees(shape.points)]
    if len(inner) < 5:
        return None
    targets = inner[rng.integers(len(inner), size=CANDIDATES)]
    if shape.is_long:
        out = np.stack([tilted(rng, any_normal(rng, shape.axes[0]), 30) for _ in range(CANDIDATES)])
    else:
        out = np.stack([unit(rng.standard_normal(3)) for _ in range(CANDIDATES)])
    length = min(size.length, float(tool.parameters.get("length_mm", size.length)))
    stays_in = "screw" in tool.design or "anchor" in tool.design  # others may stand out of the bone with their shaft
    entry_mm, through_mm = extent(anatomy, name, targets, out)
    fits = through_mm >= (LEAST_PURCHASE * length if stays_in else 4.0)
    if not fits.any():
        return None
    entry = targets + entry_mm[:, None] * out
    inserted = np.minimum(length, through_mm + (0.0 if stays_in else rng.uniform(-1.0, 2.0)))
    tips = entry - inserted[:, None] * out
    share = share_inside(anatomy, name, tips, entry)
    # Screws are driven through a short way of soft tissue, wires too; and not in from the other side of the body.
    tissue_mm = anatomy.skin_from(entry, out)
    score = share - tissue_mm / 400 + rng.uniform(0, 0.15, CANDIDATES)
    if stays_in:
        score -= np.maximum(0, 1 - through_mm / length)
    score[~fits | (share < LEAST_SHARE)] = -np.inf
    best = int(np.argmax(score))
    if not np.isfinite(score[best]):
        return None
    origin = entry[best] - (length if stays_in else inserted[best]) * out[best]
    if stays_in and length > through_mm[best]:  # too long: its tip shows a little on the far side, its head stays on
        origin = tips[best] - min(length - inserted[best], 3.0) * out[best]
    return Where(name, pose(origin, out[best], any_normal(rng, out[best])))


def extent(anatomy: BodyMap, name: str, points: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From points in a bone: how far to its surface along a direction, and how much bone there is from there back."""
    ahead = anatomy.inside(name, anatomy.along(points, out, 120.0))
    behind = anatomy.inside(name, anatomy.along(points, -out, 120.0))
    entry = first_gap(ahead)
    return entry - 0.5, entry + first_gap(behind) - 1.0


def first_gap(inside: np.ndarray) -> np.ndarray:
    """Steps until three samples in a row are outside: marrow holes in a label do not count as its end."""
    outside = ~inside
    gap = outside & np.roll(outside, -1, axis=-1) & np.roll(outside, -2, axis=-1)
    gap[..., -3:] = True
    return np.argmax(gap, axis=-1).astype(float)


def share_inside(anatomy: BodyMap, name: str | list[str], tips: np.ndarray, ends: np.ndarray) -> np.ndarray:
    at = np.linspace(0.02, 0.98, 40)[:, None]
    return anatomy.inside(name, tips[:, None] * (1 - at) + ends[:, None] * at).mean(axis=-1)


# --- on and around bones ----------------------------------------------------------------------------------------------


def on_bone(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Of many places on a bone, the one where its surface is flattest under the tool.

    The surface is measured on a grid under the footprint, a plane fitted to it, and the tool laid on that plane.
    """
    names = anatomy.named(tool.sites) if tool.sites else anatomy.bones
    for side, other in (("left", "right"), ("right", "left")):  # plates shaped for one side
        if side in tool.name.split("_"):
            names = [name for name in names if not name.endswith(other)]
    name = choose_seen(rng, anatomy, names, beam)
    if name is None:
        return None
    shape = anatomy.shape(name)
    axis = proximal_axis(anatomy, name)
    face = _face(anatomy, tool, name)
    place = (shape.points - shape.centre) @ axis
    low, high = _zone(tool, place)
    inner = shape.points[(place >= low) & (place <= high) & beam.sees(shape.points)]
    if len(inner) < 5:
        return None
    starts = inner[rng.integers(len(inner), size=CANDIDATES)]
    if shape.is_long:  # from the shaft's middle, so that the way out is across it
        along = (starts - shape.centre) @ axis
        starts = np.stack([_middle_of(shape.points, place, value) for value in along])
        out = np.stack([any_normal(rng, axis) for _ in range(CANDIDATES)])
        if face is not None:
            out = face + 0.5 * out
            out -= (out @ axis)[:, None] * axis
            out /= np.linalg.norm(out, axis=1, keepdims=True)
    else:
        out = np.stack([unit(rng.standard_normal(3)) for _ in range(CANDIDATES)])
    z = axis - (out @ axis)[:, None] * out
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-6)
    x = np.cross(out, z)
    along_z = np.linspace(size.low[2], size.high[2], 11)
    across = np.linspace(-1, 1, 3) * min(float(size.high[0] - size.low[0]) / 3, 6.0)
    u, v = (grid.ravel() for grid in np.meshgrid(across, along_z))
    foot = starts[:, None] + u[:, None] * x[:, None] + v[:, None] * z[:, None]  # (candidates, foot, 3)
    lift = 30.0
    samples = anatomy.along(foot - lift * out[:, None], np.broadcast_to(out[:, None], foot.shape), 80.0)
    inside = anatomy.inside(name, samples)
    last = inside.shape[-1] - 1 - np.argmax(inside[..., ::-1], axis=-1)
    found = np.asarray(inside.any(axis=-1))
    height = np.asarray(last - lift + 0.5)
    best, best_fit = None, np.inf
    for i in range(CANDIDATES):
        fit = _plane(u, v, height[i], found[i])
        if (
            fit is not None
            and fit[1] < best_fit
            and _free_above(anatomy, foot[i, found[i]], out[i], height[i, found[i]])
        ):
            best, best_fit = (i, fit[0]), fit[1]
    if best is None or best_fit > PLATE_RMS_MM:
        return None
    i, (offset, slope_x, slope_z) = best
    z_axis = unit(z[i] + slope_z * out[i])
    normal = out[i] - slope_x * x[i] - slope_z * z[i]
    return Where(name, pose(starts[i] + offset * out[i], z_axis, normal))


FACES = {"femur": "lateral", "humerus": "lateral", "tibia": "lateral", "clavicula": "up", "patella": "front"}


def _face(anatomy: BodyMap, tool: Tool, name: str) -> np.ndarray | None:
    """The side of its bone that a plate shaped for one end of it is made for; None for plates that fit anywhere."""
    if not any(
        word in tool.design for word in ("distal", "proximal", "hip", "trochant", "blade", "clavicle", "patella")
    ):
        return None
    side = FACES.get(name.partition("_")[0])
    return {"lateral": lateral(anatomy, name), "up": UP, "front": -BACK}[side] if side else None


def _zone(tool: Tool, place: np.ndarray) -> tuple[float, float]:
    """The stretch of a bone, along its axis to the trunk, for a tool whose design names an end of it."""
    low, high = float(place.min()), float(place.max())
    if "distal" in tool.design:
        return low, low + 0.25 * (high - low)
    if any(word in tool.design for word in ("proximal", "hip", "trochant")):
        return high - 0.25 * (high - low), high
    return low + 0.05 * (high - low), high - 0.05 * (high - low)


def _middle_of(points: np.ndarray, place: np.ndarray, value: float) -> np.ndarray:
    near = np.argsort(np.abs(place - value))[:60]
    return points[near].mean(axis=0)


def _plane(u: np.ndarray, v: np.ndarray, height: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Offset and slopes of the plane that lies on the surface, and how far the surface departs from it (rms)."""
    if found.mean() < PLATE_CONTACT:
        return None
    design = np.column_stack([np.ones(found.sum()), u[found], v[found]])
    fit = np.linalg.lstsq(design, height[found], rcond=None)[0]
    if np.abs(fit[1:]).max() > 0.6:
        return None
    rest = height[found] - design @ fit
    highest = np.percentile(rest, 80)  # the plate rests on the higher parts
    if highest - np.median(rest) > PLATE_GAP_MM:
        return None
    fit[0] += highest
    return fit, float(np.sqrt((rest**2).mean()))


def _free_above(anatomy: BodyMap, foot: np.ndarray, out: np.ndarray, height: np.ndarray) -> bool:
    """Whether there is soft tissue, and no other bone, above the surface, where a plate can lie."""
    above = foot + (height + 3.0)[:, None] * out
    return bool(anatomy.inside(anatomy.bones, above).mean() < 0.1 and anatomy.in_body(above).mean() > 0.8)


def around_bone(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    name = choose_seen(rng, anatomy, anatomy.named(tool.sites) if tool.sites else anatomy.bones, beam)
    if name is None or not anatomy.shape(name).is_long:
        return None
    line = canal(anatomy, name)
    middle = line[len(line) // 6 : -len(line) // 6 or None]
    middle = middle[beam.sees(middle)]
    if not len(middle):
        return None
    z = proximal_axis(anatomy, name)
    out = lateral(anatomy, name) + 0.4 * rng.standard_normal(3)
    return Where(name, pose(middle[int(rng.integers(len(middle)))], z, out))


# --- in the canal -----------------------------------------------------------------------------------------------------


def canal(anatomy: BodyMap, name: str) -> np.ndarray:
    """The middle line (N, 3) of a long bone from its far end to the near one, 2 mm apart."""
    shape = anatomy.shape(name)
    axis = proximal_axis(anatomy, name)
    place = (shape.points - shape.centre) @ axis
    edges = np.arange(place.min(), place.max(), 6.0)
    middles = [shape.points[(place >= edge) & (place < edge + 6.0)] for edge in edges]
    return smoothed(np.stack([part.mean(axis=0) for part in middles if len(part)]), 10.0)


def medullary(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Along the straightest line through the shaft's middle, its top at the near end of the bone."""
    name = choose_seen(rng, anatomy, [n for n in anatomy.named(tool.sites) if anatomy.shape(n).is_long], beam)
    if name is None:
        return None
    line = canal(anatomy, name)
    length = size.length - max(float(size.low[2]), 0.0)
    if length > 2.0 * len(line):
        return None
    shaft = line[int(0.15 * len(line)) : int(0.75 * len(line))]
    _, _, vectors = np.linalg.svd(shaft - shaft.mean(axis=0))
    z = vectors[0] if vectors[0] @ proximal_axis(anatomy, name) > 0 else -vectors[0]
    z = -z if "retrograde" in tool.design else z
    inside = anatomy.inside(name, anatomy.along(shaft.mean(axis=0), z, 2.0 * len(line) + 50))
    entry = shaft.mean(axis=0) + (np.flatnonzero(inside)[-1] - rng.uniform(0, 4)) * z
    origin = entry - size.length * z
    if share_inside(anatomy, name, origin[None], entry[None])[0] < 0.75:
        return None
    inward = -lateral(anatomy, name)  # where a nail's screws for the head point
    return Where(name, pose(origin, z, np.cross(z, inward), inward))


def canal_line(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """Flexible nails: from the far end along one wall of the canal to where they entered at the near end."""
    name = choose_seen(rng, anatomy, [n for n in anatomy.named(tool.sites) if anatomy.shape(n).is_long], beam)
    if name is None:
        return None
    line = canal(anatomy, name)
    length = int(float(tool.parameters.get("length_mm", 300.0)) / 2) - 8  # the line's points are 2 mm apart
    line = line[max(int(0.1 * len(line)), int(0.9 * len(line)) - length) : int(0.9 * len(line))]
    if len(line) < 20:
        return None
    axis = proximal_axis(anatomy, name)
    side = unit(lateral(anatomy, name) - (lateral(anatomy, name) @ axis) * axis) * rng.choice([-1.0, 1.0])
    at = np.linspace(0, 1, len(line))
    room = np.median(anatomy.shape(name).depth.nearest(line)) * 0.45
    bow = line + (room * np.sin(np.pi * at))[:, None] * side
    out = line[-1] + np.linspace(2, 15, 6)[:, None] * unit(axis - 0.8 * side)
    return Where(name, centre_line_lps_mm=resampled(smoothed(np.vstack([bow, out]), 6.0), 3.0))


SOLVERS: dict[str, Solver] = {
    "in_bone": in_bone,
    "on_bone": on_bone,
    "around_bone": around_bone,
    "medullary": medullary,
    "medullary_flexible": canal_line,
}

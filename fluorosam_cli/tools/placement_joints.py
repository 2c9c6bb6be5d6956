"""Placement in joints, on the skull, in the jaws and in the sternum."""

import numpy as np

from fluorosam_cli.tools.catalogue import Tool
from fluorosam_cli.tools.placement_anatomy import BodyMap
from fluorosam_cli.tools.placement_bones import canal, proximal_axis
from fluorosam_cli.tools.placement_pose import BACK, LEFT, UP, Beam, Size, Solver, Where, choose_seen, pose, unit

# ball or far bone, socket or near bone; whether the ball's centre or the middle of the gap is the origin
JOINTS: dict[str, tuple[str, str, bool]] = {
    "joint_hip": ("femur", "hip", True),
    "joint_shoulder": ("humerus", "scapula", True),
    "joint_knee": ("tibia", "femur", False),
    "joint_elbow": ("ulna", "humerus", False),
    "joint_ankle": ("tarsal", "tibia", False),
}


def joint(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    """At the centre of a ball joint's head, or in the middle of the gap of a hinge."""
    far, near, ball = JOINTS[tool.placement]
    sides = [s for s in ("left", "right") if f"{far}_{s}" in anatomy.ids and f"{near}_{s}" in anatomy.ids]
    rng.shuffle(sides)
    for side in sides:
        distal, proximal = f"{far}_{side}", f"{near}_{side}"
        contact = _kept_contact(anatomy, distal, proximal)
        if contact is None:
            continue
        origin = _ball_centre(contact) if ball else contact.mean(axis=0)
        if not beam.sees(origin[None])[0]:
            continue
        outward = LEFT if side == "left" else -LEFT
        up = proximal_axis(anatomy, distal if ball or far == "tarsal" else proximal)
        if far == "tarsal":
            up = proximal_axis(anatomy, proximal)
        elif ball:
            up = _shaft_axis(anatomy, distal, up)
        elif far == "tibia":
            up = _shaft_axis(anatomy, proximal, up)
        up = up if up[2] > 0 or ball else -up if abs(up[2]) > 0.3 else up
        front = -BACK if abs(up[1]) < 0.9 else UP
        return Where(distal, pose(origin, up, front, outward))
    return None


def _kept_contact(anatomy: BodyMap, one: str, other: str) -> np.ndarray | None:
    return anatomy.kept(("contact", one, other), lambda: _contact(anatomy, one, other))


def _contact(anatomy: BodyMap, one: str, other: str) -> np.ndarray | None:
    """Points of the first bone's surface that face the second across a joint's gap, (N, 3)."""
    from scipy.spatial import KDTree

    shape = anatomy.shape(one)
    surface = shape.depth.points((shape.depth.array > 0) & (shape.depth.array < 1.5 * shape.depth.spacing_zyx_mm.max()))
    distance, _ = KDTree(anatomy.shape(other).points).query(surface)
    close = surface[distance < distance.min() + 6.0]
    return close if distance.min() < 12 and len(close) > 20 else None


def _ball_centre(points: np.ndarray) -> np.ndarray:
    """Centre of the sphere fitted to points by least squares."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    return np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0][:3]


def _shaft_axis(anatomy: BodyMap, name: str, towards: np.ndarray) -> np.ndarray:
    """Direction of a long bone's shaft, without its ends, on the same side as `towards`."""
    line = canal(anatomy, name)
    shaft = line[len(line) // 5 : -len(line) // 3 or None]
    if len(shaft) < 5:
        return towards
    _, _, vectors = np.linalg.svd(shaft - shaft.mean(axis=0))
    return vectors[0] if vectors[0] @ towards > 0 else -vectors[0]


# --- skull, jaw and sternum -------------------------------------------------------------------------------------------


def skull(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    return _outside_of(rng, anatomy, beam, ["skull"], lambda point, centre: point[2] > centre[2] - 10)


def tooth(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    name = choose_seen(rng, anatomy, anatomy.named(["teeth", "mandible"]), beam)
    if name is None:
        return None
    shape = anatomy.shape(name)
    seen = shape.points[beam.sees(shape.points)]
    seen = seen[seen[:, 1] < np.percentile(seen[:, 1], 40)]
    return Where(name, pose(seen[int(rng.integers(len(seen)))], UP, -BACK)) if len(seen) else None


def _outside_of(rng: np.random.Generator, anatomy: BodyMap, beam: Beam, names: list[str], allowed) -> Where | None:
    name = choose_seen(rng, anatomy, [name for name in names if name in anatomy.ids], beam)
    if name is None:
        return None
    shape = anatomy.shape(name)
    for _ in range(20):
        out = unit(rng.standard_normal(3))
        inside = np.flatnonzero(anatomy.inside(name, anatomy.along(shape.centre, out, 160.0)))
        if len(inside):
            point = shape.centre + (inside[-1] + 0.5) * out
            if beam.sees(point[None])[0] and allowed(point, shape.centre):
                return Where(name, pose(point, out, UP if abs(out[2]) < 0.9 else BACK))
    return None


def midline_chest(rng: np.random.Generator, tool: Tool, size: Size, anatomy: BodyMap, beam: Beam) -> Where | None:
    name = choose_seen(rng, anatomy, anatomy.named(["sternum"]), beam)
    if name is None:
        return None
    shape = anatomy.shape(name)
    seen = shape.points[beam.sees(shape.points)]
    point = seen[int(rng.integers(len(seen)))]
    middle = seen[np.abs(seen[:, 2] - point[2]) < 6].mean(axis=0)
    up = shape.axes[0]
    return Where(name, pose(middle, up, -BACK, LEFT))


SOLVERS: dict[str, Solver] = {
    "skull": skull,
    "tooth": tooth,
    "midline_chest": midline_chest,
    **dict.fromkeys(JOINTS, joint),
}

"""Plates: z along the bone, x across it, the underside on y = 0 and +y away from the bone; screw holes go through y."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from fluorosam_cli.tools.shapes import (
    Outline, Points, Solid, ball, box, circle, cylinder, extrude, hull, outline, rod, ring, smooth, stadium, sweep,
    threaded, tube, union, without,
)  # fmt: skip

Hole = tuple[float, float, float]  # x, z, diameter


def compression_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Straight, with oval holes that slide a screw toward the fracture."""
    flat = stadium([(0, -_half(holes, pitch_mm)), (0, _half(holes, pitch_mm))], width_mm / 2)
    slots = [stadium([(0, z - 0.3 * hole_mm), (0, z + 0.3 * hole_mm)], hole_mm / 2) for z in _row(holes, pitch_mm)]
    return _curved(_cut(flat, slots), thickness_mm, width_mm)


def locking_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Straight, with figure-of-eight combination holes and notches between them below."""
    flat = stadium([(0, -_half(holes, pitch_mm)), (0, _half(holes, pitch_mm))], width_mm / 2)
    slots = []
    for z in _row(holes, pitch_mm):
        toward = 1 if z < 0 else -1
        slots.append(circle(hole_mm / 2, (0, z)) + stadium([(0, z + toward * 0.55 * hole_mm), (0, z + toward * 0.95 * hole_mm)], 0.42 * hole_mm))
    plate = _curved(_cut(flat, slots), thickness_mm, width_mm)
    between = [z + pitch_mm / 2 for z in _row(holes, pitch_mm)[:-1]]
    return without(plate, [cylinder(0.25 * pitch_mm, -width_mm, width_mm, segments=20).scale((1, 0.5, 1)).rotate((0, 90, 0)).translate((0, 0, z)) for z in between])


def tubular_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """A strip of a thin tube: one third of it around the bone, with collared round holes."""
    radius = width_mm / (2 * math.sin(math.radians(52)))
    length = 2 * _half(holes, pitch_mm) + width_mm
    strip = tube(radius, radius - thickness_mm, -length / 2, length / 2, 48).translate((0, thickness_mm - radius, 0))
    ends = extrude(stadium([(0, -_half(holes, pitch_mm)), (0, _half(holes, pitch_mm))], width_mm / 2), -radius, 2 * thickness_mm, "y")
    return without(strip ^ ends, [_bore((0, z, hole_mm)) for z in _row(holes, pitch_mm)])


def reconstruction_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float, bend_mm: float) -> Solid:
    """Scalloped between its holes, so that it bends in every direction; drawn along an arc."""
    centres = np.array([(0.0, z) for z in _row(holes, pitch_mm)])
    radius = bend_mm
    centres = np.stack([radius * (1 - np.cos(centres[:, 1] / radius)), radius * np.sin(centres[:, 1] / radius)], 1)
    discs = [circle(width_mm / 2, c) for c in centres]
    flat = union_flat([*discs, stadium(centres, 0.33 * width_mm)])
    return extrude(_cut(flat, [circle(hole_mm / 2, c) for c in centres]), 0, thickness_mm, "y")


def t_plate(shaft_holes: float, head_holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float, head_mm: float) -> Solid:
    """A straight shaft with a crossbar at its end."""
    length = shaft_holes * pitch_mm
    flat = stadium([(0, 0), (0, length)], width_mm / 2) + stadium([(-head_mm / 2, length), (head_mm / 2, length)], width_mm / 2)
    across = [(x, length) for x in np.linspace(-head_mm / 2, head_mm / 2, int(head_holes))]
    return _drilled(flat, [(0, (i + 0.1) * pitch_mm) for i in range(int(shaft_holes))] + across, hole_mm, thickness_mm)


def l_plate(shaft_holes: float, head_holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float, head_mm: float) -> Solid:
    """A shaft with an arm to one side."""
    length = shaft_holes * pitch_mm
    flat = stadium([(0, 0), (0, length), (head_mm, length + 0.15 * head_mm)], width_mm / 2)
    arm = [(t * head_mm, length + 0.15 * t * head_mm) for t in np.linspace(0, 1, int(head_holes))]
    return _drilled(flat, [(0, (i + 0.1) * pitch_mm) for i in range(int(shaft_holes))] + arm, hole_mm, thickness_mm)


def y_plate(shaft_holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float, head_mm: float) -> Solid:
    """Two arms that part like a Y, as for both columns of the elbow."""
    length = shaft_holes * pitch_mm
    arms = [[(0, length)] + [(side * t * head_mm / 2, length + t * 1.2 * head_mm) for t in (0.5, 1.0)] for side in (-1, 1)]
    flat = union_flat([stadium([(0, 0), (0, length)], width_mm / 2), *(stadium(arm, width_mm / 2) for arm in arms)])
    holes = [(0, (i + 0.1) * pitch_mm) for i in range(int(shaft_holes))] + [p for arm in arms for p in arm[1:]]
    return _drilled(flat, holes, hole_mm, thickness_mm)


def h_plate(width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Two bars and a bridge, for fingers, face and breastbone."""
    bars = [stadium([(x, -pitch_mm), (x, pitch_mm)], width_mm / 2) for x in (-pitch_mm / 2, pitch_mm / 2)]
    flat = union_flat([*bars, stadium([(-pitch_mm / 2, 0), (pitch_mm / 2, 0)], 0.4 * width_mm)])
    return _drilled(flat, [(x, z) for x in (-pitch_mm / 2, pitch_mm / 2) for z in (-pitch_mm, pitch_mm)], hole_mm, thickness_mm)


def miniplate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Rings joined by thin bars, as for face and hand."""
    centres = [(0, z) for z in _row(holes, pitch_mm)]
    flat = union_flat([*(circle(width_mm / 2, c, 24) for c in centres), stadium(centres, 0.22 * width_mm)])
    return _drilled(flat, centres, hole_mm, thickness_mm)


def distal_radius_plate(shaft_holes: float, width_mm: float, head_mm: float, thickness_mm: float) -> Solid:
    """Volar: a fan with two rows of holes at the joint, tilted away from the shaft, and its locking pegs."""
    length = 11 * shaft_holes
    half, top = head_mm / 2, length + 24
    fan = outline(
        [(-width_mm / 2, 0), (width_mm / 2, 0), (width_mm / 2, length), (half, top - 8), (half - 2, top), (-half + 3, top - 3), (-half, top - 9), (-width_mm / 2, length)],
        2.0,
    )
    holes = [(0, 6 + 10.5 * i) for i in range(int(shaft_holes))]
    near = [(x, top - 5 - 0.05 * abs(x)) for x in np.linspace(-half + 4, half - 4, 4)]
    far = [(x, top - 11) for x in np.linspace(-half + 6, half - 6, 3)]
    flat = _cut(fan, [circle(1.5, p, 20) for p in holes + far])
    plate = _bent(extrude(flat, 0, thickness_mm, "y"), length + 6, -20)
    pegs = [_screw((x, z, 0), 2.2, 20) for x, z in near]
    return union([plate, *(_bent_point(peg, length + 6, -20) for peg in pegs)])


def clavicle_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float) -> Solid:
    """S-shaped, on top of the collarbone."""
    z = np.array(_row(holes, pitch_mm))
    centres = np.stack([7 * np.sin(z / z.max() * 2.2), z], 1)
    flat = stadium(smooth(centres, 24), 0.38 * width_mm) + union_flat(circle(width_mm / 2, c) for c in centres)
    return _drilled(flat, centres, 3.6, thickness_mm)


def clavicle_hook_plate(holes: float, depth_mm: float) -> Solid:
    """A clavicle plate whose hook goes below the acromion."""
    centres = [(0, 9 * i) for i in range(int(holes))]
    plate = _drilled(stadium(centres, 5), centres, 3.6, 3)
    end = centres[-1][1]
    hook = [(4, 1.5, end + 2), (7, 1.5, end + 10), (7, -depth_mm, end + 14), (7, -depth_mm, end + 30)]
    return plate + sweep(hook, [2.2, 2.2, 2, 1.5])


def proximal_humerus_plate(shaft_holes: float, thickness_mm: float) -> Solid:
    """A spoon on the head with diverging locking screws."""
    length = 12 * shaft_holes
    top = length + 42
    spoon = outline([(-6, 0), (6, 0), (6, length), (10, top - 22), (10, top - 4), (6, top), (-6, top), (-10, top - 4), (-10, top - 22), (-6, length)], 3)
    holes = [(0, 7 + 12 * i) for i in range(int(shaft_holes))] + [(x, top - 3) for x in (-5, 5)]
    plate = extrude(_cut(spoon, [circle(2.0, p, 20) for p in holes]), 0, thickness_mm, "y")
    screws = [rod((x, thickness_mm, z), (1.6 * x + 2, -36, z + lift), 1.75) for x, z, lift in ((-5, top - 9, 2), (5, top - 9, 2), (-6, top - 18, -3), (6, top - 18, -3), (-2, top - 28, 14), (3, top - 34, 18))]
    shafts = [_screw((0, z, 0), 3.5, 28) for _, z in holes[: int(shaft_holes) : 2]]
    return union([plate, *screws, *shafts])


def distal_humerus_plate(holes: float) -> Solid:
    """Narrow, twisted around a column of the elbow, with a lateral tab."""
    centres = [(2.5 * math.sin(0.5 * i), 10.5 * i) for i in range(int(holes))]
    flat = stadium(smooth(centres, 24), 4.8) + stadium([centres[0], (-9, -8)], 4.2)
    plate = _drilled(flat, [*centres, (-9, -8)], 3.2, 3)
    return _bent(plate, 28, 12)


def olecranon_plate(shaft_holes: float) -> Solid:
    """Hooked over the tip of the elbow."""
    length = 11 * shaft_holes
    flat = stadium([(0, 0), (0, length)], 4.5) + outline([(-4, length), (4, length), (8, length + 14), (6, length + 30), (-6, length + 30), (-8, length + 14)], 3)
    holes = [(0, 3 + 11 * i) for i in range(int(shaft_holes))] + [(-4, length + 13), (4, length + 13), (0, length + 22)]
    return _bent(_drilled(flat, holes, 3.2, 2.6), length + 18, -55)


def proximal_tibia_plate(shaft_holes: float, side: float) -> Solid:
    """An L over the outer plateau with a raft of screws below the joint."""
    length, thick = 14 * shaft_holes, 3.6
    flat = outline([(-7, 0), (7, 0), (7, length), (16, length + 26), (15, length + 38), (-22, length + 38), (-23, length + 26), (-7, length + 6)], 4)
    holes = [(0, 8 + 14 * i) for i in range(int(shaft_holes))] + [(-2, length + 8), (5, length + 18)]
    plate = extrude(_cut(flat, [circle(2.5, p, 20) for p in holes]), 0, thick, "y")
    raft = [_screw((x, length + 32, 0), 4.5, 62) for x in (-17, -8, 1, 10)]
    made = union([plate, *raft, *(_screw((0, z, 0), 4.5, 34) for _, z in holes[:2])])
    return made if side > 0 else made.mirror((1, 0, 0))


def distal_tibia_plate(shaft_holes: float) -> Solid:
    """A long medial plate that widens and twists at the ankle."""
    length = 13 * shaft_holes
    flat = stadium([(0, 0), (0, length)], 5.5) + outline([(-5.5, length - 8), (5.5, length - 8), (12, length + 22), (9, length + 34), (-9, length + 34), (-12, length + 22)], 4)
    holes = [(0, 3 + 13 * i) for i in range(int(shaft_holes))] + [(-6, length + 14), (6, length + 14), (-7, length + 24), (0, length + 27), (7, length + 24)]
    return _bent(_drilled(flat, holes, 3.6, 3.2), length, -18)


def distal_femur_plate(shaft_holes: float, side: float) -> Solid:
    """A broad head on the outer condyle with locking screws across both condyles; proximal is +z."""
    length, thick = 20 * shaft_holes, 5.0
    flat = stadium([(0, 0), (0, length)], 8.5) + outline([(-8.5, 8), (8.5, 8), (22, -34), (15, -50), (-14, -50), (-17, -30)], 6)
    holes = [(0, 14 + 20 * i) for i in range(int(shaft_holes))]
    plate = extrude(_cut(flat, [circle(3.4, p, 20) for p in holes]), 0, thick, "y")
    locked = [_screw((x, z, 0), 5, 72) for x, z in ((0, -24), (-9, -32), (10, -30), (-5, -42), (8, -42))]
    made = union([plate, *locked, *(_screw((0, z, 0), 5, 42) for _, z in holes[::2])])
    return made if side > 0 else made.mirror((1, 0, 0))


def calcaneal_plate(scale: float) -> Solid:
    """A perforated net on the outer side of the heel bone."""
    nodes = scale * np.array([(-30, -6), (-30, 8), (-14, 14), (-14, -10), (2, 16), (2, -2), (2, -14), (18, 10), (18, -8), (30, 2)])
    links = [(0, 1), (1, 2), (0, 3), (2, 4), (2, 3), (3, 6), (4, 5), (5, 6), (3, 5), (2, 5), (4, 7), (6, 8), (7, 8), (5, 8), (5, 7), (7, 9), (8, 9)]
    flat = union_flat([*(circle(4, n, 24) for n in nodes), *(stadium([nodes[a], nodes[b]], 1.6) for a, b in links)])
    return _drilled(flat, nodes, 3.6, 1.8)


def dynamic_hip_screw(holes: float, angle_deg: float, lag_mm: float) -> Solid:
    """A plate on the outer femur with a barrel, and a thick lag screw up the neck; proximal is +z, the head at -y."""
    length = 16 * holes + 8
    flat = stadium([(0, 6), (0, -length)], 9.5)
    at = [(2 * (-1) ** i, -12 - 16 * i) for i in range(int(holes))]
    plate = extrude(_cut(flat, [stadium([(x, z - 1.5), (x, z + 1.5)], 2.9) for x, z in at]), 0, 6, "y")
    tilt = (180 - angle_deg) - 90
    thread = threaded([(0, 2.5, 2.5), (3, 4.2, 6.2), (24, 4.2, 6.2), (25, 4, 4), (lag_mm, 4, 4)], 3, segments=20).translate((0, 0, -lag_mm))
    neck = union([cylinder(6.3, -40, 2), thread, cylinder(4, -lag_mm, 0, segments=20)]) - cylinder(2.2, -6, 9, segments=16)
    placed = neck.rotate((-90, 0, 0)).rotate((0, 0, 0))
    placed = placed.mirror((0, 1, 0)).rotate((-tilt, 0, 0)) if placed.bounding_box()[4] > 10 else placed.rotate((-tilt, 0, 0))
    screws = [_screw((x, z, 0), 4.5, 36) for x, z in at]
    return union([plate, placed.translate((0, 3, 0)), *screws])


def angled_blade_plate(holes: float, angle_deg: float, blade_mm: float) -> Solid:
    """A plate bent into a U-profiled blade; the blade points to -y and up for 130 degrees."""
    length = 16 * holes + 10
    flat = stadium([(0, 8), (0, -length)], 8)
    plate = _drilled(flat, [(0, -20 - 16 * i) for i in range(int(holes))], 4.6, 5.6)
    blade = box((16, blade_mm, 5), (0, -blade_mm / 2, 0)) - box((9, blade_mm * 2, 3), (0, -blade_mm / 2, 2.5))
    return plate + blade.rotate((-(angle_deg - 90), 0, 0)).translate((0, 3, 3))


def trochanteric_grip_plate(length_mm: float) -> Solid:
    """Claws over the greater trochanter, held to the femur by cables."""
    plate = extrude(stadium([(0, 0), (0, -length_mm)], 9), 0, 4, "y")
    claws = [sweep([(x, 2, 0), (x, 2, 14), (0.8 * x, -7, 20), (0.7 * x, -15, 14)], [2.6, 2.6, 2.2, 0.8]) for x in (-6, 6)]
    loops = [ring(17, 0.9, 56, 10).translate((0, -14, z)) for z in (-12, -length_mm + 14)]
    crimps = [box((8, 4, 5), (0, 4, z)) for z in (-12, -length_mm + 14)]
    return union([plate, *claws, *loops, *crimps])


def pelvic_brim_plate(holes: float, pitch_mm: float) -> Solid:
    """A long curved reconstruction plate for the acetabulum, its screws in place."""
    plate = reconstruction_plate(holes, 10, 3, pitch_mm, 3.8, 88)
    angle = np.array(_row(holes, pitch_mm)) / 88
    spots = [(88 * (1 - math.cos(a)), 88 * math.sin(a)) for a in angle]
    return union([plate, *(_screw((x, z, 0), 3.5, 26 + 4 * (i % 4)) for i, (x, z) in enumerate(spots) if i % 3 != 1)])


def symphysis_plate(holes: float) -> Solid:
    """A thick curved plate across the pubic symphysis with its screws; x across the patient."""
    x = np.array(_row(holes, 13))
    centres = np.stack([x, -0.008 * x**2], 1)
    plate = _drilled(stadium(smooth(centres, 20), 5.5), centres, 3.6, 4)
    return union([plate, *(_screw((a, b, 0), 3.5, 36) for a, b in centres)])


# --- how plates are made ----------------------------------------------------------------------------------------------


def union_flat(flats: Iterable[Outline]) -> Outline:
    first, *rest = flats
    for flat in rest:
        first = first + flat
    return first


def _row(holes: float, pitch: float) -> list[float]:
    return [(i - (holes - 1) / 2) * pitch for i in range(int(holes))]


def _half(holes: float, pitch: float) -> float:
    return (holes - 1) / 2 * pitch


def _cut(flat: Outline, holes: Iterable[Outline]) -> Outline:
    return flat - union_flat(holes)


def _drilled(flat: Outline, centres: Points, hole: float, thickness: float) -> Solid:
    return extrude(_cut(flat, [circle(hole / 2, c, 20) for c in centres]), 0, thickness, "y")


def _curved(flat: Outline, thickness: float, width: float) -> Solid:
    """A plate whose upper and lower faces are rounded across, as on a tube."""
    radius = 0.95 * width
    low, high = flat.bounds()[1] - 1, flat.bounds()[3] + 1
    section = cylinder(radius, low, high, segments=64).translate((0, thickness - radius, 0))
    below = cylinder(1.4 * radius, low, high, segments=64).translate((0, 0.08 * width - 1.4 * radius, 0))
    return (extrude(flat, -thickness, thickness, "y") ^ section) - below


def _bore(hole: Hole) -> Solid:
    x, z, diameter = hole
    return cylinder(diameter / 2, -20, 20, segments=20).rotate((90, 0, 0)).translate((x, 0, z))


def _screw(at: Sequence[float], diameter: float, length: float) -> Solid:
    """A locked screw through a plate: from (x, z) straight down into the bone (-y)."""
    x, z, lean = at
    rows = [(0, 0.1, 0.1), (diameter, 0.4 * diameter, diameter / 2), (length, 0.4 * diameter, diameter / 2)]
    rows += [(length + 0.3, 0.6 * diameter, 0.6 * diameter), (length + 2.5, 0.72 * diameter, 0.72 * diameter)]
    screw = threaded(rows, max(0.5 * diameter, 1.2), segments=10)
    return screw.translate((0, 0, -length)).rotate((-90 + lean, 0, 0)).mirror((0, 0, 1)).translate((x, 0.5, z))


def _bent(plate: Solid, at_z: float, degrees: float) -> Solid:
    """A plate bent about the x axis beyond `at_z`, over a short arc; negative bends toward the bone."""
    angle, reach = math.radians(degrees), 8.0

    def bend(points: np.ndarray) -> np.ndarray:
        s = points[:, 2] - at_z
        turn = np.clip(s / reach, 0, 1) * angle
        radius = reach / angle
        out = points.copy()
        beyond = np.clip(s - reach, 0, None)
        inside = s > 0
        z = at_z + (radius - points[:, 1]) * np.sin(turn) + beyond * np.cos(turn)
        y = radius - (radius - points[:, 1]) * np.cos(turn) + beyond * np.sin(turn)
        out[inside, 2], out[inside, 1] = z[inside], y[inside]
        return out

    return plate.refine_to_length(4.0).warp_batch(bend)


def _bent_point(solid: Solid, at_z: float, degrees: float) -> Solid:
    """A rigid part moved along with the bend of `_bent`."""
    angle, reach = math.radians(degrees), 8.0
    radius = reach / angle
    moved = solid.translate((0, 0, -at_z - reach)).rotate((degrees, 0, 0))
    return moved.translate((0, radius - radius * math.cos(angle), at_z + radius * math.sin(angle)))

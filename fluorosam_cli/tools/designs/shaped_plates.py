"""Plates made for one bone, with their screws in place. The frame is that of `plates`."""

import math
from collections.abc import Sequence

import numpy as np

from fluorosam_cli.tools.designs.plates import bent_plate, cut_out, drilled, hole_row, reconstruction_plate
from fluorosam_cli.tools.shapes import (
    Solid,
    box,
    circle,
    cylinder,
    extrude,
    outline,
    ring,
    rod,
    smooth,
    stadium,
    sweep,
    threaded,
    union,
)


def distal_radius_plate(shaft_holes: float, width_mm: float, head_mm: float, thickness_mm: float) -> Solid:
    """Volar: a fan with two rows of holes at the joint, tilted away from the shaft, and its locking pegs."""
    length = 11 * shaft_holes
    half, top = head_mm / 2, length + 24
    fan = outline(
        [
            (-width_mm / 2, 0),
            (width_mm / 2, 0),
            (width_mm / 2, length),
            (half, top - 8),
            (half - 2, top),
            (-half + 3, top - 3),
            (-half, top - 9),
            (-width_mm / 2, length),
        ],
        2.0,
    )
    holes = [(0, 6 + 10.5 * i) for i in range(int(shaft_holes))]
    near = [(x, top - 5 - 0.05 * abs(x)) for x in np.linspace(-half + 4, half - 4, 4)]
    far = [(x, top - 11) for x in np.linspace(-half + 6, half - 6, 3)]
    flat = cut_out(fan, [circle(1.5, p, 20) for p in holes + far])
    plate = bent_plate(extrude(flat, 0, thickness_mm, "y"), length + 6, 20)
    pegs = [_screw((x, z), 2.2, 20) for x, z in near]
    return union([plate, *(_bent_point(peg, length + 6, 20) for peg in pegs)])


def proximal_humerus_plate(shaft_holes: float, thickness_mm: float) -> Solid:
    """A spoon on the head with diverging locking screws."""
    length = 12 * shaft_holes
    top = length + 42
    spoon = outline(
        [
            (-6, 0),
            (6, 0),
            (6, length),
            (10, top - 22),
            (10, top - 4),
            (6, top),
            (-6, top),
            (-10, top - 4),
            (-10, top - 22),
            (-6, length),
        ],
        3,
    )
    holes = [(0, 7 + 12 * i) for i in range(int(shaft_holes))] + [(x, top - 3) for x in (-5, 5)]
    plate = extrude(cut_out(spoon, [circle(2.0, p, 20) for p in holes]), 0, thickness_mm, "y")
    screws = [
        rod((x, thickness_mm, z), (1.6 * x + 2, -36, z + lift), 1.75)
        for x, z, lift in (
            (-5, top - 9, 2),
            (5, top - 9, 2),
            (-6, top - 18, -3),
            (6, top - 18, -3),
            (-2, top - 28, 14),
            (3, top - 34, 18),
        )
    ]
    shafts = [_screw((0, z), 3.5, 28) for _, z in holes[: int(shaft_holes) : 2]]
    return union([plate, *screws, *shafts])


def proximal_tibia_plate(shaft_holes: float, side: float) -> Solid:
    """An L over the outer plateau with a raft of screws below the joint."""
    length, thick = 14 * shaft_holes, 3.6
    flat = outline(
        [
            (-7, 0),
            (7, 0),
            (7, length),
            (16, length + 26),
            (15, length + 38),
            (-22, length + 38),
            (-23, length + 26),
            (-7, length + 6),
        ],
        4,
    )
    holes = [(0, 8 + 14 * i) for i in range(int(shaft_holes))] + [(-2, length + 8), (5, length + 18)]
    plate = extrude(cut_out(flat, [circle(2.5, p, 20) for p in holes]), 0, thick, "y")
    raft = [_screw((x, length + 32), 4.5, 62) for x in (-17, -8, 1, 10)]
    made = union([plate, *raft, *(_screw((0, z), 4.5, 34) for _, z in holes[:2])])
    return made if side > 0 else made.mirror((1, 0, 0))


def distal_tibia_plate(shaft_holes: float) -> Solid:
    """A long medial plate that widens and twists at the ankle."""
    length = 13 * shaft_holes
    flat = stadium([(0, 0), (0, length)], 5.5) + outline(
        [
            (-5.5, length - 8),
            (5.5, length - 8),
            (12, length + 22),
            (9, length + 34),
            (-9, length + 34),
            (-12, length + 22),
        ],
        4,
    )
    holes = [(0, 3 + 13 * i) for i in range(int(shaft_holes))] + [
        (-6, length + 14),
        (6, length + 14),
        (-7, length + 24),
        (0, length + 27),
        (7, length + 24),
    ]
    return bent_plate(drilled(flat, holes, 3.6, 3.2), length, -18)


def distal_femur_plate(shaft_holes: float, side: float) -> Solid:
    """A broad head on the outer condyle with locking screws across both condyles; proximal is +z."""
    length, thick = 20 * shaft_holes, 5.0
    flat = stadium([(0, 0), (0, length)], 8.5) + outline(
        [(-8.5, 8), (8.5, 8), (22, -34), (15, -50), (-14, -50), (-17, -30)], 6
    )
    holes = [(0, 14 + 20 * i) for i in range(int(shaft_holes))]
    plate = extrude(cut_out(flat, [circle(3.4, p, 20) for p in holes]), 0, thick, "y")
    locked = [_screw((x, z), 5, 72) for x, z in ((0, -24), (-9, -32), (10, -30), (-5, -42), (8, -42))]
    made = union([plate, *locked, *(_screw((0, z), 5, 42) for _, z in holes[::2])])
    return made if side > 0 else made.mirror((1, 0, 0))


def dynamic_hip_screw(holes: float, angle_deg: float, lag_mm: float) -> Solid:
    """A plate on the outer femur with a barrel, and a thick lag screw up the neck; proximal is +z, the head at -y."""
    length = 16 * holes + 8
    flat = stadium([(0, 6), (0, -length)], 9.5)
    at = [(2 * (-1) ** i, -12 - 16 * i) for i in range(int(holes))]
    plate = extrude(cut_out(flat, [stadium([(x, z - 1.5), (x, z + 1.5)], 2.9) for x, z in at]), 0, 6, "y")
    rows = [(0, 2.5, 2.5), (3, 4.2, 6.2), (24, 4.2, 6.2), (25, 4, 4), (lag_mm, 4, 4)]
    lag = threaded(rows, 3, segments=20).translate((0, 0, -lag_mm))
    neck = union([cylinder(6.3, -40, 2), lag]) - cylinder(2.2, -6, 9, segments=16)
    placed = neck.rotate((-90, 0, 0)).rotate((90 - angle_deg, 0, 0))
    screws = [_screw((x, z), 4.5, 36) for x, z in at]
    return union([plate, placed.translate((0, 3, 0)), *screws])


def angled_blade_plate(holes: float, angle_deg: float, blade_mm: float) -> Solid:
    """A plate bent into a U-profiled blade; the blade points to -y and up for 130 degrees."""
    length = 16 * holes + 10
    flat = stadium([(0, 8), (0, -length)], 8)
    plate = drilled(flat, [(0, -20 - 16 * i) for i in range(int(holes))], 4.6, 5.6)
    blade = box((16, blade_mm, 5), (0, -blade_mm / 2, 0)) - box((9, blade_mm * 2, 3), (0, -blade_mm / 2, 2.5))
    return plate + blade.rotate((-(angle_deg - 90), 0, 0)).translate((0, 3, 3))


def trochanteric_grip_plate(length_mm: float) -> Solid:
    """Claws over the greater trochanter, held to the femur by cables."""
    plate = extrude(stadium([(0, 0), (0, -length_mm)], 9), 0, 4, "y")
    claws = [
        sweep([(x, 2, 0), (x, 2, 14), (0.8 * x, -7, 20), (0.7 * x, -15, 14)], [2.6, 2.6, 2.2, 0.8]) for x in (-6, 6)
    ]
    loops = [ring(17, 0.9, 56, 10).translate((0, -14, z)) for z in (-12, -length_mm + 14)]
    crimps = [box((8, 4, 5), (0, 4, z)) for z in (-12, -length_mm + 14)]
    return union([plate, *claws, *loops, *crimps])


def pelvic_brim_plate(holes: float, pitch_mm: float) -> Solid:
    """A long curved reconstruction plate for the acetabulum, its screws in place."""
    plate = reconstruction_plate(holes, 10, 3, pitch_mm, 3.8, 88)
    angle = np.array(hole_row(holes, pitch_mm)) / 88
    spots = [(88 * (1 - math.cos(a)), 88 * math.sin(a)) for a in angle]
    return union([plate, *(_screw((x, z), 3.5, 26 + 4 * (i % 4)) for i, (x, z) in enumerate(spots) if i % 3 != 1)])


def symphysis_plate(holes: float) -> Solid:
    """A thick curved plate across the pubic symphysis with its screws; x across the patient."""
    x = np.array(hole_row(holes, 13))
    centres = np.stack([x, -0.008 * x**2], 1)
    plate = drilled(stadium(smooth(centres, 20), 5.5), centres, 3.6, 4)
    return union([plate, *(_screw((a, b), 3.5, 36) for a, b in centres)])


def _screw(at: Sequence[float], diameter: float, length: float) -> Solid:
    """A locked screw through a plate: from (x, z) straight down into the bone (-y)."""
    x, z = at
    rows = [(0, 0.1, 0.1), (diameter, 0.4 * diameter, diameter / 2), (length, 0.4 * diameter, diameter / 2)]
    rows += [(length + 0.3, 0.6 * diameter, 0.6 * diameter), (length + 2.5, 0.72 * diameter, 0.72 * diameter)]
    screw = threaded(rows, max(0.5 * diameter, 1.2), segments=10)
    return screw.translate((0, 0, -length)).rotate((-90, 0, 0)).translate((x, 0.5, z))


def _bent_point(solid: Solid, at_z: float, degrees: float) -> Solid:
    """A rigid part moved along with the bend of `bent_plate`."""
    angle, reach = math.radians(degrees), 8.0
    radius = reach / angle
    moved = solid.translate((0, 0, -at_z - reach)).rotate((degrees, 0, 0))
    return moved.translate((0, radius - radius * math.cos(angle), at_z + radius * math.sin(angle)))

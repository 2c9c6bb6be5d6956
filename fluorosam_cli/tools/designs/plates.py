"""Plates: z along the bone, x across it, the underside on y = 0 and +y away from the bone; screw holes go through y."""

import math
from collections.abc import Iterable

import numpy as np

from fluorosam_cli.tools.shapes import (
    Outline,
    Points,
    Solid,
    circle,
    cylinder,
    extrude,
    flats,
    outline,
    smooth,
    stadium,
    sweep,
    tube,
    without,
)

Hole = tuple[float, float, float]  # x, z, diameter


def compression_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Straight, with oval holes that slide a screw toward the fracture."""
    flat = stadium([(0, -_half(holes, pitch_mm)), (0, _half(holes, pitch_mm))], width_mm / 2)
    slots = [stadium([(0, z - 0.3 * hole_mm), (0, z + 0.3 * hole_mm)], hole_mm / 2) for z in hole_row(holes, pitch_mm)]
    return _curved(cut_out(flat, slots), thickness_mm, width_mm)


def locking_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Straight, with figure-of-eight combination holes and notches between them below."""
    flat = stadium([(0, -_half(holes, pitch_mm)), (0, _half(holes, pitch_mm))], width_mm / 2)
    slots = []
    for z in hole_row(holes, pitch_mm):
        toward = 1 if z < 0 else -1
        slots.append(
            circle(hole_mm / 2, (0, z))
            + stadium([(0, z + toward * 0.55 * hole_mm), (0, z + toward * 0.95 * hole_mm)], 0.42 * hole_mm)
        )
    plate = _curved(cut_out(flat, slots), thickness_mm, width_mm)
    between = [z + pitch_mm / 2 for z in hole_row(holes, pitch_mm)[:-1]]
    return without(
        plate,
        [
            cylinder(0.25 * pitch_mm, -width_mm, width_mm, segments=20)
            .scale((1, 0.5, 1))
            .rotate((0, 90, 0))
            .translate((0, 0, z))
            for z in between
        ],
    )


def tubular_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """A strip of a thin tube: one third of it around the bone, with collared round holes."""
    radius = width_mm / (2 * math.sin(math.radians(52)))
    length = 2 * _half(holes, pitch_mm) + width_mm
    strip = tube(radius, radius - thickness_mm, -length / 2, length / 2, 48).translate((0, thickness_mm - radius, 0))
    ends = extrude(
        stadium([(0, -_half(holes, pitch_mm)), (0, _half(holes, pitch_mm))], width_mm / 2),
        -radius,
        2 * thickness_mm,
        "y",
    )
    return without(strip ^ ends, [_bore((0, z, hole_mm)) for z in hole_row(holes, pitch_mm)])


def reconstruction_plate(
    holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float, bend_mm: float
) -> Solid:
    """Scalloped between its holes, so that it bends in every direction; drawn along an arc."""
    centres = np.array([(0.0, z) for z in hole_row(holes, pitch_mm)])
    radius = bend_mm
    centres = np.stack([radius * (1 - np.cos(centres[:, 1] / radius)), radius * np.sin(centres[:, 1] / radius)], 1)
    discs = [circle(width_mm / 2, c) for c in centres]
    flat = flats([*discs, stadium(centres, 0.33 * width_mm)])
    return extrude(cut_out(flat, [circle(hole_mm / 2, c) for c in centres]), 0, thickness_mm, "y")


def t_plate(
    shaft_holes: float,
    head_holes: float,
    width_mm: float,
    thickness_mm: float,
    pitch_mm: float,
    hole_mm: float,
    head_mm: float,
) -> Solid:
    """A straight shaft with a crossbar at its end."""
    length = shaft_holes * pitch_mm
    flat = stadium([(0, 0), (0, length)], width_mm / 2) + stadium(
        [(-head_mm / 2, length), (head_mm / 2, length)], width_mm / 2
    )
    across = [(x, length) for x in np.linspace(-head_mm / 2, head_mm / 2, int(head_holes))]
    return drilled(flat, [(0, (i + 0.1) * pitch_mm) for i in range(int(shaft_holes))] + across, hole_mm, thickness_mm)


def l_plate(
    shaft_holes: float,
    head_holes: float,
    width_mm: float,
    thickness_mm: float,
    pitch_mm: float,
    hole_mm: float,
    head_mm: float,
) -> Solid:
    """A shaft with an arm to one side."""
    length = shaft_holes * pitch_mm
    flat = stadium([(0, 0), (0, length), (head_mm, length + 0.15 * head_mm)], width_mm / 2)
    arm = [(t * head_mm, length + 0.15 * t * head_mm) for t in np.linspace(0, 1, int(head_holes))]
    return drilled(flat, [(0, (i + 0.1) * pitch_mm) for i in range(int(shaft_holes))] + arm, hole_mm, thickness_mm)


def y_plate(
    shaft_holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float, head_mm: float
) -> Solid:
    """Two arms that part like a Y, as for both columns of the elbow."""
    length = shaft_holes * pitch_mm
    arms = [
        [(0, length)] + [(side * t * head_mm / 2, length + t * 1.2 * head_mm) for t in (0.5, 1.0)] for side in (-1, 1)
    ]
    flat = flats([stadium([(0, 0), (0, length)], width_mm / 2), *(stadium(arm, width_mm / 2) for arm in arms)])
    holes = [(0, (i + 0.1) * pitch_mm) for i in range(int(shaft_holes))] + [p for arm in arms for p in arm[1:]]
    return drilled(flat, holes, hole_mm, thickness_mm)


def h_plate(width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Two bars and a bridge, for fingers, face and breastbone."""
    bars = [stadium([(x, -pitch_mm), (x, pitch_mm)], width_mm / 2) for x in (-pitch_mm / 2, pitch_mm / 2)]
    flat = flats([*bars, stadium([(-pitch_mm / 2, 0), (pitch_mm / 2, 0)], 0.4 * width_mm)])
    return drilled(
        flat, [(x, z) for x in (-pitch_mm / 2, pitch_mm / 2) for z in (-pitch_mm, pitch_mm)], hole_mm, thickness_mm
    )


def miniplate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float, hole_mm: float) -> Solid:
    """Rings joined by thin bars, as for face and hand."""
    centres = [(0, z) for z in hole_row(holes, pitch_mm)]
    flat = flats([*(circle(width_mm / 2, c, 24) for c in centres), stadium(centres, 0.22 * width_mm)])
    return drilled(flat, centres, hole_mm, thickness_mm)


def clavicle_plate(holes: float, width_mm: float, thickness_mm: float, pitch_mm: float) -> Solid:
    """S-shaped, on top of the collarbone."""
    z = np.array(hole_row(holes, pitch_mm))
    centres = np.stack([7 * np.sin(z / z.max() * 2.2), z], 1)
    flat = stadium(smooth(centres, 24), 0.38 * width_mm) + flats(circle(width_mm / 2, c) for c in centres)
    return drilled(flat, centres, 3.6, thickness_mm)


def clavicle_hook_plate(holes: float, depth_mm: float) -> Solid:
    """A clavicle plate whose hook goes below the acromion."""
    centres = [(0, 9 * i) for i in range(int(holes))]
    plate = drilled(stadium(centres, 5), centres, 3.6, 3)
    end = centres[-1][1]
    hook = [(4, 1.5, end + 2), (7, 1.5, end + 10), (7, -depth_mm, end + 14), (7, -depth_mm, end + 30)]
    return plate + sweep(hook, [2.2, 2.2, 2, 1.5])


def distal_humerus_plate(holes: float) -> Solid:
    """Narrow, twisted around a column of the elbow, with a lateral tab."""
    centres = [(2.5 * math.sin(0.5 * i), 10.5 * i) for i in range(int(holes))]
    flat = stadium(smooth(centres, 24), 4.8) + stadium([centres[0], (-9, -8)], 4.2)
    plate = drilled(flat, [*centres, (-9, -8)], 3.2, 3)
    return bent_plate(plate, 28, 12)


def olecranon_plate(shaft_holes: float) -> Solid:
    """Hooked over the tip of the elbow."""
    length = 11 * shaft_holes
    flat = stadium([(0, 0), (0, length)], 4.5) + outline(
        [(-4, length), (4, length), (8, length + 14), (6, length + 30), (-6, length + 30), (-8, length + 14)], 3
    )
    holes = [(0, 3 + 11 * i) for i in range(int(shaft_holes))] + [(-4, length + 13), (4, length + 13), (0, length + 22)]
    return bent_plate(drilled(flat, holes, 3.2, 2.6), length + 18, -55)


def calcaneal_plate(scale: float) -> Solid:
    """A perforated net on the outer side of the heel bone."""
    nodes = scale * np.array(
        [(-30, -6), (-30, 8), (-14, 14), (-14, -10), (2, 16), (2, -2), (2, -14), (18, 10), (18, -8), (30, 2)]
    )
    links = [
        (0, 1),
        (1, 2),
        (0, 3),
        (2, 4),
        (2, 3),
        (3, 6),
        (4, 5),
        (5, 6),
        (3, 5),
        (2, 5),
        (4, 7),
        (6, 8),
        (7, 8),
        (5, 8),
        (5, 7),
        (7, 9),
        (8, 9),
    ]
    flat = flats([*(circle(4, n, 24) for n in nodes), *(stadium([nodes[a], nodes[b]], 1.6) for a, b in links)])
    return drilled(flat, nodes, 3.6, 1.8)


def hole_row(holes: float, pitch: float) -> list[float]:
    return [(i - (holes - 1) / 2) * pitch for i in range(int(holes))]


def _half(holes: float, pitch: float) -> float:
    return (holes - 1) / 2 * pitch


def cut_out(flat: Outline, holes: Iterable[Outline]) -> Outline:
    return flat - flats(holes)


def drilled(flat: Outline, centres: Points, hole: float, thickness: float) -> Solid:
    return extrude(cut_out(flat, [circle(hole / 2, c, 20) for c in centres]), 0, thickness, "y")


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


def bent_plate(plate: Solid, at_z: float, degrees: float) -> Solid:
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

"""Implants of the spine, except its screws: rods, connectors, cages, discs, plates."""

import math
from itertools import pairwise

import numpy as np

from fluorosam_cli.tools.designs.vessels import contrast_filled
from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
    arc,
    around,
    ball,
    block,
    both_sides,
    box,
    cylinder,
    extrude,
    hull,
    outline,
    stadium,
    sweep,
    threaded,
    tube,
    union,
    without,
)  # fmt: skip


def spinal_rod(diameter_mm: float, length_mm: float) -> Solid:
    """Straight, one end hexagonal to hold it by."""
    half = length_mm / 2
    return cylinder(diameter_mm / 2, -half, half - 5, segments=24) + cylinder(
        diameter_mm / 2, half - 5, half, segments=6
    )


def curved_spinal_rod(diameter_mm: float, length_mm: float, radius_mm: float) -> Solid:
    """Bent to the lordosis of the lumbar spine: convex toward the front (+y)."""
    half = math.degrees(length_mm / 2 / radius_mm)
    path = arc((0, -radius_mm, 0), radius_mm, 90 - half, 90 + half, 32, "zy")
    return sweep(path, diameter_mm / 2, segments=20)


def growing_rod(length_mm: float) -> Solid:
    """A magnetic actuator between two rods, for growing children."""
    half = length_mm / 2
    return union(
        [
            cylinder(2.75, -half, half, segments=20),
            cylinder(4.5, -45, 45, segments=24),
            cylinder(3.6, 45, 60, segments=24),
        ]
    )


def tandem_rods(length_mm: float, spacing_mm: float) -> Solid:
    """Two rods and two cross connectors."""
    rods = [
        cylinder(2.75, -length_mm / 2, length_mm / 2, segments=20).translate((x, 0, 0))
        for x in (-spacing_mm / 2, spacing_mm / 2)
    ]
    return union([*rods, *(cross_connector(spacing_mm).translate((0, -3, z)) for z in (-length_mm / 4, length_mm / 4))])


def cross_connector(length_mm: float) -> Solid:
    """A transverse bar with a clamp on either rod."""
    clamp = (
        block((9, 9, 8), 1.5) - cylinder(2.75, -9, 9).translate((0, 2.5, 0)) + cylinder(2.2, 3, 6.5).rotate((90, 0, 0))
    )
    bar = block((length_mm, 3.5, 6), 1.2, (0, -2.5, 0))
    return union([bar, both_sides(clamp.translate((length_mm / 2, 0, 0)))])


def domino_connector(rod_mm: float) -> Solid:
    """A block that joins two parallel rods, with four set screws."""
    body = block((3 * rod_mm + 4, rod_mm + 5, 24), 1.5)
    bores = [cylinder(rod_mm / 2, -20, 20, segments=24).translate((x, 0, 0)) for x in (-0.75 * rod_mm, 0.75 * rod_mm)]
    sockets = [
        cylinder(1.6, 0, 9, segments=6).rotate((90, 0, 0)).translate((x, 0, z))
        for x in (-0.75 * rod_mm, 0.75 * rod_mm)
        for z in (-6, 6)
    ]
    return without(body, [*bores, *sockets])


def laminar_hook(width_mm: float, throat_mm: float) -> Solid:
    """A blade around the lamina below a rod slot."""
    profile = stadium([(0, 8), (0, 0), (throat_mm, -2), (throat_mm + 1, -9)], 1.6) + stadium([(0, 8), (0, 14)], 5)
    hook = extrude(profile, -width_mm / 2, width_mm / 2).rotate((90, 0, 90)).rotate((0, 0, 90))
    slot = box((30, 6.2, 8), (0, 0, 14)) + box((6.2, 30, 8), (0, 0, 15))
    return hook - slot


def plif_cage(length_mm: float, width_mm: float, height_mm: float) -> Parts:
    """A bullet from behind, on either side of the canal: toothed, with a window and three marker pins."""
    body = _toothed(_bullet(length_mm, width_mm, height_mm), height_mm)
    body = without(
        body, [block((0.45 * width_mm, 0.5 * length_mm, 50), 1.5), box((50, 0.4 * length_mm, 0.4 * height_mm))]
    )
    pins = [(0, 0.42 * length_mm), (-0.36 * width_mm, -0.42 * length_mm), (0.36 * width_mm, -0.42 * length_mm)]
    return _with_markers(body, pins, 0.9 * height_mm)


def tlif_cage(length_mm: float, width_mm: float, height_mm: float) -> Parts:
    """A banana that lies across the front of the disc."""
    radius = 0.62 * length_mm
    spread = math.degrees((length_mm - width_mm) / 2 / radius)
    path = arc((0, -radius, 0), radius, 90 - spread, 90 + spread, 20, "xy")[:, :2]
    flat = stadium(path, width_mm / 2) - (stadium(path[3:9], 0.24 * width_mm) + stadium(path[11:17], 0.24 * width_mm))
    body = _toothed(extrude(flat, -height_mm / 2, height_mm / 2), height_mm)
    return _with_markers(body, [path[0] * 1.15, path[-1] * 1.15, path[10]], 0.9 * height_mm)


def alif_cage(width_mm: float, depth_mm: float, height_mm: float, lordosis_deg: float) -> Parts:
    """A wide wedge from the front, with one large window and screw holes."""
    flat = outline(
        [
            (-0.5 * width_mm, -0.1 * depth_mm),
            (-0.3 * width_mm, -0.5 * depth_mm),
            (0.3 * width_mm, -0.5 * depth_mm),
            (0.5 * width_mm, -0.1 * depth_mm),
            (0.42 * width_mm, 0.42 * depth_mm),
            (-0.42 * width_mm, 0.42 * depth_mm),
        ],
        4,
    )
    flat = flat - flat.offset(-0.17 * width_mm)
    body = _wedge(_toothed(extrude(flat, -height_mm, height_mm), height_mm), height_mm, lordosis_deg)
    holes = [
        cylinder(2.2, -30, 30, segments=16).rotate((60 * s, 0, 0)).translate((x, 0.42 * depth_mm, 0))
        for x, s in ((-8, 1), (0, -1), (8, 1))
    ]
    body = without(body, holes)
    return _with_markers(body, [(0, -0.42 * depth_mm), (-0.42 * width_mm, 0), (0.42 * width_mm, 0)], 0.6 * height_mm)


def acdf_cage(width_mm: float, depth_mm: float, height_mm: float) -> Parts:
    """A small ring for the neck."""
    flat = outline(
        [(-0.5, -0.42), (0.5, -0.42), (0.5, 0.3), (0.3, 0.5), (-0.3, 0.5), (-0.5, 0.3)]
        * np.array([width_mm, depth_mm]),
        2,
    )
    body = _wedge(_toothed(extrude(flat - flat.offset(-3.2), -height_mm, height_mm), height_mm), height_mm, 6)
    return _with_markers(
        body,
        [(0, -0.34 * depth_mm), (-0.38 * width_mm, 0.1 * depth_mm), (0.38 * width_mm, 0.1 * depth_mm)],
        0.6 * height_mm,
    )


def lateral_cage(length_mm: float, width_mm: float, height_mm: float) -> Parts:
    """A long bar from the flank, spanning the whole end plate."""
    body = _toothed(_bullet(length_mm, width_mm, height_mm).rotate((0, 0, -90)), height_mm)
    windows = [block((0.3 * length_mm, 0.6 * width_mm, 50), 2, (x, 0, 0)) for x in (-0.2 * length_mm, 0.2 * length_mm)]
    pins = [(-0.46 * length_mm, 0), (0, 0), (0.46 * length_mm, 0), (0, 0.4 * width_mm), (0, -0.4 * width_mm)]
    return _with_markers(without(body, windows), pins, 0.85 * height_mm)


def threaded_cage(diameter_mm: float, length_mm: float) -> Solid:
    """A hollow threaded cylinder screwed in from front to back."""
    radius = diameter_mm / 2
    screw = threaded(
        [(0, 0.86 * radius, 0.9 * radius), (2, 0.86 * radius, radius), (length_mm, 0.86 * radius, radius)], 3, 32
    )
    holes = [cylinder(0.7 * radius, 2, length_mm - 1.5)] + [
        cylinder(1.6, -99, 99, segments=16).rotate(turn).translate((0, 0, z))
        for z in (6, 11, 16)
        if z < length_mm - 3
        for turn in ((90, 0, 0), (0, 90, 0))
    ]
    return without(screw, holes).translate((0, 0, -length_mm / 2)).rotate((90, 0, 0))


def mesh_cage(diameter_mm: float, length_mm: float) -> Solid:
    """A tube of diamonds that replaces a vertebral body."""
    radius, rows = diameter_mm / 2, max(int(length_mm / 7), 2)
    wall = tube(radius, radius - 1.0, -length_mm / 2, length_mm / 2)
    step = length_mm / (rows + 0.4)
    count = max(int(math.pi * diameter_mm / 7), 6)
    hole = extrude(outline([(-2.4, 0), (0, -3.0), (2.4, 0), (0, 3.0)]), 0, 2 * radius, "y")
    holes = [
        around(hole, count, 180 / count * (i % 2)).translate((0, 0, (i - (rows - 1) / 2) * step)) for i in range(rows)
    ]
    return without(wall, holes)


def expandable_cage(diameter_mm: float, height_mm: float) -> Solid:
    """A telescoping strut with footplates, in place of a vertebral body."""
    radius, half = diameter_mm / 2, height_mm / 2
    foot = cylinder(1.25 * radius, half - 2.5, half) - cylinder(0.5 * radius, half - 9, half + 1)
    spikes = around(cylinder(0.9, 0, 2, 0.1, 8).translate((radius, 0, half)), 6)
    body = tube(radius, 0.62 * radius, -half, 0.15 * half) + tube(0.86 * radius, 0.62 * radius, 0, half)
    gear = without(
        tube(1.12 * radius, 0.8 * radius, -4, 5), [box((1, 99, 20), (0, 0, 0)).rotate((0, 0, 30 * i)) for i in range(6)]
    )
    return union([body, gear, foot + spikes, (foot + spikes).mirror((0, 0, 1))])


def artificial_disc(width_mm: float, depth_mm: float, height_mm: float) -> Parts:
    """Two keeled metal plates on a plastic core."""
    flat = outline(
        np.array([(-0.5, -0.3), (-0.3, -0.5), (0.3, -0.5), (0.5, -0.3), (0.4, 0.5), (-0.4, 0.5)])
        * (width_mm, depth_mm),
        0.15 * depth_mm,
    )
    plate = extrude(flat, height_mm / 2 - 2, height_mm / 2) + hull(
        [
            box((1.2, 0.7 * depth_mm, 0.5), (0, 0, height_mm / 2)),
            box((1.0, 0.35 * depth_mm, 0.5), (0, 0, height_mm / 2 + 2.2)),
        ]
    )
    core = ball(0.42 * depth_mm) ^ box((99, 99, height_mm - 4.0))
    return {"plates": plate + plate.mirror((0, 0, 1)), "core": core}


def interspinous_spacer(height_mm: float) -> Solid:
    """Wings on either side of two spinous processes, a barrel between them."""
    wing = (
        extrude(stadium([(0, -height_mm), (0, height_mm)], 5), 7, 9.5)
        .rotate((0, 90, 0))
        .rotate((90, 0, 0))
        .rotate((0, 0, 0))
    )
    wing = box((2.5, 11, 2.4 * height_mm), (8, 0, 0)) - cylinder(2, -99, 99).rotate((0, 90, 0)).translate(
        (0, 0, 0.9 * height_mm)
    )
    return union([both_sides(wing), cylinder(height_mm / 2, -8, 8).rotate((0, 90, 0))])


def cervical_plate(levels: float, length_mm: float) -> Parts:
    """A short plate on the front of the neck with its screws."""
    half = length_mm / 2
    rows = np.linspace(-half + 4, half - 4, int(levels) + 1)
    flat = outline([(-8, -half), (8, -half), (8, half), (-8, half)], 3)
    waists = [stadium([(x, (a + b) / 2 - 2), (x, (a + b) / 2 + 2)], 2.2) for x in (-9, 9) for a, b in pairwise(rows)]
    windows = [stadium([(0, (a + b) / 2 - 2.5), (0, (a + b) / 2 + 2.5)], 2.4) for a, b in pairwise(rows)]
    for hole in [*waists, *windows]:
        flat = flat - hole
    lordotic = 90.0
    plate = (
        extrude(flat, 0, 2.4, "y")
        .refine_to_length(4)
        .warp_batch(
            lambda p: p + np.stack([0 * p[:, 0], p[:, 0] ** 2 * -0.012 + p[:, 2] ** 2 / (2 * lordotic), 0 * p[:, 0]], 1)
        )
    )
    screws = []
    for z in rows:
        tilt = 12 * (1 if z > 0 else -1) * (abs(z) > half - 5)
        screw = threaded([(0, 0.1, 0.1), (3, 1.2, 2), (15, 1.3, 2), (15.3, 1.9, 1.9), (17, 2.4, 2.4)], 1.5, 16)
        screws += [
            screw.translate((0, 0, -15))
            .rotate((-90, 0, 0))
            .rotate((0, 0, -6 if x > 0 else 6))
            .rotate((tilt, 0, 0))
            .translate((x, 1 + z * z / (2 * lordotic), z))
            for x in (-5, 5)
        ]
    return {"plate": union([plate, *screws])}


def kyphoplasty_balloon(length_mm: float, diameter_mm: float) -> Parts:
    """An inflated bone tamp full of contrast medium on its working cannula."""
    balloon = (
        ball(diameter_mm / 2, (0, 0, 0), 24).scale((1, 1, length_mm / diameter_mm)).translate((0, 0, length_mm / 2))
    )
    shaft = cylinder(0.7, -1, length_mm + 60, segments=12)
    cannula = tube(2.1, 1.75, length_mm + 3, length_mm + 120, 24) + tube(6, 2.1, length_mm + 112, length_mm + 122, 6)
    return {"cannula": cannula + shaft, "contrast": contrast_filled(balloon) - shaft}


def _bullet(length: float, width: float, height: float) -> Solid:
    """A box along y with a wedge-shaped nose at +y."""
    body = block((width, 0.72 * length, height), 1.2, (0, -0.14 * length, 0))
    return hull([body, block((0.7 * width, 2.4, 0.45 * height), 0.8, (0, 0.5 * length - 1.2, 0))])


def _toothed(body: Solid, height: float) -> Solid:
    """Grooves across the upper and lower faces."""
    low, high = body.bounding_box()[1], body.bounding_box()[4]
    groove = cylinder(0.75, -60, 60, segments=4).rotate((0, 90, 0))
    places = np.arange(low + 2, high - 1.5, 2.2)
    return without(body, [groove.translate((0, y, z)) for y in places for z in (-height / 2, height / 2)])


def _wedge(body: Solid, height: float, degrees: float) -> Solid:
    tilt = math.tan(math.radians(degrees / 2))
    upper = body.trim_by_plane((0, tilt, -1), -height / 2)
    return upper.trim_by_plane((0, tilt, 1), -height / 2)


def _with_markers(body: Solid, at: list, height: float) -> Parts:
    pins = union(cylinder(0.5, -height / 2, height / 2, segments=10).translate((float(x), float(y), 0)) for x, y in at)
    return {"body": body - pins, "markers": pins}

"""Retractors, suction and cautery: the tip at the origin, the handle toward +z, flat in the x-z plane."""

from itertools import pairwise

import numpy as np

from fluorosam_cli.tools.designs.instruments import FLAT, finger_ring, tweezers
from fluorosam_cli.tools.shapes import (
    Parts,
    Points,
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
    ring,
    rod,
    smooth,
    stadium,
    sweep,
    tube,
    union,
    without,
)


def bipolar_forceps(length_mm: float) -> Parts:
    """Insulated tweezers with a plug."""
    arms = tweezers(length_mm, 0.9)
    plug = block((12, 8, 16), 2, (0, 0, length_mm + 6))
    pins = both_sides(cylinder(1.6, length_mm + 12, length_mm + 28, segments=14).translate((3.4, 0, 0)))
    return {"arms": arms - plug, "pins": pins, "plug": plug - pins}


def langenbeck_retractor(length_mm: float, blade_mm: float) -> Solid:
    """A right-angled blade on a loop handle."""
    shaft = [(0, 0, 3), (0, 0, 0.55 * length_mm)]
    blade = extrude(
        outline([(0, 0), (-blade_mm, 1), (-blade_mm - 2, 6), (-blade_mm, 4), (0, 3)], 0.6),
        -0.2 * blade_mm,
        0.2 * blade_mm,
        "y",
    )
    loop = stadium([(0, 0.55 * length_mm), (0, length_mm - 12)], 11) - stadium(
        [(0, 0.55 * length_mm + 2), (0, length_mm - 14)], 7
    )
    return union([blade, sweep(shaft, 2.2, FLAT * 1.4), extrude(loop, -1.5, 1.5, "y").rotate((0, 0, 90))])


def double_ended_retractor(length_mm: float) -> Solid:
    """A flat strip bent at both ends (Army-Navy)."""
    path = [
        (-0.2 * length_mm, 0, 4),
        (-0.19 * length_mm, 0, 0),
        (0, 0, 0),
        (0.0, 0, 2),
        (0, 0, length_mm - 2),
        (0, 0, length_mm),
        (0.26 * length_mm, 0, length_mm),
        (0.27 * length_mm, 0, length_mm - 4),
    ]
    strip = union(hull([_plate_at(a), _plate_at(b)]) for a, b in pairwise(path))
    windows = [block((9, 7, 22), 3, (0, 0, z)) for z in (0.3 * length_mm, 0.5 * length_mm, 0.7 * length_mm)]
    return without(strip, windows)


def rake_retractor(length_mm: float, prongs: float) -> Solid:
    """Bent prongs on a shaft."""
    count = int(prongs)
    places = [(i - (count - 1) / 2) * 5.5 for i in range(count)]
    tines = [
        sweep(
            smooth([(-9, y, 6), (-8, y, 1), (-2, y, 0), (0, 0.8 * y, 8), (0, 0.2 * y, 22)], 20),
            np.linspace(0.3, 1.3, 20),
            segments=8,
        )
        for y in places
    ]
    handle = union(
        [
            rod((0, 0, 20), (0, 0, length_mm - 30), 2.2),
            ring(10, 2, 32, 10).rotate((90, 0, 0)).translate((0, 0, length_mm - 20)),
        ]
    )
    return union([*tines, handle]).rotate((0, 0, 90))


def deaver_retractor(length_mm: float, width_mm: float) -> Solid:
    """A broad strip curved like a question mark."""
    path = smooth(
        [
            (-70, 40),
            (-62, 8),
            (-34, -2),
            (-8, 14),
            (0, 60),
            (0, length_mm - 14),
            (7, length_mm - 3),
            (14, length_mm - 10),
        ],
        60,
    )
    return extrude(stadium(path, 0.9, 10), -width_mm / 2, width_mm / 2, "y")


def malleable_retractor(length_mm: float, width_mm: float) -> Solid:
    """A ribbon to bend as needed."""
    path = smooth([(-30, 4), (-16, -2), (0, 20), (0, length_mm)], 40)
    ribbon = extrude(stadium(path, 0.75, 10), -width_mm / 2, width_mm / 2, "y")
    return ribbon.rotate((0, 0, 55))


def self_retaining_retractor(length_mm: float, prongs: float) -> Solid:
    """Weitlaner: rake-tipped arms held apart by a ratchet."""
    tines = []
    for i in range(int(prongs)):
        y = (i - (prongs - 1) / 2) * 5
        tines.append(
            sweep(
                smooth([(17, y, 0), (13, y, 1), (12, y, 8), (11, 0.3 * y, 20)], 16),
                np.linspace(0.4, 1.5, 16),
                segments=8,
            )
        )
    arm = sweep(
        smooth([(11, 0, 18), (10, 0, 0.35 * length_mm), (0, 0, 0.55 * length_mm), (-13, 0, 0.9 * length_mm)], 24),
        2.4,
        FLAT,
    )
    return union(
        [
            both_sides(union([arm, *tines, finger_ring(-22, length_mm - 8, 1)])),
            sweep(arc((0, 0, 0.55 * length_mm), 0.3 * length_mm, 68, 112, 12), 1.3),
        ]
    )


def gelpi_retractor(length_mm: float) -> Solid:
    """Single sharp points turned outward."""
    arm = sweep(
        smooth(
            [(24, 0, 0), (18, 0, 8), (16, 0, 0.3 * length_mm), (0, 0, 0.58 * length_mm), (-13, 0, 0.9 * length_mm)], 30
        ),
        np.r_[np.linspace(0.2, 2.2, 10), np.full(20, 2.2)],
        segments=10,
    )
    return union(
        [
            both_sides(arm + finger_ring(-22, length_mm - 8, 1)),
            sweep(arc((0, 0, 0.58 * length_mm), 0.27 * length_mm, 66, 114, 12), 1.3),
        ]
    )


def rib_spreader(width_mm: float) -> Solid:
    """Finochietto: blades on a rack with a crank."""
    rack = box((width_mm + 60, 5, 12), (20, 0, 130)) - union(
        box((2, 9, 3), (x, 0, 136)) for x in np.arange(-width_mm / 2, width_mm / 2 + 40, 5)
    )
    arms = [block((13, 8, 128), 2, (x, 0, 66)) for x in (-width_mm / 2, width_mm / 2)]
    blades = [
        (block((4, 34, 46), 1.5, (x, 0, 22)) - block((9, 12, 26), 3, (x, 0, 22)))
        for x in (-width_mm / 2 - 5, width_mm / 2 + 5)
    ]
    crank = union(
        [
            block((24, 14, 20), 3, (width_mm / 2, 0, 130)),
            rod((width_mm / 2, 0, 140), (width_mm / 2, 0, 160), 3),
            rod((width_mm / 2 - 18, 0, 160), (width_mm / 2 + 18, 0, 160), 2.4),
        ]
    )
    return union([rack, *arms, *blades, crank])


def abdominal_retractor(width_mm: float) -> Solid:
    """Balfour: two wire frames on a bar and a middle blade."""
    bars = [rod((-width_mm / 2 - 20, 0, z), (width_mm / 2 + 40, 0, z), 3) for z in (120, 134)]
    loops = [
        sweep(
            smooth([(x, 0, 127), (x, 0, 30), (x, -10, 4), (x, -26, 0), (x, -42, 4), (x, -44, 30), (x, -44, 60)], 40),
            2.6,
        )
        for x in (-width_mm / 2, width_mm / 2)
    ]
    blocks = [block((22, 14, 30), 3, (x, 0, 127)) for x in (-width_mm / 2, 0, width_mm / 2)]
    blade = extrude(stadium(smooth([(0, 130), (0, 70), (-10, 40), (-34, 34)], 24), 1.2, 8), -30, 30, "y").rotate(
        (0, 0, 90)
    )
    return union([*bars, *loops, *blocks, blade])


def yankauer_suction(length_mm: float) -> Parts:
    """A curved plastic or metal sucker with a bulb tip."""
    path = smooth([(0, 0, 4), (2, 0, 0.15 * length_mm), (14, 0, 0.4 * length_mm), (14, 0, 0.55 * length_mm)], 30)
    body = sweep(path, 4, segments=16) - sweep(path, 3, segments=16)
    bulb = (
        ball(6, (0, 0, 5), 24)
        - ball(4.8, (0, 0, 5), 24)
        - cylinder(2, -9, 20)
        - around(cylinder(1, 0, 20, segments=10).rotate((0, 90, 0)).translate((0, 0, 5)), 4)
    )
    grip = tube(6.5, 4, 0.55 * length_mm - 2, 0.9 * length_mm, 24).translate((14, 0, 0)) + tube(
        5, 3, 0.9 * length_mm, length_mm, 24
    ).translate((14, 0, 0))
    return {"sucker": union([body, bulb, grip])}


def frazier_suction(french: float, length_mm: float) -> Solid:
    """A thin bent metal sucker with a finger hole."""
    radius = french / 6
    path = smooth([(0, 0, 0), (0, 0, 0.45 * length_mm), (10, 0, 0.62 * length_mm), (34, 0, 0.86 * length_mm)], 40)
    pipe = sweep(path, radius, segments=16) - sweep(path, 0.75 * radius, segments=16)
    plate = extrude(
        outline([(10, 0.6 * length_mm), (22, 0.64 * length_mm), (34, 0.8 * length_mm), (22, 0.84 * length_mm)], 4)
        - stadium([(20, 0.7 * length_mm), (24, 0.76 * length_mm)], 1.4),
        -1.6,
        1.6,
        "y",
    )
    return pipe + (plate - sweep(path, 0.75 * radius, segments=16))


def poole_suction(length_mm: float) -> Solid:
    """A straight sucker in a perforated sleeve."""
    sleeve = hull([ball(4.5, (0, 0, 4.5), 24), cylinder(4.5, 5, 0.7 * length_mm)]) - cylinder(3.6, 4, length_mm)
    holes = [
        cylinder(1.1, -9, 9, segments=8).rotate((90, 0, 45 * i)).translate((0, 0, 10 + 6 * i))
        for i in range(int(0.6 * length_mm / 6))
    ]
    return without(sleeve, holes) + tube(3.4, 2.4, 6, length_mm, 20) + tube(6, 3, 0.7 * length_mm - 1, 0.78 * length_mm)


def electrocautery_pencil(length_mm: float) -> Parts:
    """A plastic pen with a blade, a switch and a cable."""
    blade = block((2.6, 0.6, 34), 0.25, (0, 0, 17))
    socket = cylinder(2.2, 24, 60, segments=16) - block((2.7, 0.7, 34), 0.25, (0, 0, 17))
    board = box((6, 1.2, 30), (0, 2.5, 75))
    cable = sweep(
        smooth([(0, 0, length_mm - 4), (0, 0, length_mm + 20), (24, 0, length_mm + 50), (20, 0, length_mm + 90)], 30),
        1.1,
    )
    metal = union([blade, socket, board])
    body = cylinder(4, 32, 46, 6.5) + cylinder(6.5, 46, length_mm, 5.5)
    return {"metal": metal, "cable": cable, "body": (body - metal) - cable}


def _plate_at(point: Points) -> Solid:
    return box((2.2, 15, 2.2), [float(v) for v in np.asarray(point)])

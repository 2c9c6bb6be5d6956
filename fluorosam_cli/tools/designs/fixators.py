"""External fixators, and implants of skull and teeth."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
    ball,
    block,
    box,
    circle,
    cylinder,
    extrude,
    flats,
    hull,
    outline,
    rod,
    sweep,
    threaded,
    tube,
    union,
    without,
)


def half_pin(diameter_mm: float, length_mm: float, thread_mm: float) -> Solid:
    """Schanz: threaded in the bone, smooth outside, a square end."""
    radius = diameter_mm / 2
    rows = [
        (0, 0.1, 0.1),
        (diameter_mm, 0.74 * radius, 0.96 * radius),
        (thread_mm, 0.78 * radius, radius),
        (thread_mm + 1, radius, radius),
    ]
    shaft = threaded([*rows, (length_mm - 14, radius, radius)], 1.75, 18)
    return shaft + box((1.35 * radius, 1.35 * radius, 15), (0, 0, length_mm - 7.5))


def fixator_bar(diameter_mm: float, length_mm: float) -> Solid:
    """A round bar beside the limb."""
    return cylinder(diameter_mm / 2, -length_mm / 2, length_mm / 2).rotate((90, 0, 0))


def pin_clamp(bar_mm: float) -> Solid:
    """Two jaws at a right angle joined by a bolt."""

    def jaw(grip: float) -> Solid:
        return (
            block((24, 20, 9), 2)
            - cylinder(grip / 2, -30, 30, segments=20).rotate((90, 0, 0)).translate((7, 0, 0))
            - box((30, 40, 1.2), (12, 0, 0))
        )

    bolt = cylinder(3, -16, 16) + cylinder(5.5, 14, 20, segments=6) + cylinder(6.5, -18, -14)
    return union([jaw(bar_mm).translate((4, 0, -5)), jaw(5).rotate((0, 0, 90)).translate((0, 4, 5)), bolt])


def unilateral_fixator(length_mm: float, pins: float) -> Parts:
    """Half pins in a long bone on a bar with clamps: z along the bone, pins toward -y."""
    count = int(pins)
    at = [*np.linspace(-0.46, -0.2, count // 2) * length_mm, *np.linspace(0.2, 0.46, count - count // 2) * length_mm]
    pin = (
        threaded([(0, 0.1, 0.1), (4, 1.9, 2.4), (38, 1.9, 2.5), (39, 2.5, 2.5), (110, 2.5, 2.5)], 1.75, 14)
        .translate((0, 0, -34))
        .rotate((-90, 0, 0))
    )
    pins_placed = union(pin.translate((0, 0, float(z))) for z in at)
    clamps = union(block((20, 22, 18), 3, (5, 62, float(z))) for z in at)
    bar = cylinder(5.5, -length_mm / 2 - 20, length_mm / 2 + 20).translate((11, 62, 0))
    return {"pins": pins_placed, "clamps": clamps - pins_placed - bar, "bar": bar - pins_placed}


def ring_fixator(diameter_mm: float, rings: float) -> Parts:
    """Ilizarov: perforated rings, threaded rods, crossed thin wires."""
    count, radius = int(rings), diameter_mm / 2
    hoop = without(
        tube(radius + 8, radius - 8, -2.5, 2.5, 64),
        [
            cylinder(3.7, -9, 9, segments=12).translate((radius * math.cos(a), radius * math.sin(a), 0))
            for a in np.linspace(0, 2 * np.pi, 28, endpoint=False)
        ],
    )
    levels = (np.arange(count) - (count - 1) / 2) * 70
    wires = union(
        rod((-radius - 12, 0, z), (radius + 12, 0, z), 0.9).rotate((0, 0, turn)) for z in levels for turn in (25, 85)
    )
    rods = union(
        cylinder(3, float(levels[0]) - 12, float(levels[-1]) + 12, segments=14).translate(
            (radius * math.cos(a), radius * math.sin(a), 0)
        )
        for a in np.radians((10, 100, 190, 280))
    )
    nuts = union(
        cylinder(5.6, float(z) - 6, float(z) + 6, segments=6).translate((radius * math.cos(a), radius * math.sin(a), 0))
        for z in levels
        for a in np.radians((10, 100, 190, 280))
    )
    metal = union([wires, rods, nuts])
    return {"rings": union(hoop.translate((0, 0, float(z))) for z in levels) - metal, "rods": metal}


def hexapod_fixator(diameter_mm: float) -> Parts:
    """Two rings joined by six slanting struts."""
    radius, half = diameter_mm / 2, 70.0
    hoops = union(tube(radius + 7, radius - 7, z - 3, z + 3, 64) for z in (-half, half))
    struts = []
    for i in range(6):
        a, b = (
            math.radians(60 * i + (8 if i % 2 else -8)),
            math.radians(60 * (i + (1 if i % 2 == 0 else -1)) + (-8 if i % 2 else 8)),
        )
        low = np.array([radius * math.cos(a), radius * math.sin(a), -half])
        top = np.array([radius * math.cos((a + b) / 2 + 0.4), radius * math.sin((a + b) / 2 + 0.4), half])
        struts += [rod(low, top, 3), rod(low, low + 0.55 * (top - low), 5.5), ball(6, low, 16), ball(6, top, 16)]
    wires = [
        rod((-radius - 10, 0, z), (radius + 10, 0, z), 0.9).rotate((0, 0, turn))
        for z in (-half, half)
        for turn in (20, 80)
    ]
    metal = union([*struts, *wires])
    return {"rings": hoops - metal, "struts": metal}


def wrist_fixator(length_mm: float) -> Parts:
    """Two pins in hand and forearm, a ball-jointed bar."""
    pin = cylinder(1.5, -22, 46, segments=14).rotate((-90, 0, 0))
    at = [-0.5 * length_mm, -0.5 * length_mm + 16, 0.5 * length_mm - 16, 0.5 * length_mm]
    pins = union(pin.translate((0, 0, z)) for z in at)
    body = union(
        [
            rod((0, 40, -0.4 * length_mm), (0, 46, 0), 8),
            rod((0, 46, 0), (0, 40, 0.4 * length_mm), 8),
            ball(11, (0, 46, 0), 24),
            *(block((16, 14, 28), 3, (0, 40, z)) for z in (-0.45 * length_mm, 0.45 * length_mm)),
        ]
    )
    return {"pins": pins, "body": body - pins}


def skull_fixation_pin(length_mm: float) -> Solid:
    """A stout pointed pin of a head clamp or halo: +z away from the skull."""
    return union(
        [
            cylinder(0.1, 0, 5, 2.5, 20),
            cylinder(2.5, 5, 12),
            threaded(
                [(11, 3, 3), (13, 3, 4), (length_mm - 12, 3, 4), (length_mm - 11, 4, 4), (length_mm - 8, 4, 4)], 1.5, 18
            ),
            cylinder(6, length_mm - 9, length_mm, segments=6),
        ]
    )


def burr_hole_cover(diameter_mm: float) -> Solid:
    """A perforated disc with screw ears on the skull."""
    flat = circle(diameter_mm / 2, segments=40)
    for k in range(5):
        a = 2 * math.pi * k / 5
        spot = (0.5 * diameter_mm * math.cos(a), 0.5 * diameter_mm * math.sin(a))
        flat = (
            (flat + circle(2.6, spot, 20))
            - circle(0.9, spot, 14)
            - circle(
                0.13 * diameter_mm, (0.27 * diameter_mm * math.cos(a + 0.6), 0.27 * diameter_mm * math.sin(a + 0.6)), 16
            )
        )
    return extrude(flat, 0, 0.6)


def skull_mesh(width_mm: float) -> Solid:
    """A sheet of titanium net over a hole in the skull, slightly domed."""
    half, holes = width_mm / 2, []
    flat = outline([(-half, -half), (half, -half), (half, half), (-half, half)], 6)
    for i, y in enumerate(np.arange(-half + 4, half - 3, 4.4)):
        for x in np.arange(-half + 4 + 2.5 * (i % 2), half - 3, 5.0):
            holes.append(circle(1.75, (float(x), float(y)), 10))
    net = extrude(flat - flats(holes), 0, 0.6)
    return net.refine_to_length(6).warp_batch(
        lambda p: p - np.stack([0 * p[:, 0], 0 * p[:, 0], (p[:, 0] ** 2 + p[:, 1] ** 2) / 160], 1)
    )


def dental_implant(diameter_mm: float, length_mm: float) -> Parts:
    """A threaded root in the jaw with its abutment and crown."""
    radius = diameter_mm / 2
    root = threaded(
        [
            (0, 0.5 * radius, 0.6 * radius),
            (1.5, 0.72 * radius, 0.95 * radius),
            (length_mm - 2, 0.8 * radius, radius),
            (length_mm - 1.5, radius, radius),
            (length_mm, radius, radius),
        ],
        0.9,
        18,
    )
    post = cylinder(0.8 * radius, length_mm, length_mm + 6, 0.6 * radius, 20)
    crown = hull(
        [
            cylinder(1.2 * radius, length_mm + 1, length_mm + 2, segments=20),
            block((2.1 * diameter_mm, 2.0 * diameter_mm, 3), 1.2, (0, 0, length_mm + 7.5)),
        ]
    )
    return {"root": root + post, "crown": crown - post}


def dental_crown(width_mm: float) -> Solid:
    """A cast cap on a tooth."""
    outer = hull([cylinder(0.42 * width_mm, 0, 1, segments=24), block((width_mm, 0.95 * width_mm, 3), 1.2, (0, 0, 6))])
    cusps = union(
        ball(0.26 * width_mm, (x * 0.24 * width_mm, y * 0.24 * width_mm, 6.6), 16) for x in (-1, 1) for y in (-1, 1)
    )
    return (outer + cusps) - hull(
        [cylinder(0.34 * width_mm, -1, 0, segments=24), cylinder(0.3 * width_mm, 4.8, 5, segments=24)]
    )


def dental_braces(teeth: float) -> Solid:
    """Brackets on an arch wire; it lies across the front teeth."""
    count = int(teeth)
    angle = np.radians(np.linspace(200, 340, 60))
    arch = np.stack([26 * np.cos(angle), 34 * np.sin(angle) + 26, 0 * angle], 1)
    brackets = []
    for k in range(count):
        i = round(4 + 52 * k / max(count - 1, 1))
        tilt = math.degrees(
            math.atan2(arch[min(i + 1, 59), 1] - arch[i - 1, 1], arch[min(i + 1, 59), 0] - arch[i - 1, 0])
        )
        brackets.append(
            (block((3.2, 1.6, 3.6), 0.4) - box((9, 0.9, 0.6), (0, -0.7, 0)))
            .rotate((0, 0, tilt))
            .translate((float(arch[i, 0]), float(arch[i, 1]), 0))
        )
    return union([sweep(arch, 0.24, segments=8), *brackets])

"""Drills, reamers, saws and their guides. The tip at the origin, the handle toward +z."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Outline,
    Parts,
    Solid,
    ball,
    block,
    box,
    circle,
    cylinder,
    extrude,
    outline,
    ring,
    rod,
    shell,
    smooth,
    stadium,
    sweep,
    threaded,
    tube,
    union,
    without,
)


def drill_bit(diameter_mm: float, length_mm: float) -> Solid:
    """Two helical flutes, a pointed tip, a shank with a coupling."""
    fluted = 0.45 * length_mm
    bit = _twisted(_two_flutes(diameter_mm / 2), fluted, 360 * fluted / (5.5 * diameter_mm))
    tip = cylinder(0.01, 0, 0.6 * diameter_mm, 0.7 * diameter_mm, 24)
    point = bit ^ (tip + cylinder(diameter_mm, 0.6 * diameter_mm, fluted))
    return union(
        [
            point,
            cylinder(diameter_mm / 2, fluted - 0.5, length_mm - 24, segments=20),
            _coupling(max(2.2, diameter_mm / 2)).translate((0, 0, length_mm - 24)),
        ]
    )


def cannulated_drill_bit(diameter_mm: float, bore_mm: float, length_mm: float) -> Solid:
    """A drill with a bore for a guide wire."""
    return drill_bit(diameter_mm, length_mm) - cylinder(bore_mm / 2, -1, length_mm + 1, segments=14)


def bone_tap(diameter_mm: float, length_mm: float) -> Solid:
    """Cuts the thread for a screw."""
    core, outer = 0.34 * diameter_mm, diameter_mm / 2
    cutter = threaded(
        [
            (0, 0.6 * core, 0.6 * core),
            (4, core, 0.9 * outer),
            (35, core, outer),
            (36, core, core),
            (length_mm - 22, core, core),
        ],
        0.39 * diameter_mm,
        18,
    )
    grooves = [
        box(
            (0.35 * diameter_mm, 0.8, 36), (0.5 * diameter_mm * math.cos(a), 0.5 * diameter_mm * math.sin(a), 14)
        ).rotate((0, 0, 0))
        for a in (0, 2.09, 4.19)
    ]
    return without(cutter, grooves) + _coupling(2.2).translate((0, 0, length_mm - 24))


def countersink(diameter_mm: float, length_mm: float) -> Solid:
    """A toothed cone that makes room for a screw's head."""
    cone = cylinder(1.2, 0, 8, segments=16) + ball(diameter_mm / 2, (0, 0, 8 + 0.4 * diameter_mm), 32)
    teeth = [box((diameter_mm, 0.9, diameter_mm), (0.62 * diameter_mm, 0, 7)).rotate((0, 0, 60 * i)) for i in range(6)]
    return union(
        [
            without(cone, teeth),
            cylinder(2.2, 8, length_mm - 22, segments=20),
            _coupling(2.2).translate((0, 0, length_mm - 24)),
        ]
    )


def medullary_reamer(diameter_mm: float, length_mm: float) -> Solid:
    """A fluted head on a flexible wound shaft."""
    radius = diameter_mm / 2
    head = cylinder(0.45 * radius, 0, 5, radius) + cylinder(radius, 5, 17) + cylinder(radius, 17, 20, 3.4)
    slots = [
        cylinder(0.3 * radius, -2, 30, segments=14).translate((0.98 * radius, 0, 0)).rotate((0, 0, 60 * i))
        for i in range(6)
    ]
    shaft = threaded(
        [(19, 2.7, 3.3), (length_mm - 30, 2.7, 3.3), (length_mm - 29, 3.3, 3.3), (length_mm - 10, 3.3, 3.3)],
        5.0,
        14,
        crest=0.4,
        flank=0.15,
    )
    made = union([without(head, slots), shaft, _coupling(3.3).translate((0, 0, length_mm - 24))])
    return made - cylinder(1.6, -1, length_mm + 9, segments=12)


def acetabular_reamer(diameter_mm: float, length_mm: float) -> Solid:
    """A hollow grater for the hip socket on a shaft."""
    radius = diameter_mm / 2
    dome = shell(radius, radius - 1.6, 40).mirror((0, 0, 1)).translate((0, 0, radius))
    holes = []
    for ring_index, tilt in enumerate((12, 34, 56, 76)):
        count = 4 + 4 * ring_index
        holes += [
            cylinder(1.9, 0, 2 * radius, segments=10)
            .rotate((0, 180 - tilt, 360 * k / count + 20 * ring_index))
            .translate((0, 0, radius))
            for k in range(count)
        ]
    cross = box((2 * radius - 2, 5, 4), (0, 0, radius - 2)) + box((5, 2 * radius - 2, 4), (0, 0, radius - 2))
    return union(
        [
            without(dome, holes),
            cross,
            cylinder(5, radius - 3, length_mm - 40, segments=24),
            ribbed_handle(14, 100).translate((0, 0, length_mm - 60)),
        ]
    )


def femoral_broach(scale: float, length_mm: float) -> Solid:
    """A toothed rasp in the shape of a hip stem, on its handle."""
    flat = outline(np.array([(-3, 0), (3, 0), (8, 60), (11, 110), (-16, 110), (-11, 84), (-5, 50)]) * (scale, 1), 2)
    body = extrude(flat, -6.5 * scale, 6.5 * scale, "y")
    teeth = [
        box((60, 40, 1.1), (0, 0, z)) - box((15 * scale + 0.12 * z, 10.5 * scale, 3), (-1, 0, z))
        for z in np.arange(5, 108, 3.2)
    ]
    handle = union(
        [
            cylinder(7, 109, length_mm - 60),
            block((30, 30, 20), 5, (0, 0, 150)),
            cylinder(18, length_mm - 14, length_mm),
            cylinder(11, length_mm - 62, length_mm - 13),
        ]
    )
    return without(body, teeth) + handle.translate((-4 * scale, 0, 0))


def drill_guide(inner_mm: float, length_mm: float) -> Solid:
    """A toothed sleeve on an angled handle."""
    outer = inner_mm / 2 + 1.4
    sleeve = tube(outer, inner_mm / 2 + 0.1, 0, length_mm, 28)
    teeth = [box((9, 1.2, 2.4), (outer, 0, 0)).rotate((0, 0, 45 * i)) for i in range(8)]
    handle = sweep(
        smooth([(0, 0, length_mm - 12), (26, 0, length_mm), (60, 0, length_mm + 22), (130, 0, length_mm + 60)], 30),
        np.interp(np.linspace(0, 1, 30), [0, 0.3, 0.45, 1], [3.5, 3.5, 6.5, 7.5]),
    )
    return without(union([sleeve, handle]), [*teeth, cylinder(inner_mm / 2 + 0.1, -9, 400)])


def double_drill_guide(small_mm: float, large_mm: float) -> Solid:
    """A handle with a sleeve of different size at either end."""
    handle = rod((-4.5, 0, 0), (124, 0, 0), 4.5)
    sleeves = [
        tube(d / 2 + 1.5, d / 2 + 0.1, -24, 24, 24).translate((x, 0, 0)) for x, d in ((-6, small_mm), (126, large_mm))
    ]
    grip = union(ring(4.5, 0.9, 28, 8).rotate((0, 90, 0)).translate((x, 0, 0)) for x in range(36, 90, 6))
    return union(
        [
            *sleeves,
            handle
            - cylinder(small_mm / 2, -99, 99).translate((-6, 0, 0))
            - cylinder(large_mm / 2, -99, 99).translate((126, 0, 0)),
            grip,
        ]
    )


def power_drill(length_mm: float) -> Parts:
    """A pistol with motor, chuck and battery."""
    chuck = cylinder(5, 0, 22, 12) + cylinder(14, 22, 42)
    motor = cylinder(17, 60, length_mm - 10)
    gears = cylinder(11, 40, 62) - cylinder(4, 39, 70)
    barrel = tube(21, 18, 40, length_mm, 40) + cylinder(21, length_mm - 4, length_mm, segments=40)
    grip = block((34, 28, 120), 10, (0, 0, 0)).rotate((0, 78, 0)).translate((72, 0, 0.62 * length_mm))
    grip = grip - block((26, 20, 108), 8, (0, 0, 0)).rotate((0, 78, 0)).translate((72, 0, 0.62 * length_mm))
    grip = grip - cylinder(20.9, 0, length_mm)
    battery = union(cylinder(8.5, -32, 32).rotate((0, 78, 0)).translate((88, 0, 0.62 * length_mm + z)) for z in (-7,))
    metal = union([chuck, motor, gears])
    return {"metal": metal, "battery": battery - barrel, "case": (barrel + grip) - metal - battery}


def oscillating_saw_blade(width_mm: float, length_mm: float) -> Solid:
    """A thin flat blade with teeth at its end and a hub with slots."""
    teeth = np.arange(-width_mm / 2, width_mm / 2 + 0.1, 1.6)
    edge = [(x, 1.4 * (i % 2)) for i, x in enumerate(teeth)]
    flat = outline(
        [
            *edge,
            (float(teeth[-1]), length_mm - 22),
            (8, length_mm - 12),
            (8, length_mm),
            (-8, length_mm),
            (-8, length_mm - 12),
            (float(teeth[0]), length_mm - 22),
        ]
    )
    holes = (
        circle(3, (0, length_mm - 8))
        + stadium([(-5.5, length_mm - 12), (-5.5, length_mm - 4)], 1)
        + stadium([(5.5, length_mm - 12), (5.5, length_mm - 4)], 1)
    )
    return extrude(
        flat - holes - stadium([(0, 0.35 * length_mm), (0, 0.6 * length_mm)], 0.14 * width_mm), -0.5, 0.5, "y"
    )


def trauma_guide_sleeve(length_mm: float) -> Solid:
    """Three sleeves one in the other, for screws through the skin."""
    return union(
        [
            tube(4, 3.1, 0, length_mm, 24) + tube(7, 3.1, length_mm - 12, length_mm, 24),
            tube(3.05, 2.0, 4, length_mm + 18, 24) + tube(6, 2, length_mm + 8, length_mm + 18, 6),
            tube(1.95, 0.8, 8, length_mm + 34, 16) + cylinder(5, length_mm + 28, length_mm + 36, segments=20),
        ]
    )


def _two_flutes(radius: float) -> Outline:
    flat = circle(radius, segments=24)
    return flat - circle(0.62 * radius, (0.86 * radius, 0), 20) - circle(0.62 * radius, (-0.86 * radius, 0), 20)


def _twisted(flat: Outline, length: float, degrees: float) -> Solid:
    return flat.extrude(length, max(int(degrees / 15), 4), degrees)


def _coupling(radius: float) -> Solid:
    """A quick coupling, 24 mm long: a flat, a groove, a round end."""
    rounded = union(
        [
            cylinder(radius, 0, 15, segments=20),
            cylinder(0.75 * radius, 14, 18, segments=20),
            cylinder(radius, 18, 24, segments=20),
        ]
    )
    return rounded - box((2 * radius, 4 * radius, 9), (1.6 * radius, 0, 8))


def ribbed_handle(radius: float, length: float) -> Solid:
    """A ribbed round grip from z = 0."""
    body = union(
        [
            cylinder(0.55 * radius, 0, 0.15 * length, radius),
            cylinder(radius, 0.15 * length, 0.85 * length),
            cylinder(radius, 0.85 * length, length, 0.7 * radius),
        ]
    )
    grooves = [
        tube(1.4 * radius, 0.88 * radius, f * length, f * length + 0.04 * length, 32)
        for f in np.arange(0.22, 0.8, 0.09)
    ]
    return without(body, grooves)

"""Wires, pins and elastic nails of bone surgery: the tip at the origin, the shaft toward +z."""

import numpy as np

from fluorosam_cli.tools.shapes import Line, Solid, arc, ball, cylinder, ring, sweep, threaded, union


def kirschner_wire(diameter_mm: float, length_mm: float) -> Solid:
    """A round wire with a trocar point."""
    return _pointed(diameter_mm / 2, length_mm, 2.5 * diameter_mm)


def threaded_kirschner_wire(diameter_mm: float, length_mm: float, thread_mm: float) -> Solid:
    """A thread behind the point."""
    radius = diameter_mm / 2
    rows = [(0, 0.05, 0.05), (1.5 * diameter_mm, 0.72 * radius, 0.95 * radius), (thread_mm, 0.72 * radius, radius)]
    return threaded([*rows, (thread_mm + 0.5, radius, radius), (length_mm, radius, radius)], 0.6 * diameter_mm)


def bent_kirschner_wire(diameter_mm: float, length_mm: float) -> Solid:
    """Cut short and bent over at the end so that it can neither slip in nor tear gloves."""
    radius, bend = diameter_mm / 2, 2.5 * diameter_mm
    straight = np.linspace([0, 0, 2.5 * diameter_mm], [0, 0, length_mm - bend], 6)
    hook = arc((bend, 0, length_mm - bend), bend, 180, 20, 14)
    tip = [[0, 0, 0.0]]
    return sweep(np.vstack([tip, straight, hook[1:]]), [0.02, *[radius] * (len(straight) + len(hook) - 1)], segments=16)


def olive_wire(diameter_mm: float, length_mm: float) -> Solid:
    """A fine wire with a bead that stops against the bone."""
    bead = ball(2.2 * diameter_mm / 2, (0, 0, 0.45 * length_mm), 24)
    return _pointed(diameter_mm / 2, length_mm, 2.5 * diameter_mm) + bead


def steinmann_pin(diameter_mm: float, length_mm: float) -> Solid:
    """A thick pin with a trocar point and flats for the chuck."""
    radius = diameter_mm / 2
    flat = cylinder(2 * radius, length_mm - 15, length_mm + 1, segments=3) ^ cylinder(radius, length_mm - 15, length_mm)
    return _pointed(radius, length_mm - 15, 2 * diameter_mm) + flat


def denham_pin(diameter_mm: float, length_mm: float) -> Solid:
    """A traction pin with a short raised thread in the middle."""
    radius, middle = diameter_mm / 2, length_mm / 2
    rows = [(0, 0.05, 0.05), (2 * diameter_mm, radius, radius), (middle - 14, radius, radius)]
    rows += [(middle - 12, radius, 1.3 * radius), (middle + 12, radius, 1.3 * radius), (middle + 14, radius, radius)]
    return threaded([*rows, (length_mm, radius, radius)], 2.0)


def guide_pin(diameter_mm: float, length_mm: float) -> Solid:
    """A guide wire for cannulated screws: a short fine thread at the tip."""
    radius = diameter_mm / 2
    rows = [
        (0, 0.05, 0.05),
        (1.2 * diameter_mm, 0.75 * radius, radius),
        (10, 0.75 * radius, radius),
        (10.4, radius, radius),
    ]
    return threaded([*rows, (length_mm, radius, radius)], 0.9)


def cerclage_wire(diameter_mm: float, loop_mm: float) -> Solid:
    """A loop around the bone, its ends twisted together."""
    radius, loop = diameter_mm / 2, loop_mm / 2
    twist = np.linspace(0, 4 * 2 * np.pi, 60)
    strands = [
        sweep(
            np.stack(
                [
                    0.9 * radius * np.cos(twist + turn),
                    loop + 0.4 * twist * diameter_mm,
                    0.9 * radius * np.sin(twist + turn),
                ],
                1,
            ),
            radius,
            segments=10,
        )
        for turn in (0, np.pi)
    ]
    return union([ring(loop, radius, 64, 12), *strands])


def tension_band_wire(diameter_mm: float, length_mm: float, width_mm: float) -> Solid:
    """A figure of eight on the bone, with its twist."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    lift = diameter_mm * (0.6 + 0.55 * np.cos(angle))  # one strand passes over the other
    loop = np.stack([width_mm / 2 * np.sin(2 * angle), lift, length_mm / 2 * np.sin(angle)], 1)
    knot = cylinder(diameter_mm, 0, 5 * diameter_mm, segments=12).rotate((60, 0, 0))
    return sweep(loop, diameter_mm / 2, closed=True) + knot.translate((width_mm / 2, diameter_mm, length_mm / 3))


def elastic_nail(line: Line, diameter_mm: float) -> Solid:
    """A titanium nail with a flattened, bent-up tip."""
    radius = diameter_mm / 2
    shaped = line.with_tip([(1.6 * diameter_mm, -3 * diameter_mm), (0.5 * diameter_mm, -1.6 * diameter_mm), (0, 0)])
    blade = ball(radius, (0, 0, 1.5 * diameter_mm), 16).scale((0.6, 1.2, 1))
    return shaped.bend(
        cylinder(0.8 * radius, 0, 1.5 * diameter_mm, segments=16)
        + blade
        + cylinder(radius, 1.5 * diameter_mm, shaped.length_mm, segments=16)
    )


def rush_pin(line: Line, diameter_mm: float) -> Solid:
    """A round pin with a sledge-runner tip and a hooked end."""
    radius, end = diameter_mm / 2, line.length_mm
    hook = sweep(arc((2 * diameter_mm, 0, 0), 2 * diameter_mm, 180, 10, 14), radius, segments=16)
    tip = cylinder(0.3 * radius, 0, 3 * diameter_mm, radius, 16)
    shaft = tip + cylinder(radius, 3 * diameter_mm - 0.1, end, segments=16)
    return line.bend(shaft) + line.place(hook, end)


def _pointed(radius: float, length: float, point: float) -> Solid:
    return cylinder(0.02, 0, point, radius, 20) + cylinder(radius, point, length, segments=20)

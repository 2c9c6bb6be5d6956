"""Instruments of keyhole surgery, endoscopes, ultrasound probes: the tip at the origin, the handle toward +z."""

import math

import numpy as np

from fluorosam_cli.tools.designs.instruments import FLAT
from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
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
    sweep,
    together,
    tube,
    union,
    without,
)


def laparoscopic_grasper(diameter_mm: float, length_mm: float) -> Parts:
    """Two serrated jaws on a long shaft with a pistol grip."""
    jaw = sweep([(3.2, 0, 0), (2.4, 0, 8), (0.4, 0, 24)], [1.0, 1.5, 1.7], FLAT * 1.3)
    return _pistol(both_sides(jaw), diameter_mm, length_mm)


def laparoscopic_dissector(diameter_mm: float, length_mm: float) -> Parts:
    """Curved fine jaws (Maryland)."""
    jaw = [
        sweep(smooth([(x, 0, 0), (x / 2 + 4, 0, 10), (0, 0, 24)], 16), np.linspace(0.5, 1.6, 16), segments=10)
        for x in (7, 1)
    ]
    return _pistol(union(jaw), diameter_mm, length_mm)


def laparoscopic_scissors(diameter_mm: float, length_mm: float) -> Parts:
    """Two short crossing blades."""
    blade = extrude(outline([(3.4, 0), (3.8, 1), (1.8, 18), (-1.2, 18)]), -0.7, 0.7, "y")
    return _pistol(both_sides(blade), diameter_mm, length_mm)


def laparoscopic_hook(diameter_mm: float, length_mm: float) -> Parts:
    """A cautery hook shaped like an L."""
    hook = sweep(smooth([(6, 0, 1.5), (5, 0, 0.2), (1, 0, 0.4), (0, 0, 4), (0, 0, 25)], 24), 0.7)
    return _pistol(hook, diameter_mm, length_mm)


def clip_applier(diameter_mm: float, length_mm: float) -> Parts:
    """Jaws that hold a clip."""
    jaw = sweep(smooth([(2.6, 0, 0), (3.6, 0, 10), (1.0, 0, 26)], 16), 1.4, FLAT * 1.3)
    clip = sweep([(1.0, 0, 1), (1.2, 0, 7), (0, 0, 9.5), (-1.2, 0, 7), (-1.0, 0, 1)], 0.5)
    return _pistol(both_sides(jaw) + clip, diameter_mm, length_mm)


def linear_stapler(jaw_mm: float, length_mm: float) -> Parts:
    """Two flat jaws with rows of staples on a thick shaft."""
    lower = block((6, 10, jaw_mm), 1.5, (-4.2, 0, jaw_mm / 2 + 1))
    anvil = block((4, 10, jaw_mm), 1.2, (3.2, 0, jaw_mm / 2)).rotate((0, 4, 0))
    made = _pistol(union([lower, anvil, cylinder(6, jaw_mm - 2, jaw_mm + 8)]), 12, length_mm, start=jaw_mm)
    staples = together(
        [box((0.25, 0.25, 3), (-4.2, y, z)) for y in (-4, -3, -2, 2, 3, 4) for z in np.arange(4, jaw_mm - 3, 4.2)]
    )
    return {"metal": made["metal"] - staples, "staples": staples, "grip": made["grip"]}


def circular_stapler(diameter_mm: float, length_mm: float) -> Parts:
    """An anvil like a mushroom before a round head, a curved shaft."""
    radius = diameter_mm / 2
    anvil = cylinder(0.6 * radius, 0, 4, radius) + cylinder(radius, 4, 8) + cylinder(2, 8, 26, segments=16)
    head = cylinder(radius, 20, 52) - cylinder(radius - 2, 19, 26)
    path = smooth([(0, 0, 50), (4, 0, 110), (26, 0, 200), (40, 0, length_mm - 60)], 40)
    shaft = sweep(path, 6, segments=18)
    grip = (
        block((30, 24, 90), 8, (44, 0, length_mm - 20))
        + block((12, 14, 80), 5, (22, 0, length_mm - 30))
        + rod((22, 0, length_mm - 60), (44, 0, length_mm - 55), 6)
    )
    metal = union([anvil, head, shaft])
    return {"metal": metal, "grip": grip - metal}


def rigid_endoscope(diameter_mm: float, length_mm: float) -> Parts:
    """A rod-lens telescope: slanted tip, light post, eyepiece."""
    radius = diameter_mm / 2
    pipe = tube(radius, radius - 0.5, 0, length_mm, 24) - box((40, 40, 20), (0, 0, -10)).rotate((0, 30, 0)).translate(
        (0, 0, 0)
    )
    lenses = union(
        cylinder(radius - 1.0, 6 + 45 * i, 40 + 45 * i, segments=16) for i in range(int((length_mm - 20) / 45))
    )
    body = union(
        [
            cylinder(9, length_mm - 10, length_mm + 26),
            cylinder(16, length_mm + 40, length_mm + 46),
            cylinder(10, length_mm + 26, length_mm + 40, 15),
            rod((0, 0, length_mm + 8), (30, 0, length_mm + 8), 4.5),
        ]
    ) - cylinder(radius - 0.5, 0, 999)
    return {"metal": union([pipe, body]), "lenses": lenses}


def flexible_endoscope(diameter_mm: float, length_mm: float) -> Parts:
    """A bending tip on a wire-wound tube, with its control body."""
    radius = diameter_mm / 2
    path = smooth(
        [(30, 0, 22), (38, 0, 4), (24, 0, -2), (6, 0, 24), (0, 0, 90), (10, 0, 0.6 * length_mm), (0, 0, length_mm)], 90
    )
    sheath = sweep(path, radius, segments=16) - sweep(path, 0.82 * radius, segments=16)
    light = union(
        sweep(path + offset, 0.14 * radius, segments=8) for offset in ((0, 0.35 * radius, 0), (0, -0.35 * radius, 0))
    )
    head = union(
        [
            block((34, 30, 90), 12, (0, 0, length_mm + 45)),
            cylinder(16, -22, 22).rotate((90, 0, 0)).translate((0, 0, length_mm + 70)),
            rod((0, 0, length_mm + 80), (46, 0, length_mm + 96), 9),
        ]
    )
    return {"sheath": sheath, "fibres": light, "body": head - sheath - light}


def retrieval_basket(diameter_mm: float, length_mm: float) -> Solid:
    """Four wires that open behind the tip, for stones."""
    wire = sweep(
        smooth([(0.3, 0, 2), (diameter_mm / 2, 0, 0.5 * diameter_mm + 2), (0.3, 0, diameter_mm + 6)], 24),
        0.22,
        segments=6,
    )
    return together(
        [
            *(wire.rotate((0, 0, 90 * k)) for k in range(4)),
            cylinder(0.6, 0, 2.2, segments=10),
            cylinder(0.9, diameter_mm + 5.5, length_mm, segments=12),
        ]
    )


def linear_ultrasound_probe(face_mm: float) -> Parts:
    """A flat face across a T-shaped grip."""
    return _probe(
        hull([block((face_mm, 14, 6), 2, (0, 0, 3)), block((0.9 * face_mm, 20, 20), 6, (0, 0, 26))]),
        box((face_mm - 6, 8, 4), (0, 0, 4)),
        28,
        24,
    )


def convex_ultrasound_probe(face_mm: float, radius_mm: float) -> Parts:
    """A round face for the belly."""
    face = (cylinder(radius_mm, -11, 11, segments=96).rotate((90, 0, 0)).translate((0, 0, radius_mm))) ^ box(
        (face_mm, 40, 36), (0, 0, 14)
    )
    crystal = (tube(radius_mm - 1, radius_mm - 4, -6, 6, 96).rotate((90, 0, 0)).translate((0, 0, radius_mm))) ^ box(
        (face_mm - 6, 40, 12), (0, 0, 5)
    )
    return _probe(hull([face, block((34, 26, 20), 8, (0, 0, 52))]), crystal, 50, 26)


def phased_ultrasound_probe(face_mm: float) -> Parts:
    """A small square face for the heart."""
    return _probe(
        hull([block((face_mm, 18, 8), 3, (0, 0, 4)), block((28, 26, 20), 8, (0, 0, 36))]),
        box((face_mm - 6, 11, 5), (0, 0, 5)),
        34,
        26,
    )


def endocavity_ultrasound_probe(length_mm: float) -> Parts:
    """A round tip on a long stem."""
    stem = hull([ball(12, (0, 0, 12), 32), cylinder(9, 30, 31)]) + cylinder(9, 30, 0.6 * length_mm)
    crystal = (ball(10, (0, 0, 12), 24) - ball(8, (0, 0, 12), 24)) ^ box((40, 9, 14), (0, 0, 5))
    return _probe(stem, crystal, 0.58 * length_mm, 26)


def _pistol(jaws: Solid, diameter: float, length: float, start: float = 22) -> Parts:
    """A shaft from `start` to `length` with a rotating knob and scissor grips."""
    radius = diameter / 2
    pull = cylinder(0.3 * diameter, start, length + 10, segments=12)
    shaft = tube(radius, 0.7 * radius, start, length, 24) + cylinder(radius, start - 1, start + 3, segments=24)
    knob = without(
        cylinder(14, length - 14, length + 4),
        [box((4, 4, 40), (15 * math.cos(a), 15 * math.sin(a), length)) for a in np.arange(0, 6.2, 0.79)],
    )
    front = sweep(
        smooth([(0, 0, length + 8), (14, 0, length + 10), (44, 0, length + 2), (62, 0, length + 8)], 24), 5, segments=12
    ) + ring(14, 4, 36, 10).rotate((90, 0, 0)).translate((74, 0, length + 12))
    back = sweep(
        smooth([(0, 0, length + 12), (16, 0, length + 34), (44, 0, length + 46), (58, 0, length + 54)], 24),
        5,
        segments=12,
    ) + ring(13, 4, 36, 10).rotate((90, 0, 0)).translate((70, 0, length + 58))
    metal = union([jaws, pull, shaft])
    grip = union([knob, block((18, 16, 30), 5, (0, 0, length + 14)), front, back])
    return {"metal": metal, "grip": grip - metal}


def _probe(head: Solid, crystal: Solid, start: float, wide: float) -> Parts:
    """A hollow plastic case with backing, boards and a cable."""
    grip = hull([cylinder(wide / 2, start, start + 1), cylinder(0.42 * wide, start + 70, start + 71, 0.3 * wide)])
    hollow = hull([cylinder(wide / 2 - 2, start + 4, start + 5), cylinder(0.42 * wide - 2, start + 66, start + 67)])
    boards = union(box((0.55 * wide, 1.2, 50), (0, y, start + 32)) for y in (-3, 3))
    end = start + 70
    path = smooth([(0, 0, end - 2), (0, 0, end + 30), (30, 0, end + 70), (26, 0, end + 130)], 30)
    cable = sweep(path, 3.4, segments=14) - sweep(path, 1.6, segments=10)
    core = sweep(path, 1.6, segments=10)
    return {
        "boards": boards,
        "crystal": crystal,
        "core": core,
        "case": without(head + grip, [hollow, crystal, core]) + (cable - grip),
    }

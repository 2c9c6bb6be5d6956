"""Nails inside long bones with their locking screws: the far tip at the origin, z toward the end they entered."""

import math
from collections.abc import Sequence

import numpy as np

from fluorosam_cli.tools.shapes import (
    Solid,
    box,
    circle,
    cylinder,
    extrude,
    flats,
    outline,
    stadium,
    threaded,
    union,
    without,
)

Bolt = tuple[float, float, float]  # z, direction about z in degrees (0 is +x), length


def femoral_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Antegrade: gently bowed forward, two bolts below, one oblique above."""
    return _nail(
        diameter_mm,
        length_mm,
        bow_mm=length_mm**2 / 8 / 1100,
        bolts=[(15, 0, 50), (35, 0, 48), (length_mm - 45, 0, 55)],
    )


def retrograde_femoral_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Entered at the knee: several bolts across the condyles."""
    near = [(length_mm - z, turn, 70) for z, turn in ((12, 0), (25, 35), (38, -35), (52, 0))]
    return _nail(diameter_mm, length_mm, bow_mm=-(length_mm**2) / 8 / 1300, bolts=[(15, 90, 36), (30, 90, 36), *near])


def cephalomedullary_nail(diameter_mm: float, length_mm: float, angle_deg: float, lag_mm: float) -> Solid:
    """A thick top with a lag screw up the femoral neck (+x is toward the head)."""
    top = 17.0 if length_mm > 250 else 16.0
    bow = length_mm**2 / 8 / 1100 if length_mm > 250 else 0
    bolts = [(20, 0, 42), (38, 0, 42)] if length_mm > 250 else [(25, 0, 36)]
    nail = _nail(diameter_mm, length_mm, bow_mm=bow, bolts=bolts, top_mm=top, top_length_mm=70)
    at = length_mm - 48
    lag = threaded(
        [(0, 2, 2), (3, 3.6, 5.2), (28, 3.6, 5.2), (29, 5.2, 5.2), (lag_mm, 5.2, 5.2), (lag_mm + 2, 3, 3)], 3, 20
    )
    lag = lag.translate((0, 0, -lag_mm + 22)).rotate((0, -angle_deg, 0))
    return nail + lag.translate((0, 0, at))


def helical_blade_nail(length_mm: float, blade_mm: float) -> Solid:
    """The lag screw replaced by a twisted blade."""
    nail = _nail(10, length_mm, bow_mm=0, bolts=[(25, 0, 36)], top_mm=16.5, top_length_mm=70)
    fins = flats([stadium([(-5.2, 0), (5.2, 0)], 1.0, 8), stadium([(0, -5.2), (0, 5.2)], 1.0, 8)])
    blade = fins.extrude(34, 16, 80).translate((0, 0, blade_mm - 34)) + cylinder(4.2, 0, blade_mm - 30, segments=20)
    blade = blade.translate((0, 0, -25)).rotate((0, 50, 0))
    return nail + blade.translate((0, 0, length_mm - 48))


def tibial_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Bent back at the top (Herzog), bolts below, crossed bolts above."""
    bolts = [(8, 0, 38), (20, 90, 36), (32, 0, 38), (length_mm - 42, 45, 62), (length_mm - 56, -45, 62)]
    return _nail(diameter_mm, length_mm, bow_mm=0, bolts=bolts, bend_deg=10, bend_at_mm=length_mm - 55)


def humeral_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Straight, with a fan of bolts in the head."""
    near = [(length_mm - 10, 10, 44), (length_mm - 20, -30, 46), (length_mm - 30, 40, 46), (length_mm - 40, 0, 44)]
    return _nail(
        diameter_mm,
        length_mm,
        bow_mm=0,
        bolts=[(15, 90, 26), (30, 0, 26), *near],
        bolt_mm=4,
        top_mm=diameter_mm + 2,
        top_length_mm=50,
    )


def forearm_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Thin, bowed like the radius, one bolt at its end."""
    return _nail(diameter_mm, length_mm, bow_mm=8, bolts=[(length_mm - 8, 0, 14)], bolt_mm=2.7)


def fibular_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Short, entered at the ankle, with bolts into the tibia."""
    near = [(length_mm - 12, 90, 22), (length_mm - 26, 0, 50), (length_mm - 36, 0, 52)]
    return _nail(diameter_mm, length_mm, bow_mm=0, bolts=near, bolt_mm=3.5)


def hindfoot_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Through heel, ankle and tibia, to fuse them."""
    near = [(length_mm - 14, 90, 60), (length_mm - 30, 0, 40), (length_mm - 46, 90, 40)]
    return _nail(
        diameter_mm,
        length_mm,
        bow_mm=0,
        bolts=[(15, 0, 34), (30, 0, 34), *near],
        bend_deg=10,
        bend_at_mm=length_mm - 50,
    )


def cloverleaf_nail(diameter_mm: float, length_mm: float) -> Solid:
    """Kuentscher's: a slotted tube of three lobes."""
    lobe = 0.27 * diameter_mm
    centres = [(lobe * math.cos(a), lobe * math.sin(a)) for a in (math.pi / 2, math.pi * 7 / 6, math.pi * 11 / 6)]
    outer = circle(lobe * 0.9, centres[0]) + circle(lobe * 0.9, centres[1]) + circle(lobe * 0.9, centres[2])
    flat = outer - outer.offset(-1.1) - outline([(-0.9, -diameter_mm), (0.9, -diameter_mm), (0.9, 0), (-0.9, 0)])
    nail = extrude(flat, 0, length_mm)
    return without(nail, [box((99, 4, 12), (0, 0, length_mm - 14))])


def knee_fusion_nail(diameter_mm: float, length_mm: float) -> Solid:
    """One long nail from femur to tibia, joined at the knee by a conical coupling."""
    middle = length_mm / 2
    nail = _nail(
        diameter_mm,
        length_mm,
        bow_mm=0,
        bolts=[(20, 0, 38), (40, 90, 38), (length_mm - 20, 0, 45), (length_mm - 40, 90, 45)],
    )
    collar = cylinder(0.5 * diameter_mm, middle - 20, middle - 6, 0.85 * diameter_mm) + cylinder(
        0.85 * diameter_mm, middle - 6, middle + 18
    )
    return nail + (collar - cylinder(1.5, -99, 99, segments=12).rotate((90, 0, 0)).translate((0, 0, middle + 8)))


def _nail(
    diameter: float, length: float, bow_mm: float, bolts: Sequence[Bolt], top_mm: float = 0, top_length_mm: float = 60,
    bend_deg: float = 0, bend_at_mm: float = 0, bolt_mm: float = 5,
) -> Solid:  # fmt: skip
    """A cannulated nail in the y-z plane, its holes drilled and its bolts in them."""
    radius, top = diameter / 2, max(top_mm, diameter) / 2
    shaft = union([
        cylinder(0.5 * radius, 0, 1.5 * radius, radius, 28),
        cylinder(radius, 1.5 * radius, length - top_length_mm, segments=28),
        cylinder(radius, length - top_length_mm, length - top_length_mm + 15, top, 28),
        cylinder(top, length - top_length_mm + 15, length, segments=28),
    ])  # fmt: skip
    bore = cylinder(min(2.2, 0.4 * radius + 0.2), -1, length + 1, segments=14) + cylinder(
        0.55 * top, length - 14, length + 1
    )

    def across(radius_mm: float, bolt: Bolt, reach: float) -> Solid:
        z, turn, _ = bolt
        return cylinder(radius_mm, -reach, reach, segments=16).rotate((0, 90, turn)).translate((0, 0, z))

    nail = without(shaft, [bore, *(across(bolt_mm / 2 + 0.2, bolt, 30) for bolt in bolts)])
    z = np.linspace(0, length, 41)
    y = bow_mm * (1 - ((2 * z - length) / length) ** 2)
    if bend_deg:
        y = y - np.tan(math.radians(bend_deg)) * np.clip(z - bend_at_mm, 0, None)
    placed = []
    for at, turn, reach in bolts:
        rows = [
            (0, 0.1, 0.1),
            (3, 0.42 * bolt_mm, bolt_mm / 2),
            (reach, 0.42 * bolt_mm, bolt_mm / 2),
            (reach + 0.3, 0.75 * bolt_mm, 0.75 * bolt_mm),
            (reach + 3, 0.75 * bolt_mm, 0.75 * bolt_mm),
        ]
        bolt = threaded(rows, 3.0, 10).translate((0, 0, -reach / 2)).rotate((0, 90, turn))
        placed.append(bolt.translate((0, float(np.interp(at, z, y)), at)))
    made = nail
    if bow_mm or bend_deg:
        made = nail.refine_to_length(12).warp_batch(
            lambda p: np.stack([p[:, 0], p[:, 1] + np.interp(p[:, 2], z, y), p[:, 2]], 1)
        )
    return union([made, *placed])

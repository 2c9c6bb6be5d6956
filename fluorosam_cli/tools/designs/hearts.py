"""Heart valves, occluders and pumps: z along the flow, the origin in the middle."""

import math

import numpy as np

from fluorosam_cli.tools.designs.stents import zigzag
from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
    arc,
    ball,
    block,
    both_sides,
    circle,
    cylinder,
    extrude,
    outline,
    ring,
    smooth,
    sweep,
    together,
    tube,
    union,
    without,
)


def bileaflet_valve(diameter_mm: float) -> Parts:
    """A ring with two half-moon leaflets, half open."""
    radius = diameter_mm / 2
    housing = tube(radius, radius - 2, -4, 4, 48)
    leaf = extrude(circle(radius - 2.4, segments=40) ^ outline([(0.6, -99), (99, -99), (99, 99), (0.6, 99)]), -0.6, 0.6)
    leaves = [leaf.rotate((0, -55, 0)), leaf.rotate((0, 0, 180)).rotate((0, 55, 0))]
    cuff = tube(radius + 3, radius + 0.05, -2, 3, 48)
    return {"housing": housing, "leaflets": union(leaves) - housing, "cuff": cuff}


def tilting_disc_valve(diameter_mm: float) -> Parts:
    """A ring with struts and a disc that tilts."""
    radius = diameter_mm / 2
    strut = sweep(smooth([(-radius + 1, 3, 0), (-2, 3.5, 4), (3, 0, 5), (-2, -3.5, 4), (-radius + 1, -3, 0)], 24), 0.7)
    low = sweep(smooth([(radius - 1, 3, 0), (1, 2, -4), (1, -2, -4), (radius - 1, -3, 0)], 20), 0.7)
    frame = union([tube(radius, radius - 2, -2, 2, 48), strut, low])
    disc = cylinder(radius - 2.6, -0.8, 0.8, segments=40).rotate((0, 50, 0))
    return {"housing": frame, "disc": disc - frame}


def caged_ball_valve(diameter_mm: float) -> Parts:
    """A ball in a cage of wires (Starr-Edwards)."""
    radius = diameter_mm / 2
    cage = [
        sweep(arc((0, 0, 3), radius - 0.5, a, 90, 14), 0.8).rotate((0, 0, turn)) for turn in (0, 120, 240) for a in (0,)
    ]
    frame = union([ring(radius, 1.6, 48, 12), *(c.scale((1, 1, 1.25)) for c in cage)])
    return {"cage": frame, "ball": ball(radius - 2, (0, 0, 0.42 * radius)) - frame}


def bioprosthetic_valve(diameter_mm: float) -> Solid:
    """The wire frame of an animal valve: a crown with three posts."""
    radius, height = diameter_mm / 2, 0.55 * diameter_mm
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    crown = np.stack([radius * np.cos(angle), radius * np.sin(angle), height * np.abs(np.cos(1.5 * angle)) ** 1.6], 1)
    return together([sweep(crown, 0.55, closed=True, segments=8), ring(radius + 1.4, 0.5, 48, 8)])


def transcatheter_valve(diameter_mm: float, height_mm: float) -> Parts:
    """A short balloon-expanded crown with a skirt."""
    rows, radius = 3, diameter_mm / 2
    step = height_mm / rows
    crown = together(
        [zigzag(radius, 12, step, (i + 0.5) * step - height_mm / 2, 0.3, 15 * (i % 2)) for i in range(rows)]
    )
    skirt = tube(radius - 0.5, radius - 0.9, -height_mm / 2, 0, 36)
    return {"frame": crown, "skirt": skirt}


def self_expanding_valve(diameter_mm: float) -> Parts:
    """A tall waisted frame that reaches into the aorta."""
    rows = 7
    frame = []
    for i in range(rows):
        z = -22 + 7.5 * i
        radius = diameter_mm / 2 * (1 - 0.22 * math.sin(math.pi * min(i / 4.5, 1)) + 0.18 * max(i - 4, 0) / 2)
        frame.append(zigzag(radius, 12, 7.5, z, 0.24, 15 * (i % 2)))
    skirt = tube(0.46 * diameter_mm, 0.45 * diameter_mm, -24, -4, 36)
    return {"frame": together(frame), "skirt": skirt}


def annuloplasty_ring(diameter_mm: float, open_deg: float) -> Solid:
    """A kidney-shaped ring or band around a leaking valve."""
    angle = np.radians(np.linspace(open_deg / 2, 360 - open_deg / 2, 64, endpoint=open_deg > 0)) + np.pi / 2
    path = np.stack(
        [
            diameter_mm / 2 * np.cos(angle),
            0.36 * diameter_mm * np.sin(angle) - 2 * (np.sin(angle) > 0) * np.sin(angle) ** 2,
            1.2 * np.cos(2 * angle),
        ],
        1,
    )
    return sweep(path, 1.1, closed=open_deg == 0, segments=10)


def septal_occluder(waist_mm: float) -> Solid:
    """Two discs of wire mesh joined by a waist."""
    wires = []
    for z, radius in ((-3.0, waist_mm / 2 + 7), (3.0, waist_mm / 2 + 5)):
        for k in range(12):
            swirl = np.radians(np.linspace(0, 75, 14))
            grow = np.linspace(1.2, radius, 14)
            for sign in (1, -1):
                spiral = np.stack(
                    [grow * np.cos(swirl * sign), grow * np.sin(swirl * sign), z + 0.12 * sign + 0 * grow], 1
                )
                wires.append(sweep(spiral, 0.08, segments=5).rotate((0, 0, 30 * k)))
        wires.append(ring(radius, 0.12, 40, 6).translate((0, 0, z)))
    hubs = [cylinder(1.1, -6.5, -3.2, segments=14), cylinder(1.1, 3.2, 5.5, segments=14)]
    return together([*wires, *hubs, tube(waist_mm / 2, waist_mm / 2 - 0.12, -2.7, 2.7, 32)])


def appendage_occluder(diameter_mm: float) -> Solid:
    """An umbrella of struts with barbs for the left atrial appendage."""
    radius = diameter_mm / 2
    strut = sweep(
        smooth(
            [(0.8, 0, 10), (0.7 * radius, 0, 10.5), (radius, 0, 4), (0.96 * radius, 0, -8), (0.8 * radius, 0, -10)], 20
        ),
        0.2,
        segments=6,
    )
    return together([*(strut.rotate((0, 0, 36 * k)) for k in range(10)), cylinder(1.2, 8, 12, segments=12)])


def mitral_clip(arm_mm: float) -> Solid:
    """Two arms and two grippers that pinch the leaflets together."""
    arm = block((3.5, 1.2, arm_mm), 0.5, (0, 2.2, arm_mm / 2)).rotate((-12, 0, 0))
    gripper = block((2.6, 0.8, 0.8 * arm_mm), 0.3, (0, 1.0, arm_mm / 2)).rotate((-6, 0, 0))
    return union([both_sides(arm + gripper, (0, 1, 0)), cylinder(1.8, -6, 1.5, segments=16)])


def left_ventricular_pump(outflow_mm: float) -> Parts:
    """An implanted turbine in the apex of the heart with its outflow graft and driveline; +z is the inflow."""
    case = union([cylinder(24, -18, 0, segments=48), cylinder(10, 0, 24, segments=32)]) - cylinder(7.5, -3, 30)
    rotor = tube(14, 8, -14, -6, 32)
    path = smooth([(24, 0, -9), (42, 0, -4), (55, 8, 20), (50, 16, 60), (36, 16, outflow_mm)], 40)
    graft = sweep(path, 1.2 * 5, segments=16) - sweep(path, 5.6, segments=16)
    driveline = sweep(smooth([(-22, 0, -9), (-40, 10, -20), (-46, 20, -60), (-20, 30, -110)], 40), 1.8, segments=10)
    return {
        "case": without(case, [tube(14.4, 7.6, -14.4, -5.6, 32)]),
        "rotor": rotor,
        "driveline": driveline - case,
        "graft": graft - case,
    }

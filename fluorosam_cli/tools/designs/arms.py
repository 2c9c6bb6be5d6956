"""Prostheses of shoulder, elbow, ankle and fingers: the joint at the origin, +z proximal, +x lateral, +y anterior."""

import math

import numpy as np

from fluorosam_cli.tools.designs.hips import bone_screw
from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
    around,
    ball,
    block,
    both_sides,
    box,
    cylinder,
    extrude,
    hull,
    outline,
    rod,
    smooth,
    tube,
    union,
    without,
)


def total_shoulder(head_mm: float, stem_mm: float) -> Parts:
    """A cap for a head, a stem, a plastic socket with pegs and marker."""
    cap, stem = _shoulder_cap(head_mm), _shoulder_stem(head_mm, stem_mm)
    radius = head_mm / 2 + 0.4
    dish = (cylinder(0.34 * head_mm, radius - 3, radius + 4).scale((0.75, 1, 1))) - ball(radius, segments=48)
    pegs = around(cylinder(2, radius + 2, radius + 13, segments=12).translate((0.17 * head_mm, 0, 0)), 3)
    pin = cylinder(0.6, radius + 4, radius + 12, segments=8)
    socket = (dish + cylinder(2.4, radius + 2, radius + 15, segments=12) + pegs).rotate((0, -90, 0))
    pin = pin.rotate((0, -90, 0))
    return {"stem": stem - cap, "head": cap, "socket": socket - pin, "marker": pin}


def stemless_shoulder(head_mm: float) -> Parts:
    """A cap on a short finned anchor."""
    cap = _shoulder_cap(head_mm)
    anchor = around(extrude(outline([(0, 0), (11, 0), (3, -20), (0, -20)]), -0.9, 0.9, "y"), 4) + cylinder(5, -8, 2)
    return {"anchor": anchor.translate((0, 0, 0.16 * head_mm)).rotate((0, -45, 0)) - cap, "head": cap}


def shoulder_resurfacing(head_mm: float) -> Solid:
    """A cup over the patient's own head, with a peg."""
    radius = head_mm / 2
    cap = (ball(radius, segments=48) - ball(radius - 3.5)).trim_by_plane((0, 0, 1), 0.1 * head_mm)
    return (cap + cylinder(2, -0.45 * head_mm, radius - 2, 4, 16)).rotate((0, -45, 0))


def reverse_shoulder(ball_mm: float, stem_mm: float) -> Parts:
    """The ball on the shoulder blade with its screws, the socket on the arm."""
    radius = ball_mm / 2
    sphere = ball(radius, segments=48).trim_by_plane((1, 0, 0), -0.12 * ball_mm)
    base = cylinder(12.5, 0.12 * ball_mm, 0.12 * ball_mm + 3.5).rotate((0, -90, 0))
    peg = cylinder(4, 0, 18, 3, 16).rotate((0, -90, 0)).translate((-0.12 * ball_mm, 0, 0))
    screws = [
        bone_screw(30, 4.5).translate((0, 0, -20 + 0.12 * ball_mm)).rotate((0, -90 + tilt, 0)).translate((0, 0, z))
        for z, tilt in ((8, 12), (-8, -12))
    ]
    axis = (0, 145, 0)
    liner = (cylinder(radius - 1, 0.28 * ball_mm, radius + 4, segments=40) - ball(radius + 0.3, segments=48)).rotate(
        axis
    )
    tray = (cylinder(radius - 1, radius + 4, radius + 7.5) + cylinder(radius - 2, radius + 7, radius + 24, 7)).rotate(
        axis
    )
    start = np.array([math.sin(math.radians(145)), 0, math.cos(math.radians(145))]) * (radius + 16)
    stem = rod(start, (start[0] + 4, 0, start[2] - stem_mm), 7, 5)
    return {
        "glenosphere": sphere,
        "base": without(union([base, peg, *screws]), [sphere]),
        "liner": liner,
        "stem": tray + stem,
    }


def shoulder_hemiprosthesis(head_mm: float, stem_mm: float) -> Parts:
    """Head and stem without a socket, with fins and holes for the tuberosities."""
    cap = _shoulder_cap(head_mm)
    fin = without(
        extrude(outline([(10, -4), (22, -12), (16, -44), (10, -48)], 2), -1.5, 1.5, "y"),
        [cylinder(1.5, -9, 9, segments=12).rotate((90, 0, 0)).translate((16, 0, z)) for z in (-14, -22, -30)],
    )
    return {"stem": (_shoulder_stem(head_mm, stem_mm) + fin) - cap, "head": cap}


def radial_head(diameter_mm: float, stem_mm: float) -> Solid:
    """A mushroom on the radius; its dish faces the upper arm."""
    head = (cylinder(0.47 * diameter_mm, -9, -1.5, diameter_mm / 2) + cylinder(diameter_mm / 2, -1.5, 0)) - ball(
        diameter_mm, (0, 0, 0.96 * diameter_mm)
    )
    return union([head, cylinder(4, -14, -8, segments=20), cylinder(2.2, -14 - stem_mm, -13, 3.5, 20)])


def total_elbow(humeral_mm: float, ulnar_mm: float) -> Parts:
    """A loose hinge between a stem in the upper arm and one in the ulna."""
    yoke = both_sides(block((4.5, 12, 24), 1.5, (10, 0, 6))) + block((25, 9, 8), 2, (0, 1, 20))
    flange = extrude(outline([(-6, 12), (6, 12), (4, 34), (-4, 34)], 1.5), 7, 9.5, "y")
    humeral = union([yoke, flange, box((8, 6, 6), (0, 6, 17)), rod((0, 0, 20), (0, -2, 20 + humeral_mm), 5, 3)])
    axle = cylinder(3, -15, 15, segments=20).rotate((0, 90, 0))
    bush = cylinder(5, -7.5, 7.5).rotate((0, 90, 0)) - axle
    ulnar = (cylinder(8, -7, 7).rotate((0, 90, 0)) + rod((0, -4, -4), (0, -8, -8 - ulnar_mm), 4.5, 2.5)) - cylinder(
        5, -9, 9
    ).rotate((0, 90, 0))
    return {"humeral": humeral - axle, "ulnar": ulnar - axle, "axle": axle, "bush": bush}


def total_ankle(width_mm: float) -> Parts:
    """A tibial plate with two barrels, a plastic core, a saddle on the talus."""
    depth = 1.15 * width_mm
    plate = block((width_mm, depth, 3.5), 1.2, (0, 0, 9))
    barrels = both_sides(
        cylinder(3, -0.42 * depth, 0.42 * depth, segments=20).rotate((90, 0, 0)).translate((0.22 * width_mm, 0, 14))
        + box((2, 0.84 * depth, 4), (0.22 * width_mm, 0, 11.5))
    )
    dome = cylinder(20, -width_mm / 2.2, width_mm / 2.2, segments=64).rotate((0, 90, 0)).translate((0, 0, -20))
    talar = (dome - cylinder(16.5, -99, 99, segments=48).rotate((0, 90, 0)).translate((0, 0, -20))).trim_by_plane(
        (0, 0, 1), -13
    )
    core = block((0.8 * width_mm, 0.72 * depth, 12), 1.0, (0, 0, 1.2)) - dome
    return {
        "tibial": union([plate, barrels]),
        "core": core.trim_by_plane((0, 0, -1), -7.2),
        "talar": talar + both_sides(cylinder(2.4, -17, -4, segments=14).translate((7, 4, -2))),
    }


def finger_joint(length_mm: float, width_mm: float) -> Parts:
    """A hinge between two tapered stems: metal above, plastic below."""
    dome = (ball(width_mm / 2, segments=32) ^ box((0.85 * width_mm, 99, 99))).trim_by_plane((0, 0, 1), -0.3 * width_mm)
    upper = dome + rod((0, 0, 0), (0, 0, 0.55 * length_mm), 0.22 * width_mm, 0.1 * width_mm)
    lower = block((0.8 * width_mm, 0.8 * width_mm, 0.4 * width_mm), 1, (0, 0, -0.5 * width_mm)) + rod(
        (0, 0, -0.5 * width_mm), (0, 0, -0.55 * length_mm), 0.22 * width_mm, 0.1 * width_mm
    )
    return {"upper": upper, "lower": lower - ball(width_mm / 2 + 0.05, segments=32) - upper}


def toe_spacer(length_mm: float, width_mm: float) -> Parts:
    """A flexible hinge with grommets, for toes and knuckles."""
    grommets = union(tube(0.5 * width_mm, 0.36 * width_mm, z, z + 1.0, 24) for z in (2.6, -3.6))
    body = block((width_mm, 0.7 * width_mm, 6), 1) + hull(
        [box((0.5 * width_mm, 0.4 * width_mm, 1)), box((1.5, 1.5, length_mm))]
    )
    return {"grommets": grommets, "body": body - grommets}


def _shoulder_cap(head_mm: float) -> Solid:
    return ball(head_mm / 2, segments=48).trim_by_plane((0, 0, 1), 0.16 * head_mm).rotate((0, -45, 0))


def _shoulder_stem(head_mm: float, stem_mm: float) -> Solid:
    """From the cap's flat side into the humerus."""
    border = np.vstack(
        [
            smooth([(-4, 4), (2, -18), (5, -45), (8, -stem_mm)], 12),
            smooth([(18, -2), (19, -20), (17, -45), (14, -stem_mm)], 12)[::-1],
        ]
    )
    flat = outline(border, 2)
    side = outline([(-3.5, -stem_mm - 1), (3.5, -stem_mm - 1), (8, 6), (-8, 6)])
    return (extrude(flat, -9, 9, "y") ^ extrude(side, -60, 60, "x")) + rod(
        (-0.1 * head_mm, 0, 0.1 * head_mm), (8, 0, -12), 6, 8
    )

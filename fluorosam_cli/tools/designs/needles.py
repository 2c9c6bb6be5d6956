"""Needles, trocars, cannulas, syringes: the tip at the origin, the hub toward +z."""

import math

import numpy as np

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
    rod,
    smooth,
    stadium,
    sweep,
    tube,
    union,
    without,
)  # fmt: skip


def hypodermic_needle(outer_mm: float, inner_mm: float, length_mm: float) -> Parts:
    """A bevelled steel tube in a plastic hub."""
    cannula = _bevelled(outer_mm, inner_mm, length_mm + 10, 15)
    return {"cannula": cannula, "hub": _hub(length_mm) - cylinder(outer_mm / 2, 0, length_mm + 10, segments=16)}


def spinal_needle(outer_mm: float, inner_mm: float, length_mm: float) -> Parts:
    """Long, with its stylet in place."""
    cannula = _bevelled(outer_mm, inner_mm, length_mm + 10, 35) + _bevelled(inner_mm, 0, length_mm + 12, 35)
    return {
        "cannula": cannula,
        "hub": (_hub(length_mm) + cylinder(3.2, length_mm + 18, length_mm + 24, segments=20))
        - cylinder(outer_mm / 2, 0, length_mm + 10.0, segments=16)
        - cylinder(inner_mm / 2, 0, length_mm + 12.0, segments=16),
    }


def pencil_point_needle(outer_mm: float, inner_mm: float, length_mm: float) -> Parts:
    """A rounded point with a side hole (Whitacre)."""
    body = cylinder(0.03, 0, 2.2 * outer_mm, outer_mm / 2, 16) + cylinder(
        outer_mm / 2, 2.2 * outer_mm, length_mm + 10, segments=16
    )
    cannula = without(
        body,
        [
            cylinder(inner_mm / 2, 2.2 * outer_mm, length_mm + 11, segments=12),
            box((outer_mm, 0.5 * outer_mm, 1.4), (outer_mm / 2, 0, 2.2 * outer_mm + 1.6)),
        ],
    )
    return {"cannula": cannula, "hub": _hub(length_mm) - cylinder(outer_mm / 2, 0, length_mm + 10, segments=16)}


def tuohy_needle(outer_mm: float, inner_mm: float, length_mm: float) -> Parts:
    """A bent tip, wings, marks every centimetre."""
    path = smooth(
        [(1.1 * outer_mm, 0, 0), (0.35 * outer_mm, 0, 1.6 * outer_mm), (0, 0, 3.6 * outer_mm), (0, 0, 6 * outer_mm)], 14
    )
    path = np.vstack([path, [(0, 0, length_mm + 10)]])
    cannula = sweep(path, outer_mm / 2, segments=16) - sweep(
        path + np.r_[[(0, 0, 0)] * len(path)], inner_mm / 2, segments=12
    )
    grooves = [tube(outer_mm, 0.46 * outer_mm, z, z + 0.5, 16) for z in np.arange(30, length_mm - 5, 10)]
    wings = block((46, 3, 9), 1.2, (0, 0, length_mm + 4))
    return {
        "cannula": without(cannula, grooves),
        "hub": (_hub(length_mm) + wings) - cylinder(outer_mm / 2, 0, length_mm + 10, segments=16),
    }


def chiba_needle(outer_mm: float, length_mm: float) -> Parts:
    """A thin flexible aspiration needle with a depth stop."""
    cannula = _bevelled(outer_mm, 0.7 * outer_mm, length_mm + 10, 25)
    stop = block((9, 5, 4), 1, (0, 0, 0.6 * length_mm)) - cylinder(outer_mm / 2, 0, 400, segments=16)
    return {
        "cannula": cannula,
        "hub": (_hub(length_mm) + stop) - cylinder(outer_mm / 2, 0, length_mm + 10, segments=16),
    }


def core_biopsy_needle(outer_mm: float, length_mm: float) -> Parts:
    """A notched stylet before a cutting sheath, with its spring gun."""
    stylet = (_bevelled(0.78 * outer_mm, 0, length_mm + 40, 30)) - box(
        (outer_mm, outer_mm, 18), (0.45 * outer_mm, 0, 16)
    )
    sheath = _bevelled(outer_mm, 0.78 * outer_mm, length_mm + 20, 35).translate((0, 0, 24))
    spring = without(
        tube(4.2, 3.2, length_mm + 40, length_mm + 100, 20),
        [box((20, 3, 1.6), (0, 0, z)) for z in np.arange(length_mm + 42, length_mm + 98, 4)],
    )
    metal = union([stylet, sheath, spring])
    body = block((22, 15, 120), 5, (0, 0, length_mm + 90)) - block((17, 10, 110), 3, (0, 0, length_mm + 90))
    return {"metal": metal - body, "body": body}


def bone_marrow_needle(outer_mm: float, length_mm: float) -> Parts:
    """Jamshidi: a tapered trocar with a wide handle."""
    cannula = (
        cylinder(0.1, 0, 6, 0.42 * outer_mm, 3)
        + cylinder(0.4 * outer_mm, 4, 14, outer_mm / 2, 20)
        + cylinder(outer_mm / 2, 14, length_mm + 8, segments=20)
    )
    handle = extrude(stadium(smooth([(-42, 10), (-20, 0), (0, -2), (20, 0), (42, 10)], 20), 8), -9, 9, "y").translate(
        (0, 0, length_mm + 8)
    )
    return {"cannula": cannula, "handle": handle - cannula}


def vertebroplasty_needle(outer_mm: float, length_mm: float) -> Parts:
    """A diamond-tipped trocar in a cannula with a square handle."""
    cannula = (
        cylinder(0.05, 0, 5, 0.45 * outer_mm, 4)
        + tube(outer_mm / 2, 0.42 * outer_mm, 4, length_mm + 10, 24)
        + cylinder(0.4 * outer_mm, 4, length_mm + 18, segments=16)
    )
    handle = union([block((44, 16, 14), 4, (0, 0, length_mm + 8)), block((22, 22, 12), 4, (0, 0, length_mm + 22))])
    return {
        "cannula": cannula,
        "handle": handle
        - cylinder(outer_mm / 2, 0, length_mm + 10.0, segments=24)
        - cylinder(0.4 * outer_mm, 0, length_mm + 18.0, segments=16),
    }


def butterfly_needle(outer_mm: float, length_mm: float) -> Parts:
    """A short needle with two wings and a tube."""
    cannula = _bevelled(outer_mm, 0.6 * outer_mm, length_mm + 8, 15)
    wings = block((34, 1.6, 13), 0.6, (0, 0, length_mm + 8)) + cylinder(2.4, length_mm, length_mm + 18, segments=16)
    path = smooth(
        [(0, 0, length_mm + 16), (0, 0, length_mm + 40), (30, 0, length_mm + 70), (60, 0, length_mm + 50)], 36
    )
    line = sweep(path, 1.2, segments=12) - sweep(path, 0.6, segments=8)
    return {"cannula": cannula, "wings": union([wings, line]) - cannula}


def cannula_over_needle(outer_mm: float, length_mm: float) -> Parts:
    """An intravenous plastic cannula on its needle, with wings and port."""
    needle = _bevelled(0.68 * outer_mm, 0.45 * outer_mm, length_mm + 44, 18)
    sleeve = (
        cylinder(0.38 * outer_mm, 3, 6, outer_mm / 2, 20) + cylinder(outer_mm / 2, 6, length_mm + 4, segments=20)
    ) - cylinder(0.34 * outer_mm, 0, 400, segments=20)
    hub = union(
        [
            cylinder(2, length_mm, length_mm + 20, 3.4, 20),
            block((26, 1.4, 9), 0.5, (0, 0, length_mm + 12)),
            cylinder(3, 0, 9, segments=20).rotate((90, 0, 0)).translate((0, 0, length_mm + 12)),
            tube(4, 2.6, length_mm + 22, length_mm + 46, 20),
        ]
    )
    return {"needle": needle, "sleeve": (union([sleeve, hub])) - needle}


def syringe(bore_mm: float, length_mm: float) -> Parts:
    """A barrel with its plunger half drawn; liquid inside, a steel needle on it."""
    radius = bore_mm / 2
    needle = _bevelled(0.8, 0.5, 44, 15)
    barrel = union(
        [
            tube(radius + 1, radius, 50, 50 + length_mm, 32),
            cylinder(radius + 1, 46, 50),
            tube(3, 1, 38, 47, 20),
            extrude(stadium([(-radius - 6, 0), (radius + 6, 0)], 6), 48 + length_mm, 51 + length_mm),
        ]
    )
    stem = union(
        [
            box((1.6, 1.6 * radius, length_mm), (0, 0, 50 + length_mm)),
            box((1.6 * radius, 1.6, length_mm), (0, 0, 50 + length_mm)),
            cylinder(radius + 2, 49.0 + 1.5 * length_mm, 52.0 + 1.5 * length_mm),
            cylinder(radius - 0.1, 47 + 0.5 * length_mm, 53 + 0.5 * length_mm),
        ]
    )
    inside = cylinder(radius - 0.05, 50.0, 46.9 + 0.5 * length_mm)
    hollow = barrel - cylinder(radius, 50.0, 48 + length_mm + 9)
    return {
        "needle": needle,
        "barrel": union([hollow, stem ^ cylinder(radius + 9, 0, 999)]) - needle - inside,
        "liquid": inside,
    }


def laparoscopic_trocar(bore_mm: float, length_mm: float) -> Parts:
    """A cannula with a valve housing, a gas tap and a pyramidal obturator."""
    outer = bore_mm / 2 + 1.2
    sleeve = union(
        [
            tube(outer, bore_mm / 2, 14, length_mm, 28),
            *(tube(outer + 0.5, outer - 0.1, z, z + 1, 28) for z in np.arange(30, length_mm - 12, 5)),
        ]
    )
    housing = union(
        [
            cylinder(outer + 2, length_mm - 2, length_mm + 12, 15),
            tube(15, 11, length_mm + 12, length_mm + 36, 36),
            rod((12, 0, length_mm + 16), (34, 0, length_mm + 10), 3.5),
        ]
    )
    obturator = cylinder(0.1, 0, 16, 0.48 * bore_mm, 3) + cylinder(0.47 * bore_mm, 14, length_mm + 40, segments=24)
    spring = union(tube(9.5, 8.5, length_mm + z, length_mm + z + 1, 24) for z in (18, 22, 26))
    metal = obturator + cylinder(14, length_mm + 40, length_mm + 52)
    return {"obturator": union([metal, spring]), "cannula": union([sleeve, housing]) - metal - spring}


def metal_trocar(bore_mm: float, length_mm: float) -> Solid:
    """The reusable sort, all steel."""
    outer = bore_mm / 2 + 0.9
    housing = (
        tube(12, bore_mm / 2, length_mm - 2, length_mm + 40, 32)
        + rod((12, 0, length_mm + 10), (32, 0, length_mm + 10), 3.5)
        + cylinder(5, -8, 8, segments=20).rotate((90, 0, 0)).translate((24, 0, length_mm + 10))
    )
    obturator = (
        cylinder(0.1, 0, 14, 0.46 * bore_mm, 3)
        + cylinder(0.46 * bore_mm, 13, length_mm + 44)
        + ball(14, (0, 0, length_mm + 54), 32)
    )
    return union([tube(outer, bore_mm / 2, 12, length_mm, 28), housing, obturator])


def insufflation_needle(length_mm: float) -> Parts:
    """Veress: a blunt spring-loaded tip in a sharp sheath, with a tap."""
    sheath = _bevelled(2.1, 1.6, length_mm, 35).translate((0, 0, 3)) + (
        hull([ball(0.75, (0, 0, 0.75), 14), cylinder(0.75, 1, length_mm, segments=14)])
    )
    spring = union(tube(3.4, 2.8, length_mm + z, length_mm + z + 0.8, 20) for z in np.arange(4, 30, 2.6))
    body = (
        (cylinder(7, length_mm - 4, length_mm + 36) - cylinder(4.6, length_mm + 1, length_mm + 33))
        + tube(4, 2.5, length_mm + 36, length_mm + 50, 20)
        + rod((0, 0, length_mm + 42), (16, 0, length_mm + 42), 3)
    )
    return {"metal": union([sheath, spring]), "body": body - sheath}


def chest_trocar(french: float, length_mm: float) -> Parts:
    """A steel rod with a three-edged tip inside a chest tube."""
    outer = french / 6
    metal = (
        cylinder(0.1, 0, 1.6 * outer, 0.66 * outer, 3)
        + cylinder(0.66 * outer, 1.5 * outer, length_mm, segments=24)
        + cylinder(12, length_mm, length_mm + 6)
        + cylinder(5, length_mm - 20, length_mm)
    )
    wall = tube(outer, 0.7 * outer, 1.6 * outer, length_mm - 24, 24)
    stripe = cylinder(0.12 * outer, 1.6 * outer, length_mm - 24, segments=8).translate((0.85 * outer, 0, 0))
    return {"trocar": metal, "stripe": stripe, "tube": wall - stripe}


def localisation_wire(length_mm: float) -> Solid:
    """A hooked wire that marks a lump in the breast."""
    hook = rod((2.2, 0, 12), (0, 0, 0.2), 0.16)
    return union([cylinder(0.2, 0, length_mm, segments=10), hook, cylinder(0.32, 18, 38, segments=12)])


def dental_needle(length_mm: float) -> Parts:
    """A carpule syringe with rings."""
    needle = _bevelled(0.4, 0.2, length_mm + 12, 20)
    frame = without(tube(6.5, 5.2, length_mm + 10, length_mm + 84, 28), [box((9, 30, 52), (0, 0, length_mm + 48))])
    plunger = cylinder(1.8, length_mm + 60, length_mm + 130) + (
        cylinder(9, -2.2, 2.2, segments=28) - cylinder(6.5, -9, 9)
    ).rotate((90, 0, 0)).translate((0, 0, length_mm + 138))
    rings = both_sides((cylinder(11, -2, 2) - cylinder(8, -9, 9)).rotate((90, 0, 0)).translate((16, 0, length_mm + 80)))
    metal = union([needle, frame, cylinder(3, length_mm, length_mm + 12), plunger, rings])
    glass = tube(4.3, 3.4, length_mm + 14, length_mm + 72, 24) - metal
    return {"metal": metal, "carpule": glass}


def _bevelled(outer: float, inner: float, length: float, degrees: float) -> Solid:
    """A tube whose tip is cut slanting; solid where `inner` is 0."""
    body = cylinder(outer / 2, 0, length, segments=16)
    if inner:
        body = body - cylinder(inner / 2, -1, length + 1, segments=12)
    tilt = math.radians(90 - degrees)
    normal = (math.sin(tilt), 0.0, math.cos(tilt))
    return body.trim_by_plane(normal, -outer / 2 * math.sin(tilt) + outer * math.sin(tilt))


def _hub(at: float) -> Solid:
    return union(
        [
            cylinder(1.2, at, at + 5, 2.6, 20),
            cylinder(2.6, at + 5, at + 18, 3.4, 20),
            cylinder(3.9, at + 16, at + 18, segments=20),
        ]
    ) - cylinder(2.0, at + 10.5, at + 30, 2.2, 20)

"""Forceps, clamps, scissors, knives: the tip at the origin, the handle toward +z, flat in the x-z plane."""

import numpy as np

from fluorosam_cli.tools.shapes import (
    Parts,
    Points,
    Solid,
    ball,
    both_sides,
    box,
    cylinder,
    extrude,
    hull,
    outline,
    ring,
    smooth,
    stadium,
    sweep,
    union,
    without,
)

FLAT = np.array([(-0.5, -1.0), (0.5, -1.0), (0.5, 1.0), (-0.5, 1.0)])  # a section deeper (y) than wide


def artery_forceps(length_mm: float) -> Solid:
    """Straight, with a ratchet and serrated jaws."""
    return _ringed(length_mm, 0.3 * length_mm, jaw=(1.6, 2.4)) - _serrations(0.05 * length_mm, 0.26 * length_mm)


def curved_artery_forceps(length_mm: float) -> Solid:
    """Jaws curved to one side."""
    return _ringed(length_mm, 0.3 * length_mm, jaw=(1.3, 2.2), curve=0.09 * length_mm)


def right_angle_forceps(length_mm: float) -> Solid:
    """The tips bent at a right angle."""
    return _ringed(length_mm, 0.22 * length_mm, jaw=(1.2, 2.0), curve=0.12 * length_mm, power=5)


def needle_holder(length_mm: float) -> Parts:
    """Short stout jaws with hard-metal inserts."""
    holder = _ringed(length_mm, 0.17 * length_mm, jaw=(2.2, 3.2))
    inserts = both_sides(box((0.8, 2.4, 0.1 * length_mm), (1.0, 0, 0.06 * length_mm)))
    return {"holder": holder - inserts, "inserts": inserts}


def tissue_clamp(length_mm: float) -> Solid:
    """Allis: spread arms with a toothed bite."""
    return _ringed(length_mm, 0.4 * length_mm, jaw=(1.5, 2.2), belly=5.0) + both_sides(
        box((2.2, 6, 2.2), (1.2, 0, 1.2))
    )


def babcock_forceps(length_mm: float) -> Solid:
    """Jaws opened into loops."""
    loops = both_sides(extrude(outline([(0.6, 0), (0.6, 12), (6, 22), (3, 24), (7, 14), (5, 2)], 0.5), -2.5, 2.5, "y"))
    return _ringed(length_mm, 0.38 * length_mm, jaw=(1.5, 2.2), belly=6.5) + loops


def sponge_forceps(length_mm: float) -> Solid:
    """Rings at the tip to hold a swab."""
    eye = (
        (ring(6, 1.4, 32, 10).scale((1, 1.4, 1)))
        .rotate((0, 90, 0))
        .rotate((90, 0, 0))
        .rotate((0, 0, 90))
        .translate((2, 0, 8))
    )
    return _ringed(length_mm, 0.36 * length_mm, jaw=(1.8, 2.4), start=15) + both_sides(eye)


def towel_clip(length_mm: float) -> Solid:
    """Two sharp hooks that cross."""
    hook = sweep(
        smooth(
            [(-1.5, 0, 1), (2, 0, 0.0), (7, 0, 0.08 * length_mm), (6, 0, 0.2 * length_mm), (1.5, 0, 0.32 * length_mm)],
            24,
        ),
        np.linspace(0.3, 2.0, 24),
        segments=10,
    )
    return _ringed(length_mm, 0.34 * length_mm, jaw=(1.8, 2.0), start=0.3 * length_mm) + both_sides(hook)


def bowel_clamp(length_mm: float) -> Solid:
    """Long thin springy jaws."""
    return _ringed(length_mm, 0.46 * length_mm, jaw=(1.8, 3.0), belly=1.5)


def vascular_clamp(length_mm: float) -> Solid:
    """Satinsky: a jaw with three corners that bites part of a vessel."""
    path = smooth([(0, 0, 0), (-16, 0, 8), (-22, 0, 22), (-14, 0, 34), (0, 0, 0.3 * length_mm)], 30)
    jaws = [sweep(np.add(path, (s * 1.2, 0, 0)), np.linspace(0.8, 2.4, 30), FLAT * 0.9) for s in (-1, 1)]
    return union([_ringed(length_mm, 0.3 * length_mm, jaw=(1.6, 2.4), start=0.26 * length_mm), *jaws])


def bulldog_clamp(length_mm: float) -> Solid:
    """A small spring clip for vessels."""
    arm = sweep(
        smooth(
            [
                (0.6, 0, 0),
                (0.8, 0, 0.4 * length_mm),
                (-2, 0, 0.62 * length_mm),
                (-5, 0, 0.86 * length_mm),
                (-3, 0, length_mm),
            ],
            30,
        ),
        0.9,
        FLAT * 1.6,
    )
    spring = ring(3, 0.7, 24, 8).rotate((90, 0, 0)).translate((0, 0, 0.8 * length_mm))
    return union(
        [
            both_sides(arm),
            spring,
            cylinder(1.2, -3, 3, segments=14).rotate((90, 0, 0)).translate((0, 0, 0.52 * length_mm)),
        ]
    )


def dissecting_scissors(length_mm: float) -> Solid:
    """Straight, slim blades, long shanks (Metzenbaum)."""
    return _ringed(length_mm, 0.26 * length_mm, jaw=(1.4, 1.2), ratchet=False, gap=5.0)


def curved_scissors(length_mm: float) -> Solid:
    """Broad curved blades (Mayo)."""
    return _ringed(length_mm, 0.34 * length_mm, jaw=(2.6, 1.4), curve=0.08 * length_mm, ratchet=False, gap=6.0)


def bandage_scissors(length_mm: float) -> Solid:
    """Angled, one blade with a blunt button."""
    made = _ringed(
        length_mm, 0.38 * length_mm, jaw=(3.0, 1.4), curve=-0.16 * length_mm, power=1.0, ratchet=False, gap=5.0
    )
    return made + ball(3, (-0.12 * length_mm, 0, 1), 16).scale((1.0, 0.5, 1.2))


def wire_cutter(length_mm: float) -> Solid:
    """Short jaws, long lever arms."""
    jaws = both_sides(hull([box((1.5, 7, 1), (0.9, 0, 0.5)), box((9, 8, 2), (5, 0, 26))]))
    arms = both_sides(
        sweep(smooth([(4, 0, 24), (9, 0, 45), (20, 0, 0.5 * length_mm), (17, 0, length_mm)], 30), 4.5, FLAT * 1.2)
    )
    return union([jaws, arms, cylinder(7, -5, 5).rotate((90, 0, 0)).translate((0, 0, 28))])


def tissue_forceps(length_mm: float) -> Solid:
    """Tweezers with teeth and a grip."""
    teeth = both_sides(cylinder(0.5, 0, 1.6, 0.05, 8).rotate((0, -90, 0)).translate((1.2, 0, 1)))
    return tweezers(length_mm, 1.2) + teeth


def dressing_forceps(length_mm: float) -> Solid:
    """Tweezers with broad serrated tips."""
    return tweezers(length_mm, 2.4)


def bayonet_forceps(length_mm: float) -> Solid:
    """Stepped, to see past the hand."""
    arm = sweep(
        smooth(
            [
                (0.8, 0, 0),
                (2.5, 0, 0.3 * length_mm),
                (3.5, 8, 0.42 * length_mm),
                (5, 16, 0.5 * length_mm),
                (4, 16, 0.75 * length_mm),
                (0.8, 16, length_mm),
            ],
            36,
        ),
        np.linspace(0.9, 3.5, 36),
        FLAT[:, ::-1] * (0.5, 1.2),
    )
    return both_sides(arm)


def scalpel(blade: float, length_mm: float) -> Solid:
    """A flat handle with a removable blade: 10 and 20 are bellied, 11 is a point, 15 is small, 12 is a hook."""
    edges: dict[int, Points] = {
        10: [(0, 0), (5, 4), (7.2, 12), (7.2, 26), (1, 26), (0, 6)],
        11: [(0, 0), (6.4, 26), (6.4, 32), (0, 32)],
        12: [(3.5, 0), (6.5, 2), (6, 8), (4.5, 5), (3, 5), (2.2, 10), (4, 26), (0, 26), (-0.6, 8), (0.8, 2)],
        15: [(0, 0), (3, 3), (4.2, 7), (4.2, 12), (6, 24), (0, 24)],
        20: [(0, 0), (6, 5), (9, 16), (9, 34), (1, 34), (0, 8)],
    }
    edge = np.array(edges[int(blade)], float)
    base = float(edge[:, 1].max())
    slot = stadium([(3, base - 8), (3, base + 6)], 0.9)
    flat = extrude(
        outline(edge) + outline([(0.5, base - 1), (6, base - 1), (6, base + 12), (0.5, base + 12)]) - slot,
        -0.2,
        0.2,
        "y",
    )
    handle = hull(
        [box((3, 1.6, 1), (3, 0, base)), box((8, 3.2, 1), (3, 0, base + 22)), box((10, 3.2, 1), (3, 0, length_mm))]
    )
    grooves = [box((1.2, 9, 0.8), (x, 0, base + 26 + 3 * i)) for i in range(5) for x in (-1.2, 7.2)]
    return without(handle, grooves) + flat


def _ringed(
    length: float, jaws: float, jaw: tuple[float, float], curve: float = 0, power: float = 2, belly: float = 0,
    ratchet: bool = True, gap: float = 1.2, start: float = 0,
) -> Solid:  # fmt: skip
    """Two crossing arms: half-width and depth of the jaws, their sideways curve, how far the tips stand apart."""
    width, depth = jaw
    stout = 0.018 * length + 0.4
    z = np.r_[np.linspace(start, jaws, 16), np.linspace(jaws, length - 10, 16)[1:]]
    inside = np.clip(1 - z / jaws, 0, 1)
    open_x = np.where(
        z < jaws,
        gap / 2 * inside + 0.45 * width * np.minimum(inside * 8, 1) + belly * np.sin(np.pi * np.clip(z / jaws, 0, 1)),
        0,
    )
    shank = np.clip((z - jaws) / (length - jaws), 0, 1)
    open_x = np.where(z >= jaws, -(3.2 + 0.07 * length * shank**1.3) * np.minimum(shank * 6, 1), open_x)
    bend = curve * inside**power
    half = np.where(z < jaws, width * (0.45 + 0.55 * (1 - inside)), stout)
    arms = []
    for side in (1, -1):
        path = np.stack([side * open_x + bend, 0 * z, z], 1)
        arm = sweep(path, half, FLAT * (1.0, 0.5 * depth / width))
        arms.append(arm + finger_ring(side * (open_x[-1] - 8.5), length - 6, side))
    joint = (
        cylinder(1.5 * stout + 1.2, -0.6 * depth - 0.8, 0.6 * depth + 0.8, segments=20)
        .rotate((90, 0, 0))
        .translate((0, 0, jaws))
    )
    made = union([*arms, joint])
    if ratchet:
        at = 0.86 * length
        x = float(np.interp(at, z, np.abs(open_x)))
        bars = [
            box((x, 1.4, 3), (side * x / 2, 0.8 * side, at))
            - union(box((0.8, 3, 1.2), (side * (0.6 + 1.8 * i), 0.8 * side, at + 1.5)) for i in range(3))
            for side in (1, -1)
        ]
        made = union([made, *bars])
    return made


def finger_ring(x: float, z: float, side: float) -> Solid:
    return ring(9.0, 2.0, 32, 10).scale((1, 1.2, 0.9)).rotate((90, 0, 0)).rotate((0, -8 * side, 0)).translate((x, 0, z))


def _serrations(low: float, high: float) -> Solid:
    return union(box((1.0, 9, 0.6), (0, 0, z)) for z in np.arange(low, high, 1.8))


def tweezers(length: float, tip: float) -> Solid:
    path = smooth(
        [(1.0, 0, 0), (3.4, 0, 0.3 * length), (6.4, 0, 0.62 * length), (3, 0, 0.88 * length), (0.5, 0, length)], 32
    )
    depth = np.interp(np.linspace(0, 1, 32), [0, 0.35, 0.6, 1], [tip, 3.2, 4.6, 4.0])
    arm = union(
        hull([box((1.4, 2 * a, 0.3), p), box((1.4, 2 * b, 0.3), q)])
        for p, q, a, b in zip(path, path[1:], depth, depth[1:], strict=False)
    )
    grooves = [box((1, 12, 0.8), (5.5 + 1.6, 0, z)) for z in np.arange(0.42 * length, 0.62 * length, 2.4)]
    return both_sides(without(arm, grooves))

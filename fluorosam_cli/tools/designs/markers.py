"""Rulers, markers, beads, grids, and what lies about in an operating theatre. Flat things lie in the x-y plane."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Outline,
    Parts,
    Solid,
    ball,
    block,
    box,
    cylinder,
    extrude,
    flats,
    outline,
    ring,
    rod,
    smooth,
    stadium,
    sweep,
    together,
    tube,
    union,
    without,
)


def radiopaque_ruler(length_mm: float) -> Parts:
    """A plastic strip with lead ticks: long every ten, middle every five."""
    ticks = []
    for i in range(int(length_mm) + 1):
        reach = 12 if i % 10 == 0 else 8 if i % 5 == 0 else 5
        if length_mm <= 200 or i % 5 == 0:
            ticks.append(box((0.4, reach, 0.3), (i - length_mm / 2, 10 - reach / 2, 0.4)))
    digits = [
        extrude(_digit(i // 50 % 10, 4).translate((i - length_mm / 2, -6)), 0.25, 0.55)
        for i in range(0, int(length_mm) + 1, 50)
    ]
    marks = together([*ticks, *digits])
    return {"marks": marks, "strip": block((length_mm + 20, 26, 2.4), 0.8) - together([*ticks, *digits])}


def steel_ruler(length_mm: float) -> Solid:
    """A thin steel strip with etched ticks."""
    strip = block((length_mm + 12, 24, 1.0), 0.3)
    return without(
        strip,
        [
            box((0.5, 12 if i % 50 == 0 else 8, 0.5), (i - length_mm / 2, 8, 0.4))
            for i in range(0, int(length_mm) + 1, 10)
        ],
    )


def side_marker(side: float, height_mm: float) -> Parts:
    """A lead letter L or R in plastic."""
    h = height_mm
    if side > 0:
        letter = stadium([(-0.25 * h, -0.5 * h), (-0.25 * h, 0.5 * h)], 0.09 * h) + stadium(
            [(-0.25 * h, -0.5 * h), (0.3 * h, -0.5 * h)], 0.09 * h
        )
    else:
        bowl = [
            (-0.25 * h, 0.5 * h),
            (0.1 * h, 0.5 * h),
            (0.27 * h, 0.38 * h),
            (0.27 * h, 0.16 * h),
            (0.1 * h, 0.02 * h),
            (-0.25 * h, 0.02 * h),
        ]
        letter = flats(
            [
                stadium([(-0.25 * h, -0.5 * h), (-0.25 * h, 0.5 * h)], 0.09 * h),
                stadium(bowl, 0.09 * h),
                stadium([(0, 0), (0.3 * h, -0.5 * h)], 0.09 * h),
            ]
        )
    lead = extrude(letter, -0.6, 0.6)
    return {"letter": lead, "plate": block((1.5 * h, 1.7 * h, 3), 1) - lead}


def arrow_marker(length_mm: float) -> Solid:
    """A lead arrow."""
    flat = stadium([(0, -length_mm / 2), (0, length_mm / 2)], 0.06 * length_mm) + outline(
        [(-0.24 * length_mm, 0.2 * length_mm), (0.24 * length_mm, 0.2 * length_mm), (0, 0.62 * length_mm)]
    )
    return extrude(flat, -0.6, 0.6)


def fiducial_bead(diameter_mm: float) -> Solid:
    """A steel ball on the skin."""
    return ball(diameter_mm / 2, (0, 0, diameter_mm / 2), 28)


def bead_helix(diameter_mm: float, beads: float) -> Parts:
    """Beads wound around a plastic cylinder, to calibrate a C-arm."""
    count, radius = int(beads), diameter_mm / 2
    angle = np.linspace(0, 4 * np.pi, count)
    spots = [(radius * math.cos(a), radius * math.sin(a), 80 * (a / (4 * np.pi) - 0.5)) for a in angle]
    steel = together(ball(2.4 if i % 4 == 0 else 1.2, p, 14) for i, p in enumerate(spots))
    return {"beads": steel, "wall": tube(radius + 3, radius - 3, -46, 46, 64) - steel}


def skin_marker(diameter_mm: float) -> Parts:
    """A ring on a sticker, for a mole or nipple."""
    wire = ring(diameter_mm / 2, 0.6, 40, 8).translate((0, 0, 0.8))
    return {"ring": wire, "sticker": cylinder(0.8 * diameter_mm, 0, 0.6) - wire}


def registration_marker(diameter_mm: float) -> Parts:
    """A doughnut on the skin for navigation."""
    return {"ring": tube(diameter_mm / 2, 0.22 * diameter_mm, 0, 3.5, 40), "core": ball(1.0, (0, 0, 1.6), 16)}


def reference_array(arm_mm: float) -> Parts:
    """Four reflecting balls on a cross, screwed to bone or tool."""
    ends = np.array([(-0.5, 0, 0), (0.62, 0, 0), (0.1, 0.8, 0), (0.05, -0.66, 0)]) * arm_mm
    frame = [rod((0, 0, 0), e, 3.2) for e in ends] + [rod((0, 0, 0), (0, 0, -30), 4)]
    posts = [cylinder(1.6, 0, 10, segments=14).translate(tuple(e)) for e in ends]
    metal = union([*frame, *posts])
    return {"frame": metal, "balls": union(ball(6, (e[0], e[1], 12), 24) for e in ends) - metal}


def alignment_grid(width_mm: float, pitch_mm: float) -> Solid:
    """Crossed wires to find an entry point or measure by."""
    half = width_mm / 2
    lines = np.arange(-half, half + 0.1, pitch_mm)
    flat = flats(
        [
            *(stadium([(x, -half), (x, half)], 0.35, 8) for x in lines),
            *(stadium([(-half, y), (half, y)], 0.35, 8) for y in lines),
        ]
    )
    return extrude(flat, 0, 0.7)


def biopsy_grid(width_mm: float) -> Parts:
    """A plastic plate with a lattice of holes and lead letters' lines."""
    half = width_mm / 2
    holes = [
        cylinder(1.0, -9, 9, segments=10).translate((x, y, 0))
        for x in np.arange(-half + 6, half - 4, 5)
        for y in np.arange(-half + 6, half - 4, 5)
    ]
    lines = together([*(box((width_mm - 8, 0.5, 0.5), (0, y, 4.6)) for y in (-half / 2 - 1, half / 2 + 1))])
    return {"lines": lines, "plate": without(block((width_mm, width_mm, 10), 1.5), [*holes, lines])}


def step_wedge(steps: float) -> Solid:
    """A staircase of aluminium."""
    count = int(steps)
    return union(box((8, 26, 2.0 * (i + 1)), (8 * (i - (count - 1) / 2), 0, i + 1)) for i in range(count))


def line_pair_phantom(groups: float) -> Parts:
    """Groups of lead bars that get finer."""
    bars, at = [], -30.0
    for g in range(int(groups)):
        wide = 1.6 / 1.35**g
        for _ in range(4):
            bars.append(box((wide, 18, 0.2), (at + wide / 2, 0, 0)))
            at += 2 * wide
        at += 2.0
    lead = together(bars)
    return {"bars": lead, "plate": block((70, 30, 3), 0.8) - lead}


def calibration_ball(diameter_mm: float) -> Solid:
    """A steel ball of known size beside the hip, for planning."""
    return ball(diameter_mm / 2, (0, 0, 0), 40)


def surgical_sponge(width_mm: float) -> Parts:
    """A gauze pad, marked by a wavy radio-opaque thread."""
    t = np.linspace(0, 1, 90)
    path = np.stack([0.36 * width_mm * np.sin(9 * t) * (0.5 + t), width_mm * (t - 0.5) * 0.9, 1.5 * np.sin(14 * t)], 1)
    thread = sweep(path, 0.55, segments=8)
    return {"thread": thread, "cloth": block((width_mm, width_mm, 4), 1.5) - thread}


def laparotomy_pad(width_mm: float) -> Parts:
    """A large cloth with a strip and a ring on a loop."""
    strip = block((6, 0.8 * width_mm, 0.5), 0.2, (0.3 * width_mm, 0, 0))
    loop = ring(14, 1.2, 40, 10).translate((-0.5 * width_mm - 40, 0, 0))
    tape = block((60, 8, 1.2), 0.4, (-0.5 * width_mm - 10, 0, 0))
    metal = union([strip, loop])
    return {"strip": metal, "cloth": union([block((width_mm, width_mm, 5), 2), tape]) - metal}


def table_clamp(length_mm: float) -> Solid:
    """A rail clamp of the operating table."""
    return union(
        [
            block((40, 26, length_mm * 0.5), 4) - block((60, 12, length_mm * 0.34), 2, (16, 0, 0)),
            rod((0, 0, 0.2 * length_mm), (0, 60, 0.2 * length_mm), 6),
            ball(12, (0, 66, 0.2 * length_mm), 24),
        ]
    )


def surgical_tray(length_mm: float) -> Solid:
    """A kidney dish."""
    angle = np.linspace(0.12, np.pi - 0.12, 40)
    flat = stadium(np.stack([0.42 * length_mm * np.cos(angle), 0.3 * length_mm * np.sin(angle)], 1), 0.22 * length_mm)
    return extrude(flat, 0, 32) - extrude(flat.offset(-1.2), 1.0, 40)


def cable_tie_and_clamp(length_mm: float) -> Parts:
    """A cable across the field with its metal clip."""
    path = smooth([(-length_mm / 2, 0, 0), (-length_mm / 5, 14, 0), (length_mm / 5, -10, 0), (length_mm / 2, 4, 0)], 60)
    copper = sweep(path, 1.1, segments=10)
    clip = block((16, 12, 6), 1.5, (0, 2, 0)) - sweep(path, 2.3, segments=12)
    return {"copper": copper, "sheath": sweep(path, 2.2, segments=12) - sweep(path, 1.1, segments=10), "clip": clip}


_SEGMENTS = {
    0: "abcdef",
    1: "bc",
    2: "abged",
    3: "abgcd",
    4: "fgbc",
    5: "afgcd",
    6: "afgedc",
    7: "abc",
    8: "abcdefg",
    9: "abcdfg",
}


def _digit(value: int, height: float) -> Outline:
    """A seven-segment figure."""
    w, h = 0.28 * height, height / 2
    ends = {
        "a": ((-w, h), (w, h)),
        "b": ((w, h), (w, 0)),
        "c": ((w, 0), (w, -h)),
        "d": ((-w, -h), (w, -h)),
        "e": ((-w, 0), (-w, -h)),
        "f": ((-w, h), (-w, 0)),
        "g": ((-w, 0), (w, 0)),
    }
    return flats(stadium(ends[name], 0.1 * height, 8) for name in _SEGMENTS[value])

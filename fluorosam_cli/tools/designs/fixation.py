"""Staples, clips, sutures, seeds and markers in tissue."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Line,
    Parts,
    Solid,
    arc,
    ball,
    block,
    both_sides,
    box,
    cylinder,
    extrude,
    helix,
    hull,
    ring,
    smooth,
    stadium,
    sweep,
    threaded,
    together,
    tube,
    union,
    without,
)


def bone_staple(bridge_mm: float, leg_mm: float) -> Solid:
    """Two barbed legs into bone: its bridge on the surface, the legs toward -y."""
    bridge = block((bridge_mm, 2.2, 2.6), 0.7, (0, 1.1, 0))
    leg = hull([box((2.2, 1, 2.2), (0, 1, 0)), box((0.4, 0.2, 1.6), (0, -leg_mm, 0))])
    barbs = union(box((2.8, 0.6, 2.2), (0, -f * leg_mm, 0)) for f in (0.3, 0.5, 0.7))
    return union([bridge, both_sides((leg + barbs).translate((bridge_mm / 2 - 1.1, 0, 0)))]).rotate((0, 90, 0))


def memory_staple(bridge_mm: float, leg_mm: float) -> Solid:
    """A round nitinol wire whose legs close when warm."""
    half = bridge_mm / 2
    path = smooth(
        [
            (-half + 2.2, -leg_mm, 0),
            (-half + 0.5, -0.5 * leg_mm, 0),
            (-half, 0, 0),
            (-half + 2, 1.2, 0),
            (0, 2.0, 0),
            (half - 2, 1.2, 0),
            (half, 0, 0),
            (half - 0.5, -0.5 * leg_mm, 0),
            (half - 2.2, -leg_mm, 0),
        ],
        60,
    )
    return sweep(path, 0.9, segments=14).rotate((0, 90, 0))


def stepped_staple(bridge_mm: float, step_mm: float) -> Solid:
    """For an osteotomy: its bridge steps down."""
    profile = [
        (-bridge_mm / 2, -22),
        (-bridge_mm / 2, 0),
        (-3, 0),
        (3, step_mm),
        (bridge_mm / 2, step_mm),
        (bridge_mm / 2, step_mm - 24),
    ]
    return extrude(stadium(profile, 1.5), -5, 5).rotate((0, 90, 0))


def skin_staples(count: float, spacing_mm: float) -> Solid:
    """A row of rectangular wire staples along a wound (y)."""
    wire = sweep(
        [(-1.2, -3.4, 0), (-3.0, -3.4, 0), (-3.2, 0, 0), (3.2, 0, 0), (3.0, -3.4, 0), (1.2, -3.4, 0)], 0.29, segments=8
    )
    return together(
        wire.rotate((90, 0, 0)).translate((0.4 * math.sin(5 * i), (i - (count - 1) / 2) * spacing_mm, 0.3))
        for i in range(int(count))
    )


def ligating_clip(length_mm: float) -> Solid:
    """A closed V on a vessel or duct."""
    path = [(0.7, 0, 0), (0.75, 0, 0.8 * length_mm), (0, 0, length_mm), (-0.75, 0, 0.8 * length_mm), (-0.7, 0, 0)]
    return sweep(path, 0.55, segments=10).translate((0, 0, -length_mm / 2))


def clip_row(count: float) -> Solid:
    """Clips in a loose row, as along the chest wall after a bypass graft."""
    rng = np.random.default_rng(int(count))
    clip = ligating_clip(5)
    return together(
        clip.rotate(tuple(rng.uniform(-40, 40, 3))).translate(
            (float(rng.normal(0, 4)), float(rng.normal(0, 3)), 16 * i)
        )
        for i in range(int(count))
    )


def aneurysm_clip(blade_mm: float) -> Solid:
    """A spring coil with two crossing blades."""
    coil = sweep(helix(2.2, 1.3, -1.6, 1.6, 20), 0.55, segments=10).rotate((90, 0, 0)).translate((0, 0, blade_mm + 6))
    blade = sweep(
        smooth([(0.5, 0.2, 0), (0.5, 0.2, blade_mm), (-2.2, 0.6, blade_mm + 3), (-2.2, 1.2, blade_mm + 6)], 24),
        0.55,
        segments=10,
    )
    other = sweep(
        smooth([(-0.5, -0.2, 0), (-0.5, -0.2, blade_mm), (2.2, -0.6, blade_mm + 3), (2.2, -1.2, blade_mm + 6)], 24),
        0.55,
        segments=10,
    )
    return union([coil, blade, other])


def fenestrated_aneurysm_clip(blade_mm: float, ring_mm: float) -> Solid:
    """With an opening for a vessel behind the blades."""
    eye = ring(ring_mm / 2, 0.55, 32, 8).rotate((90, 0, 0)).translate((0, 0, blade_mm + ring_mm / 2))
    return union(
        [
            eye,
            aneurysm_clip(blade_mm).trim_by_plane((0, 0, -1), -blade_mm),
            aneurysm_clip(2).translate((0, 0, blade_mm + ring_mm - 1)),
        ]
    )


def endoscopic_clip(length_mm: float) -> Solid:
    """Two hooked arms on a stub, left in the gut."""
    arm = sweep(
        smooth([(0.6, 0, 0), (2.6, 0, 1.2), (3.0, 0, 0.4 * length_mm), (0.6, 0, 0.75 * length_mm)], 20),
        0.45,
        segments=8,
    )
    return union(
        [
            both_sides(arm),
            tube(1.1, 0.5, 0.7 * length_mm, length_mm, 16),
            cylinder(0.55, 0.7 * length_mm, length_mm - 0.5, segments=10),
        ]
    )


def sternal_wires(count: float, spacing_mm: float) -> Solid:
    """Loops around the breastbone, each with its twist in front (+y)."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    knots = []
    for i in range(int(count)):
        z, wide = (i - (count - 1) / 2) * spacing_mm, 15 + 3 * math.sin(2.1 * i)
        loop = np.stack([wide * np.cos(angle), 7 * np.sin(angle), z + 1.5 * np.sin(angle + i)], 1)
        t = np.linspace(0, 3 * 2 * np.pi, 40)
        twist = [
            np.stack([0.45 * np.cos(t + k) + 0.35 * t, 7 + 0.1 * t, z + 0.45 * np.sin(t + k)], 1) for k in (0, np.pi)
        ]
        knots += [sweep(loop, 0.45, closed=True, segments=8), *(sweep(path, 0.4, segments=8) for path in twist)]
    return together(knots)


def sternal_plate(holes: float) -> Solid:
    """An X across the breastbone with screws."""
    arms = [stadium([(-16, -s * 12), (16, s * 12)], 3.4) for s in (-1, 1)]
    flat = arms[0] + arms[1]
    at = [(x, s * 12 * x / 16) for s in (-1, 1) for x in np.linspace(-15, 15, int(holes) // 2) if abs(x) > 3]
    plate = extrude(flat, 0, 2, "y")
    screws = [
        threaded([(0, 0.1, 0.1), (2, 0.8, 1.2), (11, 0.8, 1.2), (11.5, 2, 2), (12.5, 2, 2)], 1, 12)
        .translate((0, 0, -10.8))
        .rotate((-90, 0, 0))
        .translate((x, 0, z))
        for x, z in at
    ]
    return union([plate, *screws])


def suture_wire(line: Line, diameter_mm: float) -> Solid:
    """A length of steel wire."""
    return line.bend(cylinder(diameter_mm / 2, 0, line.length_mm, segments=8))


def suture_needle(chord_mm: float, arc_deg: float, diameter_mm: float) -> Solid:
    """A curved needle with a tapered point."""
    radius = chord_mm / 2 / math.sin(math.radians(min(arc_deg, 180)) / 2)
    path = arc((0, 0, 0), radius, 90 - arc_deg / 2, 90 + arc_deg / 2, 36, "xy")
    taper = np.interp(np.linspace(0, 1, 36), [0, 0.3, 0.9, 1], [0.02, 0.5, 0.5, 0.4]) * diameter_mm
    return sweep(path - path.mean(0), taper, segments=12)


def cable_with_crimp(loop_mm: float) -> Solid:
    """A braided cable around bone and its crimped sleeve."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    strands = [
        sweep(
            np.stack(
                [
                    (loop_mm / 2 + 0.5 * np.cos(12 * angle + k)) * np.cos(angle),
                    (loop_mm / 2 + 0.5 * np.cos(12 * angle + k)) * np.sin(angle),
                    0.5 * np.sin(12 * angle + k),
                ],
                1,
            ),
            0.45,
            closed=True,
            segments=6,
        )
        for k in np.radians((0, 120, 240))
    ]
    crimp = block((9, 4.5, 5.5), 1, (0, loop_mm / 2 + 2.6, 0))
    return together([*strands, crimp])


def gold_seed(diameter_mm: float, length_mm: float) -> Solid:
    """A short knurled cylinder, to aim radiation by."""
    seed = cylinder(diameter_mm / 2, -length_mm / 2, length_mm / 2, segments=20)
    return without(
        seed,
        [tube(diameter_mm, 0.42 * diameter_mm, z - 0.12, z + 0.12, 20) for z in np.linspace(-0.3, 0.3, 3) * length_mm],
    )


def brachytherapy_seed(length_mm: float) -> Parts:
    """A welded capsule with a marker inside."""
    capsule = hull([ball(0.4, (0, 0, z), 16) for z in (-length_mm / 2 + 0.4, length_mm / 2 - 0.4)])
    core = cylinder(0.25, -0.33 * length_mm, 0.33 * length_mm, segments=16)
    hollow = cylinder(0.34, -0.36 * length_mm, 0.36 * length_mm, segments=16)
    return {"capsule": capsule - hollow, "core": core}


def seed_cluster(count: float) -> Parts:
    """Many seeds in a prostate."""
    rng = np.random.default_rng(int(count))
    seed = brachytherapy_seed(4.5)
    places = [p for p in rng.uniform(-1, 1, (int(count) * 4, 3)) if p @ p < 1][: int(count)]
    spots = np.array(places) * (20, 16, 20)
    turns = rng.uniform(-12, 12, spots.shape)
    return {
        name: together(part.rotate(t).translate(s) for s, t in zip(spots, turns, strict=True))
        for name, part in seed.items()
    }


def breast_marker(size_mm: float, kind: float) -> Solid:
    """A tiny clip left at a biopsy: ribbon, coil, or ring."""
    if kind == 1:
        angle = np.linspace(0, 2 * np.pi, 60)
        path = np.stack(
            [size_mm / 2 * np.sin(angle / 2 * 3) * 0.5, 0.3 * np.cos(angle), size_mm / 2 * np.cos(angle / 2)], 1
        )
        return sweep(path, 0.22, segments=8)
    if kind == 2:
        return sweep(helix(0.7, 0.6, -size_mm / 2, size_mm / 2, 16), 0.22, segments=8)
    return ring(size_mm / 2, 0.25, 28, 8)

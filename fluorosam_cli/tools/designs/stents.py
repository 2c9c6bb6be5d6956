"""Stents, stent grafts, coils, plugs and filters. Flexible ones take a `Line` from their tip outward."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Line,
    Parts,
    Points,
    Solid,
    arc,
    around,
    cylinder,
    helix,
    rod,
    smooth,
    sweep,
    together,
    tube,
    union,
)


def balloon_expandable_stent(line: Line, diameter_mm: float) -> Solid:
    """Rings of zigzags joined by links."""
    radius, crowns = diameter_mm / 2, max(int(diameter_mm * 0.9) + 3, 5)
    height = 2.2 * math.pi * radius / crowns
    count = max(int(line.length_mm / (1.3 * height)), 2)
    wire = 0.05 + 0.012 * diameter_mm
    rings = [zigzag(radius, crowns, height, (0.65 + 1.3 * i) * height, wire, i * 180 / crowns) for i in range(count)]
    links = [
        sweep(_on_tube(radius, 360 * k / crowns, (0.65 + 1.3 * i + 0.4) * height, 0.5 * height), wire, segments=6)
        for i in range(count - 1)
        for k in range(0, crowns, 2)
    ]
    return line.bend(together([*rings, *links]))


def self_expanding_stent(line: Line, diameter_mm: float) -> Solid:
    """A braid of crossing helices."""
    radius, wires, length = diameter_mm / 2, 6, line.length_mm
    pitch = 2 * math.pi * radius / math.tan(math.radians(50))
    strand = [helix(radius + 0.09, pitch, 0, length, 14), helix(radius - 0.09, pitch, 0, length, 14) * (1, -1, 1)]
    turned = [sweep(s, 0.09, segments=5).rotate((0, 0, 360 * k / wires)) for s in strand for k in range(wires)]
    return line.bend(together(turned))


def stent_graft(line: Line, diameter_mm: float) -> Parts:
    """Thoracic: zigzag springs on a cloth tube."""
    radius, length = diameter_mm / 2, line.length_mm
    springs = together([zigzag(radius + 0.25, 8, 12, 7 + 16 * i, 0.22) for i in range(int(length // 16))])
    cloth = tube(radius, radius - 0.12, 1, length - 1, 32)
    return {"springs": line.bend(springs), "cloth": line.bend(cloth)}


def bifurcated_stent_graft(diameter_mm: float, leg_mm: float) -> Parts:
    """For the abdominal aorta: a body, bare hooks above, two legs; +z cranial."""
    radius = diameter_mm / 2
    body = [zigzag(radius, 7, 12, z, 0.22) for z in (54, 38, 22, 6)] + [zigzag(radius, 6, 18, 70, 0.25)]
    legs = []
    for side in (-1, 1):
        path = Line(smooth([(side * radius * 0.5, 0, -2), (side * radius * 0.7, 0, -35), (side * 26, 0, -80)], 40))
        legs.append(path.bend(together([zigzag(leg_mm / 2, 5, 10, z, 0.2) for z in range(6, 80, 13)])))
    hooks = around(rod((radius, 0, 78), (radius + 1.5, 0, 74), 0.25), 6)
    return {"springs": together([*body, *legs, hooks])}


def stent_retriever(line: Line, diameter_mm: float) -> Parts:
    """An open net on a wire, for clots in the brain."""
    rows = [zigzag(diameter_mm / 2, 4, 5.5, 5 + 5.5 * i, 0.06, 45 * (i % 2)) for i in range(6)]
    taper = [sweep([(diameter_mm / 2, 0, 35), (0, 0, 46)], 0.06, segments=6).rotate((0, 0, 90 * k)) for k in range(4)]
    wire = cylinder(0.2, 45, line.length_mm, segments=8)
    tips = together(
        [
            cylinder(0.12, 1.5, 3.2, segments=8).translate((diameter_mm / 2, 0, 0)).rotate((0, 0, 90 * k))
            for k in range(4)
        ]
    )
    return {"net": line.bend(together([*rows, *taper, wire])), "markers": line.bend(tips)}


def embolisation_coil(loop_mm: float, length_mm: float) -> Solid:
    """A platinum thread packed into a ball of loops."""
    t = np.linspace(0, length_mm / (0.5 * loop_mm), max(int(length_mm / loop_mm * 22), 80))
    phase, lean = 0.17 * t, 0.61 * t
    loop = np.stack([np.cos(t), np.sin(t), 0.25 * np.sin(0.37 * t)], 1) * loop_mm / 2
    turn_x = np.stack(
        [
            loop[:, 0],
            loop[:, 1] * np.cos(phase) - loop[:, 2] * np.sin(phase),
            loop[:, 1] * np.sin(phase) + loop[:, 2] * np.cos(phase),
        ],
        1,
    )
    path = np.stack(
        [
            turn_x[:, 0] * np.cos(lean) - turn_x[:, 2] * np.sin(lean),
            turn_x[:, 1],
            turn_x[:, 0] * np.sin(lean) + turn_x[:, 2] * np.cos(lean),
        ],
        1,
    )
    return sweep(path * (1 - 0.35 * np.linspace(0, 1, len(t)))[:, None], 0.16, segments=6)


def helical_coil(loop_mm: float, length_mm: float) -> Solid:
    """A loose spring in a vessel, its ends free."""
    turns = length_mm / (math.pi * loop_mm)
    path = helix(loop_mm / 2, 0.28 * loop_mm, 0, 0.28 * loop_mm * turns, 20)
    return sweep(path - path.mean(0), 0.45, segments=8)


def vena_cava_filter(diameter_mm: float) -> Solid:
    """A cone of legs that open downstream, a hook at its top (+z, toward the heart)."""
    legs = [_leg(diameter_mm / 2, 40, turn) for turn in range(0, 360, 60)]
    arms = [_leg(0.38 * diameter_mm, 18, turn + 30) for turn in range(0, 360, 60)]
    hook = sweep(arc((1.2, 0, 27.5), 1.2, 180, -20, 12), 0.35)
    return together([union([cylinder(1.2, 20, 26), cylinder(0.4, 25, 27.6)]), hook, *legs, *arms])


def basket_filter(diameter_mm: float) -> Solid:
    """A tulip of loops between legs with hooks."""
    radius = diameter_mm / 2
    legs = [_leg(radius, 45, turn) for turn in range(0, 360, 90)]
    loops = []
    for turn in range(45, 405, 90):
        a = math.radians(turn)
        side = np.array([-math.sin(a), math.cos(a), 0])
        out = np.array([math.cos(a), math.sin(a), 0])
        knots = [
            out * 1 + (0, 0, 20),
            out * 0.7 * radius + side * 5 + (0, 0, 4),
            out * radius + (0, 0, -10),
            out * 0.7 * radius - side * 5 + (0, 0, 4),
            out * 1 + side * -0.5 + (0, 0, 20),
        ]
        loops.append(sweep(smooth(knots, 30), 0.22, segments=6))
    return together([cylinder(1.4, 18.5, 26), sweep(arc((1.2, 0, 27), 1.2, 180, -20, 12), 0.35), *legs, *loops])


def vascular_plug(diameter_mm: float, length_mm: float) -> Parts:
    """A cylinder of nitinol mesh between two end screws."""
    braid = self_expanding_stent(Line.straight(length_mm), diameter_mm).translate((0, 0, -length_mm / 2))
    ends = together([cylinder(0.8, z, z + 2, segments=12) for z in (-length_mm / 2 - 2, length_mm / 2)])
    spokes = together(
        [
            rod((0.5, 0, z * (length_mm / 2 + 0.6)), (diameter_mm / 2, 0, z * length_mm / 2), 0.1).rotate(
                (0, 0, 60 * k)
            )
            for z in (-1, 1)
            for k in range(6)
        ]
    )
    return {"mesh": together([braid, spokes]), "ends": ends}


def _on_tube(radius: float, degrees: float, z: float, height: float) -> Points:
    x, y = radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))
    return [(x, y, z), (x, y, z + height)]


def zigzag(radius: float, crowns: int, height: float, z: float, wire: float, turn: float = 0) -> Solid:
    angle = np.linspace(0, 2 * np.pi, crowns * 8, endpoint=False)
    wave = 2 / np.pi * np.arcsin(0.98 * np.sin(crowns * angle))
    angle = angle + math.radians(turn)
    path = np.stack([radius * np.cos(angle), radius * np.sin(angle), z + height / 2 * wave], 1)
    return sweep(path, wire, closed=True, segments=6)


def _leg(radius: float, length: float, turn: float) -> Solid:
    path = smooth(
        [
            (0.8, 0, 21),
            (0.35 * radius, 0, 21 - 0.2 * length),
            (0.85 * radius, 0, 21 - 0.7 * length),
            (radius, 0, 21 - length),
            (radius + 0.8, 0, 21.8 - length),
        ],
        20,
    )
    return sweep(path, 0.22, segments=6).rotate((0, 0, turn))

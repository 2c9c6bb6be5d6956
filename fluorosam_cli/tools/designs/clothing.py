"""Clothing and jewellery, lying flat in the x-y plane."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
    arc,
    around,
    ball,
    block,
    both_sides,
    box,
    circle,
    cylinder,
    extrude,
    flats,
    hull,
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


def coin(diameter_mm: float, thickness_mm: float) -> Solid:
    """A rim and a raised figure."""
    disc = cylinder(diameter_mm / 2, -thickness_mm / 2, thickness_mm / 2, segments=48)
    sunk = cylinder(0.44 * diameter_mm, thickness_mm / 2 - 0.2, 9, segments=48)
    figure = extrude(
        flats(
            [
                circle(0.13 * diameter_mm, (0, 0.12 * diameter_mm)),
                stadium(
                    [(-0.15 * diameter_mm, -0.2 * diameter_mm), (0.15 * diameter_mm, -0.2 * diameter_mm)],
                    0.1 * diameter_mm,
                ),
            ]
        ),
        thickness_mm / 2 - 0.25,
        thickness_mm / 2,
    )
    return (disc - sunk) + figure


def holed_coin(diameter_mm: float, thickness_mm: float) -> Solid:
    """A coin with a hole in its middle."""
    return tube(diameter_mm / 2, 0.13 * diameter_mm, -thickness_mm / 2, thickness_mm / 2, 48) - tube(
        0.43 * diameter_mm, 0.2 * diameter_mm, thickness_mm / 2 - 0.2, 9, 48
    )


def button(diameter_mm: float, holes: float) -> Solid:
    """A rim, a dished middle, two or four holes."""
    disc = cylinder(diameter_mm / 2, -1.3, 1.3, segments=40) - cylinder(
        0.36 * diameter_mm, 0.3, 9, 0.42 * diameter_mm, 40
    )
    return without(
        disc,
        [
            cylinder(0.07 * diameter_mm, -9, 9, segments=14)
            .translate((0.13 * diameter_mm, 0, 0))
            .rotate((0, 0, 360 * k / holes + 45))
            for k in range(int(holes))
        ],
    )


def press_stud(diameter_mm: float) -> Solid:
    """A metal snap fastener of a gown."""
    return union(
        [
            tube(diameter_mm / 2, 0.3 * diameter_mm, 0, 1.2, 36),
            cylinder(0.34 * diameter_mm, 0, 0.5),
            ring(0.26 * diameter_mm, 0.5, 28, 8).translate((0, 0, 1.6)),
            around(cylinder(0.4, 0, 2.0, segments=8).translate((0.4 * diameter_mm, 0, 0)), 5),
        ]
    )


def jeans_button(diameter_mm: float) -> Solid:
    """A domed rivet button."""
    cap = (ball(0.9 * diameter_mm, (0, 0, -0.62 * diameter_mm), 48) ^ cylinder(diameter_mm / 2, 0, 9)) - cylinder(
        0.42 * diameter_mm, -1, 1.6
    )
    return union([cap, tube(3, 1.6, -5, 2, 20), cylinder(5, -6, -5)])


def zip_fastener(length_mm: float) -> Solid:
    """Rows of teeth and the slider."""
    teeth = together(
        block((3.6, 0.9, 1.6), 0.3, (0.9 * (-1) ** i, y, 0), 8)
        for i, y in enumerate(np.arange(-length_mm / 2, length_mm / 2, 1.5))
    )
    slider = without(block((9, 12, 5), 1.5, (0, length_mm / 2 + 5, 0)), [box((5, 30, 2), (0, length_mm / 2 + 5, 0))])
    tab = extrude(
        stadium([(0, length_mm / 2 + 12), (0, length_mm / 2 + 30)], 4)
        - stadium([(0, length_mm / 2 + 24), (0, length_mm / 2 + 30)], 1.8),
        2,
        3.2,
    )
    return together([teeth, slider, tab])


def belt_buckle(width_mm: float) -> Solid:
    """A frame with a prong."""
    frame = extrude(
        outline(
            [
                (-0.6 * width_mm, -width_mm / 2),
                (0.6 * width_mm, -width_mm / 2),
                (0.6 * width_mm, width_mm / 2),
                (-0.6 * width_mm, width_mm / 2),
            ],
            6,
        )
        - outline(
            [
                (-0.45 * width_mm, -0.36 * width_mm),
                (0.45 * width_mm, -0.36 * width_mm),
                (0.45 * width_mm, 0.36 * width_mm),
                (-0.45 * width_mm, 0.36 * width_mm),
            ],
            4,
        ),
        -1.6,
        1.6,
    )
    return union([frame, rod((-0.5 * width_mm, 0, 2), (0.55 * width_mm, 0, 3), 1.5)])


def underwire(width_mm: float) -> Solid:
    """The wire of a brassiere."""
    path = arc((0, 0, 0), width_mm / 2, 190, 350, 40, "xy") * (1, 1.15, 1)
    return sweep(path, 1.0, np.array([(-1, -0.4), (1, -0.4), (1, 0.4), (-1, 0.4)]))


def hook_and_eye(rows: float) -> Solid:
    """The fastener of a brassiere."""
    pieces = []
    for i in range(int(rows)):
        y = 12 * i
        pieces.append(
            sweep(
                smooth([(-6, y - 2, 0), (2, y - 1.5, 0), (5, y, 1), (2, y + 1.5, 0), (-6, y + 2, 0)], 24),
                0.5,
                segments=8,
            )
        )
        pieces.append(
            sweep(
                smooth([(16, y - 3, 0), (10, y - 2.5, 0), (8, y, 0), (10, y + 2.5, 0), (16, y + 3, 0)], 24),
                0.5,
                segments=8,
            )
        )
    return together(pieces)


def safety_pin(length_mm: float) -> Solid:
    """Closed, with its coil and cap."""
    half = length_mm / 2
    wire = sweep(
        smooth(
            [
                (-half + 3, 3.2, 0),
                (0, 3.8, 0),
                (half - 3, 3.2, 0.4),
                (half, 1.0, 0.6),
                (half + 0.4, -1.4, 0),
                (half - 3, -2.2, -0.4),
                (0, -2.6, 0),
                (-half + 2, -2.2, 0),
            ],
            60,
        ),
        0.5,
        segments=10,
    )
    cap = hull([block((7, 8, 2.4), 0.8, (-half + 2, 0.6, 0)), block((2, 4, 2), 0.6, (-half - 2, 0.6, 0))])
    return union([wire, cap, ring(1.6, 0.5, 20, 8).translate((half - 0.6, -0.4, 0))])


def paper_clip(length_mm: float) -> Solid:
    """A bent wire."""
    w, h = 0.2 * length_mm, length_mm / 2
    path = np.vstack(
        [
            [(0.5 * w, -0.3 * h, 0)],
            arc((0, 0.72 * h, 0.6), 0.5 * w, 0, 180, 12, "xy"),
            arc((0.15 * w, -0.75 * h, 0.3), 0.65 * w, 180, 360, 14, "xy"),
            arc((0.05 * w, 0.9 * h, 0), 0.75 * w, 0, 180, 14, "xy"),
            [(-0.7 * w, -0.35 * h, 0)],
        ]
    )
    return sweep(path, 0.5, segments=10)


def key(length_mm: float) -> Solid:
    """A bow, a blade and its teeth."""
    bow = circle(0.2 * length_mm, (0, 0.36 * length_mm), 40) - circle(0.06 * length_mm, (0, 0.45 * length_mm))
    rng = np.random.default_rng(5)
    depth = rng.uniform(0.03, 0.085, 9) * length_mm
    y = np.linspace(0.1, -0.52, 9) * length_mm
    blade = outline(
        [
            (-0.075 * length_mm, 0.25 * length_mm),
            (-0.075 * length_mm, -0.52 * length_mm),
            *[(float(d), float(v)) for d, v in zip(depth, y, strict=True)][::-1],
            (0.085 * length_mm, 0.25 * length_mm),
        ]
    )
    return extrude(bow + blade, -1, 1) - box((1.2, 0.6 * length_mm, 1), (-1.5, -0.2 * length_mm, 1.1))


def finger_ring(diameter_mm: float) -> Solid:
    """A plain band."""
    return tube(diameter_mm / 2 + 1.8, diameter_mm / 2, -2.2, 2.2, 48)


def stone_ring(diameter_mm: float) -> Parts:
    """A thin band with claws around a stone."""
    band = ring(diameter_mm / 2 + 0.9, 1.0, 48, 12)
    claws = around(rod((1.4, 0, 0), (3.0, 0, 4.2), 0.45), 6).rotate((0, 90, 0)).translate((diameter_mm / 2 + 1, 0, 0))
    stone = (
        hull(
            [
                cylinder(2.8, 3, 3.6, segments=10),
                cylinder(1.6, 4.5, 4.8, segments=10),
                cylinder(0.3, 0.8, 1, segments=10),
            ]
        )
        .rotate((0, 90, 0))
        .translate((diameter_mm / 2 + 1, 0, 0))
    )
    return {"band": union([band, claws]), "stone": stone - claws - band}


def earring_stud(diameter_mm: float) -> Solid:
    """A ball, a pin and a butterfly back."""
    back = both_sides(ring(1.8, 0.45, 20, 8).rotate((90, 0, 0)).translate((2.0, 0, 9))) + cylinder(
        2.2, 8.6, 9.2, segments=20
    )
    return union([ball(diameter_mm / 2, (0, 0, 0), 24), cylinder(0.4, 0, 11, segments=12), back]).rotate((90, 0, 0))


def hoop_earring(diameter_mm: float) -> Solid:
    """An open hoop with a pin."""
    return sweep(arc((0, 0, 0), diameter_mm / 2, 100, 440, 48, "xy"), 1.1, segments=12) + rod(
        (diameter_mm / 2 * math.cos(math.radians(80)), diameter_mm / 2 * math.sin(math.radians(80)), 0),
        (-2, diameter_mm / 2 + 1, 0),
        0.4,
    )


def dangling_earring(drop_mm: float) -> Solid:
    """A hook, links and a drop."""
    hook = sweep(arc((0, 0, 0), 5, -60, 200, 24, "xy"), 0.4, segments=8)
    links = [ring(1.8, 0.4, 20, 8).rotate((90 * (i % 2), 0, 0)).translate((0, -6.5 - 3 * i, 0)) for i in range(3)]
    return together(
        [hook, *links, hull([ball(0.8, (0, -16, 0), 12), ball(0.24 * drop_mm, (0, -16 - 0.7 * drop_mm, 0), 20)])]
    )


def chain_necklace(length_mm: float, link_mm: float) -> Solid:
    """A loop of interlocked links with a clasp."""
    count = int(length_mm / (1.25 * link_mm))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    a = length_mm / (2 * np.pi)
    link = ring(0.42 * link_mm, 0.14 * link_mm, 12, 5).scale((1.6, 1, 1))
    return together(
        link.rotate((90 * (i % 2), 0, 0))
        .rotate((0, 0, math.degrees(t) + 90))
        .translate((0.78 * a * math.cos(t), 1.15 * a * math.sin(t), 0))
        for i, t in enumerate(angle)
    )


def pendant_cross(height_mm: float) -> Solid:
    """A cross with an eyelet."""
    flat = stadium([(0, -height_mm / 2), (0, height_mm / 2)], 0.08 * height_mm) + stadium(
        [(-0.3 * height_mm, 0.18 * height_mm), (0.3 * height_mm, 0.18 * height_mm)], 0.08 * height_mm
    )
    return extrude(flat, -1, 1) + ring(0.12 * height_mm, 0.7, 28, 8).translate((0, 0.66 * height_mm, 0))


def bangle(diameter_mm: float) -> Solid:
    """A stiff bracelet."""
    return ring(diameter_mm / 2, 2.2, 64, 12)


def wrist_watch(diameter_mm: float) -> Parts:
    """Case, glass, movement, crown and a strap's buckle."""
    radius = diameter_mm / 2
    case = cylinder(radius, -4.5, 4.5, segments=48) - cylinder(radius - 3, -3, 9, segments=48)
    movement = without(
        cylinder(0.62 * radius, -2.4, 1.5, segments=40), [cylinder(4.6, -9, 9).translate((0.28 * radius, 0, 0))]
    ) + around(cylinder(0.12 * radius, -2.4, 2.2, segments=12).translate((0.42 * radius, 0, 0)), 3, 60)
    battery = cylinder(4.4, -2, 0.6).translate((0.28 * radius, 0, 0)) - movement
    lugs = both_sides(both_sides(block((3, 10, 5), 1.2, (0.55 * radius, radius + 1, -0.5))), (0, 1, 0))
    crown = cylinder(3, radius, radius + 4, segments=20).rotate((0, 90, 0))
    hands = union(
        [box((1.2, 0.6 * radius, 0.4), (0, 0.3 * radius, 2.6)), box((0.45 * radius, 1.2, 0.4), (0.22 * radius, 0, 2.6))]
    )
    buckle = (block((22, 14, 3), 1.2, (0, -radius - 62, 0)) - block((15, 8, 9), 1, (0, -radius - 62, 0))) + rod(
        (0, -radius - 69, 1), (0, -radius - 52, 1), 0.9
    )
    straps = both_sides(block((17, 60, 2.2), 1.0, (0, radius + 32, 0)), (0, 1, 0))
    metal = union([case, movement, battery, lugs, crown, buckle, hands])
    return {"watch": metal, "straps": straps - metal}


def barbell_piercing(length_mm: float) -> Solid:
    """A straight bar with two balls."""
    half = length_mm / 2
    return union([rod((-half, 0, 0), (half, 0, 0), 0.8), *(ball(2.4, (s * half, 0, 0), 24) for s in (-1, 1))])


def ring_piercing(diameter_mm: float) -> Solid:
    """An open ring closed by a ball."""
    return union(
        [
            sweep(arc((0, 0, 0), diameter_mm / 2, 100, 440, 40, "xy"), 0.8, segments=12),
            ball(2.0, (0, diameter_mm / 2, 0), 24),
        ]
    )


def hair_clip(length_mm: float) -> Solid:
    """A bobby pin."""
    half = length_mm / 2
    wave = [(-half + 10 + 6 * i, 1.6 + 0.9 * (-1) ** i, 0) for i in range(4)]
    return sweep(
        smooth(
            [
                (-half, 0.4, 0),
                *wave,
                (half - 6, 1.7, 0),
                (half, 0.0, 0),
                (half - 6, -1.4, 0),
                (0, -1.2, 0),
                (-half + 2, -0.8, 0),
            ],
            70,
        ),
        0.7,
        segments=10,
    )


def spectacles(width_mm: float) -> Parts:
    """A metal frame with lenses and folded temples."""
    lens_at = 0.27 * width_mm
    rim = ring(0.18 * width_mm, 1.1, 48, 10).scale((1.2, 0.9, 1))
    bridge = sweep(smooth([(-0.06 * width_mm, 4, 0), (0, 7, 1), (0.06 * width_mm, 4, 0)], 16), 1.0)
    temples = both_sides(
        sweep(
            smooth(
                [
                    (0.49 * width_mm, 4, 0),
                    (0.5 * width_mm, 4, -10),
                    (0.46 * width_mm, 0, -80),
                    (0.44 * width_mm, -14, -120),
                ],
                30,
            ),
            1.0,
        )
    )
    frame = union(
        [
            both_sides(rim.translate((lens_at, 0, 0))),
            bridge,
            temples,
            both_sides(block((9, 4, 3), 1, (0.48 * width_mm, 4, 0))),
        ]
    )
    lenses = both_sides(
        cylinder(0.18 * width_mm, -0.9, 0.9, segments=40).scale((1.2, 0.9, 1)).translate((lens_at, 0, 0))
    )
    return {"frame": frame, "lenses": lenses - frame}

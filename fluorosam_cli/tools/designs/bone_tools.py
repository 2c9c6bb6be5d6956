"""Chisels, awls, levers and holders of bone surgery. The tip at the origin, the handle toward +z."""

import math

import numpy as np

from fluorosam_cli.tools.designs.drills import ribbed_handle
from fluorosam_cli.tools.shapes import (
    Parts,
    Solid,
    arc,
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
    stadium,
    sweep,
    threaded,
    tube,
    union,
    without,
)


def osteotome(width_mm: float, length_mm: float) -> Solid:
    """A straight chisel, sharpened from both sides, on a striking handle."""
    blade = hull(
        [
            box((width_mm, 0.1, 0.1)),
            box((width_mm, 3, 1), (0, 0, 26)),
            box((width_mm, 3.4, 1), (0, 0, 0.5 * length_mm)),
            box((9, 5, 1), (0, 0, 0.62 * length_mm)),
        ]
    )
    return union([blade, _striking_handle(length_mm)])


def curved_osteotome(width_mm: float, length_mm: float) -> Solid:
    """A chisel bent toward its edge."""
    blade = osteotome(width_mm, length_mm).refine_to_length(6)
    return blade.warp_batch(
        lambda p: p + np.stack([0 * p[:, 0], 0.0045 * np.clip(0.5 * length_mm - p[:, 2], 0, None) ** 2, 0 * p[:, 0]], 1)
    ).rotate((0, 0, 90))


def gouge(width_mm: float, length_mm: float) -> Solid:
    """A hollow chisel."""
    radius = 0.62 * width_mm
    trough = (
        tube(radius, radius - 1.8, 0, 0.6 * length_mm, 40) ^ box((width_mm, 2 * radius, 2 * length_mm), (0, -radius, 0))
    ).translate((0, radius - 1, 0))
    return union([trough, _striking_handle(length_mm)])


def curette(cup_mm: float, length_mm: float) -> Solid:
    """A sharp spoon on a long stem."""
    cup = ball(cup_mm / 2, (0, 0, cup_mm / 2), 24).scale((1, 0.8, 1.2)) - ball(
        0.4 * cup_mm, (0, -0.16 * cup_mm, 0.56 * cup_mm), 20
    ).scale((1, 1.0, 1.15))
    return union(
        [
            cup,
            rod((0, 0.1 * cup_mm, cup_mm), (0, 0, 0.56 * length_mm), 1.6, 2.6),
            ribbed_handle(9, 0.44 * length_mm).translate((0, 0, 0.56 * length_mm)),
        ]
    ).rotate((0, 0, 60))


def bone_awl(diameter_mm: float, length_mm: float) -> Parts:
    """A straight spike on a plastic handle."""
    spike = cylinder(0.05, 0, 24, diameter_mm / 2, 4) + cylinder(diameter_mm / 2, 23, length_mm - 60, segments=16)
    grip = ribbed_handle(15, 92).translate((0, 0, length_mm - 92)) - spike
    return {"spike": spike, "grip": grip}


def curved_bone_awl(diameter_mm: float, length_mm: float) -> Solid:
    """A bent hollow spike with a T-handle, to open a long bone for a nail."""
    path = smooth([(0, 0, 0), (8, 0, 18), (16, 0, 60), (14, 0, 110), (0, 0, 150), (0, 0, length_mm)], 48)
    shaft = sweep(path, np.r_[np.linspace(0.2, diameter_mm / 2, 12), np.full(36, diameter_mm / 2)], segments=18)
    return (shaft - sweep(path, 1.6, segments=10)) + rod((-48, 0, length_mm), (48, 0, length_mm), 8)


def pedicle_probe(length_mm: float) -> Parts:
    """A blunt curved finder with depth marks and a round grip."""
    path = smooth([(3.5, 0, 0), (1, 0, 18), (0, 0, 40), (0, 0, length_mm - 90)], 30)
    shaft = sweep(path, np.interp(np.linspace(0, 1, 30), [0, 0.3, 1], [1.2, 1.9, 3.2]), segments=16)
    rings = union(ring(3.1, 0.4, 20, 6).translate((0, 0, z)) for z in (42, 52, 62) if z < length_mm - 95)
    grip = ball(18, (0, 0, length_mm - 18), 32) + cylinder(8, length_mm - 95, length_mm - 25, 11)
    return {"shaft": shaft + rings, "grip": grip - shaft}


def periosteal_elevator(width_mm: float, length_mm: float) -> Solid:
    """A broad slightly bent blade on a heavy handle (Cobb)."""
    blade = extrude(
        outline(
            [
                (-width_mm / 2, 4),
                (-0.3 * width_mm, 0),
                (0.3 * width_mm, 0),
                (width_mm / 2, 4),
                (0.36 * width_mm, 26),
                (3, 44),
                (-3, 44),
                (-0.36 * width_mm, 26),
            ],
            2,
        ),
        -1.0,
        1.0,
        "y",
    )
    return union(
        [
            blade,
            cylinder(3.2, 40, 0.55 * length_mm, segments=20),
            ribbed_handle(11, 0.45 * length_mm).translate((0, 0, 0.55 * length_mm)),
        ]
    )


def hohmann_retractor(width_mm: float, length_mm: float) -> Solid:
    """A bone lever: a beaked tip on a bent flat blade."""
    path = smooth([(-12, 0), (-8, 1), (0, 12), (3, 50), (0, 90), (22, length_mm - 30), (26, length_mm)], 48)
    width = np.interp(np.linspace(0, 1, 48), [0, 0.06, 0.2, 1], [0.06, 0.3, 1, 1.0]) * width_mm
    pieces = [
        hull([box((2.6, a, 1.2), (p[0], 0, p[1])), box((2.6, b, 1.2), (q[0], 0, q[1]))])
        for p, q, a, b in zip(path, path[1:], width, width[1:], strict=False)
    ]
    holes = [
        cylinder(0.22 * width_mm, -99, 99, segments=20).rotate((0, 90, 0)).translate((0, 0, z))
        for z in (length_mm - 14, length_mm - 34)
    ]
    return without(union(pieces), holes).rotate((0, 0, 50))


def bone_hook(length_mm: float) -> Solid:
    """A strong sharp hook on a T-handle."""
    path = smooth([(-13, 0, 10), (-11, 0, 2), (-3, 0, 0), (0, 0, 12), (0, 0, 30), (0, 0, length_mm)], 40)
    return sweep(path, np.r_[np.linspace(0.4, 3, 10), np.full(30, 3)], segments=16) + rod(
        (-40, 0, length_mm), (40, 0, length_mm), 6
    )


def mallet(head_mm: float, length_mm: float) -> Solid:
    """A round-headed hammer."""
    head = cylinder(head_mm / 2, -0.75 * head_mm, 0.75 * head_mm).rotate((0, 90, 0))
    return union(
        [head, cylinder(5, 0, 0.5 * length_mm), ribbed_handle(14, 0.55 * length_mm).translate((0, 0, 0.45 * length_mm))]
    ).translate((0, 0, head_mm / 2))


def slap_hammer(length_mm: float) -> Solid:
    """A sliding weight on a rod, to pull nails."""
    return union(
        [
            threaded([(0, 2.6, 4), (16, 2.6, 4), (16.5, 4.5, 4.5), (18, 4.5, 4.5)], 1.75),
            cylinder(4.5, 17, length_mm),
            tube(20, 5.5, 0.55 * length_mm, 0.55 * length_mm + 70, 36),
            cylinder(14, length_mm - 8, length_mm),
            cylinder(9, 20, 34, segments=6),
        ]
    )


def screwdriver(hex_mm: float, length_mm: float) -> Parts:
    """A hexagonal tip on a shaft with a grip."""
    blade = cylinder(hex_mm / 2 / math.cos(math.pi / 6), 0, 18, segments=6) + cylinder(
        0.62 * hex_mm + 0.8, 16, length_mm - 90, segments=20
    )
    grip = without(ribbed_handle(16, 110).translate((0, 0, length_mm - 110)), [blade])
    return {"blade": blade, "grip": grip}


def depth_gauge(length_mm: float) -> Solid:
    """A hooked needle in a scaled sleeve."""
    hook = cylinder(0.7, 0, length_mm - 20, segments=12) + rod((0, 0, 0.5), (2.0, 0, 0.2), 0.55)
    sleeve = tube(2.2, 0.9, 60, 80, 20) + tube(5, 0.9, 80, length_mm - 20, 20)
    marks = [box((3, 14, 0.6), (5.6, 0, z)) for z in np.arange(86, length_mm - 26, 5)]
    return union([hook, without(sleeve, marks), cylinder(9, length_mm - 22, length_mm)])


def t_handle(length_mm: float) -> Solid:
    """A crossbar on a chuck."""
    return union([_chuck(), cylinder(5, 38, length_mm), rod((-45, 0, length_mm), (45, 0, length_mm), 9)])


def pointed_reduction_forceps(length_mm: float) -> Solid:
    """Two curved points that squeeze fragments together, with a long ratchet."""
    jaw = smooth(
        [
            (1, 0, 0),
            (0.1 * length_mm, 0, 0.02 * length_mm),
            (0.17 * length_mm, 0, 0.18 * length_mm),
            (0, 0, 0.42 * length_mm),
        ],
        24,
    )
    shank = smooth(
        [(0, 0, 0.42 * length_mm), (-0.1 * length_mm, 0, 0.7 * length_mm), (-0.12 * length_mm, 0, length_mm)], 20
    )
    arm = sweep(np.vstack([jaw, shank[1:]]), np.r_[np.linspace(0.4, 3.4, 16), np.full(27, 3.4)], segments=14)
    bar = sweep(arc((0, 0, 0.42 * length_mm), 0.5 * length_mm, 75, 105, 12), 2.0)
    return union([both_sides(arm), bar, cylinder(5.5, -5, 5).rotate((90, 0, 0)).translate((0, 0, 0.42 * length_mm))])


def bone_holding_forceps(length_mm: float) -> Solid:
    """Two toothed half rings that grip a shaft, a threaded lock."""
    jaw = (extrude(stadium(smooth([(3, 0), (20, 6), (24, 26), (4, 48)], 20), 4), -6, 6, "y")) - union(
        box((3, 20, 1.4), (x, 0, z)) for x, z in ((19, 8), (21, 13), (22, 18), (22, 23), (20, 28))
    )
    shank = sweep(smooth([(3, 0, 48), (-12, 0, 0.55 * length_mm), (-26, 0, length_mm)], 20), 5, segments=14)
    spindle = rod((-34, 0, 0.78 * length_mm), (34, 0, 0.78 * length_mm), 2.5)
    return union([both_sides(jaw + shank), spindle, cylinder(8, -7, 7).rotate((90, 0, 0)).translate((0, 0, 50))])


def rongeur(length_mm: float) -> Solid:
    """Cupped jaws that nibble bone, with double action."""
    jaw = hull([box((2, 7, 1), (1.2, 0, 0.6)), box((8, 9, 3), (5, 0, 30))]) - ball(3.6, (0, 0, 5), 20)
    handle = sweep(
        smooth([(5, 0, 30), (4, 0, 58), (15, 0, 0.6 * length_mm), (18, 0, length_mm)], 24),
        np.linspace(5, 4, 24),
        np.array([(-0.7, -1), (0.7, -1), (0.7, 1), (-0.7, 1)]),
    )
    spring = sweep(
        smooth(
            [
                (14, 0, 0.85 * length_mm),
                (4, 0, 0.7 * length_mm),
                (0, 0, 0.6 * length_mm),
                (-4, 0, 0.7 * length_mm),
                (-14, 0, 0.85 * length_mm),
            ],
            24,
        ),
        0.9,
    )
    screws = [
        cylinder(3, -7, 7, segments=16).rotate((90, 0, 0)).translate((x, 0, z)) for x, z in ((0, 34), (-5, 54), (5, 54))
    ]
    return union([both_sides(jaw + handle), spring, *screws])


def kerrison_punch(bite_mm: float, length_mm: float) -> Solid:
    """A sliding punch on a thin shaft with a pistol grip."""
    foot = box((2.2, bite_mm, 2.4), (0, 0, 1.2)) + box((5, bite_mm, 1.4), (1.5, 0, 0.7))
    rails = [box((2.6, bite_mm, length_mm), (x, 0, length_mm / 2 + o)) for x, o in ((-1.4, 0), (1.6, bite_mm + 3))]
    grips = [
        sweep(
            smooth([(0, 0, length_mm + 2 * o), (30, 0, length_mm + 10 + 26 * o), (90, 0, length_mm + 6 + 34 * o)], 20),
            4.5,
            segments=12,
        )
        for o in (-0.4, 1)
    ]
    return union([foot, *rails, *grips, block((14, 8, 20), 3, (0, 0, length_mm))])


def _striking_handle(length: float) -> Solid:
    return union([cylinder(5, 0.58 * length, 0.92 * length, 7, 8), cylinder(9, 0.92 * length, length, segments=32)])


def _chuck() -> Solid:
    return without(
        union([cylinder(4, 0, 16, 9), cylinder(9, 16, 40)]),
        [
            cylinder(1.6, -1, 50, segments=14),
            *(box((3, 1.4, 18), (9.6, 0, 28)).rotate((0, 0, 45 * i)) for i in range(8)),
        ],
    )

"""Knee prostheses: the middle of the joint line at the origin, +z proximal, +y anterior."""

import numpy as np

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
    union,
    without,
)


def total_knee(size: float) -> Parts:
    """A two-condyle shell on the femur, a plastic bearing, a tray with a keel."""
    return _knee(size, box_mm=0, stem_mm=38, cut_mm=9)


def posterior_stabilised_knee(size: float) -> Parts:
    """With a box between the condyles and a post on the bearing."""
    return _knee(size, box_mm=18, stem_mm=42, cut_mm=10)


def stemmed_revision_knee(size: float, stem_mm: float) -> Parts:
    """Long stems in femur and tibia, blocks below the tray."""
    made = _knee(size, box_mm=20, stem_mm=40, cut_mm=14)
    femoral = rod((0, 0, 18), (0, 0, 18 + stem_mm), 8, 6)
    tibial = rod((0, -2, -22), (0, -2, -22 - stem_mm), 8, 6)
    augments = both_sides(box((16, 24, 8), (0.26 * 70 * size, -2, -22)))
    return made | {"femoral": made["femoral"] + femoral, "tray": union([made["tray"], tibial, augments])}


def hinged_knee(stem_mm: float) -> Parts:
    """A constrained hinge between two stems."""
    made = _knee(1.0, box_mm=24, stem_mm=30, cut_mm=14)
    axle = cylinder(6, -24, 24).rotate((0, 90, 0)).translate((0, -6, 16))
    yoke = block((20, 22, 40), 4, (0, -6, 8)) - axle
    stems = [rod((0, -2, z * 18), (0, -2, z * (18 + stem_mm)), 8, 6) for z in (1, -1)]
    return {
        "femoral": union([made["femoral"], axle, stems[0]]) - yoke,
        "tray": union([made["tray"], stems[1]]),
        "bearing": made["bearing"] - yoke,
        "yoke": without(yoke, [axle, stems[0], stems[1], made["tray"]]),
    }


def unicompartmental_knee(size: float) -> Parts:
    """One condyle only: a narrow shell, a plastic bearing, a small tray."""
    width = 19 * size
    femoral = _femoral_profile(size, width) ^ box((99, 62 * size, 60), (0, -14 * size, 20))
    femoral = femoral + cylinder(3, 4, 24, segments=16).translate((0, -4, 0))
    flat = outline(np.array([(-0.5, -1.1), (0.5, -1.2), (0.5, 1.2), (-0.2, 1.1), (-0.5, 0.6)]) * width, 4)
    keel = box((2.5, 22, 8), (0, 0, -14))
    return {"femoral": femoral, "tray": extrude(flat, -11, -8) + keel, "bearing": extrude(flat.offset(-1), -8, -0.2)}


def patellofemoral_knee(size: float) -> Parts:
    """A shield in the groove and a button behind the kneecap."""
    shield = _femoral_profile(size, 44 * size) ^ box((99, 60, 70), (0, 36 * size, 40))
    taper = extrude(
        outline([(-22 * size, 60), (22 * size, 60), (14 * size, 14), (0, 4), (-14 * size, 14)], 4), 0, 60, "y"
    )
    return {"shield": shield ^ taper} | {"button": _button(29 * size).translate((0, 41 * size, 26))}


def patellar_button(diameter_mm: float) -> Parts:
    """A plastic dome with three pegs and a marker pin."""
    pin = cylinder(0.6, -3, 3, segments=10).rotate((90, 0, 0))
    dome = _button(diameter_mm)
    return {"button": dome - pin, "marker": pin ^ dome}


def distal_femur_megaprosthesis(length_mm: float) -> Parts:
    """A segment of femur and the knee replaced after a tumour."""
    made = hinged_knee(80)
    segment = cylinder(14, 30, length_mm, segments=32) + cylinder(14, length_mm, length_mm + 10, 17)
    stem = cylinder(6.5, length_mm + 5, length_mm + 130, 5.5)
    return made | {
        "femoral": union([made["femoral"] ^ box((99, 99, 90), (0, 0, 20)), segment, stem])
        - (made["yoke"] + made["bearing"])
    }


def _femoral_profile(size: float, width: float) -> Solid:
    """The sagittal J of a femoral component: curved outside, flat cuts inside, its lowest point at z = 0."""
    outside = smooth(
        np.array([(31, 46), (31, 30), (27, 14), (14, 2.5), (0, 0), (-14, 1), (-26, 8), (-31, 20), (-27, 31)]) * size, 32
    )
    inside = np.array([(-22, 31), (-23, 19), (-13, 9.5), (14, 9.5), (23, 20), (26.5, 46)]) * size
    return extrude(outline(np.vstack([outside, inside]), 0.6), -width / 2, width / 2, "x")


def _knee(size: float, box_mm: float, stem_mm: float, cut_mm: float) -> Parts:
    """`size` 1 is 68 mm wide; `cut_mm` is the thickness of the bearing."""
    width = 68 * size
    notch = hull(
        [cylinder(9 * size, -99, 99).rotate((90, 0, 0)).translate((0, 0, 14)), box((18 * size, 200, 1), (0, 0, -5))]
    )
    notch = notch ^ box((99, 60 * size, 99), (0, -24 * size, 0))
    front = extrude(
        outline(
            [
                (-width / 2, -5),
                (width / 2, -5),
                (width / 2, 24),
                (0.27 * width, 50 * size),
                (-0.27 * width, 50 * size),
                (-width / 2, 24),
            ],
            8,
        ),
        -60,
        60,
        "y",
    )
    grooved = cylinder(12 * size, -10, 99).translate((0, 39 * size, 0))
    rounded = hull(
        [
            cylinder(r, -60, 60, segments=40).rotate((90, 0, 0)).translate((x, 0, z))
            for x, r, z in ((-width / 4, width / 4, width / 4), (width / 4, width / 4, width / 4), (0, width / 2.2, 60))
        ]
    )
    femoral = without((_femoral_profile(size, width) ^ front) ^ rounded, [notch, grooved])
    pegs = both_sides(cylinder(3.2, 6, 24, 2.6, 16).translate((0.28 * width, 0, 0)))
    femoral = femoral + pegs
    if box_mm:
        cage = box((box_mm * size + 4, 30 * size, 16 * size), (0, -10 * size, 16 * size)) - box(
            (box_mm * size, 40 * size, 15 * size), (0, -10 * size, 14 * size)
        )
        femoral = femoral + cage
    plan = outline(
        np.array(
            [
                (-0.5, 0.1),
                (-0.42, 0.3),
                (0, 0.34),
                (0.42, 0.3),
                (0.5, 0.1),
                (0.46, -0.26),
                (0.2, -0.33),
                (0, -0.22),
                (-0.2, -0.33),
                (-0.46, -0.26),
            ]
        )
        * width
        * 1.05,
        6,
    )
    tray = extrude(plan, -cut_mm - 4, -cut_mm)
    stem = cylinder(5.5, -cut_mm - stem_mm, -cut_mm - 3, 7.5, 24).translate((0, -2, 0))
    fins = both_sides(
        extrude(outline([(4, 0), (0.36 * width, 0), (4, -0.75 * stem_mm)]), -1.6, 1.6, "y").translate(
            (0, -6, -cut_mm - 3)
        )
    )
    bearing = extrude(plan.offset(-1.2), -cut_mm, 5)
    dish = hull([_femoral_outside(size, width), _femoral_outside(size, width).translate((0, 0, 9))])
    bearing = bearing - dish
    if box_mm:
        bearing = bearing + box((box_mm * size - 4, 12, 14 + cut_mm), (0, -4, 7 - cut_mm / 2))
    return {"femoral": femoral, "bearing": bearing - femoral, "tray": union([tray, stem, fins])}


def _femoral_outside(size: float, width: float) -> Solid:
    return (
        cylinder(30 * size, -width / 2 - 5, width / 2 + 5, segments=64)
        .rotate((0, 90, 0))
        .translate((0, -1, 30 * size - 0.2))
    )


def _button(diameter: float) -> Solid:
    """A dome facing -y with three pegs to +y."""
    dome = (
        ball(0.62 * diameter, segments=40).trim_by_plane((0, 0, 1), 0.37 * diameter).translate((0, 0, -0.37 * diameter))
    )
    dome = dome + around(cylinder(2.2, -5, 1, segments=12).translate((0.25 * diameter, 0, 0)), 3)
    return dome.rotate((90, 0, 0))

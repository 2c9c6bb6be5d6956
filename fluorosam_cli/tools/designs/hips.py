"""Hip prostheses: the centre of the head at the origin, +z proximal, +x lateral, +y anterior."""

import numpy as np

from fluorosam_cli.tools.shapes import (
    Parts,
    Points,
    Solid,
    around,
    ball,
    block,
    box,
    circle,
    cylinder,
    extrude,
    hull,
    outline,
    rod,
    shell,
    smooth,
    threaded,
    tube,
    union,
    without,
)

INCLINATION = 42.0  # of a cup's mouth against the horizontal, and
ANTEVERSION = 15.0


def total_hip(stem: float, cup_mm: float, head_mm: float) -> Parts:
    """Uncemented: a tapered stem, a metal shell with a screw, a plastic liner, a head."""
    screws = union(bone_screw(30, 6.5).rotate((0, -INCLINATION + lean, 0)) for lean in (-8, 22))
    return _stem_and_head(_tapered_stem(stem), head_mm) | _cup(cup_mm, head_mm, screws)


def cemented_total_hip(stem: float, cup_mm: float, head_mm: float) -> Parts:
    """A slim polished stem in its cement, a plastic cup with a marker wire."""
    slim = _stem(stem, [(26, -24), (32, -48), (36, -80), (40, -140)], [(49, -24), (47, -60), (44, -140)], 11, 6)
    mantle = _stem(stem, [(23, -26), (28, -50), (32, -80), (36, -148)], [(52, -26), (51, -60), (49, -148)], 16, 12)
    cup = _tilted(shell(cup_mm / 2, head_mm / 2 + 0.3))
    wire = _tilted(_hoop(cup_mm / 2 - 1.5, 0.5))
    made = _stem_and_head(slim, head_mm)
    return made | {"cement": mantle - made["stem"], "cup": cup - wire, "marker": wire}


def bipolar_hip(stem: float, cup_mm: float, head_mm: float) -> Parts:
    """For half a hip: a head that turns in a larger polished head."""
    outer = _tilted(ball(cup_mm / 2, segments=48).trim_by_plane((0, 0, 1), -0.15 * cup_mm) - ball(cup_mm / 2 - 3))
    liner = _tilted(ball(cup_mm / 2 - 3).trim_by_plane((0, 0, 1), -0.12 * cup_mm) - ball(head_mm / 2))
    return _stem_and_head(_tapered_stem(stem), head_mm, clear=[outer, liner]) | {"outer_head": outer, "liner": liner}


def monoblock_hip(head_mm: float, holes: float) -> Solid:
    """Half a hip in one piece, with a collar, and windows in the stem (Austin Moore)."""
    stem = _stem(1.0, [(27, -26), (33, -50), (37, -80), (40, -130)], [(52, -26), (50, -60), (44, -130)], 11, 7)
    windows = [box((9, 99, 14), (42, 0, z)) for z in (-55, -78)][: int(holes)]
    collar = block((30, 22, 3.5), 1.2).rotate((0, 35, 0)).translate((34, 0, -26))
    neck = rod((0, 0, 0), (40, 0, -36), 7, 9)
    return union([without(stem, windows), collar, neck, ball(head_mm / 2, segments=48)])


def hip_resurfacing(head_mm: float) -> Parts:
    """A cap on the patient's own head with a short peg, in a metal shell."""
    inner = head_mm / 2 - 4
    cap = ball(head_mm / 2, segments=48).trim_by_plane((0, 0, 1), -0.15 * head_mm) - ball(inner).trim_by_plane(
        (0, 0, 1), -inner
    )
    cap = without(cap, [cylinder(inner, -head_mm, 0)])
    peg = cylinder(1.6, -75, -10, 4, 16) + cylinder(4, -10, inner + 1, segments=16)
    cup = shell(head_mm / 2 + 4.5, head_mm / 2 + 0.4)
    fins = [box((1.2, 8, 6), (head_mm / 2 + 4, 0, 6)).rotate((0, 0, a)) for a in range(0, 360, 60)]
    return {"cap": (cap + peg).rotate((0, -45, 0)), "cup": _tilted(union([cup, *fins]) - ball(head_mm / 2 + 0.4))}


def acetabular_cup(cup_mm: float, head_mm: float) -> Parts:
    """The socket alone, with two screws and its liner."""
    screws = union(
        bone_screw(length, 6.5).rotate((turn, -INCLINATION + lean, 0))
        for length, turn, lean in ((40, 0, 25), (30, 15, -5))
    )
    return _cup(cup_mm, head_mm, screws)


def acetabular_cage(cup_mm: float) -> Parts:
    """A flanged cage over a broken socket, screwed to the ilium, a plastic cup cemented in."""
    radius = cup_mm / 2
    dome = _tilted(
        without(
            shell(radius, radius - 2.5),
            [
                cylinder(2.4, -99, 99, segments=12).rotate((t, u, 0))
                for t, u in ((30, 20), (-30, 20), (30, -30), (-30, -30), (0, 0))
            ],
        )
    )
    flange = (
        extrude(
            outline(
                [(-0.9 * radius, 8), (-0.25 * radius, 8), (0.1 * radius, 2.1 * radius), (-0.9 * radius, 2.3 * radius)],
                4,
            )
            - circle(2.6, (-0.4 * radius, 1.6 * radius))
            - circle(2.6, (-0.5 * radius, 2.05 * radius)),
            0,
            2.4,
            "y",
        )
        .rotate((18, 0, 0))
        .translate((0, 0.2 * radius, 4))
    )
    hook = rod((-0.6 * radius, 0, -0.7 * radius), (-1.3 * radius, 0, -1.2 * radius), 3, 2)
    screws = [bone_screw(38, 6.5).rotate((8, -INCLINATION + lean, 0)) for lean in (10, 32)]
    return {
        "cage": union([dome, flange, hook, *screws]) - ball(radius - 2.5),
        "cup": _tilted(shell(radius - 2.6, 14.2)),
    }


def revision_hip_stem(length_mm: float, diameter_mm: float, head_mm: float) -> Parts:
    """A modular stem: a proximal cone on a long fluted taper."""
    flutes = around(box((1.6, 3.2, 2 * length_mm), (diameter_mm / 2, 0, 0)), 8)
    fluted = cylinder(0.36 * diameter_mm, -length_mm, -70, diameter_mm / 2) - flutes
    body = hull([cylinder(0.62 * diameter_mm, -72, -70), block((27, 20, 6), 3, (-4, 0, -28))])
    return _stem_and_head((fluted + body).translate((42, 0, 0)), head_mm)


def hip_spacer(head_mm: float, stem_mm: float) -> Parts:
    """Antibiotic cement around a metal core, after an infection."""
    core = rod((0, 0, 0), (40, 0, -40), 4) + rod((40, 0, -40), (42, 0, -stem_mm), 4)
    body = union(
        [
            ball(head_mm / 2, segments=40),
            rod((0, 0, 0), (40, 0, -40), 11, 14),
            rod((38, 0, -34), (42, 0, -stem_mm - 8), 13, 6),
        ]
    )
    return {"cement": body - core, "core": core}


def _tapered_stem(scale: float) -> Solid:
    return _stem(
        scale, [(22, -24), (27, -44), (33, -72), (38, -132)], [(53, -22), (51, -40), (48, -80), (44, -132)], 16, 7
    )


def _stem(scale: float, medial: Points, lateral: Points, top_mm: float, tip_mm: float) -> Solid:
    """The frontal outline between a medial and a lateral border, tapering in depth from top to tip."""
    border = np.vstack([smooth(medial, 14), smooth(lateral, 8)[::-1]]) * (1, 1)
    frontal = outline(border, 2.2)
    low, high = float(border[:, 1].min()), float(border[:, 1].max())
    side = outline([(-tip_mm / 2, low - 1), (tip_mm / 2, low - 1), (top_mm / 2, high + 1), (-top_mm / 2, high + 1)], 0)
    solid = extrude(frontal, -20, 20, "y") ^ extrude(side, -200, 200, "x")
    return solid.translate((-44, 0, 30)).scale((scale, scale, scale)).translate((44, 0, -30))


def _stem_and_head(stem: Solid, head_mm: float, clear: list[Solid] | None = None) -> Parts:
    head = ball(head_mm / 2, segments=48).trim_by_plane((-0.7071, 0, 0.7071), -0.36 * head_mm)
    neck = without(rod((0, 0, 0), (41, 0, -38), 5.6, 8.5), clear or []) - head
    return {"stem": (stem - head) + neck, "head": head}


def _cup(cup_mm: float, head_mm: float, screws: Solid) -> Parts:
    radius, inner = cup_mm / 2, max(cup_mm / 2 - 4.5, head_mm / 2 + 3.5)
    outside = screws - ball(radius - 1)
    return {
        "cup": _tilted(shell(radius, inner, 48)) + outside,
        "liner": _tilted(shell(inner, head_mm / 2 + 0.2, 40)),
    }


def _tilted(cup: Solid) -> Solid:
    """A cup opening to -z turned to face down, outward and a little forward."""
    return cup.rotate((ANTEVERSION, 0, 0)).rotate((0, -INCLINATION, 0))


def _hoop(radius: float, wire: float) -> Solid:
    return tube(radius, radius - 2 * wire, 1, 1 + 2 * wire, 48)


def bone_screw(length: float, diameter: float) -> Solid:
    rows = [
        (0, 0.7 * diameter, 0.7 * diameter),
        (3, 0.5 * diameter, 0.5 * diameter),
        (3.5, 0.3 * diameter, diameter / 2),
    ]
    return threaded([*rows, (length - 4, 0.3 * diameter, diameter / 2), (length, 0.3, 0.3)], 2.75, 14).translate(
        (0, 0, 22)
    )

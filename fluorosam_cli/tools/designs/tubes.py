"""Tubes of airway, gullet, chest, belly and bladder, and what lies in them. They take a `Line` from the tip outward;
plastic tubes carry a stripe or a coat of barium sulphate."""

import math

import numpy as np

from fluorosam_cli.tools.designs.stents import self_expanding_stent
from fluorosam_cli.tools.designs.vessels import FRENCH_MM, arc_tip, coated
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
)  # fmt: skip

# --- airway -----------------------------------------------------------------------------------------------------------


def endotracheal_tube(line: Line, inner_mm: float, outer_mm: float) -> Parts:
    """A stripe along the wall, a cuff, a bevel with an eye, a connector."""
    inner, outer, end = inner_mm / 2, outer_mm / 2, line.length_mm
    made = _striped(line, outer, inner, bevel=True)
    cuff = tube(1.5 * outer, 1.5 * outer - 0.12, 22, 48, 28)
    shoulders = [
        cylinder(outer, 16, 22, 1.5 * outer) - cylinder(outer - 0.1, 15.9, 22.1, 1.5 * outer - 0.12),
        cylinder(1.5 * outer, 48, 54, outer) - cylinder(1.5 * outer - 0.12, 47.9, 54.1, outer - 0.1),
    ]
    wall = union([made["wall"], *(line.bend(s) for s in (cuff, *shoulders)), line.place(_connector(outer), end)])
    return {"stripe": made["stripe"], "wall": wall - made["stripe"]}


def reinforced_tube(line: Line, inner_mm: float, outer_mm: float) -> Parts:
    """A wire coil in the wall so that it does not kink."""
    inner, outer, end = inner_mm / 2, outer_mm / 2, line.length_mm
    coil = sweep(helix((inner + outer) / 2, 2.6, 18, end - 12, 12), 0.2, segments=4)
    return {
        "coil": line.bend(coil),
        "wall": line.bend(tube(outer, inner, 0, end, 16)) + line.place(_connector(outer), end),
    }


def double_lumen_tube(line: Line, french: float) -> Parts:
    """One channel for each lung: its long tip bends into the left main bronchus."""
    outer = french * FRENCH_MM / 2
    bent = line.with_tip(smooth([(22, -34), (14, -20), (3, -6), (0, 0)], 16))
    bore = [
        cylinder(0.36 * outer, -1, bent.length_mm + 1, segments=12).translate((x, 0, 0))
        for x in (-0.45 * outer, 0.45 * outer)
    ]
    body = cylinder(0.62 * outer, 0, 42, segments=18) + cylinder(outer, 42, bent.length_mm, segments=20)
    cuffs = [tube(0.95 * outer, 0.95 * outer - 0.12, 8, 18, 20), tube(1.55 * outer, 1.55 * outer - 0.12, 62, 88, 24)]
    stripes = union(tube(0.66 * outer, 0.62 * outer, at, at + 1.5, 18) for at in (3, 24)) + tube(
        1.04 * outer, outer, 44, 46, 20
    )
    forks = union([rod((0, 0, 0), (s * 26, 0, 40), 0.5 * outer) for s in (-1, 1)])
    return {
        "marks": bent.bend(stripes),
        "wall": union(
            [bent.bend(without(body, bore)), *(bent.bend(c) for c in cuffs), bent.place(forks, bent.length_mm)]
        ),
    }


def tracheostomy_tube(line: Line, inner_mm: float, outer_mm: float) -> Parts:
    """A short curved tube with a flange and a connector."""
    inner, outer, end = inner_mm / 2, outer_mm / 2, line.length_mm
    made = _striped(line, outer, inner)
    flange = extrude(
        stadium([(-22, 0), (22, 0)], 9) - stadium([(-26, -2), (-26, 2)], 1.5) - stadium([(26, -2), (26, 2)], 1.5),
        -1,
        1.2,
    ) - cylinder(inner, -9, 9)
    cuff = line.bend(tube(1.45 * outer, 1.45 * outer - 0.12, 14, 34, 24))
    return {
        "stripe": made["stripe"],
        "wall": union([made["wall"], cuff, line.place(union([flange, _connector(outer)]), end - 2)]) - made["stripe"],
    }


def metal_tracheostomy_tube(line: Line, inner_mm: float, outer_mm: float) -> Solid:
    """Silver, without a cuff."""
    flange = extrude(stadium([(-20, 0), (20, 0)], 8), -0.6, 0.6) - cylinder(inner_mm / 2, -9, 9)
    return line.bend(tube(outer_mm / 2, inner_mm / 2, 0, line.length_mm, 24)) + line.place(flange, line.length_mm - 1)


def laryngeal_mask(line: Line, width_mm: float) -> Parts:
    """An inflated rim over the larynx on a tube."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rim = np.stack(
        [
            width_mm / 2 * np.cos(angle) * (1 - 0.25 * np.sin(angle)),
            0 * angle,
            -0.75 * width_mm * (1 + np.sin(angle)) + 6,
        ],
        1,
    )
    cuff = sweep(rim, 6.5, closed=True, segments=14) - sweep(rim, 5.8, closed=True, segments=14)
    made = _striped(line, 7, 5)
    return {
        "stripe": made["stripe"],
        "wall": union(
            [made["wall"], line.place(cuff.translate((0, 0, 8)), 0), line.place(_connector(7), line.length_mm)]
        )
        - made["stripe"],
    }


def oropharyngeal_airway(length_mm: float) -> Parts:
    """A curved bite block."""
    bend = arc((0, 0, 0), 0.62 * length_mm, 0, 95, 20)
    section = np.array([(-4, -6), (4, -6), (4, 6), (-4, 6)])
    body = sweep(bend, 1.0, section) - sweep(bend, 0.62, section)
    flange = block((12, 26, 3), 1, (0.62 * length_mm, 0, -1.5))
    core = block((9, 12, 14), 1, (0.62 * length_mm, 0, 4)) - block((5.5, 8, 60), 1, (0.62 * length_mm, 0, 4))
    insert = union([flange, core])
    return {"insert": insert, "body": body - insert}


def airway_stent(line: Line, diameter_mm: float) -> Solid:
    """Y-less: interlaced rings of nitinol in the trachea."""
    return self_expanding_stent(line, diameter_mm)


# --- gullet, stomach, belly -------------------------------------------------------------------------------------------


def nasogastric_tube(line: Line, french: float) -> Parts:
    """A stripe along the tube, side holes near the tip."""
    outer = french * FRENCH_MM / 2
    return _striped(line, outer, 0.66 * outer, eyes=4)


def feeding_tube(line: Line, french: float) -> Parts:
    """Thin, with a tungsten weight at its tip."""
    outer = french * FRENCH_MM / 2
    weights = union(line.bend(cylinder(1.15 * outer, 2 + 5 * i, 6 + 5 * i, segments=12)) for i in range(5))
    bag = line.bend(tube(1.35 * outer, 1.15 * outer, 0, 30, 12))
    made = coated(line, outer, 0.66 * outer, 0.034 * outer, 31, line.length_mm)
    return {"weight": weights, "coat": made["coat"], "wall": union([made["wall"], bag])}


def balloon_tamponade_tube(line: Line, french: float) -> Parts:
    """Sengstaken-Blakemore: a round balloon in the stomach and a long one in the gullet."""
    outer = french * FRENCH_MM / 2
    made = _striped(line, outer, 0.6 * outer)
    stomach = ball(30, (0, 0, 52), 40) - ball(29.7, (0, 0, 52), 40)
    gullet = tube(14, 13.7, 92, 240, 28)
    return {
        "stripe": made["stripe"],
        "wall": union([made["wall"], line.bend(stomach - cylinder(outer, 0, 99)), line.bend(gullet)]) - made["stripe"],
    }


def oesophageal_stent(line: Line, diameter_mm: float) -> Parts:
    """A wide braid with flared ends and marks."""
    length = line.length_mm
    braid = self_expanding_stent(Line.straight(length), diameter_mm)
    flared = braid.warp_batch(
        lambda p: (
            p * np.stack([f := 1 + 0.22 * np.exp(-np.minimum(p[:, 2], length - p[:, 2]) / 6.0), f, np.ones(len(p))], 1)
        )
    )
    marks = together(
        [
            cylinder(0.4, z, z + 3, segments=8).translate((diameter_mm / 2 + 0.7, 0, 0)).rotate((0, 0, 90 * k))
            for k in range(4)
            for z in (4, length / 2, length - 7)
        ]
    )
    return {"mesh": line.bend(flared), "marks": line.bend(marks)}


def temperature_probe(line: Line, french: float) -> Parts:
    """A wire with a bead in a thin sleeve."""
    outer = french * FRENCH_MM / 2
    wire = line.bend(cylinder(0.35, 4, line.length_mm, segments=6)) + line.bend(cylinder(0.9, 2, 6, segments=10))
    return {"wire": wire, "wall": line.bend(cylinder(outer, 0, line.length_mm, segments=12)) - wire}


def gastrostomy_tube(line: Line, french: float) -> Parts:
    """A disc inside, a disc outside, a feeding tube between."""
    outer = french * FRENCH_MM / 2
    made = coated(line, outer, 0.6 * outer, 0.04 * outer, 0, line.length_mm)
    discs = union(
        [
            line.place(hull([ring(10, 1.5, 32, 10), cylinder(outer + 1, 0, 5)]) - cylinder(0.6 * outer, -9, 9), 1),
            line.place(tube(12, 0.6 * outer, 0, 3), min(35.0, 0.6 * line.length_mm)),
        ]
    )
    return made | {"wall": union([made["wall"], discs]) - made["coat"]}


def gastric_band(diameter_mm: float) -> Parts:
    """A soft ring around the stomach, its tube and port."""
    band = ring(diameter_mm / 2 + 5, 5, 48, 14) - ring(diameter_mm / 2 + 5, 4, 48, 14)
    filling = ring(diameter_mm / 2 + 5, 0.9, 48, 8)
    tail = sweep(
        smooth([(diameter_mm / 2 + 10, 0, 0), (60, 10, -20), (80, 30, -60), (70, 60, -90)], 40), 1.2, segments=10
    )
    port = (cylinder(9, 0, 8, 7) - cylinder(5.5, 1.2, 20)).translate((70, 60, -100))
    return {"port": port, "filling": filling, "band": union([band, tail]) - port}


def percutaneous_drain(line: Line, french: float) -> Parts:
    """A locking pigtail with holes in the loop."""
    outer = french * FRENCH_MM / 2
    bent = line.with_tip(arc_tip(9, 420, 44))
    return coated(bent, outer, 0.62 * outer, 0.04 * outer, 0, bent.length_mm)


def flat_drain(line: Line, width_mm: float) -> Parts:
    """A flat perforated strip on a round tube (Jackson-Pratt)."""
    strip = block((width_mm, 4, 180), 1.5, (0, 0, 90), 8) - block((width_mm - 2, 2.2, 400), 0.8, (0, 0, 90), 8)
    strip = without(
        strip,
        [
            cylinder(0.9, -9, 9, segments=8).rotate((90, 0, 0)).translate((x, 0, 8 + 12 * i))
            for i in range(14)
            for x in (-width_mm / 4, width_mm / 4)
        ],
    )
    stripe = line.bend(box((1.0, 0.5, line.length_mm), (0, 2.3, line.length_mm / 2)))
    round_tube = line.bend(tube(2.6, 1.7, 178, max(line.length_mm, 190), 12))
    return {"stripe": stripe, "wall": union([line.bend(strip), round_tube]) - stripe}


def corrugated_drain(line: Line, width_mm: float) -> Parts:
    """A rippled sheet with a stripe."""
    x = np.linspace(-width_mm / 2, width_mm / 2, 41)
    wave = 2.2 * np.sin(x * 2 * np.pi / 7)
    flat = outline(np.vstack([np.stack([x, wave + 0.6], 1), np.stack([x, wave - 0.6], 1)[::-1]]))
    sheet = extrude(flat, 0, line.length_mm)
    stripes = union(
        box((0.8, 0.5, line.length_mm), (at, 2.2 * math.sin(at * 2 * math.pi / 7) + 0.85, line.length_mm / 2))
        for at in (-7.0, 0.0, 7.0)
        if abs(at) < width_mm / 2 - 1
    )
    return {"stripes": line.bend(stripes), "sheet": line.bend(sheet - stripes)}


def t_tube(line: Line, arm_mm: float) -> Parts:
    """A T in the bile duct, its stem out through the wall."""
    arm = tube(2.2, 1.5, -arm_mm / 2, arm_mm / 2, 16).rotate((0, 90, 0)) - cylinder(1.5, 0, 9, segments=16)
    stem = tube(2.2, 1.5, 0, line.length_mm, 16) - cylinder(2.2, -99, 99, segments=16).rotate((0, 90, 0))
    stripe = line.bend(box((0.8, 0.5, line.length_mm - 3), (0, 2.3, line.length_mm / 2 + 1.5)))
    return {"stripe": stripe, "wall": union([line.place(arm, 0), line.bend(stem)]) - stripe}


def biliary_stent(line: Line, french: float) -> Parts:
    """A plastic tube with a flap at either end."""
    outer = french * FRENCH_MM / 2
    made = coated(line, outer, 0.62 * outer, 0.05 * outer, 0, line.length_mm)
    flap = rod((outer, 0, 0), (outer + 3, 0, 8), 0.6, 0.4)
    flaps = union([line.place(flap, 6), line.place(flap.mirror((0, 0, 1)), line.length_mm - 6)])
    return made | {"wall": union([made["wall"], flaps]) - made["coat"]}


# --- chest, spine, bladder --------------------------------------------------------------------------------------------


def chest_tube(line: Line, french: float) -> Parts:
    """Wide, with a stripe that the last side hole interrupts."""
    outer = french * FRENCH_MM / 2
    return _striped(line, outer, 0.7 * outer, eyes=5, gap=True)


def epidural_catheter(line: Line, gauge_mm: float) -> Parts:
    """A thread with a coil inside, in the spinal canal."""
    coil = sweep(helix(0.28, 0.9, 0.5, min(line.length_mm, 260), 8), 0.07, segments=4)
    return {"coil": line.bend(coil), "wall": line.bend(tube(gauge_mm / 2, 0.37, 0, line.length_mm, 10))}


def ventricular_shunt(line: Line, french: float) -> Parts:
    """A perforated tip in the brain, a valve with marks, a tube to the belly."""
    outer, at = french * FRENCH_MM / 2, 75.0
    made = coated(line, outer, 0.55 * outer, 0.05 * outer, 0, line.length_mm)
    valve = union([block((9, 6, 22), 2.5, (0, 2.5, 14)), cylinder(3.5, -1, 1).rotate((90, 0, 0)).translate((0, 3, 32))])
    marks = union(
        [
            rod((-3, 3, 6), (0, 3, 10), 0.5),
            rod((3, 3, 6), (0, 3, 10), 0.5),
            ring(2.6, 0.5, 24, 8).rotate((90, 0, 0)).translate((0, 3, 18)),
            ball(1.0, (0, 3, 18), 12),
        ]
    )
    marks = line.place(marks, min(at, 0.6 * line.length_mm))
    return {
        "coat": made["coat"] - marks,
        "marks": marks,
        "wall": union([made["wall"], line.place(valve, min(at, 0.6 * line.length_mm))]) - marks - made["coat"],
    }


def bladder_catheter(line: Line, french: float) -> Parts:
    """Foley: a balloon of water behind the tip."""
    outer = french * FRENCH_MM / 2
    made = coated(line, outer, 0.5 * outer, 0.02 * outer, 0, line.length_mm)
    balloon = line.bend(
        (ball(13, (0, 0, 30), 32).scale((1, 1, 0.9)))
        - ball(12.4, (0, 0, 30), 32).scale((1, 1, 0.9))
        - cylinder(outer, 0, 60)
    )
    fork = line.place(
        union([rod((0, 0, 0), (0, 0, 30), 5, 6), rod((0, 0, 6), (18, 0, 34), 3.5)]) - cylinder(0.5 * outer, -1, 40),
        line.length_mm,
    )
    return made | {"wall": union([made["wall"], balloon, fork]) - made["coat"]}


def double_j_stent(line: Line, french: float) -> Parts:
    """A thin tube from kidney to bladder, curled at both ends."""
    outer = french * FRENCH_MM / 2
    curl = arc_tip(9, 380, 40)
    there = line.with_tip(curl)
    back = Line(there.points_mm[::-1]).with_tip(curl)
    return coated(back, outer, 0.6 * outer, 0.05 * outer, 0, back.length_mm)


def nephrostomy_catheter(line: Line, french: float) -> Parts:
    """A pigtail in the kidney and a disc on the skin."""
    made = percutaneous_drain(line, french)
    disc = line.place(tube(15, french * FRENCH_MM / 2, -1.5, 1.5), 0.55 * line.length_mm)
    return made | {"wall": union([made["wall"], disc]) - made["coat"]}


def intrauterine_device(arm_mm: float) -> Parts:
    """A plastic T wound with copper, a thread below."""
    frame = union(
        [
            cylinder(0.8, 0, 32, segments=12),
            rod((-arm_mm / 2, 0, 30), (0, 0, 32), 0.8),
            rod((arm_mm / 2, 0, 30), (0, 0, 32), 0.8),
            ball(1.5, (0, 0, 0), 14),
        ]
    )
    copper = sweep(helix(1.0, 0.75, 3, 27, 12), 0.19, segments=5)
    sleeves = both_sides(rod((6, 0, 31.3), (11, 0, 30.7), 1.1))
    metal = together([copper, sleeves])
    threads = union(
        sweep(smooth([(x, 0, 0), (3 * x, 0, -12), (8 * x, 2, -26)], 16), 0.15, segments=6) for x in (-0.5, 0.5)
    )
    barium = cylinder(0.45, 1, 31, segments=8)
    return {
        "copper": metal,
        "barium": barium,
        "frame": union([frame - cylinder(0.45, 1, 31, segments=8), threads]) - metal,
    }


def pessary(diameter_mm: float) -> Solid:
    """A thick ring."""
    return ring(diameter_mm / 2 - 4, 4, 64, 20) - ring(diameter_mm / 2 - 4, 2.2, 64, 20)


# --- how they are made ------------------------------------------------------------------------------------------------


def _striped(line: Line, outer: float, inner: float, eyes: int = 0, gap: bool = False, bevel: bool = False) -> Parts:
    """A plain tube with a radio-opaque stripe in its wall, side holes opposite or across the stripe."""
    end, middle = line.length_mm, (inner + outer) / 2
    thickness = 0.45 * (outer - inner)
    body = tube(outer, inner, 0, end, 20)
    stripe = cylinder(thickness, 0, end, segments=8).scale((1.0, 1, 1)).translate((middle, 0, 0))
    side = 0 if gap else 180
    holes = [
        cylinder(0.5 * outer, 0, 3 * outer, segments=12)
        .rotate((0, 90, side))
        .translate((0, 0, 3 * outer + 2.6 * outer * i))
        for i in range(eyes)
    ]
    if bevel:
        cut = box((6 * outer, 6 * outer, 6 * outer), (0, 0, -3 * outer)).rotate((0, 38, 0))
        holes += [cut, cylinder(0.35 * outer, 0, 9, segments=12).rotate((0, 90, 180)).translate((0, 0, 1.6 * outer))]
    return {"stripe": line.bend(without(stripe, holes)), "wall": line.bend(without(body, [*holes, stripe]))}


def _connector(outer: float) -> Solid:
    return tube(7.5, 5.5, 8, 26, 28) + (tube(11, 5.5, 5, 8, 28)) + (tube(outer + 0.6, outer - 1.2, -6, 6, 24))

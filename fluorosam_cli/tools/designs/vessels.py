"""Wires, catheters and cannulas of vessels. They take a `Line` from their tip outward.

A polymer loaded with barium sulphate or braided with steel is drawn as plain polymer under a coat that holds the same
mass of the heavy material: 30 % barium sulphate by mass is a tenth of the wall by volume.
"""

import numpy as np

from fluorosam_cli.tools.shapes import (
    Line,
    Parts,
    Solid,
    around,
    box,
    cylinder,
    helix,
    rod,
    smooth,
    sweep,
    together,
    tube,
    union,
    without,
)

FRENCH_MM = 1 / 3
DILUTED = 0.03  # share of dilute contrast medium that is undiluted, by volume
LOADED = 0.1  # share of a loaded polymer's wall that is barium sulphate, by volume


def guidewire(line: Line, diameter_mm: float) -> Parts:
    """Straight floppy tip with a platinum coil."""
    return _wire(line, diameter_mm, 30)


def j_guidewire(line: Line, diameter_mm: float, bend_mm: float) -> Parts:
    """The tip turned back in a J."""
    return _wire(line.with_tip(arc_tip(bend_mm, 180)), diameter_mm, 0)


def angled_guidewire(line: Line, diameter_mm: float) -> Parts:
    """A slippery wire with a 45 degree tip."""
    return _wire(line.with_tip([(5, -6), (2, -4), (0, 0)]), diameter_mm, 25)


def angiographic_catheter(line: Line, french: float) -> Parts:
    """Straight, tapered, with side holes near the tip."""
    return _catheter(line, french)


def pigtail_catheter(line: Line, french: float) -> Parts:
    """The tip curled into a ring."""
    return _catheter(line.with_tip(arc_tip(6.5, 400, 40)), french)


def left_coronary_catheter(line: Line, french: float, curve_mm: float) -> Parts:
    """Judkins left: two bends into the left main stem."""
    c = curve_mm
    return _catheter(
        line.with_tip(
            smooth(
                [
                    (-0.25 * c, -0.55 * c),
                    (0.05 * c, -0.75 * c),
                    (0.6 * c, -0.9 * c),
                    (0.7 * c, -0.5 * c),
                    (0.35 * c, -0.1 * c),
                    (0, 0),
                ],
                30,
            )
        ),
        french,
    )


def right_coronary_catheter(line: Line, french: float, curve_mm: float) -> Parts:
    """Judkins right: a gentle S and a short right angle."""
    c = curve_mm
    return _catheter(
        line.with_tip(
            smooth(
                [(0.6 * c, -0.95 * c), (0.25 * c, -0.98 * c), (0.08 * c, -0.7 * c), (-0.06 * c, -0.3 * c), (0, 0)], 24
            )
        ),
        french,
    )


def cobra_catheter(line: Line, french: float) -> Parts:
    """A cobra's neck, for branches of the abdominal aorta."""
    return _catheter(line.with_tip(smooth([(26, -18), (22, -34), (6, -36), (-3, -22), (0, 0)], 28)), french)


def reverse_curve_catheter(line: Line, french: float) -> Parts:
    """Simmons: turned back on itself."""
    return _catheter(line.with_tip(smooth([(28, -6), (24, 12), (18, -20), (9, -38), (1, -22), (0, 0)], 34)), french)


def guiding_catheter(line: Line, french: float) -> Parts:
    """Wide and braided, a soft tip, a winged hub."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    shaft = coated(line, radius, 0.84 * radius, 0.012 * radius, 3, end)
    soft = line.bend(tube(radius, 0.84 * radius, 0, 3, 12))
    return shaft | {"wall": union([shaft["wall"], soft, line.place(hub(radius), end)])}


def microcatheter(line: Line, french: float) -> Parts:
    """Fine, with two platinum bands."""
    radius = french * FRENCH_MM / 2
    bands = union(line.bend(tube(radius + 0.1, radius, at, at + 1.2, 12)) for at in (1, 31))
    return coated(line, radius, 0.62 * radius, 0.02 * radius, 0, line.length_mm) | {"bands": bands}


def introducer_sheath(line: Line, french: float) -> Parts:
    """A short tube with a valve, a side arm and a tap."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    made = coated(line, radius + 0.25, radius, 0.03, 0, end)
    valve = union(
        [
            cylinder(0.8 * radius + 1.5, -2, 8, 6),
            cylinder(7, 8, 20),
            rod((0, 0, 13), (28, 0, 4), 1.6),
            box((10, 5, 16), (30, 0, 4)),
            rod((22, 0, -6), (38, 0, 12), 2),
        ]
    )
    return made | {"wall": made["wall"] + line.place(valve - cylinder(radius, -9, 99), end)}


def balloon_catheter(line: Line, diameter_mm: float, balloon_mm: float) -> Parts:
    """An inflated balloon full of dilute contrast medium between two marker bands."""
    radius, tip = diameter_mm / 2, 8.0
    shape = _balloon(radius, tip, tip + balloon_mm)
    shaft = cylinder(0.55, 0, tip + balloon_mm + 6, segments=10) + cylinder(
        0.75, tip + balloon_mm + 6, line.length_mm, segments=10
    )
    bands = union(tube(0.8, 0.55, at, at + 1, 10) for at in (tip + 3, tip + balloon_mm - 4))
    contrast = contrast_filled(shape) - cylinder(0.81, -1, 99 + balloon_mm, segments=10)
    return {"wall": line.bend(shaft), "bands": line.bend(bands), "contrast": line.bend(contrast)}


def balloon_tip_catheter(line: Line, french: float) -> Parts:
    """Swan-Ganz: a small air-filled balloon at the tip, marks every 10 cm."""
    radius = french * FRENCH_MM / 2
    made = coated(line, radius, 0.5 * radius, 0.1 * radius, 0, line.length_mm)
    rings = union(
        line.bend(tube(radius + 0.15, radius, at, at + 1.5, 12)) for at in np.arange(100, line.length_mm - 3, 100)
    )
    return made | {"wall": made["wall"] + (line.bend(tube(4.6, 4.4, 2, 9, 20)) + rings)}


def electrophysiology_catheter(line: Line, french: float, electrodes: float) -> Parts:
    """Platinum rings along a steerable tip."""
    radius = french * FRENCH_MM / 2
    bent = line.with_tip(arc_tip(22, 80))
    places = [0.0, *(5 + 7.0 * i for i in range(int(electrodes) - 1))]
    bands = union(bent.bend(cylinder(1.02 * radius, at, at + (4 if at == 0 else 1.3), segments=14)) for at in places)
    return {"wall": bent.bend(cylinder(radius, 0.01, bent.length_mm, segments=12)) - bands, "electrodes": bands}


def balloon_pump(line: Line, diameter_mm: float, balloon_mm: float) -> Parts:
    """Intra-aortic: a long gas-filled balloon, a dense tip, a marker at its other end."""
    shell = _balloon(diameter_mm / 2, 6, 6 + balloon_mm) - _balloon(diameter_mm / 2 - 0.15, 6.3, 5.7 + balloon_mm)
    return {
        "wall": line.bend(shell - cylinder(1, 0, 999)) + line.bend(cylinder(1.0, 5, line.length_mm, segments=10)),
        "markers": line.bend(cylinder(1.3, 0, 4, segments=12) + tube(1.35, 1.0, balloon_mm + 8, balloon_mm + 11, 12)),
    }


def pump_catheter(line: Line, french: float) -> Parts:
    """Impella: pigtail, inlet cage, bent cannula and a motor."""
    bent = line.with_tip(arc_tip(6, 330, 30))
    cage = tube(3.0, 2.6, 34, 40, 16) - around(box((2, 2.2, 4), (3, 0, 37)), 4)
    cannula = together([sweep(helix(2.3, 1.4, 40, 82, 10), 0.16, segments=6)])
    motor = cylinder(french * FRENCH_MM / 2, 86, 104, segments=20)
    tubes = union(
        [cylinder(1, 0, 34, segments=12), tube(2.2, 1.9, 40, 86, 16), cylinder(1.4, 104, bent.length_mm, segments=12)]
    )
    return {"motor": bent.bend(union([cage, motor])), "coil": bent.bend(cannula), "wall": bent.bend(tubes)}


def ecmo_cannula(line: Line, french: float) -> Parts:
    """A wide wire-wound tube with side holes at the tip."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    bare = tube(radius, radius - 0.5, 0, end, 16)
    bare = without(
        bare, [cylinder(1, -20, 20, segments=10).rotate((90, 0, 60 * i)).translate((0, 0, 6 + 5 * i)) for i in range(6)]
    )
    coil = sweep(helix(radius - 0.25, 4.5, 38, end - 40, 12), 0.14, segments=4)
    barbed = union([cylinder(radius, 0, 5, radius + 2), cylinder(radius, 5, 12, radius + 2)]) - cylinder(
        radius - 0.6, -1, 99
    )
    return {"coil": line.bend(coil), "wall": line.bend(bare) + line.place(barbed, end)}


def central_venous_catheter(line: Line, french: float) -> Parts:
    """Three lumens, their tails with clamps and hubs."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    made = coated(line, radius, 0.4 * radius, 0.1 * radius, 0, end)
    return made | {"wall": made["wall"] + line.place(_tails(3), end)}


def picc_line(line: Line, french: float) -> Parts:
    """Long and thin, one or two tails."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    made = coated(line, radius, 0.55 * radius, 0.1 * radius, 0, end)
    return made | {"wall": made["wall"] + line.place(_tails(2), end)}


def dialysis_catheter(line: Line, french: float) -> Parts:
    """Two wide lumens whose tips are staggered, a cuff, two clamps."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    profile = cylinder(radius, 0, end, segments=16)
    step = box((3 * radius, 2 * radius, 50), (0, 1.02 * radius, 0))
    lumens = [
        cylinder(0.36 * radius, -1, end + 1, segments=8).translate((0, y, 0)) for y in (-0.45 * radius, 0.45 * radius)
    ]
    body = without(profile, [*lumens, step])
    coat = (tube(1.03 * radius, radius, 0, end, 16)) - step
    cuff = tube(radius + 1.4, 1.04 * radius, 0.75 * end, 0.75 * end + 8, 16)
    return {"wall": line.bend(body + cuff) + line.place(_tails(2), end), "coat": line.bend(coat)}


def port_catheter(line: Line, french: float) -> Parts:
    """A chamber under the skin of the chest: a metal reservoir with a ring on a catheter."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    made = coated(line, radius, 0.5 * radius, 0.1 * radius, 0, end)
    reservoir = (cylinder(9, 0, 9, 7) - cylinder(6, 1.2, 20)).rotate((90, 0, 0)).translate((0, 4, 14))
    housing = (cylinder(15, -1, 11, 9).rotate((90, 0, 0)).translate((0, 4.5, 14))) - cylinder(9.2, -99, 99).rotate(
        (90, 0, 0)
    ).translate((0, 0, 14))
    stem = line.place(rod((0, 0, -3), (0, 0, 6), 1.2), end)
    chamber, shell = line.place(reservoir, end) + stem, line.place(housing, end)
    return {
        "chamber": chamber,
        "coat": made["coat"] - chamber,
        "wall": union([made["wall"], shell]) - chamber - made["coat"],
    }


def tunnelled_catheter(line: Line, french: float) -> Parts:
    """Hickman: a cuff where it runs under the skin."""
    radius, end = french * FRENCH_MM / 2, line.length_mm
    made = coated(line, radius, 0.6 * radius, 0.1 * radius, 0, end)
    cuff = line.bend(tube(radius + 1.0, radius, 0.7 * end, 0.7 * end + 8, 12))
    return made | {"wall": union([made["wall"], cuff, line.place(_tails(2), end)]) - made["coat"]}


def contrast_filled(shape: Solid) -> Solid:
    """Shells in a convex body that hold `DILUTED` of its volume: dilute contrast medium, drawn as undiluted."""
    low, high = np.array(shape.bounding_box()).reshape(2, 3)
    centre = (low + high) / 2

    def scaled(factor: float) -> Solid:
        return shape.translate(tuple(-centre)).scale((factor, factor, 1)).translate(tuple(centre))

    outer = np.array([0.98, 0.78, 0.58, 0.38])
    each = DILUTED / len(outer)
    return together([scaled(s) - scaled((s**2 - each) ** 0.5) for s in outer])


def arc_tip(radius: float, degrees: float, count: int = 20) -> np.ndarray:
    """A tip that curls through an angle, for `Line.with_tip`."""
    turn = np.radians(np.linspace(degrees, 0, count))
    grow = np.linspace(0.75, 1, count)[:, None]
    return np.stack([radius * (1 - np.cos(turn)), -radius * np.sin(turn)], 1) * grow


def _wire(line: Line, diameter: float, straight_tip: float) -> Parts:
    radius = diameter / 2
    tip = straight_tip or 25.0
    return {
        "wire": line.bend(cylinder(radius, tip, line.length_mm, segments=8)),
        "tip": line.bend(cylinder(radius, 0, tip, segments=8)),
    }


def coated(line: Line, outer: float, inner: float, coat: float, low: float, high: float) -> Parts:
    return {
        "wall": line.bend(tube(outer - coat, inner, low, high, 10)),
        "coat": line.bend(tube(outer, outer - coat, low, high, 10)),
    }


def _catheter(line: Line, french: float) -> Parts:
    radius, end = french * FRENCH_MM / 2, line.length_mm
    made = coated(line, radius, 0.62 * radius, LOADED * 0.38 * radius, 0, end)
    return made | {"wall": made["wall"] + line.place(hub(radius), end)}


def hub(radius: float) -> Solid:
    body = cylinder(radius + 0.6, -1, 10, 3.2, 20) + cylinder(3.2, 10, 22, 3.6, 20) + box((16, 2, 8), (0, 0, 12))
    return body - cylinder(0.7 * radius, -9, 99, segments=12)


def _tails(count: int) -> Solid:
    """A junction with tubes, a clamp and a hub on each."""
    made = [cylinder(4, -2, 14, 6, 20)]
    for i in range(count):
        lean = (i - (count - 1) / 2) * 24
        tail = cylinder(1.3, 10, 60, segments=12) + cylinder(3, 60, 76, 3.6, 16) + box((9, 4, 12), (0, 0, 36))
        made.append(tail.rotate((0, lean, 0)))
    return union(made)


def _balloon(radius: float, low: float, high: float) -> Solid:
    shoulder = min(1.2 * radius + 1, (high - low) / 3)
    return union([
        cylinder(0.6, low, low + shoulder, radius, 20),
        cylinder(radius, low + shoulder, high - shoulder, segments=20),
        cylinder(radius, high - shoulder, high, 0.6, 20),
    ])  # fmt: skip

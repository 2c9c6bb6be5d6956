"""Pacemakers, stimulators, pumps, monitors. Leads take a `Line` from the electrode outward to the case."""

import numpy as np

from fluorosam_cli.tools.shapes import (
    Line,
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
)


def pacemaker_single(line: Line, case_mm: float) -> Parts:
    """One lead into the right ventricle."""
    return _generator(line, case_mm, 7, [_lead(line, 2.0)])


def pacemaker_dual(line: Line, case_mm: float) -> Parts:
    """A second lead that curls into the right atrium."""
    return _generator(line, case_mm, 7, [_lead(line, 2.0), _atrial_lead(line)])


def pacemaker_biventricular(line: Line, case_mm: float) -> Parts:
    """A third, thinner lead around the back of the heart."""
    return _generator(line, case_mm, 8, [_lead(line, 2.0), _atrial_lead(line), _side_lead(line)])


def defibrillator_single_coil(line: Line, case_mm: float) -> Parts:
    """A thick lead with one shock coil, a larger case."""
    return _generator(line, case_mm, 11, [_lead(line, 2.8, coils=[(14, 64)])])


def defibrillator_dual_coil(line: Line, case_mm: float) -> Parts:
    """Two shock coils, in ventricle and superior vena cava, and an atrial lead."""
    return _generator(line, case_mm, 11, [_lead(line, 2.8, coils=[(14, 64), (180, 250)]), _atrial_lead(line)])


def spinal_cord_stimulator(line: Line, contacts: float) -> Parts:
    """A thin lead with ring contacts in the spinal canal."""
    rings = union(line.bend(tube(0.72, 0.5, 2 + 7 * i, 5 + 7 * i, 12)) for i in range(int(contacts)))
    return _generator(
        line, 48, 10, [{"lead": line.bend(cylinder(0.4, 0, line.length_mm, segments=8)), "electrodes": rings}]
    )


def paddle_stimulator(line: Line, columns: float) -> Parts:
    """A flat lead with columns of plate contacts."""
    count, width = int(columns), 2.6
    half = (count - 1) / 2
    plates = union(
        line.bend(block((2.0, 0.5, 4), 0.2, ((c - half) * width, 0, 6 + 6.5 * r), 8))
        for c in range(count)
        for r in range(8)
    )
    backing = line.bend(box((count * width + 1, 1.6, 56), (0, 0, 28))) - plates
    wires = union(line.bend(cylinder(0.45, 56, line.length_mm, segments=8).translate((x, 0, 0))) for x in (-0.8, 0.8))
    made = _generator(line, 48, 10, [{"lead": wires, "electrodes": plates}])
    return made | {"seal": made["seal"] + backing}


def deep_brain_stimulator(line: Line) -> Parts:
    """Four contacts in the depth of the brain, the lead out through a burr-hole ring and down the neck."""
    rings = union(line.bend(tube(0.65, 0.4, 1.5 + 2.5 * i, 3 + 2.5 * i, 12)) for i in range(4))
    lead = line.bend(cylinder(0.35, 0, line.length_mm, segments=8))
    cap = line.place(tube(7, 1.5, -1, 3), min(70.0, 0.8 * line.length_mm))
    joint = line.bend(cylinder(1.6, 0.7 * line.length_mm, 0.7 * line.length_mm + 12, segments=12))
    return {"electrodes": rings - lead, "lead": lead, "connector": joint - lead, "seal": cap - lead}


def vagus_nerve_stimulator(line: Line) -> Parts:
    """Helical cuffs around a nerve of the neck, a round case on the chest."""
    cuffs = union(line.bend(sweep(helix(2, 2.2, z, z + 6, 14), 0.4, segments=8)) for z in (0, 9, 18))
    lead = {"lead": line.bend(cylinder(0.7, 26, line.length_mm, segments=8)), "electrodes": cuffs}
    return _generator(line, 46, 7, [lead])


def leadless_pacemaker(length_mm: float) -> Parts:
    """A capsule with four hooks, in the right ventricle."""
    radius = 3.35
    capsule = hull([ball(radius, (0, 0, radius), 24), ball(radius, (0, 0, length_mm - radius), 24)])
    hooks = around(sweep(arc((radius, 0, -0.5), 2.4, 0, 190, 16), 0.3).translate((-1.2, 0, 0)), 4)
    return {"case": (capsule - _scaled(capsule, 0.9)) + hooks, "battery": _scaled(capsule, 0.66)}


def loop_recorder(length_mm: float) -> Parts:
    """A small rod under the skin over the heart."""
    case = block((7, length_mm, 4), 1.8)
    battery = block((5, 0.42 * length_mm, 2.6), 0.8, (0, 0.2 * length_mm, 0))
    board = block((5, 0.34 * length_mm, 0.9), 0.3, (0, -0.24 * length_mm, 0))
    inside = block((6.2, length_mm - 1, 3.2), 1.4)
    return {"case": case - inside, "battery": battery, "board": board}


def drug_pump(diameter_mm: float) -> Parts:
    """A round pump with a gear and a filling port, under the skin of the abdomen."""
    radius = diameter_mm / 2
    hollow = cylinder(radius, -9, 9, segments=48) - cylinder(radius - 1, -8.2, 8.2, segments=48)
    port = tube(5, 4, -8.2, 8.2, 24).translate((0.45 * radius, 0, 0))
    roller = (tube(12, 9, -3, 3) + around(cylinder(2.5, -3.5, 3.5, segments=14).translate((9, 0, 0)), 3)).translate(
        (-0.3 * radius, 8, 0)
    )
    battery = cylinder(9, -5, 5).translate((-0.3 * radius, -16, 0))
    connector = block((12, 7, 6), 1.5, (radius + 4, 0, 0)) - cylinder(radius, -9, 9, segments=48)
    return {"case": union([hollow, port]), "inside": union([roller - port, battery - port]), "seal": connector}


def cochlear_implant(turns: float) -> Parts:
    """A flat receiver with its coil and magnet, and the electrode wound in the cochlea."""
    coil = ring(12, 0.7, 48, 8).translate((0, -20, 0))
    magnet = cylinder(5.5, -1.2, 1.2).translate((0, -20, 0))
    case = block((24, 26, 4), 1.6, (0, 12, 0))
    angle = np.linspace(0, 2 * np.pi * turns, 60)
    radius = 4.5 - 0.4 * angle
    spiral = np.stack([26 + radius * np.cos(angle), 30 + radius * np.sin(angle), -22 - 0.25 * angle], 1)
    path = np.vstack([smooth([(8, 22, -1), (16, 34, -4), (30.5, 40, -14), tuple(spiral[0])], 20)[:-1], spiral])
    contacts = together([ball(0.42, spiral[i], 8) for i in range(0, 60, 4)])
    wire = sweep(path, 0.28, segments=8) - contacts
    return {
        "receiver": without(case, [block((22.5, 24.5, 2.8), 1.0, (0, 12, 0))]),
        "coil": coil,
        "magnet": magnet,
        "contacts": contacts,
        "wire": wire - case,
    }


def ecg_electrode(diameter_mm: float) -> Parts:
    """A foam disc with a snap in its middle."""
    snap = union([cylinder(5, 1, 1.5, segments=20), cylinder(1.6, 1, 5, segments=16), ball(2, (0, 0, 5), 16)])
    return {"snap": snap, "foam": cylinder(diameter_mm / 2, 0, 1.0)}


def ecg_lead(line: Line, diameter_mm: float) -> Parts:
    """An electrode with its snap clip and cable."""
    snap = union([cylinder(4.5, 0, 0.8, segments=20), cylinder(2, 0, 4, segments=16), tube(4.6, 3.2, 2, 4, 20)]).rotate(
        (90, 0, 0)
    )
    return {
        "snap": line.place(snap, 0),
        "cable": line.bend(tube(diameter_mm / 2, 0.35, 6, line.length_mm, 10)),
        "core": line.bend(cylinder(0.35, 6, line.length_mm, segments=6)),
    }


def defibrillator_pad(length_mm: float, width_mm: float) -> Parts:
    """A large foil electrode with a rim and a cable."""
    foil = block((width_mm - 16, length_mm - 16, 0.4), 0.1, (0, 0, 0.7), 8)
    gel = _flat_rounded(width_mm, length_mm, 12, 0, 0.45)
    cable = rod((0, length_mm / 2 - 10, 1.4), (0, length_mm / 2 + 60, 1.4), 0.8)
    return {"foil": foil, "gel": gel, "cable": cable}


def return_electrode(length_mm: float) -> Parts:
    """The split plate of electrosurgery, with its clamp."""
    half = both_sides(
        _flat_rounded(0.24 * length_mm, 0.8 * length_mm, 6, 0.6, 0.75).translate((0.15 * length_mm, 0, 0))
    )
    clamp = block((26, 20, 6), 2, (0, 0.5 * length_mm, 4)) - block((18, 12, 2.5), 0.5, (0, 0.5 * length_mm, 4))
    return {"foil": half, "clamp": clamp}


def pulse_oximeter(length_mm: float) -> Parts:
    """A finger clip with its diode, spring and cable."""
    jaws = [block((18, length_mm, 5), 2, (0, 0, z)) for z in (2.5, 14)]
    hinge = cylinder(1.2, -9, 9, segments=16).rotate((0, 90, 0)).translate((0, 0.42 * length_mm, 8))
    spring = union(ring(3, 0.4, 20, 6).rotate((0, 90, 0)).translate((x, 0.42 * length_mm, 8)) for x in (-3, -1, 1, 3))
    cable = rod((0, -length_mm / 2 + 2, 14), (0, -length_mm / 2 - 90, 14), 1.3)
    diodes = union(box((5, 6, 1.6), (0, -8, z)) for z in (4, 12.5))
    metal = union([hinge, spring, diodes])
    return {"metal": metal, "shell": union([*jaws]) - metal, "cable": cable - jaws[1]}


def hearing_aid(length_mm: float) -> Parts:
    """Behind the ear: a curved case with battery, receiver and tube."""
    body = sweep(arc((0, 0, 0), 0.6 * length_mm, 60, 170, 24, "xy"), [4.6] * 24, segments=14)
    battery = cylinder(3.9, -1.8, 1.8).translate((-0.6 * length_mm, 3, 0))
    parts = union(
        [
            battery,
            box((4, 6, 3), (-0.35 * length_mm, 0.5 * length_mm, 0)),
            box((5, 3, 3), (0.1 * length_mm, 0.6 * length_mm, 0)),
        ]
    )
    earhook = sweep(
        smooth(
            [
                (0.3 * length_mm, 0.5 * length_mm, 0),
                (0.62 * length_mm, 0.3 * length_mm, 0),
                (0.6 * length_mm, -0.2 * length_mm, 0),
            ],
            20,
        ),
        1.2,
    )
    return {"battery": parts, "shell": union([body, earhook]) - parts}


def _lead(line: Line, diameter: float, coils: list[tuple[float, float]] | None = None) -> Parts:
    """Tip and ring electrode, shock coils, and the conductor."""
    radius, end = diameter / 2, line.length_mm
    electrodes = [cylinder(radius, 0, 2, segments=10), tube(1.05 * radius, 0.3 * diameter, 12, 14, 10)]
    for low, high in coils or ():
        if high < end:
            electrodes.append(tube(1.25 * radius, 0.3 * diameter, low + 4, high, 10))
    return {
        "lead": line.bend(cylinder(0.28 * diameter, 2, end, segments=8)),
        "electrodes": union(line.bend(e) for e in electrodes),
    }


def _atrial_lead(line: Line) -> Parts:
    """Beside the first as far as the atrium, where it turns up in a J."""
    side = line.beside(3.2)
    start = 0.3 * side.length_mm
    along = np.linspace(start, side.length_mm, 60)
    return _lead(Line(side.at(along)[0]).with_tip(smooth([(26, 14), (22, -8), (10, -16), (2, -8), (0, 0)], 24)), 1.8)


def _side_lead(line: Line) -> Parts:
    """Beside the first, then swung wide: the vein on the left side of the heart."""
    side = line.beside(-3.2)
    start = 0.22 * side.length_mm
    along = np.linspace(start, side.length_mm, 60)
    return _lead(Line(side.at(along)[0]).with_tip(smooth([(-62, -36), (-50, -8), (-30, 6), (-8, -2), (0, 0)], 30)), 1.5)


def _generator(line: Line, case_mm: float, thick_mm: float, leads: list[Parts]) -> Parts:
    """A case at the end of the line: a metal shell with battery and board, a plastic header with its connectors."""
    half, end = case_mm / 2, line.length_mm
    flat = stadium([(-0.14 * case_mm, 0), (0.14 * case_mm, 0)], 0.5 * half + 8).scale((1, 1)) + circle(
        half, (0, 0.05 * case_mm), 40
    )
    centre = 10 + half
    can = extrude(flat, -thick_mm / 2, thick_mm / 2, "y").translate((0, 0, centre))
    inner = extrude(flat.offset(-0.6), -thick_mm / 2 + 0.5, thick_mm / 2 - 0.5, "y").translate((0, 0, centre))
    lower = box((200, 50, 100), (0, 0, centre + 53))
    battery = extrude(flat.offset(-2.2), -thick_mm / 2 + 1, thick_mm / 2 - 1, "y").translate((0, 0, centre)) ^ lower
    shell_of_battery = battery - (
        extrude(flat.offset(-2.6), -thick_mm / 2 + 1.3, thick_mm / 2 - 1.3, "y").translate((0, 0, centre))
        ^ lower.translate((0, 0, 0.6))
    )
    board = extrude(flat.offset(-3.5), -0.7, 0.7, "y").translate((0, 0, centre)) ^ box(
        (200, 50, 60), (0, 0, centre - 31)
    )
    chips = union(
        box((0.16 * case_mm, 2.4, 0.14 * case_mm), (x * case_mm, 0, centre - z * case_mm))
        for x, z in ((-0.18, 0.12), (0.08, 0.2), (0.2, 0.08))
    )
    header = block((0.74 * case_mm, thick_mm, 13), 2.5, (0, 0, 6.5)) - can
    screws = union(
        cylinder(1.6, -thick_mm / 2, thick_mm / 2, segments=12).rotate((90, 0, 0)).translate((x * case_mm, 0, 7))
        for x in (-0.2, 0.05, 0.24)[: len(leads) + 1]
    )
    case = (can - inner) + shell_of_battery
    lead = union(part["lead"] for part in leads)
    placed = {
        name: line.place(solid, end)
        for name, solid in {"case": case, "board": board + chips, "screws": screws, "seal": header - screws}.items()
    }
    electrodes = union(part["electrodes"] for part in leads) - lead
    outside = lead - union([line.place(can, end), line.place(header, end)])
    return {
        "case": placed["case"],
        "electrodes": electrodes,
        "lead": outside,
        "board": placed["board"],
        "connectors": placed["screws"],
        "seal": placed["seal"],
    }


def _scaled(solid: Solid, factor: float) -> Solid:
    low, high = np.array(solid.bounding_box()).reshape(2, 3)
    centre = (low + high) / 2
    return solid.translate(-centre).scale((factor, factor, factor)).translate(centre)


def _flat_rounded(width: float, length: float, corner: float, low: float, high: float) -> Solid:
    half_w, half_l = width / 2, length / 2
    return extrude(
        outline([(-half_w, -half_l), (half_w, -half_l), (half_w, half_l), (-half_w, half_l)], corner), low, high
    )

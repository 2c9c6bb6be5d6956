"""Joint prostheses. Frames are those of the placements: the joint's centre at the origin, +z proximal, +y anterior, and
for hip and shoulder +x lateral."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Points, Solid, around, ball, block, both_sides, box, circle, cylinder, extrude, hull, outline, rod, shell, smooth,
    stadium, threaded, tube, union, without,
)  # fmt: skip

Parts = dict[str, Solid]

INCLINATION = 42.0  # of a cup's mouth against the horizontal, and
ANTEVERSION = 15.0


# --- hip --------------------------------------------------------------------------------------------------------------


def total_hip(stem: float, cup_mm: float, head_mm: float) -> Parts:
    """Uncemented: a tapered stem, a metal shell with a screw, a plastic liner, a head."""
    screws = union(_bone_screw(30, 6.5).rotate((0, -INCLINATION + lean, 0)).translate((0, 0, 0)) for lean in (-8, 22))
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
    cap = ball(head_mm / 2, segments=48).trim_by_plane((0, 0, 1), -0.15 * head_mm) - ball(inner).trim_by_plane((0, 0, 1), -inner)
    cap = without(cap, [cylinder(inner, -head_mm, 0)])
    peg = cylinder(1.6, -75, -10, 4, 16) + cylinder(4, -10, inner + 1, segments=16)
    cup = shell(head_mm / 2 + 4.5, head_mm / 2 + 0.4)
    fins = [box((1.2, 8, 6), (head_mm / 2 + 4, 0, 6)).rotate((0, 0, a)) for a in range(0, 360, 60)]
    return {"cap": (cap + peg).rotate((0, -45, 0)), "cup": _tilted(union([cup, *fins]) - ball(head_mm / 2 + 0.4))}


def acetabular_cup(cup_mm: float, head_mm: float) -> Parts:
    """The socket alone, with two screws and its liner."""
    screws = union(_bone_screw(length, 6.5).rotate((turn, -INCLINATION + lean, 0)) for length, turn, lean in ((40, 0, 25), (30, 15, -5)))
    return _cup(cup_mm, head_mm, screws)


def acetabular_cage(cup_mm: float) -> Parts:
    """A flanged cage over a broken socket, screwed to the ilium, a plastic cup cemented in."""
    radius = cup_mm / 2
    dome = _tilted(without(shell(radius, radius - 2.5), [cylinder(2.4, -99, 99, segments=12).rotate((t, u, 0)) for t, u in ((30, 20), (-30, 20), (30, -30), (-30, -30), (0, 0))]))
    flange = extrude(outline([(-0.9 * radius, 8), (-0.25 * radius, 8), (0.1 * radius, 2.1 * radius), (-0.9 * radius, 2.3 * radius)], 4) - circle(2.6, (-0.4 * radius, 1.6 * radius)) - circle(2.6, (-0.5 * radius, 2.05 * radius)), 0, 2.4, "y").rotate((18, 0, 0)).translate((0, 0.2 * radius, 4))
    hook = rod((-0.6 * radius, 0, -0.7 * radius), (-1.3 * radius, 0, -1.2 * radius), 3, 2)
    screws = [_bone_screw(38, 6.5).rotate((8, -INCLINATION + lean, 0)) for lean in (10, 32)]
    return {"cage": union([dome, flange, hook, *screws]) - ball(radius - 2.5), "cup": _tilted(shell(radius - 2.6, 14.2))}


def revision_hip_stem(length_mm: float, diameter_mm: float, head_mm: float) -> Parts:
    """A modular stem: a proximal cone on a long fluted taper."""
    flutes = around(box((1.6, 3.2, 2 * length_mm), (diameter_mm / 2, 0, 0)), 8)
    fluted = cylinder(0.36 * diameter_mm, -length_mm, -70, diameter_mm / 2) - flutes
    body = hull([cylinder(0.62 * diameter_mm, -72, -70), block((27, 20, 6), 3, (-4, 0, -28))])
    return _stem_and_head((fluted + body).translate((42, 0, 0)), head_mm)


def hip_spacer(head_mm: float, stem_mm: float) -> Parts:
    """Antibiotic cement around a metal core, after an infection."""
    core = rod((0, 0, 0), (40, 0, -40), 4) + rod((40, 0, -40), (42, 0, -stem_mm), 4)
    body = union([ball(head_mm / 2, segments=40), rod((0, 0, 0), (40, 0, -40), 11, 14), rod((38, 0, -34), (42, 0, -stem_mm - 8), 13, 6)])
    return {"cement": body - core, "core": core}


def _tapered_stem(scale: float) -> Solid:
    return _stem(scale, [(22, -24), (27, -44), (33, -72), (38, -132)], [(53, -22), (51, -40), (48, -80), (44, -132)], 16, 7)


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


def _bone_screw(length: float, diameter: float) -> Solid:
    rows = [(0, 0.7 * diameter, 0.7 * diameter), (3, 0.5 * diameter, 0.5 * diameter), (3.5, 0.3 * diameter, diameter / 2)]
    return threaded([*rows, (length - 4, 0.3 * diameter, diameter / 2), (length, 0.3, 0.3)], 2.75, 14).translate((0, 0, 22))


# --- knee -------------------------------------------------------------------------------------------------------------


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
    return {"femoral": union([made["femoral"], axle, stems[0]]) - yoke, "tray": union([made["tray"], stems[1]]), "bearing": made["bearing"] - yoke, "yoke": without(yoke, [axle, stems[0], stems[1], made["tray"]])}


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
    taper = extrude(outline([(-22 * size, 60), (22 * size, 60), (14 * size, 14), (0, 4), (-14 * size, 14)], 4), 0, 60, "y")
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
    return made | {"femoral": union([made["femoral"] ^ box((99, 99, 90), (0, 0, 20)), segment, stem]) - (made["yoke"] + made["bearing"])}


def _femoral_profile(size: float, width: float) -> Solid:
    """The sagittal J of a femoral component: articulating curve outside, five flat cuts inside; the distal end at z = 0."""
    outside = smooth(np.array([(31, 46), (31, 30), (27, 14), (14, 2.5), (0, 0), (-14, 1), (-26, 8), (-31, 20), (-27, 31)]) * size, 32)
    inside = np.array([(-22, 31), (-23, 19), (-13, 9.5), (14, 9.5), (23, 20), (26.5, 46)]) * size
    return extrude(outline(np.vstack([outside, inside]), 0.6), -width / 2, width / 2, "x")


def _knee(size: float, box_mm: float, stem_mm: float, cut_mm: float) -> Parts:
    """`size` 1 is 68 mm wide; `cut_mm` is the thickness of the bearing."""
    width = 68 * size
    notch = hull([cylinder(9 * size, -99, 99).rotate((90, 0, 0)).translate((0, 0, 14)), box((18 * size, 200, 1), (0, 0, -5))])
    notch = notch ^ box((99, 60 * size, 99), (0, -24 * size, 0))
    front = extrude(outline([(-width / 2, -5), (width / 2, -5), (width / 2, 24), (0.27 * width, 50 * size), (-0.27 * width, 50 * size), (-width / 2, 24)], 8), -60, 60, "y")
    grooved = cylinder(12 * size, -10, 99).translate((0, 39 * size, 0))
    rounded = hull([cylinder(r, -60, 60, segments=40).rotate((90, 0, 0)).translate((x, 0, z)) for x, r, z in ((-width / 4, width / 4, width / 4), (width / 4, width / 4, width / 4), (0, width / 2.2, 60))])
    femoral = without((_femoral_profile(size, width) ^ front) ^ rounded, [notch, grooved])
    pegs = both_sides(cylinder(3.2, 6, 24, 2.6, 16).translate((0.28 * width, 0, 0)))
    femoral = femoral + pegs
    if box_mm:
        cage = box((box_mm * size + 4, 30 * size, 16 * size), (0, -10 * size, 16 * size)) - box((box_mm * size, 40 * size, 15 * size), (0, -10 * size, 14 * size))
        femoral = femoral + cage
    plan = outline(np.array([(-0.5, 0.1), (-0.42, 0.3), (0, 0.34), (0.42, 0.3), (0.5, 0.1), (0.46, -0.26), (0.2, -0.33), (0, -0.22), (-0.2, -0.33), (-0.46, -0.26)]) * width * 1.05, 6)
    tray = extrude(plan, -cut_mm - 4, -cut_mm)
    stem = cylinder(5.5, -cut_mm - stem_mm, -cut_mm - 3, 7.5, 24).translate((0, -2, 0))
    fins = both_sides(extrude(outline([(4, 0), (0.36 * width, 0), (4, -0.75 * stem_mm)]), -1.6, 1.6, "y").translate((0, -6, -cut_mm - 3)))
    bearing = extrude(plan.offset(-1.2), -cut_mm, 5)
    dish = hull([_femoral_outside(size, width) , _femoral_outside(size, width).translate((0, 0, 9))])
    bearing = bearing - dish
    if box_mm:
        bearing = bearing + box((box_mm * size - 4, 12, 14 + cut_mm), (0, -4, 7 - cut_mm / 2))
    return {"femoral": femoral, "bearing": bearing - femoral, "tray": union([tray, stem, fins])}


def _femoral_outside(size: float, width: float) -> Solid:
    return cylinder(30 * size, -width / 2 - 5, width / 2 + 5, segments=64).rotate((0, 90, 0)).translate((0, -1, 30 * size - 0.2))


def _button(diameter: float) -> Solid:
    """A dome facing -y with three pegs to +y."""
    dome = ball(0.62 * diameter, segments=40).trim_by_plane((0, 0, 1), 0.37 * diameter).translate((0, 0, -0.37 * diameter))
    dome = dome + around(cylinder(2.2, -5, 1, segments=12).translate((0.25 * diameter, 0, 0)), 3)
    return dome.rotate((90, 0, 0))


# --- shoulder, elbow, ankle -------------------------------------------------------------------------------------------


def total_shoulder(head_mm: float, stem_mm: float) -> Parts:
    """A cap for a head, a stem, a plastic socket with pegs and marker."""
    cap, stem = _shoulder_cap(head_mm), _shoulder_stem(head_mm, stem_mm)
    radius = head_mm / 2 + 0.4
    dish = (cylinder(0.34 * head_mm, radius - 3, radius + 4).scale((0.75, 1, 1))) - ball(radius, segments=48)
    pegs = around(cylinder(2, radius + 2, radius + 13, segments=12).translate((0.17 * head_mm, 0, 0)), 3)
    pin = cylinder(0.6, radius + 4, radius + 12, segments=8)
    socket = (dish + cylinder(2.4, radius + 2, radius + 15, segments=12) + pegs).rotate((0, -90, 0))
    pin = pin.rotate((0, -90, 0))
    return {"stem": stem - cap, "head": cap, "socket": socket - pin, "marker": pin}


def stemless_shoulder(head_mm: float) -> Parts:
    """A cap on a short finned anchor."""
    cap = _shoulder_cap(head_mm)
    anchor = around(extrude(outline([(0, 0), (11, 0), (3, -20), (0, -20)]), -0.9, 0.9, "y"), 4) + cylinder(5, -8, 2)
    return {"anchor": anchor.translate((0, 0, 0.16 * head_mm)).rotate((0, -45, 0)) - cap, "head": cap}


def shoulder_resurfacing(head_mm: float) -> Solid:
    """A cup over the patient's own head, with a peg."""
    radius = head_mm / 2
    cap = (ball(radius, segments=48) - ball(radius - 3.5)).trim_by_plane((0, 0, 1), 0.1 * head_mm)
    return (cap + cylinder(2, -0.45 * head_mm, radius - 2, 4, 16)).rotate((0, -45, 0))


def reverse_shoulder(ball_mm: float, stem_mm: float) -> Parts:
    """The ball on the shoulder blade with its screws, the socket on the arm."""
    radius = ball_mm / 2
    sphere = ball(radius, segments=48).trim_by_plane((1, 0, 0), -0.12 * ball_mm)
    base = cylinder(12.5, 0.12 * ball_mm, 0.12 * ball_mm + 3.5).rotate((0, -90, 0))
    peg = cylinder(4, 0, 18, 3, 16).rotate((0, -90, 0)).translate((-0.12 * ball_mm, 0, 0))
    screws = [_bone_screw(30, 4.5).translate((0, 0, -20 + 0.12 * ball_mm)).rotate((0, -90 + tilt, 0)).translate((0, 0, z)) for z, tilt in ((8, 12), (-8, -12))]
    axis = (0, 145, 0)
    liner = (cylinder(radius - 1, 0.28 * ball_mm, radius + 4, segments=40) - ball(radius + 0.3, segments=48)).rotate(axis)
    tray = (cylinder(radius - 1, radius + 4, radius + 7.5) + cylinder(radius - 2, radius + 7, radius + 24, 7)).rotate(axis)
    start = np.array([math.sin(math.radians(145)), 0, math.cos(math.radians(145))]) * (radius + 16)
    stem = rod(start, (start[0] + 4, 0, start[2] - stem_mm), 7, 5)
    return {"glenosphere": sphere, "base": without(union([base, peg, *screws]), [sphere]), "liner": liner, "stem": tray + stem}


def shoulder_hemiprosthesis(head_mm: float, stem_mm: float) -> Parts:
    """Head and stem without a socket, with fins and holes for the tuberosities."""
    cap = _shoulder_cap(head_mm)
    fin = without(extrude(outline([(10, -4), (22, -12), (16, -44), (10, -48)], 2), -1.5, 1.5, "y"), [cylinder(1.5, -9, 9, segments=12).rotate((90, 0, 0)).translate((16, 0, z)) for z in (-14, -22, -30)])
    return {"stem": (_shoulder_stem(head_mm, stem_mm) + fin) - cap, "head": cap}


def radial_head(diameter_mm: float, stem_mm: float) -> Solid:
    """A mushroom on the radius; its dish faces the upper arm."""
    head = (cylinder(0.47 * diameter_mm, -9, -1.5, diameter_mm / 2) + cylinder(diameter_mm / 2, -1.5, 0)) - ball(diameter_mm, (0, 0, 0.96 * diameter_mm))
    return union([head, cylinder(4, -14, -8, segments=20), cylinder(2.2, -14 - stem_mm, -13, 3.5, 20)])


def total_elbow(humeral_mm: float, ulnar_mm: float) -> Parts:
    """A loose hinge between a stem in the upper arm and one in the ulna."""
    yoke = both_sides(block((4.5, 12, 24), 1.5, (10, 0, 6))) + block((25, 9, 8), 2, (0, 1, 20))
    flange = extrude(outline([(-6, 12), (6, 12), (4, 34), (-4, 34)], 1.5), 7, 9.5, "y")
    humeral = union([yoke, flange, box((8, 6, 6), (0, 6, 17)), rod((0, 0, 20), (0, -2, 20 + humeral_mm), 5, 3)])
    axle = cylinder(3, -15, 15, segments=20).rotate((0, 90, 0))
    bush = cylinder(5, -7.5, 7.5).rotate((0, 90, 0)) - axle
    ulnar = (cylinder(8, -7, 7).rotate((0, 90, 0)) + rod((0, -4, -4), (0, -8, -8 - ulnar_mm), 4.5, 2.5)) - cylinder(5, -9, 9).rotate((0, 90, 0))
    return {"humeral": humeral - axle, "ulnar": ulnar - axle, "axle": axle, "bush": bush}


def total_ankle(width_mm: float) -> Parts:
    """A tibial plate with two barrels, a plastic core, a saddle on the talus."""
    depth = 1.15 * width_mm
    plate = block((width_mm, depth, 3.5), 1.2, (0, 0, 9))
    barrels = both_sides(cylinder(3, -0.42 * depth, 0.42 * depth, segments=20).rotate((90, 0, 0)).translate((0.22 * width_mm, 0, 14)) + box((2, 0.84 * depth, 4), (0.22 * width_mm, 0, 11.5)))
    dome = cylinder(20, -width_mm / 2.2, width_mm / 2.2, segments=64).rotate((0, 90, 0)).translate((0, 0, -20))
    talar = (dome - cylinder(16.5, -99, 99, segments=48).rotate((0, 90, 0)).translate((0, 0, -20))).trim_by_plane((0, 0, 1), -13)
    core = block((0.8 * width_mm, 0.72 * depth, 12), 1.0, (0, 0, 1.2)) - dome
    return {"tibial": union([plate, barrels]), "core": core.trim_by_plane((0, 0, -1), -7.2), "talar": talar + both_sides(cylinder(2.4, -17, -4, segments=14).translate((7, 4, -2)))}


def finger_joint(length_mm: float, width_mm: float) -> Parts:
    """A hinge between two tapered stems: metal above, plastic below."""
    dome = (ball(width_mm / 2, segments=32) ^ box((0.85 * width_mm, 99, 99))).trim_by_plane((0, 0, 1), -0.3 * width_mm)
    upper = dome + rod((0, 0, 0), (0, 0, 0.55 * length_mm), 0.22 * width_mm, 0.1 * width_mm)
    lower = block((0.8 * width_mm, 0.8 * width_mm, 0.4 * width_mm), 1, (0, 0, -0.5 * width_mm)) + rod((0, 0, -0.5 * width_mm), (0, 0, -0.55 * length_mm), 0.22 * width_mm, 0.1 * width_mm)
    return {"upper": upper, "lower": lower - ball(width_mm / 2 + 0.05, segments=32) - upper}


def toe_spacer(length_mm: float, width_mm: float) -> Parts:
    """A flexible hinge with grommets, for toes and knuckles."""
    grommets = union(tube(0.5 * width_mm, 0.36 * width_mm, z, z + 1.0, 24) for z in (2.6, -3.6))
    body = block((width_mm, 0.7 * width_mm, 6), 1) + hull([box((0.5 * width_mm, 0.4 * width_mm, 1)), box((1.5, 1.5, length_mm))])
    return {"grommets": grommets, "body": body - grommets}


def _shoulder_cap(head_mm: float) -> Solid:
    return ball(head_mm / 2, segments=48).trim_by_plane((0, 0, 1), 0.16 * head_mm).rotate((0, -45, 0))


def _shoulder_stem(head_mm: float, stem_mm: float) -> Solid:
    """From the cap's flat side into the humerus."""
    border = np.vstack([smooth([(-4, 4), (2, -18), (5, -45), (8, -stem_mm)], 12), smooth([(18, -2), (19, -20), (17, -45), (14, -stem_mm)], 12)[::-1]])
    flat = outline(border, 2)
    side = outline([(-3.5, -stem_mm - 1), (3.5, -stem_mm - 1), (8, 6), (-8, 6)])
    return (extrude(flat, -9, 9, "y") ^ extrude(side, -60, 60, "x")) + rod((-0.1 * head_mm, 0, 0.1 * head_mm), (8, 0, -12), 6, 8)

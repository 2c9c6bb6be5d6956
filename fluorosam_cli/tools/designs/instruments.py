"""Hand instruments: the tip at the origin, the handle toward +z, flat in the x-z plane."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import (
    Points, Solid, arc, around, ball, block, both_sides, box, circle, cylinder, extrude, helix, hull, outline, ring, rod,
    smooth, stadium, sweep, together, tube, union, without,
)  # fmt: skip

Parts = dict[str, Solid]

FLAT = np.array([(-0.5, -1.0), (0.5, -1.0), (0.5, 1.0), (-0.5, 1.0)])  # a section deeper (y) than wide


# --- instruments with finger rings ------------------------------------------------------------------------------------


def artery_forceps(length_mm: float) -> Solid:
    """Straight, with a ratchet and serrated jaws."""
    return _ringed(length_mm, 0.3 * length_mm, jaw=(1.6, 2.4)) - _serrations(0.05 * length_mm, 0.26 * length_mm)


def curved_artery_forceps(length_mm: float) -> Solid:
    """Jaws curved to one side."""
    return _ringed(length_mm, 0.3 * length_mm, jaw=(1.3, 2.2), curve=0.09 * length_mm)


def right_angle_forceps(length_mm: float) -> Solid:
    """The tips bent at a right angle."""
    return _ringed(length_mm, 0.22 * length_mm, jaw=(1.2, 2.0), curve=0.12 * length_mm, power=5)


def needle_holder(length_mm: float) -> Parts:
    """Short stout jaws with hard-metal inserts."""
    holder = _ringed(length_mm, 0.17 * length_mm, jaw=(2.2, 3.2))
    inserts = both_sides(box((0.8, 2.4, 0.1 * length_mm), (1.0, 0, 0.06 * length_mm)))
    return {"holder": holder - inserts, "inserts": inserts}


def tissue_clamp(length_mm: float) -> Solid:
    """Allis: spread arms with a toothed bite."""
    return _ringed(length_mm, 0.4 * length_mm, jaw=(1.5, 2.2), belly=5.0) + both_sides(box((2.2, 6, 2.2), (1.2, 0, 1.2)))


def babcock_forceps(length_mm: float) -> Solid:
    """Jaws opened into loops."""
    loops = both_sides(extrude(outline([(0.6, 0), (0.6, 12), (6, 22), (3, 24), (7, 14), (5, 2)], 0.5), -2.5, 2.5, "y"))
    return _ringed(length_mm, 0.38 * length_mm, jaw=(1.5, 2.2), belly=6.5) + loops


def sponge_forceps(length_mm: float) -> Solid:
    """Rings at the tip to hold a swab."""
    eye = (ring(6, 1.4, 32, 10).scale((1, 1.4, 1))).rotate((0, 90, 0)).rotate((90, 0, 0)).rotate((0, 0, 90)).translate((2, 0, 8))
    return _ringed(length_mm, 0.36 * length_mm, jaw=(1.8, 2.4), start=15) + both_sides(eye)


def towel_clip(length_mm: float) -> Solid:
    """Two sharp hooks that cross."""
    hook = sweep(smooth([(-1.5, 0, 1), (2, 0, 0.0), (7, 0, 0.08 * length_mm), (6, 0, 0.2 * length_mm), (1.5, 0, 0.32 * length_mm)], 24), np.linspace(0.3, 2.0, 24), segments=10)
    return _ringed(length_mm, 0.34 * length_mm, jaw=(1.8, 2.0), start=0.3 * length_mm) + both_sides(hook)


def bowel_clamp(length_mm: float) -> Solid:
    """Long thin springy jaws."""
    return _ringed(length_mm, 0.46 * length_mm, jaw=(1.8, 3.0), belly=1.5)


def vascular_clamp(length_mm: float) -> Solid:
    """Satinsky: a jaw with three corners that bites part of a vessel."""
    path = smooth([(0, 0, 0), (-16, 0, 8), (-22, 0, 22), (-14, 0, 34), (0, 0, 0.3 * length_mm)], 30)
    jaws = [sweep(path + (s * 1.2, 0, 0), np.linspace(0.8, 2.4, 30), FLAT * 0.9) for s in (-1, 1)]
    return union([_ringed(length_mm, 0.3 * length_mm, jaw=(1.6, 2.4), start=0.26 * length_mm), *jaws])


def bulldog_clamp(length_mm: float) -> Solid:
    """A small spring clip for vessels."""
    arm = sweep(smooth([(0.6, 0, 0), (0.8, 0, 0.4 * length_mm), (-2, 0, 0.62 * length_mm), (-5, 0, 0.86 * length_mm), (-3, 0, length_mm)], 30), 0.9, FLAT * 1.6)
    spring = ring(3, 0.7, 24, 8).rotate((90, 0, 0)).translate((0, 0, 0.8 * length_mm))
    return union([both_sides(arm), spring, cylinder(1.2, -3, 3, segments=14).rotate((90, 0, 0)).translate((0, 0, 0.52 * length_mm))])


def dissecting_scissors(length_mm: float) -> Solid:
    """Straight, slim blades, long shanks (Metzenbaum)."""
    return _ringed(length_mm, 0.26 * length_mm, jaw=(1.4, 1.2), ratchet=False, gap=5.0)


def curved_scissors(length_mm: float) -> Solid:
    """Broad curved blades (Mayo)."""
    return _ringed(length_mm, 0.34 * length_mm, jaw=(2.6, 1.4), curve=0.08 * length_mm, ratchet=False, gap=6.0)


def bandage_scissors(length_mm: float) -> Solid:
    """Angled, one blade with a blunt button."""
    made = _ringed(length_mm, 0.38 * length_mm, jaw=(3.0, 1.4), curve=-0.16 * length_mm, power=1.0, ratchet=False, gap=5.0)
    return made + ball(3, (-0.12 * length_mm, 0, 1), 16).scale((1.0, 0.5, 1.2))


def wire_cutter(length_mm: float) -> Solid:
    """Short jaws, long lever arms."""
    jaws = both_sides(hull([box((1.5, 7, 1), (0.9, 0, 0.5)), box((9, 8, 2), (5, 0, 26))]))
    arms = both_sides(sweep(smooth([(4, 0, 24), (9, 0, 45), (20, 0, 0.5 * length_mm), (17, 0, length_mm)], 30), 4.5, FLAT * 1.2))
    return union([jaws, arms, cylinder(7, -5, 5).rotate((90, 0, 0)).translate((0, 0, 28))])


# --- tweezers ---------------------------------------------------------------------------------------------------------


def tissue_forceps(length_mm: float) -> Solid:
    """Tweezers with teeth and a grip."""
    teeth = both_sides(cylinder(0.5, 0, 1.6, 0.05, 8).rotate((0, -90, 0)).translate((1.2, 0, 1)))
    return _tweezers(length_mm, 1.2) + teeth


def dressing_forceps(length_mm: float) -> Solid:
    """Tweezers with broad serrated tips."""
    return _tweezers(length_mm, 2.4)


def bayonet_forceps(length_mm: float) -> Solid:
    """Stepped, to see past the hand."""
    arm = sweep(smooth([(0.8, 0, 0), (2.5, 0, 0.3 * length_mm), (3.5, 8, 0.42 * length_mm), (5, 16, 0.5 * length_mm), (4, 16, 0.75 * length_mm), (0.8, 16, length_mm)], 36), np.linspace(0.9, 3.5, 36), FLAT[:, ::-1] * (0.5, 1.2))
    return both_sides(arm)


def bipolar_forceps(length_mm: float) -> Parts:
    """Insulated tweezers with a plug."""
    arms = _tweezers(length_mm, 0.9)
    plug = block((12, 8, 16), 2, (0, 0, length_mm + 6))
    pins = both_sides(cylinder(1.6, length_mm + 12, length_mm + 28, segments=14).translate((3.4, 0, 0)))
    return {"arms": arms - plug, "pins": pins, "plug": plug - pins}


# --- knives, retractors, suction --------------------------------------------------------------------------------------


def scalpel(blade: float, length_mm: float) -> Solid:
    """A flat handle with a removable blade: 10 and 20 are bellied, 11 is a point, 15 is small, 12 is a hook."""
    edges: dict[int, Points] = {
        10: [(0, 0), (5, 4), (7.2, 12), (7.2, 26), (1, 26), (0, 6)],
        11: [(0, 0), (6.4, 26), (6.4, 32), (0, 32)],
        12: [(3.5, 0), (6.5, 2), (6, 8), (4.5, 5), (3, 5), (2.2, 10), (4, 26), (0, 26), (-0.6, 8), (0.8, 2)],
        15: [(0, 0), (3, 3), (4.2, 7), (4.2, 12), (6, 24), (0, 24)],
        20: [(0, 0), (6, 5), (9, 16), (9, 34), (1, 34), (0, 8)],
    }
    edge = np.array(edges[int(blade)], float)
    base = float(edge[:, 1].max())
    slot = stadium([(3, base - 8), (3, base + 6)], 0.9)
    flat = extrude(outline(edge) + outline([(0.5, base - 1), (6, base - 1), (6, base + 12), (0.5, base + 12)]) - slot, -0.2, 0.2, "y")
    handle = hull([box((3, 1.6, 1), (3, 0, base)), box((8, 3.2, 1), (3, 0, base + 22)), box((10, 3.2, 1), (3, 0, length_mm))])
    grooves = [box((1.2, 9, 0.8), (x, 0, base + 26 + 3 * i)) for i in range(5) for x in (-1.2, 7.2)]
    return without(handle, grooves) + flat


def langenbeck_retractor(length_mm: float, blade_mm: float) -> Solid:
    """A right-angled blade on a loop handle."""
    shaft = [(0, 0, 3), (0, 0, 0.55 * length_mm)]
    blade = extrude(outline([(0, 0), (-blade_mm, 1), (-blade_mm - 2, 6), (-blade_mm, 4), (0, 3)], 0.6), -0.2 * blade_mm, 0.2 * blade_mm, "y")
    loop = stadium([(0, 0.55 * length_mm), (0, length_mm - 12)], 11) - stadium([(0, 0.55 * length_mm + 2), (0, length_mm - 14)], 7)
    return union([blade, sweep(shaft, 2.2, FLAT * 1.4), extrude(loop, -1.5, 1.5, "y").rotate((0, 0, 90))])


def double_ended_retractor(length_mm: float) -> Solid:
    """A flat strip bent at both ends (Army-Navy)."""
    path = [(-0.2 * length_mm, 0, 4), (-0.19 * length_mm, 0, 0), (0, 0, 0), (0.0, 0, 2), (0, 0, length_mm - 2), (0, 0, length_mm), (0.26 * length_mm, 0, length_mm), (0.27 * length_mm, 0, length_mm - 4)]
    strip = union(hull([_plate_at(a), _plate_at(b)]) for a, b in zip(path, path[1:], strict=False))
    windows = [block((9, 7, 22), 3, (0, 0, z)) for z in (0.3 * length_mm, 0.5 * length_mm, 0.7 * length_mm)]
    return without(strip, windows)


def rake_retractor(length_mm: float, prongs: float) -> Solid:
    """Bent prongs on a shaft."""
    count = int(prongs)
    places = [(i - (count - 1) / 2) * 5.5 for i in range(count)]
    tines = [sweep(smooth([(-9, y, 6), (-8, y, 1), (-2, y, 0), (0, 0.8 * y, 8), (0, 0.2 * y, 22)], 20), np.linspace(0.3, 1.3, 20), segments=8) for y in places]
    handle = union([rod((0, 0, 20), (0, 0, length_mm - 30), 2.2), ring(10, 2, 32, 10).rotate((90, 0, 0)).translate((0, 0, length_mm - 20))])
    return union([*tines, handle]).rotate((0, 0, 90))


def deaver_retractor(length_mm: float, width_mm: float) -> Solid:
    """A broad strip curved like a question mark."""
    path = smooth([(-70, 40), (-62, 8), (-34, -2), (-8, 14), (0, 60), (0, length_mm - 14), (7, length_mm - 3), (14, length_mm - 10)], 60)
    return extrude(stadium(path, 0.9, 10), -width_mm / 2, width_mm / 2, "y")


def malleable_retractor(length_mm: float, width_mm: float) -> Solid:
    """A ribbon to bend as needed."""
    path = smooth([(-30, 4), (-16, -2), (0, 20), (0, length_mm)], 40)
    ribbon = extrude(stadium(path, 0.75, 10), -width_mm / 2, width_mm / 2, "y")
    return ribbon.rotate((0, 0, 55))


def self_retaining_retractor(length_mm: float, prongs: float) -> Solid:
    """Weitlaner: rake-tipped arms held apart by a ratchet."""
    tines = []
    for i in range(int(prongs)):
        y = (i - (prongs - 1) / 2) * 5
        tines.append(sweep(smooth([(17, y, 0), (13, y, 1), (12, y, 8), (11, 0.3 * y, 20)], 16), np.linspace(0.4, 1.5, 16), segments=8))
    arm = sweep(smooth([(11, 0, 18), (10, 0, 0.35 * length_mm), (0, 0, 0.55 * length_mm), (-13, 0, 0.9 * length_mm)], 24), 2.4, FLAT)
    return union([both_sides(union([arm, *tines, _finger_ring(-22, length_mm - 8, 1)])), sweep(arc((0, 0, 0.55 * length_mm), 0.3 * length_mm, 68, 112, 12), 1.3)])


def gelpi_retractor(length_mm: float) -> Solid:
    """Single sharp points turned outward."""
    arm = sweep(smooth([(24, 0, 0), (18, 0, 8), (16, 0, 0.3 * length_mm), (0, 0, 0.58 * length_mm), (-13, 0, 0.9 * length_mm)], 30), np.r_[np.linspace(0.2, 2.2, 10), np.full(20, 2.2)], segments=10)
    return union([both_sides(arm + _finger_ring(-22, length_mm - 8, 1)), sweep(arc((0, 0, 0.58 * length_mm), 0.27 * length_mm, 66, 114, 12), 1.3)])


def rib_spreader(width_mm: float) -> Solid:
    """Finochietto: blades on a rack with a crank."""
    rack = box((width_mm + 60, 5, 12), (20, 0, 130)) - union(box((2, 9, 3), (x, 0, 136)) for x in np.arange(-width_mm / 2, width_mm / 2 + 40, 5))
    arms = [block((13, 8, 128), 2, (x, 0, 66)) for x in (-width_mm / 2, width_mm / 2)]
    blades = [(block((4, 34, 46), 1.5, (x, 0, 22)) - block((9, 12, 26), 3, (x, 0, 22))) for x in (-width_mm / 2 - 5, width_mm / 2 + 5)]
    crank = union([block((24, 14, 20), 3, (width_mm / 2, 0, 130)), rod((width_mm / 2, 0, 140), (width_mm / 2, 0, 160), 3), rod((width_mm / 2 - 18, 0, 160), (width_mm / 2 + 18, 0, 160), 2.4)])
    return union([rack, *arms, *blades, crank])


def abdominal_retractor(width_mm: float) -> Solid:
    """Balfour: two wire frames on a bar and a middle blade."""
    bars = [rod((-width_mm / 2 - 20, 0, z), (width_mm / 2 + 40, 0, z), 3) for z in (120, 134)]
    loops = [sweep(smooth([(x, 0, 127), (x, 0, 30), (x * 1.0, -10, 4), (x, -26, 0), (x, -42, 4), (x, -44, 30), (x, -44, 60)], 40), 2.6) for x in (-width_mm / 2, width_mm / 2)]
    blocks = [block((22, 14, 30), 3, (x, 0, 127)) for x in (-width_mm / 2, 0, width_mm / 2)]
    blade = extrude(stadium(smooth([(0, 130), (0, 70), (-10, 40), (-34, 34)], 24), 1.2, 8), -30, 30, "y").rotate((0, 0, 90))
    return union([*bars, *loops, *blocks, blade])


def yankauer_suction(length_mm: float) -> Parts:
    """A curved plastic or metal sucker with a bulb tip."""
    path = smooth([(0, 0, 4), (2, 0, 0.15 * length_mm), (14, 0, 0.4 * length_mm), (14, 0, 0.55 * length_mm)], 30)
    body = sweep(path, 4, segments=16) - sweep(path, 3, segments=16)
    bulb = ball(6, (0, 0, 5), 24) - ball(4.8, (0, 0, 5), 24) - cylinder(2, -9, 20) - around(cylinder(1, 0, 20, segments=10).rotate((0, 90, 0)).translate((0, 0, 5)), 4)
    grip = tube(6.5, 4, 0.55 * length_mm - 2, 0.9 * length_mm, 24).translate((14, 0, 0)) + tube(5, 3, 0.9 * length_mm, length_mm, 24).translate((14, 0, 0))
    return {"sucker": union([body, bulb, grip])}


def frazier_suction(french: float, length_mm: float) -> Solid:
    """A thin bent metal sucker with a finger hole."""
    radius = french / 6
    path = smooth([(0, 0, 0), (0, 0, 0.45 * length_mm), (10, 0, 0.62 * length_mm), (34, 0, 0.86 * length_mm)], 40)
    pipe = sweep(path, radius, segments=16) - sweep(path, 0.75 * radius, segments=16)
    plate = extrude(outline([(10, 0.6 * length_mm), (22, 0.64 * length_mm), (34, 0.8 * length_mm), (22, 0.84 * length_mm)], 4) - stadium([(20, 0.7 * length_mm), (24, 0.76 * length_mm)], 1.4), -1.6, 1.6, "y")
    return pipe + (plate - sweep(path, 0.75 * radius, segments=16))


def poole_suction(length_mm: float) -> Solid:
    """A straight sucker in a perforated sleeve."""
    sleeve = hull([ball(4.5, (0, 0, 4.5), 24), cylinder(4.5, 5, 0.7 * length_mm)]) - cylinder(3.6, 4, length_mm)
    holes = [cylinder(1.1, -9, 9, segments=8).rotate((90, 0, 45 * i)).translate((0, 0, 10 + 6 * i)) for i in range(int(0.6 * length_mm / 6))]
    return without(sleeve, holes) + tube(3.4, 2.4, 6, length_mm, 20) + tube(6, 3, 0.7 * length_mm - 1, 0.78 * length_mm)


def electrocautery_pencil(length_mm: float) -> Parts:
    """A plastic pen with a blade, a switch and a cable."""
    blade = block((2.6, 0.6, 34), 0.25, (0, 0, 17))
    socket = cylinder(2.2, 24, 60, segments=16) - block((2.7, 0.7, 34), 0.25, (0, 0, 17))
    board = box((6, 1.2, 30), (0, 2.5, 75))
    cable = sweep(smooth([(0, 0, length_mm - 4), (0, 0, length_mm + 20), (24, 0, length_mm + 50), (20, 0, length_mm + 90)], 30), 1.1)
    metal = union([blade, socket, board])
    body = cylinder(4, 32, 46, 6.5) + cylinder(6.5, 46, length_mm, 5.5)
    return {"metal": metal, "cable": cable, "body": (body - metal) - cable}


# --- keyhole surgery --------------------------------------------------------------------------------------------------


def laparoscopic_grasper(diameter_mm: float, length_mm: float) -> Parts:
    """Two serrated jaws on a long shaft with a pistol grip."""
    jaw = sweep([(3.2, 0, 0), (2.4, 0, 8), (0.4, 0, 24)], [1.0, 1.5, 1.7], FLAT * 1.3)
    return _pistol(both_sides(jaw), diameter_mm, length_mm)


def laparoscopic_dissector(diameter_mm: float, length_mm: float) -> Parts:
    """Curved fine jaws (Maryland)."""
    jaw = [sweep(smooth([(x, 0, 0), (x / 2 + 4, 0, 10), (0, 0, 24)], 16), np.linspace(0.5, 1.6, 16), segments=10) for x in (7, 1)]
    return _pistol(union(jaw), diameter_mm, length_mm)


def laparoscopic_scissors(diameter_mm: float, length_mm: float) -> Parts:
    """Two short crossing blades."""
    blade = extrude(outline([(3.4, 0), (3.8, 1), (1.8, 18), (-1.2, 18)]), -0.7, 0.7, "y")
    return _pistol(both_sides(blade), diameter_mm, length_mm)


def laparoscopic_hook(diameter_mm: float, length_mm: float) -> Parts:
    """A cautery hook shaped like an L."""
    hook = sweep(smooth([(6, 0, 1.5), (5, 0, 0.2), (1, 0, 0.4), (0, 0, 4), (0, 0, 25)], 24), 0.7)
    return _pistol(hook, diameter_mm, length_mm)


def clip_applier(diameter_mm: float, length_mm: float) -> Parts:
    """Jaws that hold a clip."""
    jaw = sweep(smooth([(2.6, 0, 0), (3.6, 0, 10), (1.0, 0, 26)], 16), 1.4, FLAT * 1.3)
    clip = sweep([(1.0, 0, 1), (1.2, 0, 7), (0, 0, 9.5), (-1.2, 0, 7), (-1.0, 0, 1)], 0.5)
    return _pistol(both_sides(jaw) + clip, diameter_mm, length_mm)


def linear_stapler(jaw_mm: float, length_mm: float) -> Parts:
    """Two flat jaws with rows of staples on a thick shaft."""
    lower = block((6, 10, jaw_mm), 1.5, (-4.2, 0, jaw_mm / 2 + 1))
    anvil = block((4, 10, jaw_mm), 1.2, (3.2, 0, jaw_mm / 2)).rotate((0, 4, 0))
    made = _pistol(union([lower, anvil, cylinder(6, jaw_mm - 2, jaw_mm + 8)]).translate((0, 0, 0)), 12, length_mm, start=jaw_mm)
    staples = together([box((0.25, 0.25, 3), (-4.2, y, z)) for y in (-4, -3, -2, 2, 3, 4) for z in np.arange(4, jaw_mm - 3, 4.2)])
    return {"metal": made["metal"] - staples, "staples": staples, "grip": made["grip"]}


def circular_stapler(diameter_mm: float, length_mm: float) -> Parts:
    """An anvil like a mushroom before a round head, a curved shaft."""
    radius = diameter_mm / 2
    anvil = cylinder(0.6 * radius, 0, 4, radius) + cylinder(radius, 4, 8) + cylinder(2, 8, 26, segments=16)
    head = cylinder(radius, 20, 52) - cylinder(radius - 2, 19, 26)
    path = smooth([(0, 0, 50), (4, 0, 110), (26, 0, 200), (40, 0, length_mm - 60)], 40)
    shaft = sweep(path, 6, segments=18)
    grip = block((30, 24, 90), 8, (44, 0, length_mm - 20)) + block((14, 14, 90), 5, (18, 0, length_mm - 30)).rotate((0, -8, 0))
    metal = union([anvil, head, shaft])
    return {"metal": metal, "grip": grip - metal}


def rigid_endoscope(diameter_mm: float, length_mm: float) -> Parts:
    """A rod-lens telescope: slanted tip, light post, eyepiece."""
    radius = diameter_mm / 2
    pipe = tube(radius, radius - 0.5, 0, length_mm, 24) - box((40, 40, 20), (0, 0, -10)).rotate((0, 30, 0)).translate((0, 0, 0))
    lenses = union(cylinder(radius - 1.0, 6 + 45 * i, 40 + 45 * i, segments=16) for i in range(int((length_mm - 20) / 45)))
    body = union([cylinder(9, length_mm - 10, length_mm + 26), cylinder(16, length_mm + 40, length_mm + 46), cylinder(10, length_mm + 26, length_mm + 40, 15), rod((0, 0, length_mm + 8), (30, 0, length_mm + 8), 4.5)]) - cylinder(radius - 0.5, 0, 999)
    return {"metal": union([pipe, body]), "lenses": lenses}


def flexible_endoscope(diameter_mm: float, length_mm: float) -> Parts:
    """A bending tip on a wire-wound tube, with its control body."""
    radius = diameter_mm / 2
    path = smooth([(30, 0, 22), (38, 0, 4), (24, 0, -2), (6, 0, 24), (0, 0, 90), (10, 0, 0.6 * length_mm), (0, 0, length_mm)], 90)
    sheath = sweep(path, radius, segments=16) - sweep(path, 0.82 * radius, segments=16)
    light = union(sweep(path + offset, 0.14 * radius, segments=8) for offset in ((0, 0.35 * radius, 0), (0, -0.35 * radius, 0)))
    head = union([block((34, 30, 90), 12, (0, 0, length_mm + 45)), cylinder(16, -22, 22).rotate((90, 0, 0)).translate((0, 0, length_mm + 70)), rod((0, 0, length_mm + 80), (46, 0, length_mm + 96), 9)])
    return {"sheath": sheath, "fibres": light, "body": head - sheath - light}


def retrieval_basket(diameter_mm: float, length_mm: float) -> Solid:
    """Four wires that open behind the tip, for stones."""
    wire = sweep(smooth([(0.3, 0, 2), (diameter_mm / 2, 0, 0.5 * diameter_mm + 2), (0.3, 0, diameter_mm + 6)], 24), 0.22, segments=6)
    return together([*(wire.rotate((0, 0, 90 * k)) for k in range(4)), cylinder(0.6, 0, 2.2, segments=10), cylinder(0.9, diameter_mm + 5.5, length_mm, segments=12)])


# --- probes -----------------------------------------------------------------------------------------------------------


def linear_ultrasound_probe(face_mm: float) -> Parts:
    """A flat face across a T-shaped grip."""
    return _probe(hull([block((face_mm, 14, 6), 2, (0, 0, 3)), block((0.9 * face_mm, 20, 20), 6, (0, 0, 26))]), box((face_mm - 6, 8, 4), (0, 0, 4)), 28, 24)


def convex_ultrasound_probe(face_mm: float, radius_mm: float) -> Parts:
    """A round face for the belly."""
    face = (cylinder(radius_mm, -11, 11, segments=96).rotate((90, 0, 0)).translate((0, 0, radius_mm))) ^ box((face_mm, 40, 36), (0, 0, 14))
    crystal = (tube(radius_mm - 1, radius_mm - 4, -6, 6, 96).rotate((90, 0, 0)).translate((0, 0, radius_mm))) ^ box((face_mm - 6, 40, 12), (0, 0, 5))
    return _probe(hull([face, block((34, 26, 20), 8, (0, 0, 52))]), crystal, 50, 26)


def phased_ultrasound_probe(face_mm: float) -> Parts:
    """A small square face for the heart."""
    return _probe(hull([block((face_mm, 18, 8), 3, (0, 0, 4)), block((28, 26, 20), 8, (0, 0, 36))]), box((face_mm - 6, 11, 5), (0, 0, 5)), 34, 26)


def endocavity_ultrasound_probe(length_mm: float) -> Parts:
    """A round tip on a long stem."""
    stem = hull([ball(12, (0, 0, 12), 32), cylinder(9, 30, 31)]) + cylinder(9, 30, 0.6 * length_mm)
    crystal = (ball(10, (0, 0, 12), 24) - ball(8, (0, 0, 12), 24)) ^ box((40, 9, 14), (0, 0, 5))
    return _probe(stem, crystal, 0.58 * length_mm, 26)


# --- how they are made ------------------------------------------------------------------------------------------------


def _ringed(
    length: float, jaws: float, jaw: tuple[float, float], curve: float = 0, power: float = 2, belly: float = 0,
    ratchet: bool = True, gap: float = 1.2, start: float = 0,
) -> Solid:  # fmt: skip
    """Two crossing arms: half-width and depth of the jaws, their sideways curve, how far the tips stand apart."""
    width, depth = jaw
    stout = 0.018 * length + 0.4
    z = np.r_[np.linspace(start, jaws, 16), np.linspace(jaws, length - 10, 16)[1:]]
    inside = np.clip(1 - z / jaws, 0, 1)
    open_x = np.where(z < jaws, gap / 2 * inside + 0.45 * width * np.minimum(inside * 8, 1) + belly * np.sin(np.pi * np.clip(z / jaws, 0, 1)), 0)
    shank = np.clip((z - jaws) / (length - jaws), 0, 1)
    open_x = np.where(z >= jaws, -(3.2 + 0.07 * length * shank**1.3) * np.minimum(shank * 6, 1), open_x)
    bend = curve * inside**power
    half = np.where(z < jaws, width * (0.45 + 0.55 * (1 - inside)), stout)
    arms = []
    for side in (1, -1):
        path = np.stack([side * open_x + bend, 0 * z, z], 1)
        arm = sweep(path, half, FLAT * (1.0, 0.5 * depth / width))
        arms.append(arm + _finger_ring(side * (open_x[-1] - 8.5), length - 6, side))
    joint = cylinder(1.5 * stout + 1.2, -0.6 * depth - 0.8, 0.6 * depth + 0.8, segments=20).rotate((90, 0, 0)).translate((0, 0, jaws))
    made = union([*arms, joint])
    if ratchet:
        at = 0.86 * length
        x = float(np.interp(at, z, np.abs(open_x)))
        bars = [box((x, 1.4, 3), (side * x / 2, 0.8 * side, at)) - union(box((0.8, 3, 1.2), (side * (0.6 + 1.8 * i), 0.8 * side, at + 1.5)) for i in range(3)) for side in (1, -1)]
        made = union([made, *bars])
    return made


def _finger_ring(x: float, z: float, side: float) -> Solid:
    return ring(9.0, 2.0, 32, 10).scale((1, 1.2, 0.9)).rotate((90, 0, 0)).rotate((0, -8 * side, 0)).translate((x, 0, z))


def _serrations(low: float, high: float) -> Solid:
    return union(box((1.0, 9, 0.6), (0, 0, z)) for z in np.arange(low, high, 1.8))


def _tweezers(length: float, tip: float) -> Solid:
    path = smooth([(1.0, 0, 0), (3.4, 0, 0.3 * length), (6.4, 0, 0.62 * length), (3, 0, 0.88 * length), (0.5, 0, length)], 32)
    depth = np.interp(np.linspace(0, 1, 32), [0, 0.35, 0.6, 1], [tip, 3.2, 4.6, 4.0])
    arm = union(hull([box((1.4, 2 * a, 0.3), p), box((1.4, 2 * b, 0.3), q)]) for p, q, a, b in zip(path, path[1:], depth, depth[1:], strict=False))
    grooves = [box((1, 12, 0.8), (5.5 + 1.6, 0, z)) for z in np.arange(0.42 * length, 0.62 * length, 2.4)]
    return both_sides(without(arm, grooves))


def _plate_at(point: Points) -> Solid:
    return box((2.2, 15, 2.2), [float(v) for v in np.asarray(point)])


def _pistol(jaws: Solid, diameter: float, length: float, start: float = 22) -> Parts:
    """A shaft from `start` to `length` with a rotating knob and scissor grips."""
    radius = diameter / 2
    pull = cylinder(0.3 * diameter, start, length + 10, segments=12)
    shaft = tube(radius, 0.7 * radius, start, length, 24) + cylinder(radius, start - 1, start + 3, segments=24)
    knob = without(cylinder(14, length - 14, length + 4), [box((4, 4, 40), (15 * math.cos(a), 15 * math.sin(a), length)) for a in np.arange(0, 6.2, 0.79)])
    front = sweep(smooth([(0, 0, length + 8), (14, 0, length + 10), (44, 0, length + 2), (62, 0, length + 8)], 24), 5, segments=12) + ring(14, 4, 36, 10).rotate((90, 0, 0)).translate((74, 0, length + 12))
    back = sweep(smooth([(0, 0, length + 12), (16, 0, length + 34), (44, 0, length + 46), (58, 0, length + 54)], 24), 5, segments=12) + ring(13, 4, 36, 10).rotate((90, 0, 0)).translate((70, 0, length + 58))
    metal = union([jaws, pull, shaft])
    grip = union([knob, block((18, 16, 30), 5, (0, 0, length + 14)), front, back])
    return {"metal": metal, "grip": grip - metal}


def _probe(head: Solid, crystal: Solid, start: float, wide: float) -> Parts:
    """A hollow plastic case with backing, boards and a cable."""
    grip = hull([cylinder(wide / 2, start, start + 1), cylinder(0.42 * wide, start + 70, start + 71, 0.3 * wide)])
    hollow = hull([cylinder(wide / 2 - 2, start + 4, start + 5), cylinder(0.42 * wide - 2, start + 66, start + 67)])
    boards = union(box((0.55 * wide, 1.2, 50), (0, y, start + 32)) for y in (-3, 3))
    end = start + 70
    path = smooth([(0, 0, end - 2), (0, 0, end + 30), (30, 0, end + 70), (26, 0, end + 130)], 30)
    cable = sweep(path, 3.4, segments=14) - sweep(path, 1.6, segments=10)
    core = sweep(path, 1.6, segments=10)
    return {"boards": boards, "crystal": crystal, "core": core, "case": without(head + grip, [hollow, crystal, core]) + (cable - grip)}

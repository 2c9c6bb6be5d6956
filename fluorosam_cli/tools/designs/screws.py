"""Screws of bone and spine: the tip at the origin, driven toward -z, the head on top."""

import math

from fluorosam_cli.tools.shapes import Solid, around, ball, box, cylinder, ring, threaded, tube, union, without

Rows = list[tuple[float, float, float]]  # (z, core radius, outer radius)


def cortical_screw(diameter_mm: float, length_mm: float, core_mm: float, head_mm: float, pitch_mm: float) -> Solid:
    """Fully threaded, round-backed head with a hexagon socket."""
    return _headed(_thread(diameter_mm, core_mm, length_mm), pitch_mm, head_mm)


def cancellous_screw(
    diameter_mm: float,
    length_mm: float,
    core_mm: float,
    head_mm: float,
    pitch_mm: float,
    thread_mm: float,
    shank_mm: float,
) -> Solid:
    """Deep thread at the tip, smooth shank."""
    return _headed(_lag_shaft(diameter_mm, length_mm, core_mm, thread_mm, shank_mm), pitch_mm, head_mm)


def cancellous_screw_full_thread(
    diameter_mm: float, length_mm: float, core_mm: float, head_mm: float, pitch_mm: float
) -> Solid:
    """Deep thread all the way."""
    return _headed(_thread(diameter_mm, core_mm, length_mm), pitch_mm, head_mm)


def malleolar_screw(diameter_mm: float, length_mm: float) -> Solid:
    """Trocar tip, thread on the first half, a collar under the head."""
    core, outer, shank = 0.33 * diameter_mm, diameter_mm / 2, 0.33 * diameter_mm
    shaft = [(0, 0.05, 0.05), (3, core, 0.9 * outer), (0.5 * length_mm, core, outer), (0.55 * length_mm, shank, shank)]
    return _headed([*shaft, (length_mm - 3, shank, shank), (length_mm, outer, outer)], 1.75, 1.8 * diameter_mm)


def locking_screw(diameter_mm: float, length_mm: float, core_mm: float, head_mm: float) -> Solid:
    """Shallow thread and a conical head with a thread of its own."""
    radius, height = head_mm / 2, 0.65 * head_mm
    shaft = [*_thread(diameter_mm, core_mm, length_mm), (length_mm + 0.3, 0.72 * radius, 0.72 * radius)]
    head = [(length_mm + 0.6, 0.72 * radius, 0.82 * radius), (length_mm + height, 0.9 * radius, radius)]
    screw = threaded([*shaft, *head], 1.0)
    return screw - cylinder(0.45 * radius, length_mm + 0.4 * height, length_mm + height + 1, segments=6)


def cannulated_screw(diameter_mm: float, length_mm: float, bore_mm: float, thread_mm: float, pitch_mm: float) -> Solid:
    """Partly threaded and hollow, to slide over a wire."""
    core = max(0.68 * diameter_mm, bore_mm + 0.8)
    shaft = _lag_shaft(diameter_mm, length_mm, core, thread_mm, core + 0.1)
    shaft[0] = (0, bore_mm / 2 + 0.25, bore_mm / 2 + 0.25)
    return _headed(shaft, pitch_mm, 1.45 * diameter_mm) - cylinder(bore_mm / 2, -1, 2 * length_mm, segments=12)


def headless_compression_screw(diameter_mm: float, tail_mm: float, length_mm: float, bore_mm: float) -> Solid:
    """Threads of two diameters at its ends and a bare waist between."""
    core, tail = 0.36 * diameter_mm, 0.4 * tail_mm
    a, b = 0.35 * length_mm, 0.72 * length_mm
    rows = [
        (0, 0.6 * core, 0.6 * core),
        (1.2, core, diameter_mm / 2),
        (a, core, diameter_mm / 2),
        (a + 0.6, core, core),
    ]
    rows += [(b, core, core), (b + 0.6, tail, 0.95 * tail_mm / 2), (length_mm, tail, tail_mm / 2)]
    return threaded(rows, 1.0) - cylinder(bore_mm / 2, -1, length_mm + 1, segments=12)


def headless_tapered_screw(diameter_mm: float, tail_mm: float, length_mm: float) -> Solid:
    """Threaded from end to end on a cone."""
    rows = [(0, 0.25 * diameter_mm, 0.3 * diameter_mm), (1.5, 0.33 * diameter_mm, diameter_mm / 2)]
    screw = threaded([*rows, (length_mm, 0.38 * tail_mm, tail_mm / 2)], 1.1)
    return without(
        screw, [cylinder(0.55, -1, length_mm + 1, segments=12), cylinder(0.9, length_mm - 2, length_mm + 1, segments=6)]
    )


def interference_screw(diameter_mm: float, length_mm: float) -> Solid:
    """Short, blunt and hollow: it jams a graft in its tunnel."""
    outer = diameter_mm / 2
    rows = [
        (0, 0.5 * outer, 0.5 * outer),
        (0.25 * length_mm, 0.68 * outer, 0.95 * outer),
        (length_mm - 1, 0.72 * outer, outer),
    ]
    return threaded([*rows, (length_mm, 0.7 * outer, 0.7 * outer)], 2.2) - cylinder(
        0.38 * outer, -1, length_mm + 1, segments=6
    )


def suture_anchor(diameter_mm: float, length_mm: float) -> Solid:
    """A short threaded plug with an eyelet behind."""
    outer = diameter_mm / 2
    rows = [(0, 0.05, 0.05), (0.25 * length_mm, 0.5 * outer, 0.8 * outer), (length_mm, 0.55 * outer, outer)]
    plug = threaded([*rows, (length_mm + 0.5, 0.5 * outer, 0.5 * outer)], 1.8)
    return plug + ring(0.42 * outer, 0.16 * outer, 24, 10).rotate((90, 0, 0)).translate(
        (0, 0, length_mm + 0.75 * outer)
    )


def barbed_anchor(diameter_mm: float, length_mm: float) -> Solid:
    """Stacked cones that go in and do not come out."""
    outer, count = diameter_mm / 2, 4
    step = length_mm / count
    cones = [cylinder(0.35 * outer, i * step, (i + 0.85) * step, outer, 20) for i in range(1, count)]
    return union(
        [cylinder(0.05, 0, step, 0.8 * outer, 20), cylinder(0.4 * outer, 0.5 * step, length_mm, segments=16), *cones]
    )


def washer(outer_mm: float, inner_mm: float, height_mm: float) -> Solid:
    """A disc with a hole and teeth below."""
    teeth = around(cylinder(0.02, 0, 1.2, 0.5, 8).translate((0.42 * outer_mm, 0, 0)), 8)
    return (tube(outer_mm / 2, inner_mm / 2, 1.0, 1.0 + height_mm) + teeth) - cylinder(inner_mm / 2, 0, 9)


def pedicle_screw(diameter_mm: float, length_mm: float) -> Solid:
    """Polyaxial: a tulip on a ball, tilted a little, with its set screw."""
    shaft = _pedicle_shaft(diameter_mm, length_mm)
    tulip = _tulip(6.6, 14).rotate((0, 14, 0)).translate((0, 0, length_mm + 1))
    return union([shaft, ball(4.0, (0, 0, length_mm + 1.5)), tulip])


def pedicle_screw_monoaxial(diameter_mm: float, length_mm: float) -> Solid:
    """Head and shaft in one piece, the head's flanks flat."""
    head = _tulip(6.2, 13) ^ box((30, 9.5, 60), (0, 0, 6))
    return _pedicle_shaft(diameter_mm, length_mm) + head.translate((0, 0, length_mm))


def pedicle_screw_reduction(diameter_mm: float, length_mm: float) -> Solid:
    """Long tabs that pull a rod down, to be broken off."""
    return _pedicle_shaft(diameter_mm, length_mm) + _tulip(6.6, 32, set_screw_at=5).translate((0, 0, length_mm))


def pedicle_screw_shank(diameter_mm: float, length_mm: float) -> Solid:
    """A pedicle screw before its tulip goes on: a ball with a socket for a head."""
    screw = _pedicle_shaft(diameter_mm, length_mm) + ball(4.2, (0, 0, length_mm + 2.5))
    return screw - cylinder(2.3, length_mm + 2.5, length_mm + 9, segments=6)


def _thread(diameter: float, core: float, length: float) -> Rows:
    tip = 0.6 * diameter
    return [(0, 0.2 * core, 0.2 * core), (tip, core / 2, 0.48 * diameter), (length, core / 2, diameter / 2)]


def _lag_shaft(diameter: float, length: float, core: float, thread: float, shank: float) -> Rows:
    rows = _thread(diameter, core, min(thread, 0.8 * length))
    end = rows[-1][0]
    return [*rows, (end + 0.8, shank / 2, shank / 2), (length, shank / 2, shank / 2)]


def _headed(shaft: Rows, pitch: float, head: float) -> Solid:
    """A threaded shaft with a head that is round below and flat above, and a hexagon socket in it."""
    top, neck, radius = shaft[-1][0], shaft[-1][1], head / 2
    height = 0.5 * head
    profile = [(top + 0.1 * height, 0.7 * radius), (top + 0.35 * height, 0.95 * radius), (top + 0.5 * height, radius)]
    profile += [(top + 0.8 * height, 0.95 * radius), (top + height, 0.8 * radius)]
    rows = [*shaft, (top + 0.05, neck, neck), *((z, max(r, neck), max(r, neck)) for z, r in profile)]
    socket = 0.42 * radius / math.cos(math.pi / 6)
    return threaded(rows, pitch) - cylinder(socket, top + 0.35 * height, top + height + 1, segments=6)


def _pedicle_shaft(diameter: float, length: float) -> Solid:
    outer = diameter / 2
    rows = [
        (0, 0.15 * outer, 0.15 * outer),
        (0.25 * length, 0.6 * outer, 0.95 * outer),
        (length - 4, 0.68 * outer, outer),
    ]
    return threaded([*rows, (length - 2, 0.75 * outer, 0.75 * outer), (length, 2.4, 2.4)], 2.7, crest=0.1, flank=0.22)


def _tulip(radius: float, height: float, set_screw_at: float | None = None) -> Solid:
    """A U-shaped head from z = 0 up; the rod's slot runs along x."""
    cup = cylinder(0.62 * radius, -1, 2, radius, 24) + cylinder(radius, 2, height, segments=24)
    slot = box((4 * radius, 6.2, height), (0, 0, 6 + height / 2))
    seat = cylinder(3.1, -20, 20, segments=20).rotate((0, 90, 0)).translate((0, 0, 6))
    screw_at = height - 4.5 if set_screw_at is None else set_screw_at + 4
    set_screw = cylinder(0.66 * radius, screw_at, screw_at + 4.2, segments=20) - cylinder(
        2, screw_at + 1.5, 99, segments=6
    )
    return without(cup, [slot, seat]) + set_screw

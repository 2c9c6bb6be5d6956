"""What is found in people: batteries, bullets, shot."""

import math

import numpy as np

from fluorosam_cli.tools.shapes import Parts, Solid, ball, cylinder, revolve, together


def coin_battery(diameter_mm: float) -> Parts:
    """A button cell: a can, a rim, a lid."""
    radius = diameter_mm / 2
    can = (
        cylinder(radius, 0, 2.6, segments=48)
        - cylinder(0.93 * radius, 0.3, 9, segments=48)
        + cylinder(0.86 * radius, 2.4, 3.2, segments=48)
    )
    return {"can": can, "cell": cylinder(0.84 * radius, 0.35, 2.35, segments=40)}


def cartridge_bullet(calibre_mm: float) -> Solid:
    """A lead bullet."""
    radius = calibre_mm / 2
    nose = [
        (radius * math.cos(t), 1.1 * calibre_mm + 1.6 * radius * math.sin(t)) for t in np.linspace(0, np.pi / 2, 14)
    ]
    return (
        revolve([(0, 0), (0.9 * radius, 0), (radius, 0.2 * calibre_mm), *nose])
        .rotate((90, 0, 0))
        .translate((0, 0.8 * calibre_mm, 0))
    )


def shot_pellets(count: float) -> Solid:
    """Scattered lead shot."""
    rng = np.random.default_rng(int(count))
    spots = rng.normal(0, 14, (int(count), 3)) * (1, 1, 0.5)
    return together(ball(1.2, s, 10) for s in spots)

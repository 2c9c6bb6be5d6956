"""How far training samples are made to differ from the images packed: every probability and range, in one place."""

from dataclasses import dataclass, fields
from typing import Literal

Strength = Literal["off", "weak", "full"]


@dataclass(frozen=True)
class Randomisation:
    """Probabilities per sample, but for the four of the geometry; what each change does is said where it is made.

    The defaults are `full`. The list is FluoroSAM's less fog's twin, rain, and the shuffling of channels, which a grey
    image has not; what is burnt in, collimators and JPEG are ours, and so are all numbers.
    """

    # from the physics (redraw.py), where a view has integrals
    redraw: float = 0.9

    # geometry
    flip: float = 0.5  # of views that mirror.py lets exchange left and right
    rotation_deg: float = 6.0  # standard deviation
    zoom: float = 0.35  # largest ln of the scale; smallest: -0.4 times it
    aspect: float = 0.08  # largest ln of width against height
    shift: float = 0.12  # largest, of half the image

    # tones (augment.py), in the order they are made
    haze: float = 0.25
    vignette: float = 0.1
    window: float = 0.4
    gamma: float = 0.5
    spot_contrast: float = 0.15
    local_contrast: float = 0.2
    equalise: float = 0.08
    gaussian_blur: float = 0.2
    motion_blur: float = 0.06
    median_blur: float = 0.04
    sharpen: float = 0.15
    emboss: float = 0.03
    noise: float = 0.3

    # what hides or is burnt in
    collimate: float = 0.25
    marker: float = 0.2
    ruler: float = 0.05
    pixel_dropout: float = 0.05
    holes: float = 0.12
    jpeg: float = 0.12
    invert: float = 0.18


OFF = Randomisation(**{one.name: 0.0 for one in fields(Randomisation)})
WEAK = Randomisation(
    **{one.name: 0.0 for one in fields(Randomisation)}
    | {"rotation_deg": 3.0, "zoom": 0.1, "shift": 0.05, "window": 0.4, "gamma": 0.4, "gaussian_blur": 0.1, "noise": 0.2}
)
FULL = Randomisation()


def randomisation(strength: Strength) -> Randomisation:
    """`off`: images as packed; `weak`: small moves, window, gamma, blur, noise; `full`: everything."""
    return {"off": OFF, "weak": WEAK, "full": FULL}[strength]

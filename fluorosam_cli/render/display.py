"""The picture shown: logarithm, window on the patient, and the processing vendors are known by.

`plain` is logarithm and window. `vendor` evens out the tissue's large differences and lifts details before an S-shaped
curve, band by band, after Vuylsteke and Schoeters, Proc SPIE 2167:551 (1994), and with it the look of a finished
radiograph. `clahe` is contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fluorosam_cli.render.coarse import enlarged, reduced

Style = Literal["plain", "vendor", "clahe"]
Polarity = Literal["bone_bright", "bone_dark"]

DIRECT = 0.75  # above this fraction of the open beam there is no patient in front of the pixel
DARKEST = 1e-5  # of the open beam; below, nothing arrives
FEWEST = 0.005  # of all pixels, from which a window can be told
WINDOW_PERCENT = (0.5, 99.5)  # of the patient's pixels: what is called darkest and brightest
STYLES: tuple[Style, ...] = get_args(Style)
STYLE_SHARES = (0.15, 0.7, 0.15)  # these two are our choice
MASKED_SHARE = 0.9  # of pictures in which what the collimator covers is black


@dataclass(frozen=True)
class Look:
    """How a radiograph is processed for display.

    `detail` is how much more than it is each band of detail shows, `evening` which share of the coarsest differences is
    taken away, `grey` where the patient's median comes to lie and `curve` the steepness of the S-shaped curve (0:
    straight); they belong to `vendor`. `latitude` is how far the window reaches beyond the patient's darkest and
    brightest pixels, as shares of what is between them. `masked`: the collimated border is black.
    """

    style: Style = "plain"
    detail: float = 0.8
    evening: float = 0.35
    grey: float = 0.55
    curve: float = 2.0
    latitude: tuple[float, float] = (0.0, 0.0)
    masked: bool = True


def draw_look(rng: np.random.Generator, style: Style | None = None) -> Look:
    """A vendor's taste, in ranges chosen by eye; with `style` given, the rest is drawn the same."""
    drawn = STYLES[int(rng.choice(len(STYLES), p=STYLE_SHARES))]
    detail, evening, grey, curve, low, high, mask = rng.random(7).tolist()
    return Look(
        style=style or drawn,
        detail=round(0.3 + 1.2 * detail, 2),
        evening=round(0.15 + 0.35 * evening, 2),
        grey=round(0.45 + 0.24 * grey, 2),
        curve=round(2.5 * curve, 2),
        latitude=(round(0.3 * low, 2), round(0.2 * high, 2)),
        masked=mask < MASKED_SHARE,
    )


def display_image(
    intensity: np.ndarray,
    look: Look = Look(),
    inside: np.ndarray | None = None,
    polarity: Polarity = "bone_bright",
    window_share: float = 1.0,
    sampled_px: int = 256,
) -> np.ndarray:
    """The radiograph as shown, (H, W) uint16.

    The window runs between percentiles of the pixels behind the patient; direct exposure and, where `inside` (H, W) is
    False, what the collimator covers do not count towards it, nor does what lies outside the middle `window_share` of
    the sides. All of the image counts when hardly a pixel shows a patient. Percentiles are those of a grid of about
    `sampled_px` a side.
    """
    attenuation = np.maximum(intensity, np.float32(DARKEST))
    np.negative(np.log(attenuation, out=attenuation), out=attenuation)
    patient = (intensity < DIRECT) & (intensity > DARKEST)
    if inside is not None:
        patient &= inside
    if np.count_nonzero(patient) < FEWEST * patient.size:
        patient = np.ones_like(patient) if inside is None or not inside.any() else inside
    subject = _middle(patient, window_share)
    low, high = np.percentile(_some(attenuation, subject, sampled_px), WINDOW_PERCENT)
    if look.style == "vendor":
        margin = 0.3 * (high - low)
        np.clip(attenuation, low - margin, high + margin, out=attenuation)
        attenuation = _evened(attenuation, float(np.median(_some(attenuation, subject, sampled_px))), look)
        low, high = np.percentile(_some(attenuation, subject, sampled_px), WINDOW_PERCENT)
    below, above = look.latitude
    low, high = low - below * (high - low), high + above * (high - low)
    shown = attenuation  # in place from here on: several views are in memory at a time
    shown -= np.float32(low)
    shown /= np.float32(max(high - low, 1e-3))
    np.clip(shown, 0, 1, out=shown)
    if look.style == "clahe":
        shown = equalised(shown, patient)
    elif look.style == "vendor":
        _tone(shown, float(np.median(_some(shown, subject, sampled_px))), look)
    shown *= 65535
    values = np.rint(shown, out=shown).astype(np.uint16)
    if polarity == "bone_dark":
        values = 65535 - values
    if look.masked and inside is not None:
        values[~inside] = 0
    return values


def _middle(patient: np.ndarray, share: float) -> np.ndarray:
    """The patient's pixels in that share of the sides around the middle, or all of them where these are few."""
    subject = np.zeros_like(patient)
    top, left = (round(side * (1 - share) / 2) for side in patient.shape)
    middle = slice(top, patient.shape[0] - top), slice(left, patient.shape[1] - left)
    subject[middle] = patient[middle]
    return subject if np.count_nonzero(subject) >= FEWEST * patient.size else patient


def _some(image: np.ndarray, patient: np.ndarray, sampled_px: int) -> np.ndarray:
    """The patient's pixels on that grid, or all: enough for a percentile."""
    step = max(1, max(image.shape) // sampled_px)
    part = patient[::step, ::step]
    return image[::step, ::step][part] if part.any() else image[patient]


# --- vendor -----------------------------------------------------------------------------------------------------------

FINEST = 4  # 512ths of the image; the band of details smaller than that
COARSER = (4, 16)  # cells of the former that separate the bands above it
KNEE = 0.15  # of attenuation; a band's stronger signals, edges of metal and skin, are lifted less


def _evened(attenuation: np.ndarray, median: float, look: Look) -> np.ndarray:
    """The finest band is lifted pixel by pixel; what is coarser changes on the grid of its own cells."""
    factor = max(2, round(FINEST * max(attenuation.shape) / 512))
    fine = reduced(attenuation, factor)
    middling, coarse = (enlarged(reduced(fine, cells), cells, fine.shape) for cells in COARSER)
    change = 0.7 * look.detail * _limited(fine - middling) + 0.3 * look.detail * _limited(middling - coarse)
    change -= look.evening * (coarse - np.float32(median))
    lifted = _limited(attenuation - enlarged(fine, factor, attenuation.shape))
    lifted *= np.float32(look.detail)
    lifted += attenuation
    lifted += enlarged(change.astype(np.float32), factor, attenuation.shape)
    return lifted


def _tone(shown: np.ndarray, median: float, look: Look) -> None:
    """A power that brings the patient's median to `grey`, within reason, and the S-shaped curve around the middle."""
    power = np.log(look.grey) / np.log(min(max(median, 0.05), 0.95))
    np.power(shown, np.float32(min(max(power, 0.5), 3.0)), out=shown)
    if look.curve > 0:
        shown -= np.float32(0.5)
        shown *= np.float32(look.curve)
        np.tanh(shown, out=shown)
        shown /= np.float32(np.tanh(look.curve / 2))
        shown += 1
        shown /= 2


def _limited(band: np.ndarray) -> np.ndarray:
    return band / (1 + np.abs(band) * np.float32(1 / KNEE))


# --- clahe ------------------------------------------------------------------------------------------------------------

TILES = 8
GREYS = 256
CLIP = 2.5  # times the mean of a tile's histogram


def equalised(shown: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of values 0-1, (H, W) float32, by the patient's pixels."""
    height, width = shown.shape
    places = [np.arange(size, dtype=np.float32) * TILES / size for size in (height, width)]
    tile = places[0].astype(np.int32)[:, None] * TILES + places[1].astype(np.int32)
    grey = (shown * (GREYS - 1)).astype(np.int32)
    histogram = np.bincount((tile * GREYS + grey)[patient], minlength=TILES * TILES * GREYS).astype(np.float32)
    histogram = histogram.reshape(TILES * TILES, GREYS) + 1e-3
    mean = histogram.mean(axis=1, keepdims=True)
    clipped = np.minimum(histogram, CLIP * mean)
    clipped += (histogram - clipped).mean(axis=1, keepdims=True)
    curves = np.cumsum(clipped, axis=1)
    curves = (curves - curves[:, :1]) / (curves[:, -1:] - curves[:, :1])
    curves = curves.astype(np.float32).reshape(TILES, TILES, GREYS)
    low, share = zip(*(_neighbours(place) for place in places), strict=True)
    result = np.zeros_like(shown)
    for down in (0, 1):
        weight_down = np.abs(1 - down - share[0])[:, None]
        for across in (0, 1):
            weight = weight_down * np.abs(1 - across - share[1])
            row, column = (low[0] + down)[:, None], low[1] + across
            result += weight * curves[np.minimum(row, TILES - 1), np.minimum(column, TILES - 1), grey]
    return result


def _neighbours(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of pixels at a place in tiles: the tile whose centre is before each, and the share of the one after."""
    centred = np.clip(place - 0.5, 0, TILES - 1)
    low = centred.astype(np.intp)
    return low, centred - low

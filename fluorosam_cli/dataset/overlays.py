"""What is burnt into radiographs: side letters, words, rulers.

A side letter tells the truth: it stands on the patient's side that it names. Where the sides of a view are not known
none is drawn, only words.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = ("AP", "PA", "PORT", "ERECT", "SUPINE", "MOBILE", "12:30", "07:45", "LAT", "XR", "MK", "#2")
LETTER_SHARE = 0.6  # of markers, where the sides are known
MEASURED = 0.1  # of the image's width, by which one side must lie beside the other


@dataclass(frozen=True)
class Sides:
    """Where a letter may stand: the range of x, as shares of the width, for `L` and for `R`; None: nowhere."""

    left: tuple[float, float] | None = None
    right: tuple[float, float] | None = None

    @classmethod
    def of(cls, boxes_xyxy: np.ndarray, side: np.ndarray, width: int, flipped: bool = False) -> "Sides":
        """From boxes (m, 4), not yet flipped, of structures whose side is -1 (left), 1 (right) or 0 (neither)."""
        middle = (boxes_xyxy[:, 0] + boxes_xyxy[:, 2]) / 2 / width
        if flipped:
            middle, side = 1 - middle, -side
        has_left, has_right = bool((side < 0).any()), bool((side > 0).any())
        if has_left != has_right:
            return cls((0, 1), None) if has_left else cls(None, (0, 1))
        apart = middle[side < 0].mean() - middle[side > 0].mean() if has_left else 0.0
        if abs(apart) < MEASURED:
            return cls()
        return cls((0.65, 1), (0, 0.35)) if apart > 0 else cls((0, 0.35), (0.65, 1))


def draw_marker(image: np.ndarray, rng: np.random.Generator, sides: Sides) -> np.ndarray:
    """A letter or a word of lead or ink, mostly near the border."""
    letters = [(text, x) for text, x in (("L", sides.left), ("R", sides.right)) if x is not None]
    text, (low, high) = WORDS[int(rng.integers(len(WORDS)))], (0.0, 1.0)
    if letters and rng.random() < LETTER_SHARE:
        text, (low, high) = letters[int(rng.integers(len(letters)))]
    size = image.shape[0]
    font = _font(max(6, int(size * rng.uniform(0.045, 0.1))))
    width, height = font.getbbox(text)[2:]
    free = max(size * (high - low) - width, 1)
    x = size * low + free * rng.random()
    near = rng.uniform(0, 0.2) if rng.random() < 0.8 else rng.uniform(0, 1)
    y = (size - height) * (near if rng.random() < 0.5 else 1 - near)
    canvas = Image.new("L", (size, size))
    ImageDraw.Draw(canvas).text((x, y), text, fill=255, font=font)
    return _laid_over(image, canvas, rng)


def draw_ruler(image: np.ndarray, rng: np.random.Generator, sides: Sides) -> np.ndarray:
    """A scale along a border."""
    size = image.shape[0]
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    at, step = int(rng.uniform(0.02, 0.1) * size), int(rng.integers(4, 12))
    pen.line((at, 0, at, size), fill=255)
    for number, y in enumerate(range(int(rng.integers(step)), size, step)):
        pen.line((at, y, at + (6 if number % 5 == 0 else 3), y), fill=255)
    turned = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    turn = turned[int(rng.integers(4))]
    return _laid_over(image, canvas if turn is None else canvas.transpose(turn), rng)


def _laid_over(image: np.ndarray, canvas: Image.Image, rng: np.random.Generator) -> np.ndarray:
    share = np.asarray(canvas, np.float32) / 255 * np.float32(rng.uniform(0.6, 1))
    return image * (1 - share) + share * np.float32(1 if rng.random() < 0.85 else 0)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

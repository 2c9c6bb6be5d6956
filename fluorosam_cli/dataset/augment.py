"""Image-space domain randomisation: pictures (S, S) float32 in [0, 1], changed by one NumPy generator.

Each change is a function named like its probability in `Randomisation`. Tones leave masks alone; the collimator cuts
them, as the renderer's does.
"""

import io
import math

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, convolve1d, median_filter

from fluorosam_cli.dataset.fields import blurred, cloud
from fluorosam_cli.dataset.overlays import Sides, draw_marker, draw_ruler
from fluorosam_cli.dataset.randomisation import Randomisation
from fluorosam_cli.render.coarse import enlarged, reduced
from fluorosam_cli.render.display import equalised

Rng = np.random.Generator


def appearance(
    image: np.ndarray, r: Randomisation, rng: Rng, sides: Sides = Sides()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Another look of the picture, and the field (S, S) bool that a collimator left of it (None: all)."""
    for change in TONES:
        if rng.random() < getattr(r, change.__name__):
            image = change(image, rng)
    image = np.clip(image, 0, 1)
    field = None
    if rng.random() < r.collimate:
        field = collimate(image.shape, rng)
        image = np.where(field, image, np.float32(0 if rng.random() < 0.85 else rng.random()))
    for draw, share in ((draw_marker, r.marker), (draw_ruler, r.ruler)):
        if rng.random() < share:
            image = draw(image, rng, sides)
    for change in DAMAGE:
        if rng.random() < getattr(r, change.__name__):
            image = change(image, rng)
    return np.ascontiguousarray(image, np.float32), field


# --- tones ------------------------------------------------------------------------------------------------------------


def haze(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Scatter that differs from place to place: grey laid over the picture."""
    share = np.clip(np.float32(rng.uniform(0, 0.35)) * (1 + np.float32(0.6) * cloud(rng, 4, image.shape)), 0, 0.6)
    return image + share * (np.float32(rng.uniform(0.2, 0.8)) - image)


def vignette(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Shading from one place outward, as of an intensifier or a heel."""
    r2 = _distance2(image.shape, *rng.uniform(0.2, 0.8, 2))
    return image - np.float32(rng.uniform(-0.25, 0.4)) * r2


def window(image: np.ndarray, rng: Rng) -> np.ndarray:
    low, high = rng.uniform(-0.15, 0.2), rng.uniform(0.75, 1.2)
    return np.clip((image - np.float32(low)) / np.float32(high - low), 0, 1)


def gamma(image: np.ndarray, rng: Rng) -> np.ndarray:
    return np.clip(image, 0, 1) ** np.float32(math.exp(rng.uniform(-0.6, 0.6)))


def spot_contrast(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Contrast raised or lowered around one point."""
    sigma = rng.uniform(0.1, 0.5)
    near = np.exp(-_distance2(image.shape, *rng.uniform(0, 1, 2)) / np.float32(2 * sigma**2))
    alpha = np.float32(rng.uniform(0.6, 1.4))
    return image + near * (alpha - 1) * (image - image.mean())


def local_contrast(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Large differences taken away, as display processing does."""
    factor = max(2, image.shape[0] // int(rng.integers(5, 16)))
    image = image - np.float32(rng.uniform(0.2, 0.7)) * enlarged(reduced(image, factor), factor, image.shape)
    low, high = np.percentile(image[::2, ::2], (0.5, 99.5))
    return np.clip((image - np.float32(low)) / np.float32(max(high - low, 1e-3)), 0, 1)


def equalise(image: np.ndarray, rng: Rng) -> np.ndarray:
    """CLAHE, in part."""
    image = np.clip(image, 0, 1)
    return image + np.float32(rng.uniform(0.3, 1)) * (equalised(image, np.ones(image.shape, bool)) - image)


def gaussian_blur(image: np.ndarray, rng: Rng) -> np.ndarray:
    return blurred(image, rng.uniform(0.4, 1.3))


def motion_blur(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Three to five pixels along an axis."""
    count = int(rng.integers(3, 6))
    return convolve1d(image, np.full(count, 1 / count), axis=int(rng.integers(2)), mode="nearest")


def median_blur(image: np.ndarray, rng: Rng) -> np.ndarray:
    return median_filter(image, 3, mode="nearest")


def sharpen(image: np.ndarray, rng: Rng) -> np.ndarray:
    return image + np.float32(rng.uniform(0.3, 1.2)) * (image - blurred(image, rng.uniform(0.7, 2)))


def emboss(image: np.ndarray, rng: Rng) -> np.ndarray:
    relief = convolve(image, np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], np.float32), mode="nearest")
    return image + np.float32(rng.uniform(0.2, 0.5)) * relief


def noise(image: np.ndarray, rng: Rng) -> np.ndarray:
    return image + np.float32(rng.uniform(0, 0.06)) * rng.standard_normal(image.shape, dtype=np.float32)


TONES = (
    *(haze, vignette, window, gamma, spot_contrast, local_contrast, equalise),
    *(gaussian_blur, motion_blur, median_blur, sharpen, emboss, noise),
)


# --- what hides -------------------------------------------------------------------------------------------------------


def collimate(shape: tuple[int, int], rng: Rng) -> np.ndarray:
    """The field that a collimator leaves, (S, S) bool: a rectangle, or one in five times a circle."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.2:
        radius = rng.uniform(0.38, 0.55) * min(shape)
        centre = rng.uniform(0.45, 0.55, 2) * shape
        return (y - np.float32(centre[0])) ** 2 + (x - np.float32(centre[1])) ** 2 < radius**2
    top, bottom, left, right = rng.uniform(0, 0.16, 4) * (rng.random(4) < 0.6)
    tilt = np.float32(0.03 * rng.standard_normal() if rng.random() < 0.3 else 0)
    u, v = x / width + tilt * (y / height - 0.5), y / height - tilt * (x / width - 0.5)
    return (u >= left) & (u < 1 - right) & (v >= top) & (v < 1 - bottom)


def pixel_dropout(image: np.ndarray, rng: Rng) -> np.ndarray:
    return np.where(rng.random(image.shape, dtype=np.float32) < rng.uniform(0.005, 0.05), np.float32(0), image)


def holes(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Up to eight rectangles of one grey; what lies below them is still asked for."""
    image, size = image.copy(), image.shape[0]
    for _ in range(int(rng.integers(1, 9))):
        y, x = rng.integers(0, size, 2)
        h, w = rng.integers(max(1, size // 32), max(2, size // 8), 2)
        image[y : y + h, x : x + w] = rng.random()
    return image


def jpeg(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Eight bits and the blocks of a strong compression."""
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(
        file, format="JPEG", quality=int(rng.integers(15, 70))
    )
    return np.asarray(Image.open(file), np.float32) / 255


def invert(image: np.ndarray, rng: Rng) -> np.ndarray:
    return 1 - image


DAMAGE = (pixel_dropout, holes, jpeg, invert)


def _distance2(shape: tuple[int, int], row: float, column: float) -> np.ndarray:
    """Squared distance to a place, both as shares of the image."""
    y, x = (
        ((np.arange(size, dtype=np.float32) + 0.5) / size - c) ** 2
        for size, c in zip(shape, (row, column), strict=True)
    )
    return (y[:, None] + x).astype(np.float32)

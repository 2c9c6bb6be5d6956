"""Image-space and geometric domain randomisation of one training sample, from one NumPy generator.

The list follows FluoroSAM (inversion, blur, sharpening, contrast, dropout, windows) with what real X-rays add: shading,
collimator borders, noise. Masks follow the geometry only. Sides stay: nothing here flips.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

INVERSION_SHARE = 0.15


def geometric(image: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The same random rotation, scale, aspect and shift for image (S, S) and masks (P, S, S); masks stay in {0, 1}."""
    angle = math.radians(rng.normal(0, 6))
    zoom, aspect = math.exp(rng.uniform(-0.2, 0.25)), math.exp(rng.uniform(-0.08, 0.08))
    shift = rng.uniform(-0.12, 0.12, size=2)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = torch.tensor([[cos * aspect, -sin, shift[0]], [sin, cos / aspect, shift[1]]], dtype=torch.float32)
    stack = torch.cat([image[None], masks])[None]
    grid = F.affine_grid(matrix[None], list(stack.shape), align_corners=False)
    moved = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return moved[0], (moved[1:] >= 0.5).float()


def appearance(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Randomise the tones of an image (S, S) in [0, 1]; -> (S, S), same range."""
    size = image.shape[-1]
    if rng.random() < 0.5:  # scatter haze and heel effect: low-frequency shading
        field = torch.from_numpy(rng.normal(size=(1, 1, 4, 4)).astype(np.float32))
        image = image + rng.uniform(0, 0.15) * _resize(field, size)
    if rng.random() < 0.7:
        image = image.clamp(0, 1) ** math.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.5:  # window
        low, high = rng.uniform(-0.1, 0.2), rng.uniform(0.75, 1.15)
        image = (image - low) / (high - low)
    if rng.random() < 0.35:  # local contrast, as display processing does
        image = image - rng.uniform(0.2, 0.7) * _blur(image, size / 16)
        image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-3)
    choice = rng.random()
    if choice < 0.25:
        image = _blur(image, rng.uniform(0.4, 1.2))
    elif choice < 0.45:
        image = image + rng.uniform(0.3, 1.0) * (image - _blur(image, 1.0))
    if rng.random() < 0.5:
        noise = torch.from_numpy(rng.standard_normal((size, size), dtype=np.float32))
        image = image + rng.uniform(0, 0.06) * noise
    image = image.clamp(0, 1)
    if rng.random() < 0.25:  # collimator
        cut = (rng.uniform(0, 0.12, size=4) * (rng.random(4) < 0.6) * size).astype(int)
        inside = torch.zeros_like(image)
        inside[cut[0] : size - cut[1], cut[2] : size - cut[3]] = 1
        image = image * inside
    if rng.random() < 0.15:  # dropout: masks are not touched
        for _ in range(rng.integers(1, 8)):
            y, x = rng.integers(0, size, 2)
            h, w = rng.integers(size // 32, size // 8, 2)
            image[y : y + h, x : x + w] = rng.random()
    return 1 - image if rng.random() < INVERSION_SHARE else image


def _resize(field: Tensor, size: int) -> Tensor:
    return F.interpolate(field, (size, size), mode="bicubic", align_corners=False)[0, 0]


def _blur(image: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image[None, None], [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]

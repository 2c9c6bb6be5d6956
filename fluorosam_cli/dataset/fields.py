"""Smooth random fields and blurs of single-channel pictures (h, w) float32."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F


def cloud(rng: np.random.Generator, cells: int, shape: tuple[int, int]) -> np.ndarray:
    """Normal noise on `cells` x `cells` points, bicubic in between: (h, w) float32."""
    rows, columns = (_cubic(cells, size) for size in shape)
    return rows @ rng.standard_normal((cells, cells), dtype=np.float32) @ columns.T


@lru_cache(maxsize=64)
def _cubic(cells: int, size: int) -> np.ndarray:
    """Matrix (size, cells) of cubic interpolation along one axis: what torch makes of unit vectors."""
    return F.interpolate(torch.eye(cells)[None, None], (size, cells), mode="bicubic")[0, 0].numpy()


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur; what lies beyond the border is as at the border."""
    radius = max(1, math.ceil(2.5 * sigma_px))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    kernel = torch.from_numpy((taps / taps.sum()).astype(np.float32))
    padded = F.pad(torch.from_numpy(image)[None, None], [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0].numpy()

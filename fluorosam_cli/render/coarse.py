"""Images on a coarser grid and back: what varies slowly is computed there.

Both ways are products with a small matrix from each side, cheap at any size and exact at the borders: cells average
the pixels they hold, the last one as many as are left, and between the cells' centres one interpolates linearly.
"""

from functools import lru_cache

import numpy as np


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over cells of `factor` x `factor` pixels, (ceil(H / factor), ceil(W / factor)) float32."""
    rows, columns = (_means(size, factor) for size in image.shape)
    return rows @ image @ columns.T


def enlarged(cells: np.ndarray, factor: int, shape: tuple[int, int]) -> np.ndarray:
    """The image of `shape` that interpolates these cells, float32; constant beyond the outermost centres."""
    rows, columns = (_interpolation(size, factor) for size in shape)
    return rows @ cells @ columns.T


@lru_cache(maxsize=32)
def _means(size: int, factor: int) -> np.ndarray:
    cell = np.arange(size) // factor
    matrix = (cell == np.arange(cell[-1] + 1)[:, None]).astype(np.float32)
    return matrix / matrix.sum(axis=1, keepdims=True)


@lru_cache(maxsize=32)
def _interpolation(size: int, factor: int) -> np.ndarray:
    centres = _means(size, factor) @ np.arange(size)
    pixels = np.arange(size)
    return np.stack([np.interp(pixels, centres, unit) for unit in np.eye(len(centres))], axis=1).astype(np.float32)

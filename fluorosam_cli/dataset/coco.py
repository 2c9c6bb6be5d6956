"""COCO segmentations as masks. What a file says is checked first: pycocotools believes whatever lengths it is given."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_CHARACTERS = 7  # of one run length: 5 bits each
MAX_BEYOND = 2.0  # corners of polygons may lie outside the image, within so many times its longer side


def decode(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """A segmentation (polygons, or run lengths as a list or compressed) as a mask (H, W) uint8.

    Raises ValueError when it is none, or of another size.
    """
    if isinstance(segmentation, list):
        return _filled(segmentation, shape)
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= segmentation.keys():
        raise ValueError("neither polygons nor run lengths")
    if list(segmentation["size"]) != list(shape):
        raise ValueError(f"run lengths of {segmentation['size']}, the image is {list(shape)} (rows, columns)")
    counts = segmentation["counts"]
    return from_runs(decompressed(counts) if isinstance(counts, str) else _whole_numbers(counts), shape)


def from_runs(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lengths of alternating runs of 0 and 1, down the columns, as a mask (H, W) uint8."""
    if (runs < 0).any() or runs.sum() != math.prod(shape):
        raise ValueError("run lengths that do not add up to the image")
    values = np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs)
    return values.reshape(shape[::-1]).T


def decompressed(counts: str) -> np.ndarray:
    """COCO's compressed run lengths, each a difference to the last but one, as numbers.

    A number has 5 bits a character, lowest first; bit 6 says that more follow, the last one's bit 5 is the sign.
    """
    codes = np.frombuffer(counts.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("damaged run lengths")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MAX_CHARACTERS:
        raise ValueError("damaged run lengths")
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * places, starts)
    runs -= np.where(codes[ends] & 16, 1 << 5 * lengths, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _whole_numbers(counts: Any) -> np.ndarray:
    if not isinstance(counts, list) or not all(type(n) is int and 0 <= n < 1 << 31 for n in counts):
        raise ValueError("run lengths that are no whole numbers")
    return np.array(counts, np.int64)


def _filled(polygons: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco

    limit = MAX_BEYOND * max(shape)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon is a list [x, y, x, y, ...] of three corners or more")
        if not all(isinstance(v, (int, float)) and abs(v) <= limit for v in polygon):  # false for NaN
            raise ValueError("a polygon far outside the image")
    if not polygons:
        raise ValueError("no polygon")
    corners: Any = [[float(v) for v in polygon] for polygon in polygons]
    together: Any = coco.merge(coco.frPyObjects(corners, *shape))
    return from_runs(decompressed(together["counts"].decode()), shape)

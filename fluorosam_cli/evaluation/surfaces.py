"""How far the outlines of two masks lie apart: normalised surface distance and the 95 % Hausdorff distance.

The outline is made of elements on the corners between pixels, each as long as the contour that crosses its four pixels
(Nikolov et al. 2018, arXiv 1809.04430); the image's border is an edge. Distances are from element to nearest element,
so they are in the image plane and honour pixels that are not square.
"""

import numpy as np

HAUSDORFF_PERCENTILE = 95.0


def surface_scores(
    predicted: np.ndarray, real: np.ndarray, pixel_size: tuple[float, float], tolerance: float
) -> tuple[float, float]:
    """(NSD, HD95) of two boolean masks (H, W). `pixel_size` (row, column) and `tolerance` share HD95's unit.

    NSD is the share of both outlines' length that lies within `tolerance` of the other. HD95 is the larger of the two
    directed 95th percentiles, weighted by length. Two empty masks agree (1, 0); if one is empty, NSD is 0 and
    HD95 the diagonal of the image, the largest error there can be.
    """
    from scipy.spatial import KDTree

    outlines = [_outline(mask, pixel_size) for mask in (predicted, real)]
    (places, lengths), (real_places, real_lengths) = outlines
    if not len(places) or not len(real_places):
        height, width = real.shape
        same = len(places) == len(real_places)
        return (1.0, 0.0) if same else (0.0, float(np.hypot(height * pixel_size[0], width * pixel_size[1])))
    there, _ = KDTree(real_places).query(places)
    back, _ = KDTree(places).query(real_places)
    near = lengths[there <= tolerance].sum() + real_lengths[back <= tolerance].sum()
    nsd = near / (lengths.sum() + real_lengths.sum())
    return float(nsd), max(_percentile(there, lengths), _percentile(back, real_lengths))


def _outline(mask: np.ndarray, pixel_size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) and lengths (n,) of the elements; an element's four pixels are neither all in nor all out."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros((0, 2)), np.zeros(0)
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.uint8)
    code = 8 * padded[:-1, :-1] + 4 * padded[:-1, 1:] + 2 * padded[1:, :-1] + padded[1:, 1:]
    y, x = np.nonzero((code > 0) & (code < 15))
    places = np.stack([(y + rows[0]) * pixel_size[0], (x + columns[0]) * pixel_size[1]], axis=1)
    return places, _lengths(pixel_size)[code[y, x]]


def _lengths(pixel_size: tuple[float, float]) -> np.ndarray:
    """Contour length by the code of the 2 x 2 pixels: bits top left 8, top right 4, bottom left 2, bottom right 1."""
    height, width = pixel_size
    cut = 0.5 * np.hypot(height, width)  # one corner cut off
    lengths = np.full(16, cut)
    lengths[[0, 15]] = 0
    lengths[[3, 12]] = width  # an edge between rows
    lengths[[5, 10]] = height
    lengths[[6, 9]] = 2 * cut  # two opposite corners
    return lengths


def _percentile(distances: np.ndarray, lengths: np.ndarray) -> float:
    """The distance that the stated percentage of the outline's length does not exceed."""
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(lengths[order]) / lengths.sum()
    position = np.searchsorted(share, HAUSDORFF_PERCENTILE / 100)
    return float(distances[order][min(position, len(order) - 1)])

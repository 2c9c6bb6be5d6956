"""Boxes of pixels."""

import numpy as np

Box = tuple[int, int, int, int]  # x0, y0, x1, y1; the last two excluded


def box_of(plane: np.ndarray) -> Box | None:
    """The smallest box around all that is not 0 in (H, W); None when nothing is."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

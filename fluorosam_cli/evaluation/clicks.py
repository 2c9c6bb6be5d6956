"""The simulated user: where the next click goes, by the standard interactive-segmentation protocol."""

from typing import NamedTuple

import numpy as np


class Click(NamedTuple):
    x: int
    y: int
    label: int  # 1 where the structure was missed, 0 where the mask was too large


def next_click(predicted: np.ndarray, real: np.ndarray) -> Click | None:
    """The centre of the largest connected error between two boolean masks (H, W); None when they are equal.

    Missed and false pixels form components of their own (8-connected). The centre is the component's pixel farthest
    from its edge, the image's border being an edge too (Xu et al. 2016; RITM, Sofiiuk et al. 2021); among equals the
    first in reading order. Of components of equal size, missed ones come first, then the first in reading order.
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label

    wrong = predicted != real
    rows, columns = np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(wrong.any(axis=0))
    if not len(rows):
        return None
    around = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    best: tuple[int, int, np.ndarray, tuple[slice, slice]] | None = None
    for kind, error in ((1, wrong[around] & real[around]), (0, wrong[around] & predicted[around])):
        if best is not None and np.count_nonzero(error) <= best[0]:
            continue
        components, count = label(error, structure=np.ones((3, 3), int))  # pyright: ignore
        if not count:
            continue
        sizes = np.bincount(components.ravel())[1:]
        number = int(sizes.argmax()) + 1
        if best is None or sizes[number - 1] > best[0]:
            where = find_objects((components == number).astype(np.uint8))[0]
            best = (int(sizes[number - 1]), kind, components[where] == number, where)
    assert best is not None
    _, kind, component, (down, across) = best
    distance = np.asarray(distance_transform_edt(np.pad(component, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), component.shape)
    return Click(int(x) + across.start + int(columns[0]), int(y) + down.start + int(rows[0]), kind)

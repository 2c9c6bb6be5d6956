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

    best: tuple[int, int, np.ndarray, tuple[slice, slice]] | None = None
    for kind, error in ((1, real & ~predicted), (0, predicted & ~real)):
        components, count = label(error, structure=np.ones((3, 3), int))  # pyright: ignore
        if not count:
            continue
        sizes = np.bincount(components.ravel())[1:]
        number = int(sizes.argmax()) + 1
        if best is None or sizes[number - 1] > best[0]:
            where = find_objects(components)[number - 1]
            best = (int(sizes[number - 1]), kind, components[where] == number, where)
    if best is None:
        return None
    _, kind, component, (rows, columns) = best
    distance = np.asarray(distance_transform_edt(np.pad(component, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), component.shape)
    return Click(int(x) + columns.start, int(y) + rows.start, kind)

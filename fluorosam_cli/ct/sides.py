"""Left and right where a segmentation leaves them unsaid and the scan tells them apart.

TotalSegmentator's `appendicular_bones` has one class for both tibiae, other data sets have one for both lungs or both
kidneys. A part is what hangs together on a grid of about 3 mm: a limb across its joints, a lung without the thin layer
in which it touches the other. Its side is that of the sided bone it hangs on (femur, humerus), or else which side of
the body's middle it lies on as a whole. Where no median bone tells that middle, it is the tissue's, and a limb's bones
are told apart by it only if one of them lies on both sides: of a limb alone it is the limb's own. What nothing tells
apart keeps its unsided id if it is bone, and is cut at the body's middle if it is lung or kidney, as for a horseshoe
kidney.
"""

from typing import NamedTuple

import numpy as np

from fluorosam_cli.anatomy.structures import label_ids, structure
from fluorosam_cli.ct.body import TISSUE_HU
from fluorosam_cli.ct.label_names import PAIRED
from fluorosam_cli.ct.volume import Volume, label_counts

COARSE_MM = 3.0
SIDED_SHARE = 0.8  # of the sided bones' voxels that a limb touches
MIDLINE = ("spine", "sacrum", "skull", "sternum", "hips")


class Unsided(NamedTuple):
    """Structures that form parts together, each a `name` that `name_left` and `name_right` exist for."""

    names: tuple[str, ...]
    reach_mm: float  # how far a part goes beyond its voxels: half the gap of a joint; below 0, how deep they are cut
    anchor: str | None = None


LEGS = Unsided(("tibia", "fibula", "patella", "tarsal", "metatarsal", "phalanges_feet"), 7.5, "femur")
ARMS = Unsided(("radius", "ulna", "carpal", "metacarpal", "phalanges_hand"), 7.5, "humerus")
LUNGS, KIDNEYS = Unsided(("lung",), -5.0), Unsided(("kidney",), 0.0)


def tell_sides(labels: Volume, ct: Volume) -> Volume:
    """The labels with `tibia` turned into `tibia_left` or `tibia_right`, and so on; `ct` is on the same grid."""
    present = set(np.flatnonzero(label_counts(labels.array)).tolist())
    steps = labels.steps_zyx(COARSE_MM)
    every = tuple(slice(None, None, step) for step in steps)
    coarse = Volume(labels.array[every], labels.world_from_voxel @ np.diag([*steps[::-1], 1.0]))
    array = labels.array
    for unsided in (LEGS, ARMS, LUNGS, KIDNEYS):
        ids = {_unsided_id(name): name for name in unsided.names if _unsided_id(name) in present}
        if ids:
            array = labels.array.copy() if array is labels.array else array
            median_mm = _median_mm(coarse)
            middle_mm = _tissue_mm(coarse, ct.array[every] > TISSUE_HU) if median_mm is None else median_mm
            by_pairs = unsided.anchor is not None and median_mm is None
            _apply(array, ids, _sides(coarse, list(ids), unsided, middle_mm, by_pairs), steps)
    return labels if array is labels.array else Volume(array, labels.world_from_voxel)


def _unsided_id(name: str) -> int:
    return PAIRED[f"{name}s"] if f"{name}s" in PAIRED else structure(name).label_id


def _sides(coarse: Volume, ids: list[int], unsided: Unsided, middle_mm: float, by_pairs: bool) -> np.ndarray:
    """For every coarse voxel: 1 near a left part, 2 near a right one, 0 where it is not known.

    With `by_pairs` the middle counts only where one label lies on both sides of it.
    """
    from scipy import ndimage

    ours = np.isin(coarse.array, ids)
    x_mm = _world_x_mm(coarse)
    untold = np.zeros(x_mm.shape, np.uint8) if unsided.anchor else np.where(x_mm > middle_mm, 1, 2).astype(np.uint8)
    if not ours.any():  # all of it lies between the voxels of the coarse grid
        return untold
    anchors = [
        coarse.array == structure(f"{unsided.anchor}_{side}").label_id if unsided.anchor else np.zeros_like(ours)
        for side in ("left", "right")
    ]
    solid = ours | anchors[0] | anchors[1]
    spacing_mm = coarse.spacing_xyz_mm[::-1]
    beyond: np.ndarray
    beyond = ndimage.distance_transform_edt(~solid, spacing_mm) - ndimage.distance_transform_edt(solid, spacing_mm)  # pyright: ignore
    parts: np.ndarray
    parts, count = ndimage.label(beyond <= unsided.reach_mm)  # pyright: ignore
    side_of = np.zeros(count + 1, dtype=np.uint8)
    beside: dict[int, list[int]] = {1: [], 2: []}  # parts on either side of the middle
    for part, place in enumerate(ndimage.find_objects(parts), 1):
        inside = parts[place] == part
        touched = [np.count_nonzero(anchor[place] & inside) for anchor in anchors]
        along_mm = x_mm[place][inside & ours[place]]
        if sum(touched):
            if max(touched) >= SIDED_SHARE * sum(touched):
                side_of[part] = 1 + int(touched[1] > touched[0])
        elif len(along_mm) and (along_mm.min() > middle_mm or along_mm.max() < middle_mm):
            beside[1 if along_mm.min() > middle_mm else 2].append(part)
    held = [set(coarse.array[ours & np.isin(parts, beside[side])].tolist()) for side in beside]
    if not by_pairs or held[0] & held[1]:
        for side in beside:
            side_of[beside[side]] = side
    if not count:
        return untold
    nearest = ndimage.distance_transform_edt(parts == 0, spacing_mm, return_distances=False, return_indices=True)
    sides = side_of[parts[tuple(nearest)]]  # pyright: ignore[reportArgumentType]
    return np.where(sides == 0, untold, sides)


def _median_mm(coarse: Volume) -> float | None:
    """World x of the first median structure in the scan, None where there is none."""
    for name in MIDLINE:
        inside = np.isin(coarse.array, label_ids(name))
        if inside.any():
            return float(_world_x_mm(coarse)[inside].mean())
    return None


def _tissue_mm(coarse: Volume, tissue: np.ndarray) -> float:
    """World x of the middle of all tissue."""
    x_mm = _world_x_mm(coarse)
    return float(x_mm[tissue].mean()) if tissue.any() else float(x_mm.mean())


def _world_x_mm(volume: Volume) -> np.ndarray:
    z, y, x = np.ogrid[tuple(slice(size) for size in volume.array.shape)]
    row = volume.world_from_voxel[0]
    return row[0] * x + row[1] * y + row[2] * z + row[3]


def _apply(array: np.ndarray, ids: dict[int, str], sides: np.ndarray, steps: list[int]) -> None:
    highest = int(array.max())
    table = np.tile(np.arange(highest + 1, dtype=array.dtype), (3, 1))  # (side, id) -> id
    wanted = np.zeros(highest + 1, dtype=bool)
    for label_id, name in ids.items():
        wanted[label_id] = True
        for side, word in ((1, "left"), (2, "right")):
            table[side, label_id] = structure(f"{name}_{word}").label_id
    for z, plane in enumerate(array):
        y, x = np.nonzero(wanted[plane])
        if len(y):
            side = sides[z // steps[0], y // steps[1], x // steps[2]]
            plane[y, x] = table[side, plane[y, x]]

"""Left and right of the limb bones that a segmentation left unsided, where the scan tells them apart.

TotalSegmentator's `appendicular_bones` has one class for both tibiae. A limb is what hangs together, across joints, on
a grid of about 3 mm; its side is that of the sided bone it hangs on (femur, humerus), or else which side of the body's
middle it lies on as a whole. Voxels of limbs that nothing tells apart keep the unsided id.
"""

import numpy as np

from fluorosam_cli.anatomy.structures import label_ids, structure
from fluorosam_cli.ct.volume import Volume

LEGS = ("tibia", "fibula", "patella", "tarsal", "metatarsal", "phalanges_feet")
ARMS = ("radius", "ulna", "carpal", "metacarpal", "phalanges_hand")
LIMBS = ((LEGS, "femur"), (ARMS, "humerus"))
COARSE_MM = 3.0
JOINT_MM = 15.0  # bones nearer to each other than this belong to one limb: cartilage and the patella's distance
SIDED_SHARE = 0.8  # of the sided bones' voxels that a limb touches
MIDLINE = ("spine", "sacrum", "skull", "sternum", "hips")


def tell_sides(labels: Volume) -> Volume:
    """The labels with `tibia` turned into `tibia_left` or `tibia_right`, and so on, wherever the side is clear."""
    unsided = {structure(name).label_id: name for bones, _ in LIMBS for name in bones}
    present = [label_id for label_id in _present(labels.array) if label_id in unsided]
    if not present:
        return labels
    steps = [max(1, int(COARSE_MM / spacing)) for spacing in labels.spacing_xyz_mm[::-1]]
    coarse = labels.array[tuple(slice(None, None, step) for step in steps)]
    coarse_from = labels.world_from_voxel @ np.diag([*steps[::-1], 1.0])
    array = labels.array.copy()
    for bones, anchor in LIMBS:
        ids = [structure(name).label_id for name in bones if structure(name).label_id in present]
        if ids:
            sides = _sides(coarse, coarse_from, ids, anchor)
            _apply(array, ids, sides, steps, {label_id: unsided[label_id] for label_id in ids})
    return Volume(array, labels.world_from_voxel)


def _sides(coarse: np.ndarray, world_from_coarse: np.ndarray, ids: list[int], anchor: str) -> np.ndarray:
    """For every coarse voxel: 1 near a left limb, 2 near a right one, 0 where it is not known."""
    from scipy import ndimage

    spacing_zyx = np.linalg.norm(world_from_coarse[:3, :3], axis=0)[::-1]
    bones = np.isin(coarse, ids)
    if not bones.any():
        return np.zeros(coarse.shape, dtype=np.uint8)
    anchors = {side: coarse == structure(f"{anchor}_{side}").label_id for side in ("left", "right")}
    solid = bones | anchors["left"] | anchors["right"]
    away: np.ndarray
    away, nearest = ndimage.distance_transform_edt(  # pyright: ignore[reportGeneralTypeIssues, reportAssignmentType]
        ~solid, sampling=spacing_zyx, return_indices=True
    )
    limbs: np.ndarray
    limbs, count = ndimage.label(away <= JOINT_MM / 2)  # pyright: ignore
    middle_mm = _middle_mm(coarse, world_from_coarse)
    spans = {}
    for limb in range(1, count + 1):
        z, y, x = np.nonzero(bones & (limbs == limb))
        if len(x):
            along = world_from_coarse[0, :3] @ np.stack([x, y, z]) + world_from_coarse[0, 3]
            spans[limb] = (float(along.min()), float(along.max()))
    side_of = np.zeros(count + 1, dtype=np.uint8)
    for limb, (low_mm, high_mm) in spans.items():
        touched = [np.count_nonzero(anchors[side] & (limbs == limb)) for side in ("left", "right")]
        if sum(touched) and max(touched) >= SIDED_SHARE * sum(touched):
            side_of[limb] = 1 + int(touched[1] > touched[0])
        elif sum(touched):
            continue
        elif middle_mm is not None and (low_mm > middle_mm or high_mm < middle_mm):
            side_of[limb] = 1 if low_mm > middle_mm else 2
        elif middle_mm is None and len(spans) == 2:
            (other_low, other_high) = next(span for key, span in spans.items() if key != limb)
            if low_mm > other_high or high_mm < other_low:
                side_of[limb] = 1 if low_mm > other_high else 2
    return side_of[limbs[tuple(nearest)]]


def _middle_mm(coarse: np.ndarray, world_from_coarse: np.ndarray) -> float | None:
    """World x of the body's middle, from the median structures in the scan, or None."""
    for name in MIDLINE:
        z, y, x = np.nonzero(np.isin(coarse, label_ids(name)))
        if len(x):
            return float(world_from_coarse[0] @ [x.mean(), y.mean(), z.mean(), 1.0])
    return None


def _apply(array: np.ndarray, ids: list[int], sides: np.ndarray, steps: list[int], names: dict[int, str]) -> None:
    highest = int(array.max())
    table = np.tile(np.arange(highest + 1, dtype=array.dtype), (3, 1))  # (side, id) -> id
    for label_id in ids:
        for side, word in ((1, "left"), (2, "right")):
            table[side, label_id] = structure(f"{names[label_id]}_{word}").label_id
    wanted = np.zeros(highest + 1, dtype=bool)
    wanted[ids] = True
    for z, plane in enumerate(array):
        y, x = np.nonzero(wanted[plane])
        if len(y):
            side = sides[z // steps[0], y // steps[1], x // steps[2]]
            plane[y, x] = table[side, plane[y, x]]


def _present(array: np.ndarray) -> list[int]:
    from fluorosam_cli.ct.volume import label_counts

    return np.flatnonzero(label_counts(array)).tolist()

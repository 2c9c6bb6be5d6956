"""What in a scan is the patient: the table and whatever else lies in the air around the body is set aside.

Worked out on a grid of about 4 mm, so that a whole-body CT takes seconds; the body's outline is kept with a rim of one
such voxel.
"""

import numpy as np

from fluorosam_cli.ct.volume import Volume

AIR_HU = -1000
TISSUE_HU = -400  # halfway between foam or lung (about -850) and fat (-100), nearer to fat than partial volumes of foam
BONE_HU = 200
SOFT_HU = (-150, 120)  # fat to muscle
COARSE_MM = 4.0
REGROWN_VOXELS = 3  # ears, nose and fingers that the opening took, up to 12 mm
LABELLED = 0.02  # share of a part's voxels that carry a label: then it is the patient
LIMB_BONE, LIMB_SOFT = 0.02, 0.3  # shares of bone and of soft tissue that make an unlabelled part a limb and no table
SMALLEST_PART_ML = 5.0
AXIAL = np.pad([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], ((1, 1), (0, 0), (0, 0)))  # connects voxels of one slice only


def set_table_aside(ct: Volume, labels: Volume) -> float:
    """Set what is not the patient to air, in `ct.array` itself; returns how much of it was denser than air, in ml.

    The patient is every part, after an opening that removes what is thinner than about 12 mm, that carries labels
    or holds bone and soft tissue as a limb does, failing these the largest one; in axial slices its holes are filled.
    Labelled voxels are never changed. Both volumes are on the standard grid.
    """
    steps = ct.steps_zyx(COARSE_MM)
    body = _body(ct, labels, steps)
    if body is None:
        return 0.0
    index = [
        np.minimum(np.arange(size) // step, count - 1)
        for size, step, count in zip(ct.array.shape, steps, body.shape, strict=True)
    ]
    removed = 0
    for z, plane in enumerate(ct.array):
        outside = ~body[index[0][z]][np.ix_(index[1], index[2])]
        outside &= labels.array[z] == 0
        removed += int(np.count_nonzero(outside & (plane > TISSUE_HU)))
        plane[outside] = AIR_HU
    return removed * ct.voxel_volume_ml


def _body(ct: Volume, labels: Volume, steps: list[int]) -> np.ndarray | None:
    """The patient on the coarse grid, with a rim; None when there is no tissue to speak of."""
    from scipy import ndimage

    coarse = tuple(
        slice(min(step // 2, size - 1), None, step) for step, size in zip(steps, ct.array.shape, strict=True)
    )
    hu, labelled = ct.array[coarse], labels.array[coarse] > 0
    tissue = hu > TISSUE_HU
    eroded = ndimage.binary_erosion(tissue, border_value=1)
    parts: np.ndarray
    parts, count = ndimage.label(ndimage.binary_dilation(eroded))  # pyright: ignore
    if not count:
        return None

    def shares(mask: np.ndarray) -> np.ndarray:
        return np.bincount(parts[mask], minlength=count + 1) / np.maximum(sizes, 1)

    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    is_limb = (shares(hu > BONE_HU) >= LIMB_BONE) & (shares((hu > SOFT_HU[0]) & (hu < SOFT_HU[1])) >= LIMB_SOFT)
    is_limb &= sizes * ct.voxel_volume_ml * np.prod(steps) >= SMALLEST_PART_ML
    kept = is_limb | (shares(labelled) >= LABELLED)
    kept[0] = False
    if not kept.any():
        kept[1 + np.argmax(sizes[1:])] = True
    body: np.ndarray = ndimage.binary_dilation(kept[parts], iterations=REGROWN_VOXELS, mask=tissue)  # pyright: ignore
    body |= labelled
    return ndimage.binary_dilation(ndimage.binary_fill_holes(body, structure=AXIAL))

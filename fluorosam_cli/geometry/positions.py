"""Where the structures of a scan lie: boxes, samples of their voxels, and where the scan cuts the body off."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SAMPLE_MM = 3.0  # between sampled voxels: a finger bone is still three samples wide
MIN_SAMPLES_ACROSS = 12  # of small structures, which are sampled more closely
MAX_SAMPLES = 4000  # per structure: axes and ends of bones are known to a millimetre from far fewer


@dataclass(frozen=True)
class Position:
    """Extent of a structure in LPS mm, two points (3,), and some of its voxels' centres (N, 3), N >= 1."""

    low: np.ndarray
    high: np.ndarray
    points: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        return self.points.mean(axis=0)


@dataclass(frozen=True)
class Anatomy:
    """What a scan holds: positions by name, and the heights in LPS mm at which the scan cuts the body off.

    Where no structure touches the scan's lower or upper border, that height is infinite: beyond is only air.
    """

    positions: Mapping[str, Position]
    z_range_mm: tuple[float, float] = (-np.inf, np.inf)


def anatomy_of(
    labels: np.ndarray, world_from_voxel: np.ndarray, outputs: Iterable[tuple[str, tuple[int, ...]]]
) -> Anatomy:
    """The positions of all `outputs`, name and label ids each, that have a voxel in `labels` (z, y, x).

    Looks at every voxel once, to find the boxes of the labels, and then at samples in each box.
    """
    from scipy.ndimage import find_objects

    found = dict(enumerate(find_objects(labels), 1))
    boxes = {label_id: place for label_id, place in found.items() if place is not None}
    parts = {label_id: _position(labels, label_id, place, world_from_voxel) for label_id, place in boxes.items()}
    positions = {}
    for name, label_ids in outputs:
        members = [parts[label_id] for label_id in label_ids if label_id in parts]
        if members:
            positions[name] = joined(members)
    return Anatomy(positions, _cut_heights(labels.shape, list(boxes.values()), world_from_voxel))


def joined(parts: list[Position]) -> Position:
    """Several positions as one."""
    if len(parts) == 1:
        return parts[0]
    return Position(
        np.min([part.low for part in parts], axis=0),
        np.max([part.high for part in parts], axis=0),
        _thinned(np.concatenate([part.points for part in parts])),
    )


def _position(labels: np.ndarray, label_id: int, place: tuple[slice, ...], world_from_voxel: np.ndarray) -> Position:
    spacing = np.linalg.norm(world_from_voxel[:3, :3], axis=0)[::-1]  # z, y, x
    sizes = np.array([part.stop - part.start for part in place])
    apart = min(SAMPLE_MM, float((sizes * spacing).max()) / MIN_SAMPLES_ACROSS)
    steps = np.maximum(1, np.rint(apart / spacing)).astype(int)
    starts = [part.start + (size - 1) % step // 2 for part, size, step in zip(place, sizes, steps, strict=True)]
    sampled = labels[tuple(slice(a, part.stop, s) for a, part, s in zip(starts, place, steps, strict=True))]
    indices = np.argwhere(sampled == label_id) * steps + starts
    if not len(indices):
        indices = np.array([[(part.start + part.stop - 1) / 2 for part in place]])
    spans = [(part.start - 0.5, part.stop - 0.5) for part in reversed(place)]  # x, y, z
    corners = _in_world(np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3), world_from_voxel)
    return Position(corners.min(axis=0), corners.max(axis=0), _thinned(_in_world(indices[:, ::-1], world_from_voxel)))


def _cut_heights(
    shape: tuple[int, ...], places: list[tuple[slice, ...]], world_from_voxel: np.ndarray
) -> tuple[float, float]:
    low, high = -np.inf, np.inf
    centre = (np.array(shape[::-1]) - 1) / 2
    for axis in range(3):
        outward = world_from_voxel[2, 2 - axis]  # how much the world's height grows with the index
        if abs(outward) < 0.7 * np.linalg.norm(world_from_voxel[:3, 2 - axis]):
            continue
        for face, touched in (
            (-0.5, any(place[axis].start == 0 for place in places)),
            (shape[axis] - 0.5, any(place[axis].stop == shape[axis] for place in places)),
        ):
            middle = centre.copy()
            middle[2 - axis] = face
            height = float(_in_world(middle[None], world_from_voxel)[0, 2])
            if touched and (face < 0) == (outward > 0):
                low = height
            elif touched:
                high = height
    return low, high


def _in_world(voxels_xyz: np.ndarray, world_from_voxel: np.ndarray) -> np.ndarray:
    return voxels_xyz @ world_from_voxel[:3, :3].T + world_from_voxel[:3, 3]


def _thinned(points: np.ndarray) -> np.ndarray:
    return points[:: -(-len(points) // MAX_SAMPLES)]

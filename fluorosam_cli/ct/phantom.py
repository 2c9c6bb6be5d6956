"""Labelled CT phantoms of a parametric human, with no patient data: from a seed to a scan and its label volume."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import label_ids, structure
from fluorosam_cli.artefacts import Track, silent
from fluorosam_cli.ct.phantom_anatomy import Anatomy, Part, build
from fluorosam_cli.ct.phantom_pose import Pose, draw_pose
from fluorosam_cli.ct.phantom_regions import DEFAULT_REGION, REGIONS
from fluorosam_cli.ct.phantom_shapes import FAR, Box, Grid, evaluate, is_empty, within
from fluorosam_cli.ct.volume import HU_MAX, HU_MIN, Volume, write_nifti

HEAD_FIELD_MM = 270.0  # a head is scanned without the raised arms beside it
BORDER_MM = 12.0  # of air around the body
SLAB = 32  # slices painted at a time, to bound memory
THINNEST_VOXELS = 0.6  # half thickness below which a label is widened: the diagonal of a square voxel is 0.7 either way
THINNEST_CORTEX_MM = 1.0  # where a long bone flares
NOISE_HU = (6.0, 16.0)
SOFTENING_VOXELS = 0.45  # gaussian, over the partial volume that painting already gives


@dataclass(frozen=True)
class Phantom:
    """A scan (int16 HU) and its labels (uint8) on one grid."""

    scan: Volume
    labels: Volume


def phantom_name(index: int) -> str:
    return f"phantom_{index:04d}"


def make_phantom(seed: int, index: int, region: str = DEFAULT_REGION, spacing_mm: float = 2.0) -> Phantom:
    """The phantom `index` of a seed. Region and spacing only sample its anatomy, they do not change it."""
    pose, anatomy, imaging = _drawn(seed, index)
    grid = _grid(anatomy, pose, region, spacing_mm, imaging)
    hu = np.full(grid.shape, -1000, np.float32)
    labels = np.zeros(grid.shape, np.uint8)
    _paint_body(anatomy, grid, hu)
    for part in anatomy.parts:
        _paint(part, anatomy.tissue, grid, hu, labels)
    scan = _scanned(hu, labels, spacing_mm, imaging)
    return Phantom(Volume(scan, grid.world_from_voxel), Volume(labels, grid.world_from_voxel))


def voxel_count(seed: int, index: int, region: str, spacing_mm: float) -> int:
    """How many voxels `make_phantom` would fill."""
    pose, anatomy, imaging = _drawn(seed, index)
    return int(np.prod(_grid(anatomy, pose, region, spacing_mm, imaging).shape))


def _drawn(seed: int, index: int) -> tuple[Pose, Anatomy, np.random.Generator]:
    """The body of a phantom, and the stream left for its imaging."""
    streams = np.random.SeedSequence([seed, index]).spawn(3)
    posing, building, imaging = (np.random.default_rng(stream) for stream in streams)
    pose = draw_pose(posing)
    return pose, build(pose, building), imaging


def write_phantoms(
    folder: Path,
    *,
    count: int,
    seed: int,
    region: str,
    spacing_mm: float,
    track: Track = silent,
    written: Callable[[bool], None] = lambda new: None,
) -> None:
    """Write `folder/scans` and `folder/labels`; a phantom with both files is left as it is.

    `written` is called after each, with whether it is new.
    """
    for index in track(range(count), "phantom", count, "phantoms"):
        scan, labels = (folder / kind / f"{phantom_name(index)}.nii.gz" for kind in ("scans", "labels"))
        new = not (scan.is_file() and labels.is_file())
        if new:
            phantom = make_phantom(seed, index, region, spacing_mm)
            write_nifti(labels, phantom.labels)
            write_nifti(scan, phantom.scan)
        written(new)


def _grid(anatomy: Anatomy, pose: Pose, region: str, spacing_mm: float, random: np.random.Generator) -> Grid:
    """The field of view: a slab of the body with all that is in it, at a seeded sub-voxel position."""
    bottom, top = (z * pose.scale_xyz[2] for z in REGIONS[region])
    lows, highs = [], []
    for skin in anatomy.skin:
        low, high = skin.piece.low_xyz - skin.fat_mm.max(), skin.piece.high_xyz + skin.fat_mm.max()
        if high[2] > bottom and low[2] < top:
            lows.append(low)
            highs.append(high)
    low, high = np.min(lows, axis=0) - BORDER_MM, np.max(highs, axis=0) + BORDER_MM
    low[2], high[2] = max(low[2], bottom), min(high[2], top)
    if region == "head":
        middle = pose.place(np.array([[0.0, -90.0, 1560.0]]), "head")[0, 0]
        low[0], high[0] = max(low[0], middle - HEAD_FIELD_MM / 2), min(high[0], middle + HEAD_FIELD_MM / 2)
    low = low + random.uniform(-0.5, 0.5, 3) * spacing_mm
    size = np.maximum(np.ceil((high - low) / spacing_mm).astype(int), 2)
    return Grid((float(low[0]), float(low[1]), float(low[2])), spacing_mm, (int(size[2]), int(size[1]), int(size[0])))


def _slabs(box: Box) -> Iterator[Box]:
    for start in range(box[0].start, box[0].stop, SLAB):
        yield slice(start, min(start + SLAB, box[0].stop)), box[1], box[2]


def _covered(distance: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Share of a voxel that a surface at this distance of its centre leaves inside."""
    return np.clip(0.5 - distance / np.float32(spacing_mm), 0, 1)


def _paint_body(anatomy: Anatomy, grid: Grid, hu: np.ndarray) -> None:
    """Air, skin fat and muscle."""
    fat_hu, muscle_hu = anatomy.tissue["fat"], anatomy.tissue["muscle"]
    blend = np.float32(14.0)  # mm over which limbs flow into the trunk
    for slab in _slabs(tuple(slice(0, size) for size in grid.shape)):  # pyright: ignore[reportArgumentType]
        shape = [part.stop - part.start for part in slab]
        lean, skin = np.full(shape, FAR, np.float32), np.full(shape, FAR, np.float32)
        for outline in anatomy.skin:
            margin = float(outline.fat_mm.max()) + float(blend) + grid.spacing_mm
            box = _overlap_z(grid.box(outline.piece.low_xyz - margin, outline.piece.high_xyz + margin), slab)
            if is_empty(box):
                continue
            x, y, z = grid.coordinates(box)
            distance = outline.piece.distance(x, y, z)
            fat = np.interp(z, outline.at_z_mm, outline.fat_mm).astype(np.float32)
            here = within(box, slab)
            layers = [(skin[here], distance - fat)] + ([(lean[here], distance)] if outline.lean else [])
            for target, found in layers:
                overlap = np.maximum(0, 1 - np.abs(target - found) / blend)
                np.minimum(target, found, out=target)
                target -= blend / 4 * overlap * overlap
        inside = hu[slab]
        inside += _covered(skin, grid.spacing_mm) * np.float32(fat_hu + 1000)
        inside += _covered(lean, grid.spacing_mm) * (np.float32(muscle_hu) - inside)


def _overlap_z(box: Box, slab: Box) -> Box:
    start = max(box[0].start, slab[0].start)
    return slice(start, max(start, min(box[0].stop, slab[0].stop))), box[1], box[2]


def _paint(part: Part, tissue: dict[str, float], grid: Grid, hu: np.ndarray, labels: np.ndarray) -> None:
    """One part over what is there: HU by the share of each voxel it covers, labels where it covers the centre."""
    spacing = np.float32(grid.spacing_mm)
    thinnest = THINNEST_VOXELS * grid.spacing_mm if part.name else 0.0
    only = [label_id for name in part.within for label_id in label_ids(name)]
    for solid in part.solids:
        low, high = solid.bounds()
        for other in solid.inside:
            low, high = np.maximum(low, other.bounds()[0]), np.minimum(high, other.bounds()[1])
        margin = thinnest + grid.spacing_mm
        for box in _slabs(grid.box(low - margin, high + margin)):
            if is_empty(box):
                continue
            values = hu[box]
            thickness = np.ones(values.shape, np.float32) if part.shaft_mm else None
            widened = np.full(values.shape, FAR, np.float32)
            distance = evaluate(solid, grid, box, thinnest, widened, thickness)
            covered = _covered(distance, grid.spacing_mm)
            if only:
                covered *= np.isin(labels[box], only)
            values += covered * (_fill(part, tissue, distance, thickness, spacing) - values)
            if part.name is not None:
                labels[box][widened < 0] = structure(part.name).label_id


def _fill(
    part: Part, tissue: dict[str, float], distance: np.ndarray, thickness: np.ndarray | None, spacing: np.float32
) -> np.ndarray | np.float32:
    """HU of the covered share of a voxel; of a bone, the mean over its cortex and marrow."""
    if part.fill != "bone":
        return np.float32(tissue[part.fill])
    outer = np.minimum(distance + spacing / 2, 0)
    inner = distance - spacing / 2
    cortex_mm: np.ndarray | np.float32 = np.float32(part.cortex_mm)
    if part.shaft_mm and thickness is not None:
        cortex_mm = np.clip(cortex_mm * (np.float32(part.shaft_mm) / thickness) ** 2, THINNEST_CORTEX_MM, cortex_mm)
    cortex = outer - np.maximum(inner, -cortex_mm)
    share = np.clip(cortex / np.maximum(outer - inner, np.float32(1e-3)), 0, 1)
    return np.float32(tissue["marrow"]) + share * np.float32(tissue["cortex"] - tissue["marrow"])


def _scanned(hu: np.ndarray, labels: np.ndarray, spacing_mm: float, random: np.random.Generator) -> np.ndarray:
    """What the scanner makes of it: texture, softening, noise; int16."""
    from scipy import ndimage

    noise = np.float32(random.uniform(*NOISE_HU) * np.sqrt(2.0 / max(spacing_mm, 1.0)))
    coarse = [max(2, int(np.ceil(size * spacing_mm / 14.0)) + 1) for size in hu.shape]
    texture = random.standard_normal(coarse, dtype=np.float32)
    gain = np.zeros(256, np.float32) + np.float32(7)
    gain[list(label_ids("lungs"))] = 22
    soft = ndimage.gaussian_filter(hu, SOFTENING_VOXELS, mode="nearest", truncate=3.0)
    scan = np.empty(hu.shape, np.int16)
    steps = [np.linspace(0, small - 1, size) for small, size in zip(coarse, hu.shape, strict=True)]
    for start in range(0, hu.shape[0], SLAB):
        slab = slice(start, min(start + SLAB, hu.shape[0]))
        local = _resampled(texture, steps[0][slab], steps[1], steps[2])
        body = soft[slab] > -980
        grain = random.standard_normal(local.shape, dtype=np.float32)
        value = soft[slab] + body * (noise * grain + gain[labels[slab]] * local)
        scan[slab] = np.clip(np.rint(value), HU_MIN, HU_MAX).astype(np.int16)
    return scan


def _resampled(coarse: np.ndarray, *steps: np.ndarray) -> np.ndarray:
    """Linear interpolation of an array at the product of positions along its axes."""
    for axis, at in enumerate(steps):
        below = np.minimum(at.astype(int), coarse.shape[axis] - 2)
        weight = (at - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(coarse.ndim)])
        lower, upper = np.take(coarse, below, axis), np.take(coarse, below + 1, axis)
        coarse = lower + weight * (upper - lower)
    return coarse

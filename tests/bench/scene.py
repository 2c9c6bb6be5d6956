"""What every projector is measured on: one generated body with 128 labels, a detector, five views.

The body is a torso of ellipsoids on a table: 79 organs, 5 lung lobes, 20 vertebrae and 24 ribs, with noise; labels are
the ids of our structures 1 to 128. Arrays are `(z, y, x)`; voxel centres lie at `world_from_voxel @ (x, y, z, 1)`, the
middle of the volume at the world's origin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render import materials

LABELS = 128
EXTENT_XYZ_MM = (409.6, 409.6, 400.0)
DETECTOR_MM = 400.0
SOURCE_TO_DETECTOR_MM, SOURCE_TO_ISOCENTER_MM = 1020.0, 700.0
ANGLES_DEG = ((180, 0), (147, -10), (119, 12), (90, -5), (163, -22))  # positioner primary, secondary
NOISE_HU = 12.0
SEED = 0
AIR, FAT, MUSCLE, FOAM, SHELL = -1000, -80, 45, -600, 50  # HU

LOBES, RIBS = range(10, 15), range(92, 116)  # left before right
VERTEBRAE = range(46, 26, -1)  # C5 down to L5
ORGANS = sorted(set(range(1, LABELS + 1)) - {*LOBES, *RIBS, *VERTEBRAE})


@dataclass(frozen=True)
class Scale:
    """How large the benchmark is; `rounds` times every view is timed."""

    shape_xyz: tuple[int, int, int]
    detector_px: int
    rounds: int

    @property
    def spacing_xyz_mm(self) -> np.ndarray:
        return np.array(EXTENT_XYZ_MM) / self.shape_xyz

    @property
    def world_from_voxel(self) -> np.ndarray:
        matrix = np.diag([*self.spacing_xyz_mm, 1.0])
        matrix[:3, 3] = -(np.array(self.shape_xyz) - 1) / 2 * self.spacing_xyz_mm
        return matrix

    @property
    def views(self) -> list[CArm]:
        return [
            CArm(
                source_to_detector_mm=SOURCE_TO_DETECTOR_MM,
                source_to_isocenter_mm=SOURCE_TO_ISOCENTER_MM,
                positioner_primary_angle_deg=primary,
                positioner_secondary_angle_deg=secondary,
                detector_width_px=self.detector_px,
                detector_height_px=self.detector_px,
                pixel_spacing_mm=DETECTOR_MM / self.detector_px,
            )
            for primary, secondary in ANGLES_DEG
        ]


FULL = Scale((512, 512, 400), 512, 3)
SMALL = Scale((128, 128, 100), 128, 1)
SCALES = {"full": FULL, "small": SMALL}


@dataclass(frozen=True)
class Rays:
    """A view as the peers want it, in world mm: source, centre of pixel (0, 0), steps per column and row, (3,) each."""

    source: np.ndarray
    corner: np.ndarray
    per_column: np.ndarray
    per_row: np.ndarray

    def targets(self, width: int, rows: np.ndarray) -> np.ndarray:
        """Centres of the pixels of these rows, (rows, width, 3) float64."""
        columns = np.arange(width)[None, :, None]
        return self.corner + columns * self.per_column + rows[:, None, None] * self.per_row


def rays_of(view: CArm) -> Rays:
    """The rays that the view's own matrices describe."""
    world_from_camera = np.linalg.inv(view.camera_from_world)
    per_pixel = world_from_camera[:3, :3] @ np.linalg.inv(view.intrinsic) * view.source_to_detector_mm
    source = world_from_camera[:3, 3]
    return Rays(source, source + per_pixel[:, 2], per_pixel[:, 0], per_pixel[:, 1])


def write_scene(folder: Path, scale: Scale) -> None:
    """Write `hu.npy`, `labels.npy`, `rows.npy` (of the material table) and `density.npy` (g/cm3) into `folder`.

    The peers know one material: their volume is the sum of the default materials' densities, float32.
    """
    hu, labels = body(scale)
    np.save(folder / "hu.npy", hu)
    np.save(folder / "labels.npy", labels)
    names = {structure.label_id: structure.name for structure in structures()}
    materials.set_rows(hu, labels, materials.kinds_of_labels(names))
    np.save(folder / "rows.npy", hu)
    density = np.empty(hu.shape, np.float32)
    for plane, rows in zip(density, hu, strict=True):
        plane[:] = one_material()[rows.astype(np.int32) + materials.ROW_OFFSET, 0]
    np.save(folder / "density.npy", density)


def each_label() -> list[tuple[str, tuple[int, ...]]]:
    """One mask for every label, in the form that the projector wants."""
    return [(str(label), (label,)) for label in range(1, LABELS + 1)]


def one_material() -> np.ndarray:
    """The default material table with all materials as one, (rows, 1) float32."""
    return materials.material_table().sum(axis=1, keepdims=True)


def body(scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """HU (int16) and labels (uint8); every label from 1 to 128 has voxels."""
    rng = np.random.default_rng(SEED)
    axes = [np.arange(n) * step for n, step in zip(scale.shape_xyz, scale.spacing_xyz_mm, strict=True)]
    axes = [(axis - axis[-1] / 2).astype(np.float32) for axis in axes]
    x, y, z = axes[0][None, None, :], axes[1][None, :, None], axes[2][:, None, None]
    shape = scale.shape_xyz[::-1]
    hu, labels = np.full(shape, AIR, np.int16), np.zeros(shape, np.uint8)
    taper = _taper(z)
    hu[(x / (170 * taper)) ** 2 + (y / (110 * taper)) ** 2 < 1] = FAT
    hu[(x / (158 * taper)) ** 2 + (y / (98 * taper)) ** 2 < 1] = MUSCLE
    table = np.broadcast_to((np.abs(y - 135) < 4) & (np.abs(x) < 200), shape)
    hu[table] = FOAM
    shell = np.broadcast_to((np.abs(np.abs(y - 135) - 4) < 0.9) & (np.abs(x) < 200), shape)
    hu[shell] = SHELL
    for centre, radii, value, label in _ellipsoids(rng):
        spans = [slice(*np.searchsorted(axis, (c - r, c + r))) for axis, c, r in zip(axes, centre, radii, strict=True)]
        box = spans[2], spans[1], spans[0]
        near = [(axis[span] - c) / r for axis, span, c, r in zip(axes, spans, centre, radii, strict=True)]
        inside = near[2][:, None, None] ** 2 + near[1][:, None] ** 2 + near[0] ** 2 < 1
        hu[box][inside] = value
        labels[box][inside] = label
    for plane in hu:
        plane += np.rint(rng.standard_normal(plane.shape, np.float32) * NOISE_HU).astype(np.int16)
    return np.clip(hu, -1024, 3071), labels


def _taper(z: np.ndarray | float) -> np.ndarray | float:
    return 1 - 0.15 * (z / 200) ** 2


def _ellipsoids(rng: np.random.Generator) -> Iterator[tuple[tuple, tuple, int, int]]:
    """Centre and half axes (x, y, z) in mm, HU, label; later ones lie on top of earlier ones."""
    lobes = (
        ((75, -5, 130), (55, 70, 55)),
        ((75, 5, 50), (58, 72, 60)),
        ((-75, -5, 140), (52, 68, 45)),
        ((-75, -20, 90), (50, 55, 35)),
        ((-75, 10, 40), (58, 70, 55)),
    )
    for label, (centre, radii) in zip(LOBES, lobes, strict=True):
        yield centre, radii, -820, label
    sizes = sorted(rng.uniform(8, 38, (len(ORGANS), 3)), key=np.prod, reverse=True)  # so that none hides another
    for label, radii in zip(ORGANS, sizes, strict=True):
        yield tuple(rng.uniform((-120, -60, -180), (120, 60, 60))), tuple(radii), int(rng.integers(20, 160)), label
    for number, label in enumerate(VERTEBRAE):
        z = 190 - 20 * number
        yield (0, 62, z), (21, 17, 8.5), 350, label
        yield (0, 62, z), (18, 14, 6.5), 220, label
        yield (0, 88, z), (6, 20, 6), 500, label
    for number, label in enumerate(RIBS):
        side, level = (1 if number < 12 else -1), 158 - 18 * (number % 12)
        for step, turn in enumerate(np.linspace(0.15, 2.6, 140)):
            z = level - 12 * turn
            centre = side * 150 * _taper(z) * np.sin(turn), 90 * _taper(z) * np.cos(turn), z
            yield centre, (5, 5, 6), 600 if step % 3 else 900, label

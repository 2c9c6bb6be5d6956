"""The projector: CT and labels to material mass maps and structure masks. Calls `kernels/`.

A camera is an `intrinsic` (3, 3) in pixels and a `camera_from_world` (4, 4) rigid motion in mm, with z from the source
towards the detector; the ray of pixel (x, y) runs from the source through `inverse(intrinsic) @ (x, y, 1)` and on
through the whole volume, wherever a detector may stand, unless a range of depths is given.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np

from fluorosam_cli.ct.volume import MAX_VOXELS
from fluorosam_cli.devices import available_threads
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render import MIN_PATH_MM

VERSION = "1"  # raised when the same view would give other numbers
MAX_LABELS = 1023  # the path through each label asked for is kept per ray, in 4 bytes
VIEWS_PER_LAUNCH = 8  # at most: enough to fill a GPU,
LAUNCH_BYTES = 2**29  # and their maps in this much memory; Warp's strides, a view's bytes here, are 32-bit numbers
EVERYWHERE = (0.0, 1e30)  # mm of depth

Interpolation = Literal["siddon", "joseph"]
Named = tuple[str, tuple[int, ...]]  # what the labels of these ids make up together


@dataclass(frozen=True)
class Projection:
    """One view: `mass_g_cm2` (M, H, W) float32, `bits` (H, W, words) uint32, `path_mm` (paths, H, W) float32 or None.

    `path_mm`, the path length through each of the projector's `paths`, is there only when asked for.
    """

    mass_g_cm2: np.ndarray
    bits: np.ndarray
    outputs: tuple[str, ...]
    path_mm: np.ndarray | None = None

    def mask(self, output: int) -> np.ndarray:
        """Where output number `output` lies on the ray, (H, W) bool."""
        return (self.bits[..., output // 32] >> np.uint32(output % 32)) & np.uint32(1) != 0


def count_gpus() -> int:
    """The CUDA devices that Warp finds."""
    wp = started_warp()
    return wp.get_cuda_device_count() if wp.is_cuda_available() else 0


@cache
def started_warp():
    """The module `warp`, quiet, and with its compiled kernels where our cache is."""
    import warp as wp

    wp.config.log_level = wp.LOG_ERROR  # its remarks go to stdout, which belongs to the command
    if os.environ.get("FLUORO_CACHE"):
        wp.config.kernel_cache_dir = os.path.join(os.environ["FLUORO_CACHE"], "kernels")
    stderr = os.dup(2)
    try:  # without a CUDA driver its native code says so on stderr, whatever the log level
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        wp.init()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    return wp


class Projector:
    """Holds one CT on a device and projects views of it.

    `rows` (z, y, x) int16: each voxel's row in `material_table` less 1024, as `materials.set_rows` makes them; plain HU
    are the first 4096 rows. `labels` (z, y, x) uint8 or uint16, or None for the image alone. `world_from_voxel` (4, 4)
    maps voxel indices (x, y, z, 1), voxel centres at integers, to mm and may be any invertible affine. `outputs` names
    the masks and the label ids each is made of: their paths are summed before `min_path_mm` decides. `paths` likewise
    names the sums of path lengths that a projection carries on request, the outputs' by default. `material_table`
    (rows, M): density in g/cm3 of each material. Voxels whose row is 0 and whose label is in no output count as empty,
    and rays are cut back to what is not; so the table should be 0 for air.

    `interpolation` decides the image: `siddon`, voxels with sharp edges, or `joseph`, linear between voxel centres.
    Masks and paths are Siddon's in both.

    On the CPU the arrays are shared, not copied, and `threads` (default: all cores) launch tiles of rows; the bytes of
    the result do not depend on their number.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray | None,
        world_from_voxel: np.ndarray,
        outputs: Sequence[Named],
        material_table: np.ndarray,
        *,
        paths: Sequence[Named] | None = None,
        interpolation: Interpolation = "siddon",
        device: str = "cpu",
        min_path_mm: float = MIN_PATH_MM,
        threads: int | None = None,
    ) -> None:
        from fluorosam_cli.kernels import (  # pyright: ignore[reportMissingImports] - the folder `kernels`
            ROW_OFFSET,
            bricks,
            joseph,
            siddon,
        )

        wp = started_warp()
        if labels is None:
            labels, outputs, paths = np.zeros(1, np.uint8), (), ()
        elif labels.shape != rows.shape:
            raise FluoroError(
                f"labels have shape {labels.shape}, the CT {rows.shape}", "give labels on the CT's own grid"
            )
        elif labels.dtype not in (np.uint8, np.uint16):
            raise FluoroError(f"the labels are {labels.dtype}, uint8 or uint16 is needed", "convert them first")
        if rows.size > MAX_VOXELS:
            raise FluoroError(f"the CT has {rows.size} voxels, at most {MAX_VOXELS} fit", "resample it")
        paths = outputs if paths is None else paths
        self.outputs = tuple(name for name, _ in outputs)
        self.paths = tuple(name for name, _ in paths)
        self._words = max(1, -(-len(outputs) // 32))  # of 32 bits, one for each output
        self.device = device
        self.min_path_mm = min_path_mm
        self.threads = threads or available_threads()
        self.materials = material_table.shape[1]
        self.voxel_from_world = np.linalg.inv(np.asarray(world_from_voxel, np.float64))
        slot_of_label, members, slots = _slots(outputs, paths, labels.dtype)
        label_type = wp.uint16 if labels.dtype == np.uint16 else wp.uint8
        densities = wp.types.vector(length=siddon.padded(self.materials), dtype=wp.float32)
        self._packet = siddon.PACKET["cpu" if device == "cpu" else "cuda"]

        def on_device(array: np.ndarray, dtype: object):
            return wp.array(np.ascontiguousarray(array), dtype=dtype, device=device, copy=False)

        row_range = -ROW_OFFSET, len(material_table) - 1 - ROW_OFFSET
        voxel_rows = on_device(_within_table(rows, *row_range).reshape(-1), wp.int16)
        voxel_labels = on_device(labels.reshape(-1), label_type)
        slot_of = on_device(slot_of_label, wp.int32)
        padding = ((0, 0), (0, siddon.padded(self.materials) - self.materials))
        table = on_device(np.pad(material_table.astype(np.float32), padding), densities)
        has_mass = on_device(np.any(material_table, axis=1).astype(np.uint8), wp.uint8)
        shape = wp.vec3i(*rows.shape[::-1])
        bricks_zyx = tuple(-(-n // bricks.BRICK) for n in rows.shape)
        brick_shape = wp.vec3i(*bricks_zyx[::-1])

        def occupied_bricks(reach: int) -> tuple:
            occupied = wp.zeros(int(np.prod(bricks_zyx)), dtype=wp.uint8, device=device)
            wp.launch(
                bricks.brick_kernel(slots > 0, label_type),
                dim=bricks_zyx,
                inputs=[voxel_rows, voxel_labels, slot_of, has_mass, shape, brick_shape, reach],
                outputs=[occupied],
                device=device,
            )
            low, high = (wp.vec3i(*bound) for bound in _box(occupied.numpy().reshape(bricks_zyx)))
            return occupied, brick_shape, low, high

        self.voxels = (voxel_rows, shape, table)  # what else walks through the CT
        walked = 0 if interpolation == "joseph" else self.materials
        no_table = on_device(np.zeros((1, 1)), wp.types.vector(length=siddon.padded(0), dtype=wp.float32))
        densities_walked = table if walked else no_table
        self._walk = (voxel_rows, voxel_labels, shape, slot_of, densities_walked, *occupied_bricks(reach=0))
        self._members = tuple(on_device(array, wp.int32) for array in members)
        self._image = (voxel_rows, shape, table, *occupied_bricks(reach=1)) if interpolation == "joseph" else ()
        self._walk_kernel = (
            siddon.projection_kernel(walked, slots, label_type, self._packet) if walked or slots else None
        )
        self._image_kernel = joseph.joseph_kernel(self.materials) if interpolation == "joseph" else None
        for kernel in (self._walk_kernel, self._image_kernel):
            if kernel:  # compiled now, and not once per thread
                kernel.module.load(device, block_dim=1 if device == "cpu" else None)

    def project(
        self,
        intrinsic: np.ndarray,
        camera_from_world: np.ndarray,
        width: int,
        height: int,
        depths_mm: tuple[float, float] = EVERYWHERE,
        paths: bool = False,
    ) -> Projection:
        """One view of `width` x `height` pixels; with `paths`, also the path lengths.

        Nothing is seen whose depth, the camera's z, is not within `depths_mm`.
        """
        return self.project_views([(intrinsic, camera_from_world, depths_mm)], width, height, paths)[0]

    def views_per_launch(self, width: int, height: int, paths: bool = False) -> int:
        """How many views of a size fit in one launch: at least one, whatever memory it takes."""
        return max(1, min(VIEWS_PER_LAUNCH, LAUNCH_BYTES // self.view_bytes(width, height, paths)))

    def view_bytes(self, width: int, height: int, paths: bool = False) -> int:
        """What the maps of one view take."""
        return 4 * (self.materials + self._words + (len(self.paths) if paths else 0)) * width * height

    def project_views(
        self,
        cameras: Sequence[tuple[np.ndarray, np.ndarray, tuple[float, float]]],
        width: int,
        height: int,
        paths: bool = False,
    ) -> list[Projection]:
        """Views of one size, each an intrinsic, a camera_from_world and a range of depths; in one launch on CUDA.

        Raises FluoroError for more of them than `views_per_launch`.
        """
        from fluorosam_cli.kernels import rays as tiles  # pyright: ignore[reportMissingImports] - the folder `kernels`

        most = self.views_per_launch(width, height, paths)
        if len(cameras) > most:
            raise FluoroError(
                f"{len(cameras)} views of {width} x {height} pixels at once, at most {most} fit", "project fewer"
            )
        wp = started_warp()
        rays = wp.array(
            np.stack([ray_rows(self.voxel_from_world, *camera) for camera in cameras]),
            dtype=wp.vec3d,
            device=self.device,
        )
        views, pixels = len(cameras), width * height
        words = self._words
        sums = (views, len(self.paths), pixels) if paths else (1, 1, 0)
        mass = wp.zeros((views, self.materials, pixels), dtype=wp.float32, device=self.device)
        bits = wp.zeros((views, pixels, words), dtype=wp.uint32, device=self.device)
        path_mm = wp.zeros(sums, dtype=wp.float32, device=self.device)

        down, across = -(-height // tiles.TILE_ROWS), -(-width // tiles.TILE_COLUMNS)

        def launch(first_view: int, some_views: int, first_tile: int, some_tiles: int) -> None:
            many, pixels_each = (some_views, some_tiles, across), tiles.TILE_ROWS * tiles.TILE_COLUMNS
            tile = (first_view, first_tile, width, height)
            if self._image_kernel:
                wp.launch(
                    self._image_kernel,
                    (*many, pixels_each),
                    inputs=[*self._image, rays, *tile],
                    outputs=[mass],
                    device=self.device,
                )
            if self._walk_kernel:
                wp.launch(
                    self._walk_kernel,
                    (*many, pixels_each // self._packet),
                    inputs=[*self._walk, rays, *tile, *self._members, self.min_path_mm],
                    outputs=[mass, bits, path_mm],
                    device=self.device,
                )

        if self.device == "cpu":
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(lambda tile: launch(tile[0], 1, tile[1], 1), product(range(views), range(down))))
        else:
            launch(0, views, 0, down)
        masses = mass.numpy().reshape(views, self.materials, height, width)
        masks = bits.numpy().reshape(views, height, width, words)
        lengths = path_mm.numpy().reshape(*sums[:2], height, width) if paths else None
        return [
            Projection(masses[view], masks[view], self.outputs, None if lengths is None else lengths[view])
            for view in range(views)
        ]


def ray_rows(
    voxel_from_world: np.ndarray,
    intrinsic: np.ndarray,
    camera_from_world: np.ndarray,
    depths_mm: tuple[float, float] = EVERYWHERE,
) -> np.ndarray:
    """The kernels' `rays` of one view, (8, 3) float64: see `kernels/rays.py`."""
    camera_from_world = np.asarray(camera_from_world, np.float64)
    world_from_camera = camera_from_world[:3, :3].T
    world_from_pixel = world_from_camera @ np.linalg.inv(np.asarray(intrinsic, np.float64))
    mm = world_from_pixel[:, [2, 0, 1]].T  # direction of pixel (0, 0), its change per column, per row
    source_mm = -world_from_camera @ camera_from_world[:3, 3]
    linear = voxel_from_world[:3, :3]
    source = linear @ source_mm + voxel_from_world[:3, 3] + 0.5  # voxel i spans [i, i + 1) in the kernel
    return np.concatenate([source[None], mm @ linear.T, mm, [[*depths_mm, 0.0]]])


def _slots(
    outputs: Sequence[Named], paths: Sequence[Named], label_type: np.dtype
) -> tuple[np.ndarray, list[np.ndarray], int]:
    """Slot of each label id, the kernel's compressed rows of members and parts, and how many slots it needs.

    Labels are numbered densely from 1, so that a ray's memory grows with the labels asked for and not with their ids.
    The kernel's number is rounded up, so that few different ones are ever compiled.
    """
    ids = sorted({label_id for _, label_ids in (*outputs, *paths) for label_id in label_ids})
    size = 65536 if label_type == np.uint16 else 256
    if ids and not 0 < ids[0] <= ids[-1] < size:
        raise FluoroError(f"label ids {ids[0]} to {ids[-1]} do not fit {label_type}", f"use ids from 1 to {size - 1}")
    if len(ids) > MAX_LABELS:
        raise FluoroError(f"{len(ids)} labels, at most {MAX_LABELS} fit in one pass", "leave some out")
    slot_of_label = np.zeros(size, np.int32)
    slot_of_label[ids] = np.arange(1, len(ids) + 1)
    members, path_members = (
        [sorted({int(slot_of_label[label_id]) for label_id in label_ids}) for _, label_ids in named]
        for named in (outputs, paths)
    )
    parts: list[list[int]] = [[] for _ in range(len(ids) + 1)]
    for output, row in enumerate(members):
        for slot in row:
            parts[slot].append(output)
    slots = -(-(len(ids) + 1) // 32) * 32 if ids else 0
    return slot_of_label, [*_rows(members), *_rows(parts), *_rows(path_members)], slots


def _rows(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Compressed rows: where each begins (rows + 1), and what they hold."""
    starts = np.cumsum([0, *(len(row) for row in rows)])
    return starts.astype(np.int32), np.array([item for row in rows for item in row] or [0], np.int32)


def _within_table(rows: np.ndarray, low: int, high: int) -> np.ndarray:
    """The volume itself when every voxel has a row in the material table, else a clipped copy."""
    if rows.dtype != np.int16:
        raise FluoroError(f"the CT's voxels are {rows.dtype}, int16 HU are needed", "convert it to HU first")
    if low <= rows.min() and rows.max() <= high:
        return rows
    return np.clip(rows, low, high)


def _box(occupied: np.ndarray) -> tuple[list[int], list[int]]:
    """Bounds (x, y, z) of the occupied bricks, the upper exclusive; one brick when there are none."""
    if not occupied.any():
        return [0, 0, 0], [1, 1, 1]
    spans = [np.flatnonzero(occupied.any(axis=other)) for other in ((0, 1), (0, 2), (1, 2))]
    return [int(span[0]) for span in spans], [int(span[-1]) + 1 for span in spans]

"""The projector: CT and labels to material mass maps and structure masks. The only caller of `kernels/`.

A camera is an `intrinsic` (3, 3) in pixels and a `camera_from_world` (4, 4) rigid motion in mm, with z from the source
towards the detector; the ray of pixel (x, y) runs from the source through `inverse(intrinsic) @ (x, y, 1)` and on
through the whole volume, wherever a detector may stand.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from fluorosam_cli.errors import FluoroError

VERSION = "1"  # raised when the same view would give other numbers
MIN_PATH_MM = 1.0  # a structure shows where a ray runs through this much of it; below is the staircase of the voxels
TILE_ROWS = 16  # rows of a view that one CPU thread projects at a time
MAX_VOXELS = 2**31 - 1  # voxels are numbered with 32 bits
MAX_LABELS = 1023  # the path through each label asked for is kept per ray, in 4 bytes


@dataclass(frozen=True)
class Projection:
    """One view: `mass_g_cm2` (M, H, W) float32, `bits` (H, W, words) uint32, `travel_mm` (outputs, H, W) float32.

    `travel_mm`, the path length through each output, is there only when asked for.
    """

    mass_g_cm2: np.ndarray
    bits: np.ndarray
    outputs: tuple[str, ...]
    travel_mm: np.ndarray | None = None

    def mask(self, output: int) -> np.ndarray:
        """Where output number `output` lies on the ray, (H, W) bool."""
        return (self.bits[..., output // 32] >> np.uint32(output % 32)) & np.uint32(1) != 0

    def seen(self) -> list[int]:
        """The numbers of the outputs that have at least one pixel."""
        words = np.bitwise_or.reduce(self.bits, axis=(0, 1))
        return [i for i in range(len(self.outputs)) if words[i // 32] >> np.uint32(i % 32) & np.uint32(1)]


def device_named(name: str) -> str:
    """The Warp device for `auto`, `cpu`, `cuda` or `cuda:N`. Raises FluoroError when there is no such device."""
    wp = _warp()
    if name == "auto":
        return "cuda:0" if wp.is_cuda_available() else "cpu"
    if name == "cpu":
        return name
    if name.partition(":")[0] != "cuda":
        raise FluoroError(f"{name}: not a device", "give auto, cpu, cuda or cuda:N")
    if not wp.is_cuda_available():
        raise FluoroError(f"no CUDA device; --device {name} was requested", "use --device cpu, or check nvidia-smi")
    number = name.partition(":")[2] or "0"
    if not number.isdigit() or int(number) >= wp.get_cuda_device_count():
        count = wp.get_cuda_device_count()
        raise FluoroError(f"no CUDA device {number}; {count} found", f"give --device cuda:0 to cuda:{count - 1}")
    return f"cuda:{int(number)}"


def available_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _warp():
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

    `volume_hu` (z, y, x) int16; `labels` (z, y, x) uint8 or uint16, or None for the image alone; `world_from_voxel`
    (4, 4) maps voxel indices (x, y, z, 1), voxel centres at integers, to mm and may be any invertible affine.
    `outputs` names the masks and the label ids each is made of: their paths are summed before `min_path_mm` decides.
    `material_table` (4096, M): density in g/cm3 of each material for HU = row - 1024. Voxels whose row is 0 and whose
    label is in no output count as empty, and rays are cut back to what is not; so the table should be 0 for air.

    On the CPU the arrays are shared, not copied, and `threads` (default: all cores) launch tiles of rows; the bytes of
    the result do not depend on their number.
    """

    def __init__(
        self,
        volume_hu: np.ndarray,
        labels: np.ndarray | None,
        world_from_voxel: np.ndarray,
        outputs: Sequence[tuple[str, tuple[int, ...]]],
        material_table: np.ndarray,
        device: str = "cpu",
        min_path_mm: float = MIN_PATH_MM,
        threads: int | None = None,
    ) -> None:
        from fluorosam_cli.kernels import siddon  # pyright: ignore[reportMissingImports] - the folder `kernels`

        wp = _warp()
        if labels is None:
            labels, outputs = np.zeros(1, np.uint8), ()
        elif labels.shape != volume_hu.shape:
            raise FluoroError(
                f"labels have shape {labels.shape}, the CT {volume_hu.shape}", "give labels on the CT's own grid"
            )
        elif labels.dtype not in (np.uint8, np.uint16):
            raise FluoroError(f"the labels are {labels.dtype}, uint8 or uint16 is needed", "convert them first")
        if volume_hu.size > MAX_VOXELS:
            raise FluoroError(f"the CT has {volume_hu.size} voxels, at most {MAX_VOXELS} fit", "resample it")
        self.outputs = tuple(name for name, _ in outputs)
        self.device = device
        self.min_path_mm = min_path_mm
        self.threads = threads or available_threads()
        self.materials = material_table.shape[1]
        self._voxel_from_world = np.linalg.inv(np.asarray(world_from_voxel, np.float64))
        slot_of_label, members, parts, slots = _slots(outputs, labels.dtype)
        label_type = wp.uint16 if labels.dtype == np.uint16 else wp.uint8
        densities = wp.types.vector(length=self.materials, dtype=wp.float32)

        def on_device(array: np.ndarray, dtype: object):
            return wp.array(np.ascontiguousarray(array), dtype=dtype, device=device, copy=False)

        hu_range = -siddon.HU_OFFSET, len(material_table) - 1 - siddon.HU_OFFSET
        hu = on_device(_within_table(volume_hu, *hu_range).reshape(-1), wp.int16)
        voxel_labels = on_device(labels.reshape(-1), label_type)
        slot_of = on_device(slot_of_label, wp.int32)
        table = on_device(material_table.astype(np.float32), densities)
        has_mass = on_device(np.any(material_table, axis=1).astype(np.uint8), wp.uint8)
        shape = wp.vec3i(*volume_hu.shape[::-1])
        bricks_zyx = tuple(-(-n // siddon.BRICK) for n in volume_hu.shape)
        bricks = wp.vec3i(*bricks_zyx[::-1])
        occupied = wp.zeros(int(np.prod(bricks_zyx)), dtype=wp.uint8, device=device)
        wp.launch(
            siddon.brick_kernel(slots > 0, label_type),
            dim=bricks_zyx,
            inputs=[hu, voxel_labels, slot_of, has_mass, shape, bricks],
            outputs=[occupied],
            device=device,
        )
        low, high = (wp.vec3i(*bound) for bound in _box(occupied.numpy().reshape(bricks_zyx)))
        self._grid = (hu, voxel_labels, shape, slot_of, table, occupied, bricks, low, high)
        self._outputs = tuple(on_device(array, wp.int32) for array in (*members, *parts))
        self._kernel = siddon.projection_kernel(self.materials, slots, label_type)
        self._kernel.module.load(device, block_dim=1 if device == "cpu" else None)  # now, and not once per thread

    def project(
        self,
        intrinsic: np.ndarray,
        camera_from_world: np.ndarray,
        width: int,
        height: int,
        travel: bool = False,
    ) -> Projection:
        """One view of `width` x `height` pixels; with `travel`, also the path length through every output."""
        wp = _warp()
        rays = wp.array(self._rays(intrinsic, camera_from_world)[None], dtype=wp.vec3d, device=self.device)
        pixels, outputs = width * height, len(self.outputs)
        words = max(1, -(-outputs // 32))
        mass = wp.zeros((1, self.materials, pixels), dtype=wp.float32, device=self.device)
        bits = wp.zeros((1, pixels, words), dtype=wp.uint32, device=self.device)
        paths = wp.zeros((1, outputs, pixels) if travel else (1, 1, 0), dtype=wp.float32, device=self.device)

        def launch(first_row: int, rows: int) -> None:
            wp.launch(
                self._kernel,
                dim=(1, rows, width),
                inputs=[*self._grid, rays, first_row, width, *self._outputs, self.min_path_mm],
                outputs=[mass, bits, paths],
                device=self.device,
            )

        if self.device == "cpu":
            with ThreadPoolExecutor(self.threads) as pool:
                first_rows = range(0, height, TILE_ROWS)
                list(pool.map(lambda row: launch(row, min(TILE_ROWS, height - row)), first_rows))
        else:
            launch(0, height)
        return Projection(
            mass.numpy().reshape(self.materials, height, width),
            bits.numpy().reshape(height, width, words),
            self.outputs,
            paths.numpy().reshape(outputs, height, width) if travel else None,
        )

    def _rays(self, intrinsic: np.ndarray, camera_from_world: np.ndarray) -> np.ndarray:
        """The kernel's `rays` of one view, (7, 3) float64: see `kernels/siddon.py`."""
        camera_from_world = np.asarray(camera_from_world, np.float64)
        world_from_camera = camera_from_world[:3, :3].T
        world_from_pixel = world_from_camera @ np.linalg.inv(np.asarray(intrinsic, np.float64))
        mm = world_from_pixel[:, [2, 0, 1]].T  # direction of pixel (0, 0), its change per column, per row
        source_mm = -world_from_camera @ camera_from_world[:3, 3]
        linear = self._voxel_from_world[:3, :3]
        source = linear @ source_mm + self._voxel_from_world[:3, 3] + 0.5  # voxel i spans [i, i + 1) in the kernel
        return np.concatenate([source[None], mm @ linear.T, mm])


Rows = tuple[np.ndarray, np.ndarray]  # compressed rows: where each begins (rows + 1), and what they hold


def _slots(outputs: Sequence[tuple[str, tuple[int, ...]]], label_type: np.dtype) -> tuple[np.ndarray, Rows, Rows, int]:
    """Slot of each label id, the slots of each output, the outputs of each slot, and how many slots the kernel needs.

    Labels are numbered densely from 1, so that a ray's memory grows with the labels asked for and not with their ids.
    The kernel's number is rounded up, so that few different ones are ever compiled.
    """
    ids = sorted({label_id for _, label_ids in outputs for label_id in label_ids})
    size = 65536 if label_type == np.uint16 else 256
    if ids and not 0 < ids[0] <= ids[-1] < size:
        raise FluoroError(f"label ids {ids[0]} to {ids[-1]} do not fit {label_type}", f"use ids from 1 to {size - 1}")
    if len(ids) > MAX_LABELS:
        raise FluoroError(f"{len(ids)} labels, at most {MAX_LABELS} fit in one pass", "leave some out")
    slot_of_label = np.zeros(size, np.int32)
    slot_of_label[ids] = np.arange(1, len(ids) + 1)
    members = [sorted({int(slot_of_label[label_id]) for label_id in label_ids}) for _, label_ids in outputs]
    parts: list[list[int]] = [[] for _ in range(len(ids) + 1)]
    for output, row in enumerate(members):
        for slot in row:
            parts[slot].append(output)
    slots = -(-(len(ids) + 1) // 32) * 32 if ids else 0
    return slot_of_label, _rows(members), _rows(parts), slots


def _rows(rows: list[list[int]]) -> Rows:
    starts = np.cumsum([0, *(len(row) for row in rows)])
    return starts.astype(np.int32), np.array([item for row in rows for item in row] or [0], np.int32)


def _within_table(volume_hu: np.ndarray, low: int, high: int) -> np.ndarray:
    """The volume itself when every HU has a row in the material table, else a clipped copy."""
    if volume_hu.dtype != np.int16:
        raise FluoroError(f"the CT's voxels are {volume_hu.dtype}, int16 HU are needed", "convert it to HU first")
    if low <= volume_hu.min() and volume_hu.max() <= high:
        return volume_hu
    return np.clip(volume_hu, low, high)


def _box(occupied: np.ndarray) -> tuple[list[int], list[int]]:
    """Bounds (x, y, z) of the occupied bricks, the upper exclusive; one brick when there are none."""
    if not occupied.any():
        return [0, 0, 0], [1, 1, 1]
    spans = [np.flatnonzero(occupied.any(axis=other)) for other in ((0, 1), (0, 2), (1, 2))]
    return [int(span[0]) for span in spans], [int(span[-1]) + 1 for span in spans]

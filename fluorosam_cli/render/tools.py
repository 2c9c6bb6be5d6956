"""Tools in the beam: what their meshes add to the mass on each ray, which tissue they displace, and their masks.

The only caller of `kernels/mesh.py`. Chords are exact: every mesh is closed, and a ray's path inside is found from its
crossings with the triangles. The rules where bodies share space:

- each part adds its own mass, its self-overlap counted once; the masses of different parts add up;
- tissue gives way to the union of all parts of all tools: what lies inside two of them goes once.

A part several pixels wide is seen along the pixel's central ray. Thinner ones, which might slip between two rays, are
seen along 2x2 or 4x4 rays spread over the pixel, and the mass is their mean. The mask of a tool holds every pixel with
a ray that runs through it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np

from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.render.physics import density_g_cm3
from fluorosam_cli.render.projector import EVERYWHERE, Projector, ray_rows, started_warp
from fluorosam_cli.tools.placement import PlacedTool

THIN_PX = 3.0  # parts thinner than this on the image get 2x2 rays a pixel,
HAIR_PX = 1.0  # and thinner than this 4x4
CLOSEST_MM = 1.0  # to the source's plane that a tool may come
MAX_TOOLS = 10  # of six parts each, as the leads with a case have: a pixel's crossings tell 64 parts apart
_CHUNK = 8192  # triangles or crossings that one CPU thread takes at a time, at least


@dataclass(frozen=True, eq=False)
class ToolProjection:
    """What the tools of a view do to it."""

    materials: tuple[str, ...]
    mass_g_cm2: np.ndarray  # (tool materials, H, W) float32, to be added
    displaced_g_cm2: np.ndarray  # (tissue materials, H, W) float32, to be subtracted
    masks: np.ndarray  # (tools, H, W) bool


def check_pixels(width: int, height: int) -> None:
    """Raises UsageError for a detector on which no tools can be projected."""
    from fluorosam_cli.kernels import mesh  # pyright: ignore[reportMissingImports] - the folder `kernels`

    if width * height > mesh.MAX_PIXELS:
        side = isqrt(mesh.MAX_PIXELS)
        raise UsageError(
            f"a detector of {width} x {height} pixels: with tools at most {mesh.MAX_PIXELS} fit, {side} x {side}",
            "take a smaller size, or no tools",
        )


def project_tools(
    placed: Sequence[PlacedTool],
    intrinsic: np.ndarray,
    camera_from_world: np.ndarray,
    width: int,
    height: int,
    tissue: Projector,
    depths_mm: tuple[float, float] = EVERYWHERE,
) -> ToolProjection:
    """Project placed tools with a camera as in `projector.py`.

    `tissue` is that of the CT, which gives way to them; `depths_mm` are the depths between which the image shows it.

    Raises FluoroError for a tool that reaches the source, and for more tools, parts or pixels than fit.
    """
    from fluorosam_cli.kernels import mesh as kernels  # pyright: ignore[reportMissingImports] - the folder `kernels`

    wp: Any = started_warp()
    device = tissue.device
    parts = [(number, part) for number, tool in enumerate(placed) for part in tool.parts]
    pixels = width * height
    check_pixels(width, height)
    if len(placed) > MAX_TOOLS or len(parts) > kernels.MAX_PARTS:
        raise FluoroError(
            f"{len(placed)} tools of {len(parts)} parts: at most {MAX_TOOLS} tools and {kernels.MAX_PARTS} parts fit",
            "use fewer tools in a view",
        )
    camera = _Camera.of(intrinsic, camera_from_world)
    surface = _surface([part.vertices_lps_mm for _, part in parts], [part.triangles for _, part in parts], camera)
    for (number, _), depth_mm, reach_px in zip(parts, surface.nearest_mm, surface.reach_px, strict=True):
        if depth_mm < CLOSEST_MM or reach_px * kernels.SUBPIXEL > kernels.MAX_COORDINATE:
            raise FluoroError(f"{placed[number].name}: reaches the X-ray source", "place it closer to the patient")
    samples = [
        _samples(part.thickness_mm, depth, camera) for (_, part), depth in zip(parts, surface.nearest_mm, strict=True)
    ]
    run = _runner(wp, device, tissue.threads)
    keys, crossings = _crossings(wp, kernels, run, surface, samples, camera, width, height, device)

    materials = tuple(dict.fromkeys(part.material for _, part in parts))
    mass = wp.zeros((len(materials), pixels), dtype=wp.float32, device=device)
    hits = wp.zeros(pixels, dtype=wp.uint32, device=device)
    displaced = wp.zeros((tissue.materials, pixels), dtype=wp.float32, device=device)
    if crossings:
        part_arrays = (
            (np.array([density_g_cm3(part.material) for _, part in parts]), wp.float32),
            (np.array([materials.index(part.material) for _, part in parts]), wp.int32),
            (np.array([number for number, _ in parts]), wp.int32),
        )
        body = [wp.array(values, dtype=dtype, device=device) for values, dtype in part_arrays]
        rays = ray_rows(tissue.voxel_from_world, camera.intrinsic, camera_from_world, depths_mm)
        body += [*tissue.voxels, wp.array(rays[None], dtype=wp.vec3d, device=device), width]
        distances = [surface.near_mm, (surface.far_mm - surface.near_mm) / kernels.DEPTH_STEPS]
        run(
            kernels.collect_kernel(tissue.materials),
            crossings,
            lambda first: [keys, first, crossings, *distances, *body],
            [mass, hits, displaced],
        )
    bits = hits.numpy().reshape(height, width)
    return ToolProjection(
        materials,
        mass.numpy().reshape(len(materials), height, width),
        displaced.numpy().reshape(tissue.materials, height, width),
        np.stack([bits >> np.uint32(number) & np.uint32(1) != 0 for number in range(len(placed))])
        if placed
        else np.zeros((0, height, width), bool),
    )


def _crossings(
    wp: Any,
    kernels: Any,
    run: "_Run",
    surface: "_Surface",
    samples: list[int],
    camera: "_Camera",
    width: int,
    height: int,
    device: str,
) -> tuple[Any, int]:
    """All crossings of rays with triangles as sorted keys on the device, and how many there are."""
    count = len(surface.triangles)
    if not count:
        return None, 0
    counts = wp.zeros(count, dtype=wp.int32, device=device)
    mesh = [
        wp.array(surface.triangles, dtype=wp.vec3i, device=device),
        wp.array(np.rint(surface.corners_px * kernels.SUBPIXEL).astype(np.int64), dtype=wp.vec2l, device=device),
        wp.array(1 / surface.z_mm, dtype=wp.float64, device=device),
        wp.array(surface.part_of, dtype=wp.int32, device=device),
        wp.array(np.array(samples), dtype=wp.int32, device=device),
    ]
    view = [width, height, int(camera.mirrored), wp.mat33d(*camera.ray_from_pixel.ravel().tolist())]
    view += [surface.near_mm, kernels.DEPTH_STEPS / (surface.far_mm - surface.near_mm)]

    def rasterise(place: Any, keys: Any) -> None:
        run(kernels.rasterise, count, lambda first: [*mesh, first, *view, place], [counts, keys])

    nothing = wp.empty(0, dtype=wp.int64, device=device)
    rasterise(nothing, nothing)
    ends = np.cumsum(counts.numpy(), dtype=np.int64)
    crossings = int(ends[-1])
    if not crossings:
        return None, 0
    keys = wp.empty(crossings if device == "cpu" else 2 * crossings, dtype=wp.int64, device=device)
    rasterise(wp.array(np.concatenate([[0], ends[:-1]]), dtype=wp.int64, device=device), keys)
    if device == "cpu":
        keys.numpy().sort()
    else:  # wants room for twice as many
        wp.utils.radix_sort_pairs(keys, wp.empty(2 * crossings, dtype=wp.int32, device=device), crossings)
    return keys, crossings


_Run = Callable[[Any, int, Callable[[int], list], list], None]


def _runner(wp: Any, device: str, threads: int) -> _Run:
    """Launches a kernel over `count` items: in chunks from a few threads on the CPU, at once elsewhere."""

    def run(kernel: Any, count: int, inputs: Callable[[int], list], outputs: list) -> None:
        kernel.module.load(device, block_dim=1 if device == "cpu" else None)

        def launch(first: int, size: int) -> None:
            wp.launch(kernel, dim=size, inputs=inputs(first), outputs=outputs, device=device)

        if device != "cpu":
            launch(0, count)
            return
        size = max(_CHUNK, count // (4 * threads))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda first: launch(first, min(size, count - first)), range(0, count, size)))

    return run


# --- camera and surface -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Camera:
    intrinsic: np.ndarray
    camera_from_world: np.ndarray
    ray_from_pixel: np.ndarray  # direction in the camera with z = 1

    @classmethod
    def of(cls, intrinsic: np.ndarray, camera_from_world: np.ndarray) -> "_Camera":
        matrix = np.asarray(intrinsic, np.float64) / np.asarray(intrinsic)[2, 2]
        return cls(matrix, np.asarray(camera_from_world, np.float64), np.linalg.inv(matrix))

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.intrinsic) < 0)

    @property
    def focal_px(self) -> float:
        return float(np.sqrt(abs(np.linalg.det(self.intrinsic[:2, :2]))))


@dataclass(frozen=True, eq=False)
class _Surface:
    """All parts as one list of triangles, in the image."""

    triangles: np.ndarray  # (T, 3)
    part_of: np.ndarray  # (T)
    corners_px: np.ndarray  # (V, 2)
    z_mm: np.ndarray  # (V)
    nearest_mm: list[float]  # of each part, along z
    reach_px: list[float]  # of each part, the farthest corner from the image's origin
    near_mm: float  # distances from the source between which all of it lies
    far_mm: float


def _surface(vertices: list[np.ndarray], triangles: list[np.ndarray], camera: _Camera) -> _Surface:
    offsets = np.cumsum([0, *(len(part) for part in vertices)])
    matrix = camera.camera_from_world
    points = np.concatenate([np.zeros((0, 3)), *vertices]) @ matrix[:3, :3].T + matrix[:3, 3]
    z = points[:, 2]
    safe = np.maximum(z, CLOSEST_MM)
    pixels = (points @ camera.intrinsic.T)[:, :2] / safe[:, None]
    spans = list(pairwise(offsets))
    distance = np.sqrt((points**2).sum(axis=1))
    return _Surface(
        triangles=np.concatenate(
            [np.zeros((0, 3), np.int32), *(part + offset for part, offset in zip(triangles, offsets, strict=False))]
        ).astype(np.int32),
        part_of=np.repeat(np.arange(len(triangles), dtype=np.int32), [len(part) for part in triangles]),
        corners_px=pixels,
        z_mm=safe,
        nearest_mm=[float(z[a:b].min(initial=np.inf)) for a, b in spans],
        reach_px=[float(np.abs(pixels[a:b]).max(initial=0)) for a, b in spans],
        near_mm=float(safe.min(initial=np.inf)) - 1.0,
        far_mm=float(distance.max(initial=0)) + 1.0,
    )


def _samples(thickness_mm: float, depth_mm: float, camera: _Camera) -> int:
    """Rays a side of a pixel, for a part so thick at that distance from the source."""
    pixels = thickness_mm * camera.focal_px / depth_mm
    return 4 if pixels < HAIR_PX else 2 if pixels < THIN_PX else 1

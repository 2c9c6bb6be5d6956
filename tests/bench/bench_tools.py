"""What four tools of 20,000 triangles add to the projection of image and all masks, view by view in one process."""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from tests.bench.bench import Bench, Failed, alone_in_python
from tests.bench.contenders import THREADS
from tests.bench.rows import Row
from tests.bench.scene import SCALES, each_label

TRIANGLES = 20_000
RADII_MM = (8.0, 3.0, 12.0, 2.0)  # rods of the sizes of nails, pins and stems
LENGTHS_MM = (300.0, 150.0, 180.0, 250.0)


def rows(bench: Bench) -> list[Row]:
    name = "what 4 tools of 20,000 triangles add"
    try:
        found = alone_in_python("tests.bench.bench_tools", bench.scene(), bench.scale_name)
    except Failed as failed:
        return [Row(name, None, "%", value_at_most=15.0, note=str(failed))]
    return [Row(name, 100 * found["tools_s"] / found["view_s"], "%", value_at_most=15.0)]


def measure(folder: Path, scale_name: str) -> dict[str, float]:
    """Median seconds of projecting a view without tools, and of what its tools take."""
    from fluorosam_cli.render.materials import material_table
    from fluorosam_cli.render.projector import Projector
    from fluorosam_cli.render.tools import project_tools

    scale = SCALES[scale_name]
    rows, labels = np.load(folder / "rows.npy"), np.load(folder / "labels.npy")
    projector = Projector(rows, labels, scale.world_from_voxel, each_label(), material_table(), threads=THREADS)
    placed, size = _rods(), scale.detector_px
    views_s, tools_s = [], []
    for number in range(scale.rounds + 1):
        for view in scale.views:
            camera = view.intrinsic, view.camera_from_world, size, size
            start = time.perf_counter()
            projector.project(*camera)
            middle = time.perf_counter()
            project_tools(placed, *camera, projector)
            if number:  # the first round warms up
                views_s.append(middle - start)
                tools_s.append(time.perf_counter() - middle)
    return {"view_s": median(views_s), "tools_s": median(tools_s)}


def _rods():
    """Closed rods across the scene, each in another direction."""
    from fluorosam_cli.tools.catalogue import Tool
    from fluorosam_cli.tools.placement import PlacedPart, PlacedTool
    from fluorosam_cli.tools.placement_pose import Where

    rng = np.random.default_rng(0)
    placed = []
    for number, (radius, length) in enumerate(zip(RADII_MM, LENGTHS_MM, strict=True)):
        vertices, triangles = _rod(radius, length)
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        turn *= np.linalg.det(turn)
        moved = vertices @ turn.T + rng.uniform(-40, 40, 3)
        tool = Tool(f"rod_{number}", "rod", "rods", "rod", {"rod": "titanium"}, {}, "clutter", (), flexible=False)
        placed.append(PlacedTool(tool, Where(None, np.eye(4)), (PlacedPart(moved, triangles, "titanium"),)))
    return placed


def _rod(radius_mm: float, length_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed cylinder of `TRIANGLES` triangles: its side in square facets, its ends in fans."""
    around = 100
    rings = (TRIANGLES - 2 * around) // (2 * around) + 1
    angle = 2 * np.pi * np.arange(around) / around
    circle = radius_mm * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    heights = np.linspace(-length_mm / 2, length_mm / 2, rings)
    side = np.concatenate([np.column_stack([circle, np.full(around, z)]) for z in heights])
    vertices = np.concatenate([side, [[0, 0, heights[0]], [0, 0, heights[-1]]]])
    i, j = np.arange(around), (np.arange(around) + 1) % around
    faces = []
    for ring in range(rings - 1):
        low, high = ring * around, (ring + 1) * around
        faces += [np.stack([low + i, low + j, high + j], axis=1), np.stack([low + i, high + j, high + i], axis=1)]
    last = (rings - 1) * around
    bottom, top = len(side), len(side) + 1
    faces += [
        np.stack([np.full(around, bottom), j, i], axis=1),
        np.stack([np.full(around, top), last + i, last + j], 1),
    ]
    return vertices, np.concatenate(faces).astype(np.int32)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])) + "\n")

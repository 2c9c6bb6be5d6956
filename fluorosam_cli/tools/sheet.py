"""A contact sheet of tools: each as its own small radiograph, bright where it stops more, with its name below."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fluorosam_cli.artefacts import Track, silent
from fluorosam_cli.tools.catalogue import Tool, families, parts

CELL, CAPTION, HEADING = 148, 26, 30  # pixels
COLUMNS = 16
CAPTION_LETTERS = 27  # of a line
FINER = 2  # drawn that much finer, then averaged
TONE = 0.6  # exponent of the greys: thin plastic beside metal

Attenuation = Callable[[str], float]  # of a material, per mm


def sheet(tools: Sequence[Tool], attenuation_per_mm: Attenuation, track: Track = silent) -> Image.Image:
    """All tools, family by family, in one grey picture."""
    rows = [list(group) for _, group in groupby(tools, key=lambda tool: tool.family)]
    height = sum(HEADING + -(-len(row) // COLUMNS) * (CELL + CAPTION) for row in rows)
    picture = Image.new("L", (COLUMNS * CELL, height), 12)
    draw = ImageDraw.Draw(picture)
    thumbnails = iter(track(_drawn(tools, attenuation_per_mm), "contact sheet", len(tools), "tool"))
    top = 0
    for row in rows:
        words = families().get(row[0].family, row[0].family)
        draw.text((8, top + 6), f"{words} ({len(row)})", fill=255, font=ImageFont.load_default(17))
        top += HEADING
        for index, tool in enumerate(row):
            x, y = index % COLUMNS * CELL, top + index // COLUMNS * (CELL + CAPTION)
            picture.paste(next(thumbnails), (x, y))
            draw.text((x + CELL // 2, y + CELL), _wrapped(tool.display_name), fill=190, anchor="ma", align="center",
                      font=ImageFont.load_default(9), spacing=1)  # fmt: skip
        top += -(-len(row) // COLUMNS) * (CELL + CAPTION)
    return picture


def _drawn(tools: Iterable[Tool], attenuation_per_mm: Attenuation) -> Iterable[Image.Image]:
    for tool in tools:
        yield thumbnail(tool, attenuation_per_mm)


def thumbnail(tool: Tool, attenuation_per_mm: Attenuation) -> Image.Image:
    """One tool filling a square: flexible ones in a bend, long ones across the diagonal."""
    solids = parts(tool, _bend(tool)) if tool.flexible else parts(tool)
    view = _view(tool, np.concatenate([mesh.vertices_mm for _, mesh in solids]))
    fine = CELL * FINER
    depth = np.zeros((fine, fine))
    points = [mesh.vertices_mm @ view.T for _, mesh in solids]
    low, high = (f(np.concatenate(points), axis=0) for f in (np.min, np.max))
    scale = 0.9 * fine / max(*(high - low)[:2], 1e-6)
    shift = np.array([fine / 2, fine / 2, 0]) - scale * np.r_[(low + high)[:2] / 2, 0]
    for (material, mesh), seen in zip(solids, points, strict=True):
        path = path_lengths(seen * scale + shift, mesh.triangles, (fine, fine)) / scale
        depth += attenuation_per_mm(material) * np.maximum(path, 0)
    bright = (1 - np.exp(-depth)) ** TONE
    bright = bright.reshape(CELL, FINER, CELL, FINER).mean((1, 3))
    return Image.fromarray((20 + 235 * bright).astype(np.uint8))


def path_lengths(points: np.ndarray, triangles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lengths inside a closed mesh along the third axis, at the pixels of a grid (row, column).

    `points` (V, 3) are in pixels: column, row, depth. The signed sum of the depths at which a ray crosses the surface.
    """
    corners = points[triangles]
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    corners, area = corners[area != 0], area[area != 0]
    # Each triangle's rows, then in each row the columns between two edges; from one end on and up to the other, so that
    # neighbours share no pixel and leave none out.
    first, last = (_pixel(f(corners[..., 1], axis=1), shape[0]) for f in (np.min, np.max))
    owner, row = _ranges(first, last)
    y = row + 0.5
    crossing = np.stack([_crossing(corners[owner, i], corners[owner, (i + 1) % 3], y) for i in range(3)], 1)
    left, right = (_pixel(f(crossing, axis=1), shape[1]) for f in (np.nanmin, np.nanmax))
    span, column = _ranges(left, right)
    owner, row = owner[span], row[span]
    a, b, c = (corners[owner, i] for i in range(3))
    px, py = column + 0.5 - a[:, 0], row + 0.5 - a[:, 1]
    u = (px * (c - a)[:, 1] - py * (c - a)[:, 0]) / area[owner]
    v = (py * (b - a)[:, 0] - px * (b - a)[:, 1]) / area[owner]
    depth = a[:, 2] + u * (b - a)[:, 2] + v * (c - a)[:, 2]
    depth = np.clip(depth, corners[owner, :, 2].min(1), corners[owner, :, 2].max(1))
    return np.bincount(row * shape[1] + column, np.sign(area[owner]) * depth, shape[0] * shape[1]).reshape(shape)


def _pixel(position: np.ndarray, count: int) -> np.ndarray:
    """The first pixel whose centre is not before a position."""
    return np.clip(np.ceil(position - 0.5), 0, count).astype(np.int64)


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All whole numbers from first[i] up to, not including, last[i], and the i of each."""
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + first[owner]


def _crossing(start: np.ndarray, end: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where edges cross rows, NaN where they do not: to the last bit the same from either of their triangles."""
    swap = start[:, 1] > end[:, 1]
    low, high = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
    crosses = (low[:, 1] <= y) & (y < high[:, 1])
    rise = np.where(crosses, high[:, 1] - low[:, 1], 1)
    return np.where(crosses, low[:, 0] + (y - low[:, 1]) / rise * (high[:, 0] - low[:, 0]), np.nan)


def _view(tool: Tool, vertices: np.ndarray) -> np.ndarray:
    """Rows are the picture's column and row directions and the depth, in the tool's frame: from the front (y), from
    above (z) where it is flat, aslant or from the side where the front hides its shape."""
    extent = np.ptp(vertices, axis=0)
    front = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    if tool.file is not None:
        axes = np.eye(3)[np.argsort(extent)[[1, 2, 0]]]
        front = axes * [[1], [1], [np.linalg.det(axes)]]
    elif tool.placement == "clutter" or extent[2] < 0.5 * min(extent[:2]):
        front = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    elif tool.placement in ("disc_space", "heart"):
        front = front @ _turn(0, 35) @ _turn(2, 25)
    elif tool.placement == "pedicle" or (tool.placement in ("on_bone", "spine_rods") and extent[1] > 0.8 * extent[0]):
        front = front @ _turn(2, 75)
    elif tool.placement == "around_bone":
        front = front @ _turn(0, 30) @ _turn(2, 20)
    elif tool.placement == "over_field" and extent[1] > 12:
        front = front @ _turn(2, 30)
    across, down = np.ptp(vertices @ front.T, axis=0)[:2]
    return _turn(2, -40) @ front if max(down, across) > 3 * min(down, across) else front


def _turn(axis: int, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = cos, -sin, sin, cos
    return matrix


def _bend(tool: Tool) -> np.ndarray:
    """A swung curve in the x-z plane for a flexible tool to lie along, not so long that its tip is lost."""
    length = min(tool.parameters["length_mm"], 40 + 70 * np.log1p(tool.parameters["length_mm"] / 100))
    s = np.linspace(0, 1, 80)
    heading = np.radians(200 * np.sin(2.2 * s + 0.3) - 60)
    step = np.stack([np.sin(heading), np.zeros_like(s), np.cos(heading)], 1) * length / len(s)
    return np.cumsum(step, axis=0)


def _wrapped(words: str) -> str:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) + 1 > CAPTION_LETTERS and len(lines) < 2:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)

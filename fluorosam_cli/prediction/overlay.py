"""Drawing masks over a radiograph: translucent fill, contour, name, points and boxes."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

SIDE_MIN_PX, SIDE_MAX_PX = 768, 2048  # of the drawing's longest side, so that names can be read
FILL = 0.28
GOLDEN_TURN = 0.618034  # successive hues never come close to each other
POSITIVE_RGB, NEGATIVE_RGB, MARK_RGB = (40, 220, 90), (235, 60, 60), (255, 255, 255)


@dataclass(frozen=True)
class Layer:
    """What is drawn for one prompt."""

    mask: np.ndarray  # (H, W) bool
    name: str = ""
    colour: tuple[int, int, int] | None = None  # by position when None
    fill: bool = True
    points_xy: Sequence[Sequence[float]] = ()
    point_labels: Sequence[int] = ()
    box_xyxy: Sequence[float] | None = None


def distinct_colour(index: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((0.08 + index * GOLDEN_TURN) % 1, 0.65 if index % 2 else 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def to_display(image: np.ndarray) -> np.ndarray:
    """Grey of any type (H, W) -> uint8, its 0.5 to 99.5 percentiles spread over black to white."""
    low, high = np.percentile(image, (0.5, 99.5))
    return (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def draw(image: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Grey (H, W) and layers of its size -> RGB (h, w, 3) uint8, enlarged or reduced to a readable size."""
    from PIL import Image, ImageDraw, ImageFont

    scale = _scale(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    grey = Image.fromarray(to_display(image)).resize(size, Image.Resampling.BICUBIC)
    canvas = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    line = max(2, round(max(size) / 450))
    colours = [layer.colour or distinct_colour(i) for i, layer in enumerate(layers)]
    masks = [_resized(layer.mask, size) for layer in layers]
    for layer, colour, mask in zip(layers, colours, masks, strict=True):
        if layer.fill:
            covered = canvas[mask].astype(np.float32)
            canvas[mask] = np.rint(covered + FILL * (np.array(colour, np.float32) - covered))
    for colour, mask in zip(colours, masks, strict=True):
        canvas[_contour(mask, line)] = colour
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for layer in layers:
        _draw_prompt(pen, layer, scale, line)
    font = ImageFont.load_default(max(13, round(max(size) / 50)))
    taken: list[tuple[float, float, float, float]] = []
    for layer, colour, mask in zip(layers, colours, masks, strict=True):
        if layer.name:
            box = _place_label(pen, font, layer.name, mask, taken)
            taken.append(box)
            pen.rectangle(box, fill=(0, 0, 0), outline=colour, width=1)
            pen.text((box[0] + 4, box[1] + 2), layer.name, fill=colour, font=font)
    return np.asarray(picture)


def _scale(shape: tuple[int, ...]) -> float:
    side = max(shape)
    return min(SIDE_MAX_PX, max(SIDE_MIN_PX, side)) / side


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(grown) >= 128


def _contour(mask: np.ndarray, width: int) -> np.ndarray:
    """The mask's own pixels within `width` of its edge; the picture's border counts as an edge."""
    inner = np.pad(mask, 1)  # not scipy's erosion: importing that takes longer than the drawing
    for _ in range(width):
        middle = inner[1:-1, 1:-1]
        inner[1:-1, 1:-1] = middle & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inner[1:-1, 1:-1]


def _draw_prompt(pen, layer: Layer, scale: float, line: int) -> None:
    radius = 4 * line
    for (x, y), label in zip(layer.points_xy, layer.point_labels, strict=True):
        centre_x, centre_y = (x + 0.5) * scale, (y + 0.5) * scale
        box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        pen.ellipse(box, fill=POSITIVE_RGB if label else NEGATIVE_RGB, outline=MARK_RGB, width=line)
        pen.line((centre_x - radius / 2, centre_y, centre_x + radius / 2, centre_y), fill=MARK_RGB, width=line)
        if label:
            ends = (centre_x, centre_y - radius / 2, centre_x, centre_y + radius / 2)
            pen.line(ends, fill=MARK_RGB, width=line)
    if layer.box_xyxy is not None:
        x0, y0, x1, y1 = (value * scale for value in layer.box_xyxy)
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=MARK_RGB, width=line)


def _place_label(
    pen, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", name: str, mask: np.ndarray, taken: list
) -> tuple[float, float, float, float]:
    """A rectangle for the name: on its mask (bottom left when that is empty), moved off the names already placed."""
    height, width = mask.shape
    _, _, text_width, text_height = pen.textbbox((0, 0), name, font=font)
    wide, tall = text_width + 9, text_height + 6
    rows, columns = np.nonzero(mask)
    x, y = (float(columns.mean()), float(rows.mean())) if len(rows) else (0.0, float(height))
    x = min(max(0.0, x - wide / 2), max(0.0, width - 1 - wide))
    y = min(max(0.0, y - tall / 2), max(0.0, height - 1 - tall))
    steps = range(int(height / tall) + 1)
    for offset in sorted((sign * step * (tall + 1) for step in steps for sign in (1, -1)), key=abs):
        top = y + offset
        inside = 0 <= top <= height - 1 - tall
        if inside and not any(x < b[2] and b[0] < x + wide and top < b[3] and b[1] < top + tall for b in taken):
            return x, top, x + wide, top + tall
    return x, y, x + wide, y + tall

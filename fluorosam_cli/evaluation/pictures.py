"""Overlays of chosen answers, which are asked for again: each image is encoded once more at most."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fluorosam_cli.evaluation.samples import ABSENT, Row
from fluorosam_cli.evaluation.segmenter import Segmenter
from fluorosam_cli.evaluation.sources import Source
from fluorosam_cli.geometry.boxes import box_of
from fluorosam_cli.prediction.answers import PRESENT
from fluorosam_cli.prediction.overlay import Layer, draw
from fluorosam_cli.prediction.predictor import ImagePrompt

PREDICTED_RGB, TRUTH_RGB = (255, 150, 30), (90, 220, 255)
SIDE_PX = 300
FAILURES = 12


class Shown(NamedTuple):
    row: Row
    rgb: np.ndarray  # (h, w, 3) uint8


def best_median_worst(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Structure -> its answers with the highest, the middle and the lowest IoU, fewer where there are fewer."""
    by_structure: dict[str, list[Row]] = {}
    for row in rows:
        by_structure.setdefault(row.structure, []).append(row)
    found = {}
    for name, several in sorted(by_structure.items()):
        order = sorted(several, key=lambda row: (-(row.iou or 0), row.image))
        found[name] = [order[i] for i in sorted({0, len(order) // 2, len(order) - 1})]
    return found


def failures(rows: Sequence[Row]) -> list[Row]:
    """What to look at: where the model was most sure and wrong, then presence told wrongly with most certainty."""
    sure = sorted((r for r in rows if r.iou is not None), key=lambda r: (r.iou or 0) - r.predicted_iou)
    worst: dict[str, Row] = {}
    for row in sure:
        if (row.iou or 0) < row.predicted_iou - 0.2:
            worst.setdefault(row.structure, row)  # one of each structure shows more than twelve of one
    absent = [r for r in rows if r.prompt == ABSENT and (r.presence or 0) >= PRESENT]
    absent.sort(key=lambda row: -(row.presence or 0))
    several = list(worst.values())[: FAILURES - min(len(absent), FAILURES // 3)]
    return [*several, *absent[: FAILURES - len(several)]]


def shown(rows: Sequence[Row], source: Source, segmenter: Segmenter) -> list[Shown]:
    """The pictures of text, box, first-click or absent answers, in the order of `rows`."""
    found: dict[int, np.ndarray] = {}
    for image in sorted({row.image for row in rows}):
        scene = source[image]
        segmenter.set_image(scene.image)
        for i, row in enumerate(rows):
            if row.image == image:
                real = None if row.prompt == ABSENT else scene.masks[row.structure]
                [answer] = segmenter.predict_batch([_prompt(row, real)])
                layers = [Layer(answer.mask, colour=PREDICTED_RGB)]
                layers += [Layer(real, colour=TRUTH_RGB, fill=False)] if real is not None else []
                found[i] = _small(draw(scene.image, layers))
    return [Shown(row, found[i]) for i, row in enumerate(rows)]


def _prompt(row: Row, real: np.ndarray | None) -> ImagePrompt:
    if row.phrase is not None:
        return ImagePrompt(text=row.phrase)
    assert real is not None
    if row.start == "box":
        return ImagePrompt(box_xyxy=box_of(real))
    from fluorosam_cli.evaluation.clicks import next_click

    click = next_click(np.zeros_like(real), real)
    assert click is not None
    return ImagePrompt(points_xy=[(click.x, click.y)], point_labels=[1])


def _small(rgb: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(rgb)
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(picture)

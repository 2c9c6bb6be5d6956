"""What `predict` leaves behind for an image: mask PNGs, the overlay and the contents of `prediction.json`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import atomic_path, sha256_of
from fluorosam_cli.contracts import BoxXYXY, PredictedMask, Prediction, Prompt, Rle
from fluorosam_cli.prediction.images import read_image
from fluorosam_cli.prediction.overlay import Layer, draw
from fluorosam_cli.prediction.predictor import ImagePrompt, PredictedMasks, Predictor
from fluorosam_cli.text.phrases import resolve

HEADER = "prediction.json"
OVERLAY = "overlay.png"
PRESENT = 0.5  # below this probability the named structure is called absent


@dataclass(frozen=True)
class Segmented:
    """One image and the answers to its prompts, in memory."""

    path: Path
    image: np.ndarray  # (H, W) as stored
    prompts: list[Prompt]
    answers: list[PredictedMasks]
    checkpoint_sha256: str


def segment(predictor: Predictor, path: Path, prompts: Sequence[Prompt]) -> Segmented:
    """Read an image and answer every prompt; nothing is written."""
    image = read_image(path)
    predictor.set_image(image)
    asked = [ImagePrompt(p.text, p.points_xy, p.point_labels, p.box_xyxy) for p in prompts]
    return Segmented(path, image, list(prompts), predictor.predict_batch(asked), predictor.checkpoint_sha256)


def write_masks(folder: Path, segmented: Segmented) -> Prediction:
    """Write the best mask of each prompt (0/255, the image's own size) and the overlay; return the header to write."""
    structures = [None if p.text is None else resolve(p.text) for p in segmented.prompts]
    names = mask_names(segmented.prompts, structures)
    layers, masks = [], []
    for i, (prompt, answer) in enumerate(zip(segmented.prompts, segmented.answers, strict=True)):
        write_png(folder / names[i], answer.mask.astype(np.uint8) * 255)
        presence = None if prompt.text is None else round(answer.presence, 6)
        masks.append(
            PredictedMask(
                prompt=i,
                structure=structures[i],
                mask=names[i],
                score=round(answer.iou, 6),
                presence=presence,
                rle=rle_of(answer.mask),
                box_xyxy=box_of(answer.mask),
                area_px=int(answer.mask.sum()),
            )
        )
        layers.append(
            Layer(
                answer.mask,
                _label(prompt.text, presence, answer.mask),
                points_xy=prompt.points_xy,
                point_labels=prompt.point_labels,
                box_xyxy=prompt.box_xyxy,
            )
        )
    write_png(folder / OVERLAY, draw(segmented.image, layers))
    return Prediction(
        image=segmented.path.name,
        image_sha256=sha256_of(segmented.path),
        width=segmented.image.shape[1],
        height=segmented.image.shape[0],
        checkpoint_sha256=segmented.checkpoint_sha256,
        overlay=OVERLAY,
        prompts=segmented.prompts,
        masks=masks,
    )


def _label(text: str | None, presence: float | None, mask: np.ndarray) -> str:
    """The phrase, and what the picture alone would not say about it."""
    if text is None:
        return ""
    absent = presence is not None and presence < PRESENT
    return text + (" (not in this image)" if absent else "" if mask.any() else " (empty mask)")


def mask_names(prompts: Sequence[Prompt], structures: Sequence[str | None]) -> list[str]:
    """A file name for each prompt's mask: its structure, else its words, else what it was; none twice."""
    names: list[str] = []
    for prompt, structure in zip(prompts, structures, strict=True):
        slug = structure or slug_of(prompt.text or "") or ("box" if prompt.box_xyxy else "points")
        slug = f"mask-{slug}" if f"{slug}.png" == OVERLAY else slug
        count = 1
        name = f"{slug}.png"
        while name in names:
            count += 1
            name = f"{slug}-{count}.png"
        names.append(name)
    return names


def slug_of(text: str) -> str:
    """Words as a file name: lower case letters and digits joined by underscores, at most 60 characters."""
    return re.sub(r"[^\w]+", "_", text.lower()).strip("_")[:60]


def rle_of(mask: np.ndarray) -> Rle:
    """A mask (H, W) bool as COCO's compressed run-length code."""
    from pycocotools import mask as coco

    encoded: Any = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle(size=(mask.shape[0], mask.shape[1]), counts=encoded["counts"].decode())


def box_of(mask: np.ndarray) -> BoxXYXY | None:
    """The inclusive-exclusive box around a mask; None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def write_png(path: Path, array: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8, whole or not at all."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")

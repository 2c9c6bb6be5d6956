"""What `predict` leaves behind for an image: mask PNGs, the overlay and the contents of `prediction.json`.

Of a DICOM header only geometry and polarity get into these. DICOM segmentations alone, written when they are asked for,
carry the patient and study of the image they belong to.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import atomic_path, read_header, sha256_of, write_json
from fluorosam_cli.contracts import PredictedMask, Prediction, Prompt, Rle
from fluorosam_cli.geometry.boxes import box_of
from fluorosam_cli.prediction.answers import Answer
from fluorosam_cli.prediction.overlay import Layer, draw
from fluorosam_cli.prediction.radiograph import Radiograph
from fluorosam_cli.prediction.understanding import mask_stem, slug_of

HEADER = "prediction.json"
COMPRESSION = 3  # of PNGs: less than half the time of the usual 6, for an overlay about as large
OVERLAY = "overlay.png"


@dataclass(frozen=True)
class Segmented:
    """One image and the answers to its prompts, in memory."""

    path: Path
    radiograph: Radiograph
    answers: list[Answer]
    checkpoint_sha256: str
    absent: dict[str, float] = field(default_factory=dict)


def write_masks(folder: Path, segmented: Segmented, formats: Collection[str] = (), largest: bool = False) -> Prediction:
    """Write the best mask of each prompt (0/255, the image's own size), the overlay and further `formats` (of
    `formats.WRITERS`); return the header to write. With `largest` only the largest connected part of a mask is kept.
    """
    from fluorosam_cli.prediction.formats import WRITERS

    radiograph, answers = segmented.radiograph, segmented.answers
    names = mask_names([answer.prompt for answer in answers], [answer.structure for answer in answers])
    masks = [largest_part(answer.predicted.mask) if largest else answer.predicted.mask for answer in answers]
    spacing = radiograph.spacing
    header = Prediction(
        image=segmented.path.name,
        image_sha256=sha256_of(segmented.path),
        frame=radiograph.frame,
        frames=radiograph.frames,
        width=radiograph.pixels.shape[1],
        height=radiograph.pixels.shape[0],
        polarity="bone_bright" if radiograph.bone_bright else "bone_dark",
        polarity_from=radiograph.polarity_from,
        pixel_spacing_mm=None if spacing is None else (spacing.row_mm, spacing.column_mm),
        spacing_plane=None if spacing is None else spacing.plane,
        checkpoint_sha256=segmented.checkpoint_sha256,
        overlay=OVERLAY,
        prompts=[answer.prompt for answer in answers],
        masks=[_record(i, answers[i], names[i], masks[i], radiograph) for i in range(len(answers))],
        absent=segmented.absent,
    )
    files = [write(folder, segmented.path, header, masks) for kind, write in WRITERS.items() if kind in formats]
    for name, mask in zip(names, masks, strict=True):
        write_png(folder / name, np.ascontiguousarray(mask).astype(np.uint8) * 255)
    write_png(folder / OVERLAY, draw(radiograph.pixels, [_layer(*pair) for pair in zip(answers, masks, strict=True)]))
    return header.model_copy(update={"files": [file for file in files if file is not None]})


def write_prediction(
    folder: Path, segmented: Segmented, formats: Collection[str] = (), largest: bool = False
) -> Prediction:
    """What `write_masks` writes, then `prediction.json`: where it is, everything is."""
    header = write_masks(folder, segmented, formats, largest)
    write_json(folder / HEADER, header)
    return header


def is_done(folder: Path) -> bool:
    return (folder / HEADER).is_file()


def read_prediction(folder: Path) -> Prediction:
    return read_header(folder / HEADER, Prediction)


def _record(number: int, answer: Answer, name: str, mask: np.ndarray, radiograph: Radiograph) -> PredictedMask:
    area_px = int(np.count_nonzero(mask))
    return PredictedMask(
        prompt=number,
        structure=answer.structure,
        understood=answer.understood,
        asked=answer.asked,
        mask=name,
        score=round(min(1.0, max(0.0, answer.predicted.iou)), 6),
        presence=None if answer.presence is None else round(answer.presence, 6),
        rle=rle_of(mask),
        box_xyxy=box_of(mask),
        area_px=area_px,
        area_mm2=None if radiograph.spacing is None else round(area_px * radiograph.spacing.area_mm2, 3),
    )


def _layer(answer: Answer, mask: np.ndarray) -> Layer:
    prompt, name = answer.prompt, ""
    if prompt.text is not None:
        name = answer.asked if answer.understood in ("respelt", "ambiguous") and answer.asked else prompt.text
        name += " (not in this image)" if answer.absent else "" if mask.any() else " (empty mask)"
    labels = prompt.point_labels or [1] * len(prompt.points_xy)
    return Layer(mask, name, points_xy=prompt.points_xy, point_labels=labels, box_xyxy=prompt.box_xyxy)


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask whose pixels touch, corners included; of equal ones the first."""
    from scipy.ndimage import label

    parts, count = label(mask, np.ones((3, 3)))  # pyright: ignore[reportGeneralTypeIssues] - it is a pair
    return mask if count < 2 else parts == 1 + np.bincount(parts.ravel(order="K"))[1:].argmax()


def mask_names(prompts: Sequence[Prompt], structures: Sequence[str | None]) -> list[str]:
    """A file name for each prompt's mask: its structure, else its words, else what it was; none twice."""
    names: list[str] = []
    for prompt, structure in zip(prompts, structures, strict=True):
        slug = mask_stem(structure) if structure else slug_of(prompt.text or "") or _kind_of(prompt)
        slug = f"mask-{slug}" if f"{slug}.png" == OVERLAY else slug
        count = 1
        name = f"{slug}.png"
        while name in names:
            count += 1
            name = f"{slug}-{count}.png"
        names.append(name)
    return names


def _kind_of(prompt: Prompt) -> str:
    return "box" if prompt.box_xyxy else "points" if prompt.points_xy or not prompt.mask else "mask"


def rle_of(mask: np.ndarray) -> Rle:
    """A mask (H, W) bool as COCO's compressed run-length code."""
    from pycocotools import mask as coco

    encoded: Any = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle(size=(mask.shape[0], mask.shape[1]), counts=encoded["counts"].decode())


def write_png(path: Path, array: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8, whole or not at all."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG", compress_level=COMPRESSION)

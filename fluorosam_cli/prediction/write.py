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


def masks_of(segmented: Segmented, largest: bool = False) -> list[np.ndarray]:
    """The best mask (H, W) bool of each prompt; with `largest` only its largest connected part."""
    masks = (answer.predicted.mask for answer in segmented.answers)
    return [largest_part(mask) if largest else mask for mask in masks]


def header_of(segmented: Segmented, masks: Sequence[np.ndarray]) -> Prediction:
    """What `prediction.json` says of an image and these masks of its prompts."""
    radiograph, answers, spacing = segmented.radiograph, segmented.answers, segmented.radiograph.spacing
    names = mask_names([answer.prompt for answer in answers], [answer.structure for answer in answers])
    return Prediction(
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
        remarks=list(radiograph.remarks),
        checkpoint_sha256=segmented.checkpoint_sha256,
        overlay=OVERLAY,
        prompts=[answer.prompt for answer in answers],
        masks=[_record(i, answers[i], names[i], masks[i], radiograph) for i in range(len(answers))],
        absent=segmented.absent,
    )


def write_masks(folder: Path, segmented: Segmented, formats: Collection[str] = (), largest: bool = False) -> Prediction:
    """Write `masks_of` the image (0/255, its own size), the overlay and further `formats` (of `formats.WRITERS`);
    return the header to write.
    """
    from fluorosam_cli.prediction.formats import WRITERS

    masks = masks_of(segmented, largest)
    header = header_of(segmented, masks)
    files = [write(folder, segmented.path, header, masks) for kind, write in WRITERS.items() if kind in formats]
    for record, mask in zip(header.masks, masks, strict=True):
        write_png(folder / record.mask, np.ascontiguousarray(mask).astype(np.uint8) * 255)
    layers = [_layer(*pair) for pair in zip(segmented.answers, masks, strict=True)]
    write_png(folder / OVERLAY, draw(segmented.radiograph.pixels, layers))
    return header.model_copy(update={"files": [file for file in files if file is not None]})


def write_prediction(
    folder: Path, segmented: Segmented, formats: Collection[str] = (), largest: bool = False, single: bool = False
) -> Prediction:
    """What `write_masks` writes, for a single image `coco.json`, then `prediction.json`: where it is, everything is."""
    from fluorosam_cli.prediction.formats import write_coco

    if is_done(folder):  # of an image that has changed since
        _delete(folder, read_prediction(folder))
    header = write_masks(folder, segmented, formats, largest)
    if single and "coco" in formats:
        write_coco(folder, [("", header)])
    write_json(folder / HEADER, header)
    return header


def _delete(folder: Path, header: Prediction) -> None:
    for name in (*(mask.mask for mask in header.masks), *header.files, header.overlay, HEADER):
        (folder / name).unlink(missing_ok=True)


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

"""The masks of a prediction in the formats of other tools: COCO, NIfTI, NPZ, DICOM segmentation objects."""

import gzip
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import atomic_path, write_bytes
from fluorosam_cli.contracts import Prediction
from fluorosam_cli.dataset.image_files import is_dicom
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.prediction.grid_images import nifti_affine
from fluorosam_cli.prediction.understanding import mask_stem

COCO = "coco.json"

Writer = Callable[[Path, Path, Prediction, Sequence[np.ndarray]], str | None]


def write_npz(folder: Path, image: Path, header: Prediction, masks: Sequence[np.ndarray]) -> str:
    """`masks.npz`: masks (N, H, W) bool, and for each its name, predicted IoU and presence (NaN without a phrase)."""
    shape = (len(masks), header.height, header.width)
    with atomic_path(folder / "masks.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            masks=np.stack(masks) if masks else np.zeros(shape, bool),
            names=np.array([name_of(header, i) for i in range(len(masks))], dtype=np.str_),
            scores=np.array([mask.score for mask in header.masks]),
            presence=np.array([np.nan if mask.presence is None else mask.presence for mask in header.masks]),
        )
    return "masks.npz"


def write_nifti(folder: Path, image: Path, header: Prediction, masks: Sequence[np.ndarray]) -> str:
    """`masks.nii.gz`: uint8 (W, H, 1, N), 1 inside, on the grid of a NIfTI image, else in its pixels' millimetres."""
    import nibabel

    affine = nifti_affine(image)
    if affine is not None:
        affine[:3, 3] += (header.frame - 1) * affine[:3, 2]  # the slice's own place in its stack
    else:
        row_mm, column_mm = header.pixel_spacing_mm or (1.0, 1.0)
        affine = np.diag([-column_mm, -row_mm, 1.0, 1.0])  # RAS, rows downwards, as other writers of pictures have it
    stack = np.zeros((header.width, header.height, 1, len(masks)), np.uint8)
    for i, mask in enumerate(masks):
        stack[:, :, 0, i] = mask.T
    volume = nibabel.Nifti1Image(stack, affine)
    volume.header.set_xyzt_units("mm")
    data = gzip.compress(volume.to_bytes(), compresslevel=3, mtime=0)
    write_bytes(folder / "masks.nii.gz", data)
    return "masks.nii.gz"


def write_dicom_seg(folder: Path, image: Path, header: Prediction, masks: Sequence[np.ndarray]) -> str | None:
    """`masks.dcm`: a segmentation object with a segment for each mask; None, and no file, when all masks are empty.

    Raises FluoroError where it cannot be made.
    """
    from fluorosam_cli.prediction.dicom_seg import segmentation

    if not is_dicom(image):
        raise FluoroError(f"{image}: is no DICOM image, which a DICOM segmentation needs", "leave out dicom-seg")
    if not any(mask.any() for mask in masks):
        return None
    with atomic_path(folder / "masks.dcm") as temporary:
        segmentation(image, header, masks).save_as(temporary, enforce_file_format=True)
    return "masks.dcm"


WRITERS: dict[str, Writer] = {  # in the order of writing: the first is the one that an image can be unfit for
    "dicom-seg": write_dicom_seg,
    "npz": write_npz,
    "nifti": write_nifti,
}
FORMATS = ("coco", *WRITERS)  # coco.json is one for all images of a call


def check_formats(names: Sequence[str]) -> list[str]:
    """The names once each. Raises UsageError for unknown ones, FluoroError where one needs what is not installed."""
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: not known", f"choose among {', '.join(FORMATS)}; PNG is always written")
    if "dicom-seg" in names and find_spec("highdicom") is None:
        raise FluoroError("--format dicom-seg: needs highdicom", 'pip install "fluorosam-cli[dicom]"')
    return list(dict.fromkeys(names))


def name_of(header: Prediction, number: int) -> str:
    """What a mask is called: its structure (as files are), else the phrase, else its file."""
    mask = header.masks[number]
    return (mask.structure and mask_stem(mask.structure)) or header.prompts[mask.prompt].text or Path(mask.mask).stem


def coco_of(predictions: Sequence[tuple[str, Prediction]]) -> dict[str, Any]:
    """(folder, header) of the images of a call -> COCO's object-detection format, with `score` as in its results.

    `iscrowd` is 1 because that is where COCO's readers expect run-length codes. Absent structures are left out.
    """
    from fluorosam_cli.prediction.answers import PRESENT

    images, annotations = [], []
    categories: dict[str, int] = {}
    for number, (folder, header) in enumerate(predictions, 1):
        film = {"frame": header.frame} if header.frames > 1 else {}
        size = {"width": header.width, "height": header.height}
        images.append({"id": number, "file_name": header.image, **size, "folder": folder, **film})
        for i, mask in enumerate(header.masks):
            if mask.box_xyxy is None or (mask.presence is not None and mask.presence < PRESENT):
                continue
            x0, y0, x1, y1 = mask.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories.setdefault(name_of(header, i), len(categories) + 1),
                    "segmentation": {"size": list(mask.rle.size), "counts": mask.rle.counts},
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": mask.area_px,
                    "iscrowd": 1,
                    "score": mask.score,
                }
            )
    named = [{"id": number, "name": name} for name, number in categories.items()]
    return {"images": images, "annotations": annotations, "categories": named}


def write_coco(folder: Path, predictions: Sequence[tuple[str, Prediction]]) -> None:
    write_bytes(folder / COCO, (json.dumps(coco_of(predictions), indent=1) + "\n").encode())

"""Finding and reading the images a user wants segmented, whatever their format.

Pixels are read in `raster_images.py`, `dicom_images.py` and `grid_images.py`.
"""

import glob
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.dataset.image_files import DICOM_SUFFIXES, GRID_SUFFIXES, images_in, is_dicom
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.polarity import is_bone_bright
from fluorosam_cli.prediction.radiograph import Found, Radiograph

log = logging.getLogger("fluoro")

KNOWN = "PNG, JPEG, TIFF, DICOM, NIfTI or NRRD"
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's grey


# --- finding ----------------------------------------------------------------------------------------------------------


def find_images(source: str) -> list[Path]:
    """The images a path, a folder or a glob (`**` for any depth) means, sorted; a folder's other files are passed over.

    Raises FluoroError when there are none.
    """
    path = Path(source)
    if not source:
        raise FluoroError("the image's path is empty", "is a shell variable unset?")
    if path.is_dir():
        found = images_in(path)
        if not found:
            raise FluoroError(
                f"{path}: holds no image", f"{KNOWN} are read; subfolders by a pattern: '{path}/**/*.png'"
            )
        return found
    if path.exists():
        return [path]
    if glob.has_magic(source):
        found = sorted(p for p in map(Path, glob.glob(source, recursive=True)) if p.is_file())
        if not found:
            raise FluoroError(f"{source}: no file matches", "check the pattern")
        return found
    raise FluoroError(f"{source}: no such image", "check the path; a phrase comes after the image")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_image(path: Path | str, frame: int = 1, invert: bool | None = None) -> np.ndarray:
    """One frame as grey (H, W) with bone bright: what `Predictor.set_image` takes. See `read_frames`."""
    return read_radiograph(Path(path), frame, invert).for_network


def read_radiograph(path: Path, frame: int | None = None, invert: bool | None = None) -> Radiograph:
    """One frame, counted from 1; None: of a file that has to hold just one. See `read_frames`."""
    radiograph = next(read_frames(path, [1 if frame is None else frame], invert))
    if frame is None and radiograph.frames > 1:
        raise FluoroError(
            f"{path}: holds {radiograph.frames} frames, one image is expected", "save the one that is meant by itself"
        )
    return radiograph


def read_frames(path: Path, numbers: Sequence[int] | None = None, invert: bool | None = None) -> Iterator[Radiograph]:
    """The frames of `frames_of`, with a warning for each of a file's remarks."""
    for index, radiograph in enumerate(frames_of(path, numbers, invert)):
        for remark in () if index else radiograph.remarks:
            log.warning("warning: %s: %s", path, remark)
        yield radiograph


def frames_of(path: Path, numbers: Sequence[int] | None = None, invert: bool | None = None) -> Iterator[Radiograph]:
    """The frames of those numbers, ascending from 1, or all; upright as an EXIF tag says, values as a viewer has them.

    Colour becomes luma; transparent parts become black. `invert` True says that bone is dark, False that it is bright;
    else the header tells, or the pixels do. Raises FluoroError when it cannot be read, is no radiograph, or is of a
    size that none has.
    """
    frames = probe(path).frames
    numbers = range(1, frames + 1) if numbers is None else numbers
    for number in numbers:
        if not 1 <= number <= frames:
            raise FluoroError(f"{path}: has no frame {number}, they are counted from 1 to {frames}", "see --frames")
    if not numbers:
        return
    with _accessible(path):
        for number, plain in zip(numbers, _reader(path).read(path, numbers), strict=True):
            pixels = plain.pixels
            if not np.isfinite(pixels).all():
                raise FluoroError(f"{path}: holds NaN or infinite values", "replace them, or convert it to 16-bit PNG")
            if invert is not None:
                bright, told = not invert, "option"
            elif plain.bone_bright is not None:
                bright, told = plain.bone_bright, "header"
            else:
                bright, told = is_bone_bright(pixels), "detected"
            yield Radiograph(pixels, bright, told, plain.spacing, number, frames, plain.remarks)


def probe(path: Path) -> Found:
    """Frames of a file, from its header. Raises FluoroError as `read_frames` does."""
    with _accessible(path):
        if path.stat().st_size == 0:
            raise FluoroError(f"{path}: is empty", "fetch or export it again")
        return _reader(path).probe(path)


@contextmanager
def _accessible(path: Path) -> Iterator[None]:
    """What the file system refuses is a FluoroError, so that a batch goes on without this file."""
    try:
        yield
    except OSError as error:
        problem = f"{path}: {(error.strerror or str(error)).lower()}"
        raise FluoroError(problem, "check the path and its permissions") from error


def _reader(path: Path) -> Any:
    """What has `probe(path)` and `read(path, numbers)` for this kind of file."""
    name = path.name.lower()
    if name.endswith(GRID_SUFFIXES):
        from fluorosam_cli.prediction import grid_images

        return grid_images
    if name.endswith(DICOM_SUFFIXES) or is_dicom(path):
        from fluorosam_cli.prediction import dicom_images

        return dicom_images
    from fluorosam_cli.prediction import raster_images

    return raster_images


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) numbers -> (H, W) float32. Raises FluoroError for other shapes and for NaN or infinity."""
    if image.ndim == 3 and image.shape[2] == 3:
        image = luma(image)
    if image.ndim != 2 or image.dtype.kind not in "uifb":
        raise FluoroError(
            f"image: is {image.dtype} of shape {image.shape}, numbers of shape (H, W) or (H, W, 3) are needed",
            "convert it to grey first",
        )
    grey = image.astype(np.float32)
    if not grey.size or not np.isfinite(grey).all():
        raise FluoroError("image: is empty or holds NaN or infinite values", "replace them first")
    return grey


def luma(image: np.ndarray) -> np.ndarray:
    """Colour (H, W, 3) -> grey (H, W) as Pillow makes it, not rounded."""
    return image @ LUMA

"""Finding and reading the images a user wants segmented: PNG, JPEG and TIFF, as grey arrays at their own size."""

import glob
import warnings
from pathlib import Path

import numpy as np

from fluorosam_cli.errors import FluoroError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LATER = {
    "DICOM": (".dcm", ".dicom", ".ima"),
    "NIfTI": (".nii", ".nii.gz"),
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
}
DICOM_MAGIC_AT, DICOM_MAGIC = 128, b"DICM"
SIDE_MIN_PX, SIDE_MAX_PX = 16, 10_000  # a mask below is meaningless, an image above is no radiograph
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's grey


def find_images(source: str) -> list[Path]:
    """The images a path, a folder or a glob means, sorted; a folder's other files are passed over.

    Raises FluoroError when there are none.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not found:
            raise FluoroError(f"{path}: holds no image", f"{', '.join(SUFFIXES)} are read")
        return found
    if path.exists():
        return [path]
    if glob.has_magic(source):
        found = sorted(p for p in map(Path, glob.glob(source)) if p.is_file())
        if not found:
            raise FluoroError(f"{source}: no file matches", "check the pattern")
        return found
    raise FluoroError(f"{source}: no such image", "check the path; a phrase comes after the image")


def read_image(path: Path) -> np.ndarray:
    """A PNG, JPEG or TIFF, 8 or 16 bits, as grey (H, W), upright as its EXIF tag says; values as stored.

    Colour becomes luma; transparent parts become black. Raises FluoroError when it is none of these or of a size that
    no radiograph has.
    """
    _refuse_other_formats(path)
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
                _check_size(path, image.size)
                pages = getattr(image, "n_frames", 1)
                if pages > 1:
                    raise FluoroError(f"{path}: holds {pages} pages, one is expected", "split it into files")
                return _grey(ImageOps.exif_transpose(image), path)
    except Image.DecompressionBombError as error:
        raise FluoroError(f"{path}: far too large ({error})", f"scale it to at most {SIDE_MAX_PX} px a side") from error
    except (Image.UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    except OSError as error:
        if error.errno is not None:  # the file system's, not the decoder's
            raise
        raise _unreadable(path, error) from error


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) numbers -> (H, W) float32. Raises FluoroError for other shapes and for NaN or infinity."""
    if image.ndim == 3 and image.shape[2] == 3:
        image = image @ LUMA
    if image.ndim != 2 or image.dtype.kind not in "uifb":
        raise FluoroError(
            f"image: is {image.dtype} of shape {image.shape}, numbers of shape (H, W) or (H, W, 3) are needed",
            "convert it to grey first",
        )
    grey = image.astype(np.float32)
    if not grey.size or not np.isfinite(grey).all():
        raise FluoroError("image: is empty or holds NaN or infinite values", "replace them first")
    return grey


def _refuse_other_formats(path: Path) -> None:
    name = path.name.lower()
    kind = next((kind for kind, suffixes in LATER.items() if name.endswith(suffixes)), None)
    if kind is None:
        with open(path, "rb") as file:
            start = file.read(DICOM_MAGIC_AT + len(DICOM_MAGIC))
        kind = "DICOM" if start[DICOM_MAGIC_AT:] == DICOM_MAGIC else None
    if kind is not None:
        raise FluoroError(f"{path}: {kind} images are not read yet", "convert it to PNG, 16 bits if it can be")


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if min(size) < SIDE_MIN_PX or max(size) > SIDE_MAX_PX:
        raise FluoroError(
            f"{path}: is {size[0]}x{size[1]}, sides from {SIDE_MIN_PX} to {SIDE_MAX_PX} px are expected",
            "give the radiograph itself, or scale it",
        )


def _grey(image, path: Path) -> np.ndarray:
    """A Pillow image of any mode -> (H, W) uint8, uint16, int32 or float32."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    if image.mode not in ("L", "F") and not image.mode.startswith("I"):
        image = image.convert("L")
    array = np.asarray(image)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FluoroError(f"{path}: holds NaN or infinite values", "replace them, or convert it to 16-bit PNG")
    return array.astype(array.dtype.newbyteorder("="))


def _unreadable(path: Path, error: BaseException) -> FluoroError:
    detail = "" if "cannot identify" in str(error) else f" ({str(error).splitlines()[0]})" if str(error) else ""
    return FluoroError(f"{path}: not a readable PNG, JPEG or TIFF{detail}", "check the file, or convert it to PNG")

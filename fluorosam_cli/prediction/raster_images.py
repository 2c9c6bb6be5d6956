"""Radiographs in PNG, JPEG and TIFF files, pages of a TIFF being frames.

Sizes are compared with what a radiograph can have before anything is decompressed.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.radiograph import SIDE_MAX_PX, Found, Plain, check_size, inverted

WHITE_IS_ZERO, PHOTOMETRIC, BITS, SAMPLE_FORMAT, UNSIGNED, SIGNED = 0, 262, 258, 339, 1, 2  # TIFF 6.0


def probe(path: Path) -> Found:
    return next(_opened(path, lambda image: iter([Found(_pages(image), False)])))


def read(path: Path, numbers: Sequence[int]) -> Iterator[Plain]:
    from PIL import ImageOps

    def planes(image: Any) -> Iterator[Plain]:
        for number in numbers:
            if getattr(image, "n_frames", 1) > 1:
                image.seek(number - 1)
                check_size(str(path), *image.size)
            yield Plain(_grey(ImageOps.exif_transpose(image), dict(getattr(image, "tag_v2", {}))))

    yield from _opened(path, planes)


def _opened(path: Path, use: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """What `use` yields of the opened image, with what Pillow raises put into words."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, whose size is checked here, and of odd metadata
            # from a stream: of a name, Pillow maps raw pixels into memory with the sides that a rotation tag swaps
            with open(path, "rb") as file, Image.open(file, formats=("PNG", "JPEG", "TIFF")) as image:
                check_size(str(path), *image.size)
                yield from use(image)
    except Image.DecompressionBombError as error:
        raise FluoroError(f"{path}: is far too large", f"scale it to at most {SIDE_MAX_PX} px a side") from error
    except (Image.UnidentifiedImageError, SyntaxError, ValueError, EOFError, OverflowError, KeyError) as error:
        raise _unreadable(path, error) from error
    except OSError as error:
        if error.errno is not None:  # the file system's, not the decoder's
            raise
        raise _unreadable(path, error) from error


def _pages(image: Any) -> int:
    """Of a phone's MPO, a JPEG with pictures for other uses after its own, only the first counts."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _grey(image: Any, tags: dict[int, Any]) -> np.ndarray:
    """A Pillow image of any mode, and its TIFF tags -> (H, W) uint8, uint16, int32, uint32 or float32."""
    from PIL import Image

    deep = image.mode.startswith("I")  # whose one transparent value stays what it is
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or ("transparency" in image.info and not deep):
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    if image.mode not in ("L", "F") and not deep:
        image = image.convert("L")
    array = np.asarray(image)
    array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.uint8 and tags.get(SAMPLE_FORMAT) == (SIGNED,):
        array = array.view(np.int8).astype(np.int16)
    if tags and (deep or image.mode == "F"):  # of these, Pillow leaves sign and polarity to us
        if array.dtype == np.int32 and tags.get(BITS) == (32,) and tags.get(SAMPLE_FORMAT, (UNSIGNED,)) == (UNSIGNED,):
            array = array.view(np.uint32)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            array = inverted(array)
    return array


def _unreadable(path: Path, error: BaseException) -> FluoroError:
    detail = "" if "cannot identify" in str(error) else f" ({str(error).splitlines()[0]})" if str(error) else ""
    return FluoroError(f"{path}: not a readable PNG, JPEG or TIFF{detail}", "check the file, or convert it to PNG")

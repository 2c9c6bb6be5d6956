"""What to do when the memory does not suffice: find a micro-batch that does, by trying."""

import traceback
from collections.abc import Callable
from typing import TypeVar

from fluorosam_cli.errors import FluoroError

Result = TypeVar("Result")


def with_advice(work: Callable[[int], Result], images: int) -> Result:
    """`work(images)`; when the memory is full, a FluoroError that names a number of images for which it works."""
    found, error = _attempt(work, images)
    if error is None:
        return found  # pyright: ignore - there is a result where there is no error
    fewer = images
    while fewer > 1:
        fewer //= 2
        if _attempt(work, fewer)[1] is None:
            raise FluoroError(f"{images} images at once need more memory than there is", _hint(fewer)) from None
    raise FluoroError(
        "one image at a time needs more memory than there is", "fewer --prompts or --rounds, or a smaller --preset"
    ) from None


def _attempt(work: Callable[[int], Result], images: int) -> tuple[Result | None, RuntimeError | None]:
    try:
        return work(images), None
    except RuntimeError as error:  # CUDA has a class of its own for it, CPUs only a message
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        traceback.clear_frames(error.__traceback__)  # or the failed attempt's tensors would stay
        return None, error


def _hint(images: int) -> str:
    return f"{images} fit: add --micro-batch {images} --resume (the result stays the same, but for rounding)"

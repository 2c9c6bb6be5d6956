"""What the rays of a view crossed, stored so that its physics can be drawn again without rendering.

Integrals: mass per area of every material (g/cm2) and path length through every tissue group (mm), averaged over the
pixels of the size a network trains at. Travel: the path length through every structure, at full size. Both are `.npz`
files of float16, which cannot hold code; `numpy.load` opens them. In g/cm2 and mm, half a metre of steel and a man's
height are well within float16 (65504), and its relative step of 1/2048 is below the noise of a radiograph.
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.contracts import IntegralsHeader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.boxes import box_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

PATH_STEP_MM = 0.5  # finer than a voxel; without the rounding the paths would take half as much room again
LEVEL = 1  # zlib: higher ones take two to three times as long for a twentieth less
LARGEST = float(np.finfo(np.float16).max)
MAX_SIZE_PX = 16384  # beyond any detector
NAME_LENGTH = 64
DAMAGE = (  # what unpacking raises for a file that is not what it was; the last four come from an array's header
    *(zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, RuntimeError, OSError),
    *(SyntaxError, tokenize.TokenError, TypeError, struct.error),
)


@dataclass(frozen=True)
class Integrals:
    """One view: `mass_g_cm2` (M, h, w) and `path_mm` (P, h, w), both float16, the latter for the `tissues` in it."""

    mass_g_cm2: np.ndarray
    path_mm: np.ndarray
    tissues: tuple[str, ...]


def write_integrals(
    path: Path, mass_g_cm2: np.ndarray, paths_mm: np.ndarray, tissues: Sequence[str], header: IntegralsHeader
) -> None:
    """Write a view's integrals from full-size maps: `mass_g_cm2` (M, H, W), `paths_mm` (P, H, W) of `tissues`."""
    mass = shrunk(mass_g_cm2, header.size_px)
    paths = np.rint(shrunk(paths_mm, header.size_px) / PATH_STEP_MM) * PATH_STEP_MM
    numbers = {name: number for number, name in enumerate(header.tissues)}
    seen = [i for i in range(len(paths)) if paths[i].any()]
    with _writing(path) as add:
        add("mass_g_cm2", _half(mass))
        add("path_mm", _half(paths[seen]))
        add("tissue", np.array([numbers[tissues[i]] for i in seen], np.uint8))


def read_integrals(path: Path, header: IntegralsHeader) -> Integrals:
    """The integrals of one view. Raises FluoroError for a file that is damaged or not what the header says."""
    limit, materials, tissues = header.size_px, len(header.materials), len(header.tissues)
    with _reading(path) as archive:
        mass = _array(archive, "mass_g_cm2", np.float16, (materials, limit, limit))
        paths = _array(archive, "path_mm", np.float16, (tissues, limit, limit))
        numbers = _array(archive, "tissue", np.uint8, (tissues,))
        if (
            len(mass) != materials
            or mass.shape[1:] != paths.shape[1:]
            or len(numbers) != len(paths)
            or (numbers >= tissues).any()
            or max(mass.shape[1:]) > limit
        ):
            raise ValueError("arrays that do not fit each other or the header of the views")
    return Integrals(mass, paths, tuple(header.tissues[number] for number in numbers))


def write_travel(path: Path, travel_mm: np.ndarray, names: Sequence[str]) -> None:
    """Write the path lengths `travel_mm` (P, H, W) through the structures of those names, each cut to its own box."""
    seen, boxes, parts = [], [], []
    for name, plane in zip(names, travel_mm, strict=True):
        if box := box_of(plane):
            seen.append(name)
            boxes.append(box)
            parts.append(_half(plane[box[1] : box[3], box[0] : box[2]]))
    with _writing(path) as add:
        add("size", np.array(travel_mm.shape[1:], np.int32))
        add("name", np.array(seen, f"<U{NAME_LENGTH}"))
        add("box_xyxy", np.array(boxes, np.int32).reshape(-1, 4))
        for name, part in zip(seen, parts, strict=True):
            add(f"path_mm/{name}", part)


def read_travel(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Name -> path length in mm, (H, W) float16, of the structures in the view, or of those among `names`.

    Raises FluoroError for a damaged file.
    """
    found = {}
    with _reading(path) as archive:
        height, width = _array(archive, "size", np.int32, (2,), exact=True).tolist()
        if not (0 < height <= MAX_SIZE_PX and 0 < width <= MAX_SIZE_PX):
            raise ValueError(f"a size of {width} x {height} pixels")
        listed = _array(archive, "name", np.dtype(f"<U{NAME_LENGTH}"), (65535,)).tolist()
        boxes = _array(archive, "box_xyxy", np.int32, (len(listed), 4), exact=True).tolist()
        for name, (left, top, right, bottom) in zip(listed, boxes, strict=True):
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise ValueError(f"a box of {name} beyond the image")
            if names is None or name in names:
                whole = found[name] = np.zeros((height, width), np.float16)
                shape = bottom - top, right - left
                whole[top:bottom, left:right] = _array(archive, f"path_mm/{name}", np.float16, shape, exact=True)
    return found


# --- size and range ---------------------------------------------------------------------------------------------------


def shrunk(maps: np.ndarray, size_px: int) -> np.ndarray:
    """Maps (P, H, W) averaged over the areas of larger pixels, so that the longer side has `size_px`; never enlarged.

    Each new pixel is the mean over its square of the image, with edge pixels counted by the share inside, so that the
    mean of every map stays the same.
    """
    height, width = maps.shape[1:]
    scale = size_px / max(height, width)
    if scale >= 1:
        return maps
    small = np.zeros((len(maps), max(1, round(height * scale)), max(1, round(width * scale))), np.float32)
    down, across = _averaging(height, small.shape[1]), _averaging(width, small.shape[2])
    for plane, target in zip(maps, small, strict=True):
        if plane.any():
            target[:] = (across @ (down @ plane).T).T
    return small


@lru_cache(maxsize=8)
def _averaging(many: int, few: int) -> "csr_array":
    """Matrix (few, many) of the share of each old pixel in each new one."""
    from scipy.sparse import csr_array

    edges = np.arange(few + 1) * many / few
    cells = np.arange(many)
    inside = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return csr_array(np.maximum(inside, 0) * few / many, dtype=np.float32)


def _half(values: np.ndarray) -> np.ndarray:
    return np.minimum(values, np.float32(LARGEST)).astype(np.float16)


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Yield a function that adds a named array to a new `.npz`; the bytes depend on the arrays alone."""
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive,
    ):

        def add(name: str, array: np.ndarray) -> None:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)

        yield add


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise FluoroError(f"{path}: not found", "render the views again with --overwrite") from error
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FluoroError(f"{path}: damaged ({reason})", "render the views again with --overwrite") from error


def _array(
    archive: zipfile.ZipFile, name: str, dtype: DTypeLike, limit: tuple[int, ...], exact: bool = False
) -> np.ndarray:
    """One array, of that type and at most (or exactly) that shape: looked at before anything is allocated."""
    with archive.open(f"{name}.npy") as member:
        shape, fortran, found = _npy_header(member)
        fits = shape == limit if exact else len(shape) == len(limit) and all(map(int.__le__, shape, limit))
        if found != dtype or fortran or not fits:
            raise ValueError(f"{name} is {found} of shape {shape}")
        size = int(np.prod(shape)) * found.itemsize
        data = member.read(size + 1)
        if len(data) != size:
            raise ValueError(f"{name} is cut short")
    return np.frombuffer(data, found).reshape(shape)


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    if np.lib.format.read_magic(member) != (1, 0):
        raise ValueError("an array of another version")
    return np.lib.format.read_array_header_1_0(member)

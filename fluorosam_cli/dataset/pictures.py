"""Images with masks on their way into shards, wherever they come from: scaled, cropped, packed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import numpy as np

from fluorosam_cli.contracts import Collimation, IntegralsHeader
from fluorosam_cli.dataset.shard_layout import NAME_BYTES
from fluorosam_cli.dataset.shard_writer import PackedImage, PackedIntegrals, pack_mask, positions_to_bits
from fluorosam_cli.geometry.boxes import Box, box_of
from fluorosam_cli.geometry.frame import Frame
from fluorosam_cli.render.integrals import PATH_STEP_MM, Integrals, shrunk

FloatBox = tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    name: str
    mask: np.ndarray  # (H, W), not 0 inside
    travel_mm: np.ndarray | None = None  # (H, W) path length through the structure


@dataclass(frozen=True)
class Picture:
    """One image at its own size."""

    image: np.ndarray  # (H, W) uint16
    view: str  # its name within the case
    masks: Iterable[Annotation]  # made one at a time
    absent: Iterable[str]  # what was looked for and is not there
    angles_deg: tuple[float, float] = (nan, nan)
    pixel_spacing_mm: float = nan
    collimation: Collimation | None = None
    integrals: Integrals | None = None
    materials: Sequence[str] = ()  # of the integrals


@dataclass(frozen=True)
class Source:
    """A folder or file of pictures, found but not read."""

    path: Path
    cases: list[str]  # of every picture
    names: frozenset[str]  # of all their masks
    read: Callable[[int], Picture]
    headers: list[Path]  # files that decide what is in it
    content_sha256: Callable[[], str] | None = None  # of pictures that no header describes
    bone_bright: bool = True
    integrals: IntegralsHeader | None = None
    case_sha256: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of its scan, or of its images
    problems: list[str] = field(default_factory=list)  # what is left out, and why


def packed(
    picture: Picture, case: int, numbers: Mapping[str, int], size: int, integrals: IntegralsHeader | None, invert: bool
) -> PackedImage:
    """Scale a picture's longest side to `size`; `numbers` are the structures' positions, `integrals` of the shards."""
    shape = picture.image.shape
    image, inner = fit_image(~picture.image if invert else picture.image, size)
    masks = []
    for annotation in picture.masks:
        box = box_of(annotation.mask)
        if box is None:
            continue
        travel = annotation.travel_mm
        mask = fitted(annotation.mask > 0, box, size) >= 0.5
        found = pack_mask(mask, numbers[annotation.name], None if travel is None else fitted(travel, box, size))
        if found is not None:
            masks.append(found)
    return PackedImage(
        image=image,
        inner_hw=inner,
        original_hw=(shape[0], shape[1]),
        case=case,
        view=picture.view.encode()[:NAME_BYTES].decode(errors="ignore").encode(),
        angles_deg=picture.angles_deg,
        pixel_spacing_mm=picture.pixel_spacing_mm,
        field_xyxy=_scaled(picture.collimation.box_xyxy, shape, inner) if picture.collimation else (nan, nan, nan, nan),
        field_round=picture.collimation is not None and picture.collimation.shape == "circle",
        masks=masks,
        absent=positions_to_bits([numbers[name] for name in picture.absent], len(numbers)),
        integrals=pack_integrals(picture.integrals, picture.materials, integrals)
        if picture.integrals and integrals
        else None,
    )


def _scaled(box_xyxy: FloatBox, shape: tuple[int, ...], inner: tuple[int, int]) -> FloatBox:
    """Edges in pixels of the image, whose centres are at integers, in those of the scaled image."""
    down, across = inner[0] / shape[0], inner[1] / shape[1]
    left, top, right, bottom = ((v + 0.5) * s - 0.5 for v, s in zip(box_xyxy, (across, down) * 2, strict=True))
    return left, top, right, bottom


def pack_integrals(found: Integrals, materials: Sequence[str], header: IntegralsHeader) -> PackedIntegrals:
    """Shrink integrals of these materials to the header's size, and crop every map that is not empty to its box."""
    numbers = [header.materials.index(name) for name in materials]
    numbers += [len(header.materials) + header.tissues.index(name) for name in found.tissues]
    mass, paths = found.mass_g_cm2, found.path_mm
    if max(mass.shape[1:]) > header.size_px:
        mass = shrunk(mass.astype(np.float32), header.size_px)
        paths = np.rint(shrunk(paths.astype(np.float32), header.size_px) / PATH_STEP_MM) * PATH_STEP_MM
    maps = []
    for number, plane in zip(numbers, [*mass, *paths], strict=True):
        box = box_of(plane)
        if box is not None:
            maps.append((number, box, plane[box[1] : box[3], box[0] : box[2]].astype(np.float16).ravel()))
    return PackedIntegrals(mass.shape[1:], maps)


def fit_image(image: np.ndarray, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Scale (H, W) uint16 so that its longest side is `size`; zero padded at the bottom and right to (size, size)."""
    from PIL import Image

    inner = Frame(image.shape[0], image.shape[1], size).inner
    scaled = Image.fromarray(image.astype(np.float32)).resize((inner[1], inner[0]), Image.Resampling.BOX)
    square = np.zeros((size, size), np.uint16)
    values = np.rint(np.asarray(scaled))
    square[: inner[0], : inner[1]] = values - values.min()  # padding is the darkest value, as in preprocess.fit
    return square, inner


def fitted(plane: np.ndarray, box_xyxy: Box, size: int) -> np.ndarray:
    """Scale a mask or map (H, W) like `fit_image`: (size, size) float32 means over what each pixel covers.

    Nothing outside `box_xyxy` is other than 0, so only what it covers is scaled.
    """
    from PIL import Image

    height, width = plane.shape
    rows, columns = Frame(height, width, size).inner
    tall, wide = height / rows, width / columns  # source pixels per fitted pixel
    x0, y0 = int(box_xyxy[0] / wide), int(box_xyxy[1] / tall)
    x1, y1 = min(columns, int(box_xyxy[2] / wide) + 1), min(rows, int(box_xyxy[3] / tall) + 1)
    left, top = int(x0 * wide), int(y0 * tall)
    crop = plane[top : int(np.ceil(y1 * tall)), left : int(np.ceil(x1 * wide))]
    source = (x0 * wide - left, y0 * tall - top, x1 * wide - left, y1 * tall - top)
    picture = Image.fromarray(np.ascontiguousarray(crop, np.float32))
    square = np.zeros((size, size), np.float32)
    square[y0:y1, x0:x1] = np.asarray(picture.resize((x1 - x0, y1 - y0), Image.Resampling.BOX, source))
    return square


def to_16_bits(image: np.ndarray) -> np.ndarray:
    """Any numbers (H, W), darkest to brightest, spread over uint16."""
    values = image.astype(np.float64)
    low, high = values.min(), values.max()
    return np.rint((values - low) * (65535 / (high - low) if high > low else 0)).astype(np.uint16)


def merged_integrals(headers: Sequence[IntegralsHeader | None], size: int) -> IntegralsHeader | None:
    """One header for all, if there is any: every material and tissue group, the smallest size, at most `size`."""
    some = [header for header in headers if header is not None]
    if not some:
        return None
    return IntegralsHeader(
        size_px=min(size, *(header.size_px for header in some)),
        materials=list(dict.fromkeys(name for header in some for name in header.materials)),
        tissues=list(dict.fromkeys(name for header in some for name in header.tissues)),
    )

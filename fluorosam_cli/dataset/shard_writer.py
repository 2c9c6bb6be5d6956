"""HDF5 shards, written: what goes in packed, and a file that is whole or not there."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.dataset.shard_layout import PART_CHUNK_BYTES, PARTS, PER_IMAGE
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.boxes import Box, box_of

NOTHING = np.zeros(0, np.uint8)


@dataclass(frozen=True)
class PackedMask:
    structure: int
    box_xyxy: Box
    area_px: int
    bits: np.ndarray  # uint8
    travel_mm: np.ndarray | None = None  # float16, of the box, rows concatenated


@dataclass(frozen=True)
class PackedIntegrals:
    hw: tuple[int, int]
    maps: list[tuple[int, Box, np.ndarray]]  # position among materials and tissues, box, values in it (float16)


@dataclass(frozen=True)
class PackedImage:
    """One image on its way into a shard; the names are those of the tables."""

    image: np.ndarray  # (S, S) uint16
    inner_hw: tuple[int, int]
    original_hw: tuple[int, int]
    case: int
    view: bytes
    angles_deg: tuple[float, float]
    pixel_spacing_mm: float
    masks: list[PackedMask]
    absent: np.ndarray = field(default_factory=lambda: NOTHING)  # (B,) uint8, as `positions_to_bits` makes it
    integrals: PackedIntegrals | None = None
    field_xyxy: tuple[float, float, float, float] = (nan, nan, nan, nan)
    field_round: bool = False


def pack_mask(mask: np.ndarray, structure: int, travel_mm: np.ndarray | None = None) -> PackedMask | None:
    """Crop a boolean mask (H, W), and the path lengths (H, W) below it, to its box; None when it is empty."""
    box = box_of(mask)
    if box is None:
        return None
    inside = np.s_[box[1] : box[3], box[0] : box[2]]
    travel = None if travel_mm is None else travel_mm[inside].astype(np.float16).ravel()
    return PackedMask(structure, box, int(mask[inside].sum()), np.packbits(mask[inside]), travel)


def positions_to_bits(positions: Iterable[int], count: int) -> np.ndarray:
    """Positions below `count` as bits, first high: (ceil(count / 8),) uint8."""
    flags = np.zeros(count, bool)
    flags[list(positions)] = True
    return np.packbits(flags)


def filters(codec: str) -> dict[str, Any]:
    """Options of a compressed dataset: `gzip`, or `blosc` (Zstandard), both after shuffling bytes."""
    if codec == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    return dict(hdf5plugin("--codec blosc").Blosc(cname="zstd", clevel=5, shuffle=1))


def hdf5plugin(subject: str) -> Any:
    try:
        import hdf5plugin
    except ImportError as error:
        raise FluoroError(f"{subject}: the filter is not installed", "pip install 'fluorosam-cli[blosc]'") from error
    return hdf5plugin


def write_shard(path: Path, images: Iterable[PackedImage], cases: Sequence[str], codec: str = "gzip") -> int:
    """Write one shard, whole or not at all, an image at a time; the number of masks in it.

    Equal input gives equal bytes. `cases` are the names that `PackedImage.case` counts; those used are stored.
    """
    import h5py

    options = filters(codec)
    rows: dict[str, list[Any]] = {name: [] for name in (*PER_IMAGE, "absent", "masks", "maps", "hw")}
    masks: list[tuple[int, Box, int]] = []
    maps: list[tuple[int, Box]] = []
    # The format of HDF5 1.10 has checksums on all that describes the data; that before had none.
    with _disk(path) as disk, h5py.File(disk, "w", libver=("v110", "v110")) as file:
        pictures: Any = None
        bits, travel, values = (_Parts(file, *part, options) for part in PARTS)
        for image in images:
            if pictures is None:
                pictures = _growing(file, "images", "uint16", image.image.shape, (1, *image.image.shape), options)
            pictures.resize(len(rows["case"]) + 1, axis=0)
            pictures[-1] = image.image
            for name in (*PER_IMAGE, "absent"):
                rows[name].append(getattr(image, name))
            bits.append([mask.bits for mask in image.masks])
            travel.append([NOTHING if mask.travel_mm is None else mask.travel_mm for mask in image.masks])
            masks += [(mask.structure, mask.box_xyxy, mask.area_px) for mask in image.masks]
            rows["masks"].append(len(image.masks))
            found = image.integrals or PackedIntegrals((0, 0), [])
            values.append([part for _, _, part in found.maps])
            maps += [(number, box) for number, box, _ in found.maps]
            rows["maps"].append(len(found.maps))
            rows["hw"].append(found.hw)
        used, places = np.unique(rows["case"], return_inverse=True)
        rows["case"] = places.tolist()
        tables: dict[str, np.ndarray] = {name: np.array(rows[name], kind) for name, (kind, _) in PER_IMAGE.items()}
        tables |= {
            "cases": np.array([str(cases[number]).encode() for number in used]),
            "absent": np.stack(rows["absent"]),
            "first_mask": _ends(rows["masks"]),
            "first_map": _ends(rows["maps"]),
            "mask/structure": np.array([m[0] for m in masks], np.int32),
            "mask/box_xyxy": np.array([m[1] for m in masks], np.int32).reshape(-1, 4),
            "mask/area_px": np.array([m[2] for m in masks], np.int32),
            "integrals/hw": np.array(rows["hw"], np.int32),
            "integrals/map": np.array([m[0] for m in maps], np.int32),
            "integrals/box_xyxy": np.array([m[1] for m in maps], np.int32).reshape(-1, 4),
            "mask/offset": _ends(bits.lengths),
            "travel/offset": _ends(travel.lengths),
            "integrals/offset": _ends(values.lengths),
        }
        for name, table in tables.items():
            file.create_dataset(name, data=table, track_times=False)
    return len(masks)


class _Disk(io.FileIO):
    """A file that HDF5 can always write to, as it would crash if told of a full disk; `failed` is what it missed."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.failed = self.failed or error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0


@contextmanager
def _disk(path: Path) -> Iterator[_Disk]:
    """A file that appears at `path` if all of it could be written. Raises OSError if not."""
    with atomic_path(path) as temporary:
        with _Disk(temporary, "w+") as disk:
            yield disk
        if disk.failed:
            raise disk.failed


class _Parts:
    """A growing dataset of parts laid end to end."""

    def __init__(self, file: Any, name: str, kind: str, options: dict[str, Any]) -> None:
        self.data = _growing(file, name, kind, (), (PART_CHUNK_BYTES // np.dtype(kind).itemsize,), options)
        self.lengths: list[int] = []

    def append(self, parts: list[np.ndarray]) -> None:
        self.lengths += map(len, parts)
        if parts:
            block = np.concatenate(parts)
            self.data.resize(len(self.data) + len(block), axis=0)
            self.data[len(self.data) - len(block) :] = block


def _growing(file: Any, name: str, kind: str, shape: tuple[int, ...], chunks: tuple[int, ...], options: dict) -> Any:
    return file.create_dataset(
        name, (0, *shape), kind, maxshape=(None, *shape), chunks=chunks, track_times=False, **options
    )


def _ends(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths]).astype(np.int64)

"""HDF5 shards: the only module that knows h5py. One file holds images, their bit-packed masks and geometry tables.

Layout (N images, M masks; no variable-length types, no pickles):

    images            (N, S, S) uint16      one chunk per image, top-left aligned, zero padded
    inner_hw          (N, 2) int32          rows and columns the image covers
    original_hw       (N, 2) int32          size before it was scaled to S
    case              (N,) int32            position in the file's attribute `cases`
    view              (N,) S32              name of the view
    angles_deg        (N, 2) float32        positioner primary, secondary
    pixel_spacing_mm  (N,) float32          of the original image
    first_mask        (N + 1,) int64        masks of image i: first_mask[i] to first_mask[i + 1]
    mask/structure    (M,) int32            position in shards.json's `structures`
    mask/box_xyxy     (M, 4) int32          inclusive-exclusive, in shard pixels
    mask/area_px      (M,) int32
    mask/offset       (M + 1,) int64        bytes of mask m: offset[m] to offset[m + 1]
    mask/bits         (bytes,) uint8        each mask cropped to its box, rows concatenated, packed (first pixel high)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import atomic_path, read_header, sha256_of
from fluorosam_cli.contracts import Shards, Split
from fluorosam_cli.errors import FluoroError

HEADER = "shards.json"
BITS_CHUNK = 1 << 16
TABLES = {
    "inner_hw": "int32",
    "original_hw": "int32",
    "case": "int32",
    "view": "S32",
    "angles_deg": "float32",
    "pixel_spacing_mm": "float32",
}


@dataclass(frozen=True)
class PackedMask:
    structure: int
    box_xyxy: tuple[int, int, int, int]
    area_px: int
    bits: np.ndarray  # uint8


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


def pack_mask(mask: np.ndarray, structure: int) -> PackedMask | None:
    """Crop a boolean mask (H, W) to its box and pack it; None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    crop = mask[box[1] : box[3], box[0] : box[2]]
    return PackedMask(structure, box, int(crop.sum()), np.packbits(crop))


def unpack_mask(bits: np.ndarray, box_xyxy: np.ndarray, size: int) -> np.ndarray:
    """The mask (size, size) bool that `pack_mask` packed."""
    x0, y0, x1, y1 = (int(v) for v in box_xyxy)
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0)
    return mask


def write_shard(path: Path, images: list[PackedImage], cases: list[str]) -> None:
    """Write one shard, whole or not at all. Equal input gives equal bytes."""
    import h5py

    size = images[0].image.shape[0]
    masks = [mask for image in images for mask in image.masks]
    lengths = [len(mask.bits) for mask in masks]
    bits = np.concatenate([mask.bits for mask in masks]) if masks else np.zeros(0, np.uint8)
    with atomic_path(path) as temporary, h5py.File(temporary, "w", track_order=False) as file:
        file.attrs["cases"] = np.array([case.encode() for case in cases])
        file.create_dataset(
            "images", data=np.stack([i.image for i in images]), chunks=(1, size, size), compression="gzip",
            compression_opts=4, shuffle=True, track_times=False,
        )  # fmt: skip
        for name, kind in TABLES.items():
            file.create_dataset(name, data=np.array([getattr(i, name) for i in images], dtype=kind), track_times=False)
        group = file.create_group("mask")
        tables = {
            "first_mask": (file, np.cumsum([0] + [len(i.masks) for i in images]).astype(np.int64)),
            "structure": (group, np.array([m.structure for m in masks], np.int32)),
            "box_xyxy": (group, np.array([m.box_xyxy for m in masks], np.int32).reshape(-1, 4)),
            "area_px": (group, np.array([m.area_px for m in masks], np.int32)),
            "offset": (group, np.cumsum([0, *lengths]).astype(np.int64)),
        }
        for name, (where, data) in tables.items():
            where.create_dataset(name, data=data, track_times=False)
        packed: dict[str, Any] = (
            {"chunks": (min(BITS_CHUNK, len(bits)),), "compression": "gzip", "compression_opts": 4} if len(bits) else {}
        )
        group.create_dataset("bits", data=bits, track_times=False, **packed)


@dataclass(frozen=True)
class Sample:
    """One image of a shard with the table of its masks; `mask(i)` unpacks one."""

    image: np.ndarray  # (S, S) uint16
    inner_hw: tuple[int, int]
    case: str
    view: str
    structures: np.ndarray  # (m,) positions in shards.json's list
    areas_px: np.ndarray  # (m,)
    boxes_xyxy: np.ndarray  # (m, 4)
    _offsets: np.ndarray
    _bits: np.ndarray

    def mask(self, index: int) -> np.ndarray:
        """Mask `index` as (S, S) bool."""
        start, stop = self._offsets[index : index + 2] - self._offsets[0]
        return unpack_mask(self._bits[start:stop], self.boxes_xyxy[index], self.image.shape[0])


class ShardReader:
    """Random access to the samples of one split. Files open on first use, in each process by itself."""

    def __init__(self, folder: Path, split: Split) -> None:
        self.folder = folder
        self.header = read_header(folder / HEADER, Shards)
        self.shards = [shard for shard in self.header.shards if shard.split == split]
        self._ends = np.cumsum([shard.images for shard in self.shards])
        self._open: dict[int, tuple[Any, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._ends, index, side="right"))
        i = index - (int(self._ends[number - 1]) if number else 0)
        file, table = self._file(number)
        first, last = table["first_mask"][i : i + 2]
        offsets = table["offset"][first : last + 1]
        try:
            image = file["images"][i]
            bits = file["mask/bits"][offsets[0] : offsets[-1]]
        except OSError as error:
            raise self._damaged(number, error) from error
        rows, columns = table["inner_hw"][i]
        return Sample(
            image=image,
            inner_hw=(int(rows), int(columns)),
            case=table["cases"][table["case"][i]].decode(),
            view=table["view"][i].decode(),
            structures=table["structure"][first:last],
            areas_px=table["area_px"][first:last],
            boxes_xyxy=table["box_xyxy"][first:last],
            _offsets=offsets,
            _bits=bits,
        )

    def _file(self, number: int) -> tuple[Any, dict[str, Any]]:
        if number not in self._open:
            import h5py

            try:
                file: Any = h5py.File(self.folder / self.shards[number].file, "r")
                table = {name: file[name][:] for name in (*TABLES, "first_mask")}
                table |= {name: file[f"mask/{name}"][:] for name in ("structure", "box_xyxy", "area_px", "offset")}
                table["cases"] = file.attrs["cases"]
            except (OSError, KeyError) as error:
                raise self._damaged(number, error) from error
            self._open[number] = (file, table)
        return self._open[number]

    def _damaged(self, number: int, error: Exception) -> FluoroError:
        path = self.folder / self.shards[number].file
        return FluoroError(
            f"{path}: cannot be read ({str(error).splitlines()[0]})", f"fluoro pack --verify {self.folder}"
        )


def verify(folder: Path) -> list[str]:
    """Compare every shard's sha256 with the header; the names of those that differ or are absent."""
    header = read_header(folder / HEADER, Shards)
    return [s.file for s in header.shards if not (folder / s.file).is_file() or sha256_of(folder / s.file) != s.sha256]

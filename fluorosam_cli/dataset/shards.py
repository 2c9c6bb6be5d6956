"""HDF5 shards, written and read: the only module that knows h5py. `shard_layout.py` says what is in them."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import atomic_path, read_header, sha256_of
from fluorosam_cli.contracts import Shard, Shards, Split
from fluorosam_cli.dataset.shard_layout import LAYOUT, MORE_PER_IMAGE, PART_CHUNK_BYTES, PARTS, PER_IMAGE, check_tables
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render.exposure import Collimation
from fluorosam_cli.render.integrals import Integrals

HEADER = "shards.json"
MAX_OPEN = 256  # files in one process; many systems allow 1024
BLOSC = 32001  # the filter's number in HDF5's register
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, MemoryError)
NOTHING = np.zeros(0, np.uint8)

Box = tuple[int, int, int, int]


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


def box_of(plane: np.ndarray) -> Box | None:
    """The smallest box around all that is not 0 in (H, W); None when nothing is."""
    rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def pack_mask(mask: np.ndarray, structure: int, travel_mm: np.ndarray | None = None) -> PackedMask | None:
    """Crop a boolean mask (H, W), and the path lengths (H, W) below it, to its box; None when it is empty."""
    box = box_of(mask)
    if box is None:
        return None
    inside = np.s_[box[1] : box[3], box[0] : box[2]]
    travel = None if travel_mm is None else travel_mm[inside].astype(np.float16).ravel()
    return PackedMask(structure, box, int(mask[inside].sum()), np.packbits(mask[inside]), travel)


def unpack_mask(bits: np.ndarray, box_xyxy: np.ndarray, size: int) -> np.ndarray:
    """The mask (size, size) bool that `pack_mask` packed."""
    x0, y0, x1, y1 = (int(v) for v in box_xyxy)
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0)
    return mask


def positions_to_bits(positions: Iterable[int], count: int) -> np.ndarray:
    """Positions below `count` as bits, first high: (ceil(count / 8),) uint8."""
    flags = np.zeros(count, bool)
    flags[list(positions)] = True
    return np.packbits(flags)


# --- writing ----------------------------------------------------------------------------------------------------------


def filters(codec: str) -> dict[str, Any]:
    """Options of a compressed dataset: `gzip`, or `blosc` (Zstandard), both after shuffling bytes."""
    if codec == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    return dict(_hdf5plugin("--codec blosc").Blosc(cname="zstd", clevel=5, shuffle=1))


def _hdf5plugin(subject: str) -> Any:
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


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One image of a shard with the table of its masks; `mask(i)` unpacks one."""

    image: np.ndarray  # (S, S) uint16
    inner_hw: tuple[int, int]
    original_hw: tuple[int, int]  # before it was scaled
    pixel_spacing_mm: float  # of the original image, in the plane of the detector; NaN: unknown
    case: str
    view: str
    structures: np.ndarray  # (m,) positions in shards.json's list
    areas_px: np.ndarray  # (m,)
    boxes_xyxy: np.ndarray  # (m, 4)
    collimation: Collimation | None  # in shard pixels
    absent: np.ndarray  # (a,) positions of structures known not to be in the image; of the others nothing is known
    _reader: "ShardReader"
    _place: tuple[int, int]  # shard, image in it

    def mask(self, index: int) -> np.ndarray:
        """Mask `index` as (S, S) bool."""
        return unpack_mask(self._bits[index], self.boxes_xyxy[index], self.image.shape[0])

    def travel_mm(self, index: int) -> np.ndarray | None:
        """Path length through the structure of mask `index` in mm, (S, S) float16, 0 outside its box; None: unknown."""
        values = self._reader.travel(*self._place, index)
        if not len(values):
            return None
        x0, y0, x1, y1 = self.boxes_xyxy[index]
        travel = np.zeros(self.image.shape, np.float16)
        travel[y0:y1, x0:x1] = values.reshape(y1 - y0, x1 - x0)
        return travel

    @cached_property
    def integrals(self) -> Integrals | None:
        """What the rays crossed, read when first asked for; None where the views had none.

        Maps (h, w) cover what `inner_hw` (rows, columns) of the image covers, in pixels of another size: centre (x, y)
        of a map lies at ((x + .5) * columns / w - .5, (y + .5) * rows / h - .5) of the image.
        """
        return self._reader.integrals(*self._place)

    @cached_property
    def _bits(self) -> list[np.ndarray]:
        return self._reader.bits(*self._place)


class ShardReader:
    """Random access to the samples of one split. Files open on first use, in each process by itself."""

    def __init__(self, folder: Path, split: Split) -> None:
        self.folder = folder
        self.header = read_header(folder / HEADER, Shards)
        self.shards = [shard for shard in self.header.shards if shard.split == split]
        self._ends = np.cumsum([shard.images for shard in self.shards])
        self._open: dict[int, _File] = {}

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
        file = self._file(number)
        first, last = file["first_mask"][i : i + 2]
        left, top, right, bottom = file["field_xyxy"][i].tolist()
        shape = "circle" if file["field_round"][i] else "rectangle"
        return Sample(
            image=file.read("images", i),
            inner_hw=(int(file["inner_hw"][i][0]), int(file["inner_hw"][i][1])),
            original_hw=(int(file["original_hw"][i][0]), int(file["original_hw"][i][1])),
            pixel_spacing_mm=float(file["pixel_spacing_mm"][i]),
            case=file.text("cases", file["case"][i]),
            view=file.text("view", i),
            structures=file.read("mask/structure", first, last),
            areas_px=file.read("mask/area_px", first, last),
            boxes_xyxy=file.read("mask/box_xyxy", first, last),
            collimation=None if isnan(left) else Collimation(shape, (left, top, right, bottom)),
            absent=np.flatnonzero(np.unpackbits(file["absent"][i])),
            _reader=self,
            _place=(number, i),
        )

    def has_travel(self) -> bool:
        """Whether the path length is known of any mask."""
        return any(len(self._file(number).read("travel/values", 0, 1)) for number in range(len(self.shards)))

    def integrals(self, number: int, i: int) -> Integrals | None:
        """Those of image `i` of shard `number`; users call `Sample.integrals`."""
        file, header = self._file(number), self.header.integrals
        height, width = (int(v) for v in file["integrals/hw"][i])
        if header is None or not height:
            return None
        first, last = file["first_map"][i : i + 2]
        numbers, boxes = file.read("integrals/map", first, last), file.read("integrals/box_xyxy", first, last)
        offsets = file.read("integrals/offset", first, last + 1)
        values = file.read("integrals/values", offsets[0], offsets[-1])
        materials = len(header.materials)
        tissues = [int(n) - materials for n in numbers if n >= materials]
        mass = np.zeros((materials, height, width), np.float16)
        paths = np.zeros((len(tissues), height, width), np.float16)
        starts = offsets - offsets[0]
        for n, (x0, y0, x1, y1), start, stop in zip(numbers, boxes, starts, starts[1:], strict=False):
            plane = mass[n] if n < materials else paths[tissues.index(n - materials)]
            plane[y0:y1, x0:x1] = values[start:stop].reshape(y1 - y0, x1 - x0)
        return Integrals(mass, paths, tuple(header.tissues[t] for t in tissues))

    def bits(self, number: int, i: int) -> list[np.ndarray]:
        """Of every mask of image `i` of shard `number`, packed, in one read."""
        file = self._file(number)
        first, last = file["first_mask"][i : i + 2]
        offsets = file.read("mask/offset", first, last + 1)
        values = file.read("mask/bits", offsets[0], offsets[-1])
        return np.split(values, offsets[1:-1] - offsets[0])

    def travel(self, number: int, i: int, mask: int) -> np.ndarray:
        """Path lengths of mask `mask` of image `i` of shard `number`, of its box; none where they are not known."""
        file = self._file(number)
        row = int(file["first_mask"][i]) + mask
        start, stop = file.read("travel/offset", row, row + 2)
        return file.read("travel/values", start, stop)

    def _file(self, number: int) -> "_File":
        if number not in self._open:
            if len(self._open) == MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = _File(self.folder, self.shards[number], self.header)
        return self._open[number]


class _File:
    """An open shard that has been checked: no table leads a read astray.

    The per-image tables are in memory; the rest is read on demand.
    """

    def __init__(self, folder: Path, shard: Shard, header: Shards) -> None:
        import h5py

        self.path, self.folder = folder / shard.file, folder
        try:
            self.file: Any = h5py.File(self.path, "r")
            self._data = {name: _dataset(self.file, name, kind) for name, kind in LAYOUT.items()}
            if BLOSC in _filters(self._data["images"]):
                _hdf5plugin(str(self.path))
            check_tables(self._data, shard, header, self.path.stat().st_size)
            self._tables = {name: self._data[name][:] for name in (*PER_IMAGE, *MORE_PER_IMAGE)}
        except DAMAGE as error:
            raise self._damaged(error) from error

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tables[name]

    def text(self, name: str, i: int) -> str:
        return bytes(self._tables[name][i]).decode(errors="replace")

    def read(self, name: str, first: int, last: int | None = None) -> np.ndarray:
        """Row `first`, or those from `first` to `last`."""
        try:
            return self._data[name][first if last is None else slice(first, last)]
        except DAMAGE as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        self.file.close()

    def _damaged(self, error: Exception) -> FluoroError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return FluoroError(f"{self.path}: cannot be read ({reason})", f"fluoro pack --verify {self.folder}")


def _dataset(file: Any, name: str, kind: str) -> Any:
    """The dataset of that name, which lies in this very file and is of that type."""
    import h5py

    group, _, _ = name.rpartition("/")
    for part in filter(None, (group, name)):
        if not isinstance(file.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{part} is missing or elsewhere")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise ValueError(f"{name} lies elsewhere")
    if data.dtype != kind and not (name == "cases" and data.dtype.kind == "S"):
        raise ValueError(f"{name} is {data.dtype}")
    return data


def _filters(data: Any) -> set[int]:
    plist = data.id.get_create_plist()
    return {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}


def count_masks(path: Path, images: int) -> int | None:
    """The number of masks in a shard of so many images; None when it is damaged or another."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found: Any = file
            return len(found["mask/structure"]) if len(found["images"]) == images else None
    except DAMAGE:
        return None


def verify(folder: Path) -> list[str]:
    """Compare every shard's sha256 with the header; the names of those that differ or are absent."""
    header = read_header(folder / HEADER, Shards)
    return [s.file for s in header.shards if not (folder / s.file).is_file() or sha256_of(folder / s.file) != s.sha256]

"""HDF5 shards, read and checked. `shard_layout.py` says what is in them, `shard_writer.py` writes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import read_header, sha256_of
from fluorosam_cli.contracts import Shard, Shards, Split
from fluorosam_cli.dataset.shard_layout import LAYOUT, MORE_PER_IMAGE, PER_IMAGE, check_tables
from fluorosam_cli.dataset.shard_writer import hdf5plugin
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render.exposure import Collimation
from fluorosam_cli.render.integrals import Integrals

HEADER = "shards.json"
MAX_OPEN = 256  # files in one process; many systems allow 1024
BLOSC = 32001  # the filter's number in HDF5's register
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, MemoryError)


def unpack_mask(bits: np.ndarray, box_xyxy: np.ndarray, size: int) -> np.ndarray:
    """The mask (size, size) bool that `pack_mask` packed."""
    x0, y0, x1, y1 = (int(v) for v in box_xyxy)
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0)
    return mask


@dataclass(frozen=True)
class Sample:
    """One image of a shard with the table of its masks; `mask(i)` unpacks one."""

    image: np.ndarray  # (S, S) uint16
    inner_hw: tuple[int, int]
    original_hw: tuple[int, int]  # before it was scaled
    pixel_spacing_mm: float  # of the original image, a view's in the plane of the detector; NaN: unknown or unequal
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
                hdf5plugin(str(self.path))
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

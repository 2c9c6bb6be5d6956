"""NIfTI, NRRD and MetaImage files: where their voxels lie, from the header alone, and reading these as HU.

Headers are not trusted: what they promise is compared with the file's length before anything is allocated, and the
voxels are read plane by plane into one int16 array. Colour, 4D and ASCII voxels are refused.
"""

import importlib
import io
import math
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np

from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import (
    LPS_FROM_RAS,
    NIFTI_SUFFIXES,
    Volume,
    check_grid,
    check_hu,
    plane_to_hu,
)
from fluorosam_cli.errors import FluoroError

NRRD_SUFFIXES = (".nrrd", ".nhdr")
METAIMAGE_SUFFIXES = (".mha", ".mhd")
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *METAIMAGE_SUFFIXES)
MAX_TEXT_BYTES = 2**20  # of a text header
CHUNK_BYTES = 2**20
INFLATE_MAX = 1032  # the most bytes that deflate can make of one

NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}
NRRD_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}  # the signs that make them LPS
METAIMAGE_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


@dataclass(frozen=True)
class Layout:
    """Voxels of `dtype`, x fastest, from byte `offset` of `source` on.

    Packed ones are inflated from there, and begin `skip` bytes into what comes out.
    """

    source: Source
    offset: int
    packed: bool
    skip: int
    dtype: np.dtype
    shape_xyz: tuple[int, int, int]
    world_from_voxel: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def cannot_be_hu(self) -> bool:
        """Whether the voxel type alone rules out values below 0."""
        return self.dtype.kind == "u" and self.slope > 0 and self.intercept >= 0


def stem_of(name: str) -> str:
    """A volume file's name without its suffix (`.nii.gz`, ...)."""
    for suffix in VOLUME_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def read_layout(source: Source, subject: str) -> Layout:
    """Read and check a header. Raises FluoroError for what is damaged, implausible or not a 3D volume."""
    name = source.name.lower()
    read = _nifti if name.endswith(NIFTI_SUFFIXES) else _nrrd if name.endswith(NRRD_SUFFIXES) else _metaimage
    try:
        layout = read(source, subject)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        zlib.error,
        NotImplementedError,
    ) as error:
        detail = str(getattr(error, "strerror", None) or "").lower() or type(error).__name__
        if isinstance(error, zlib.error):
            detail = "not gzip-compressed, or damaged"
        raise _unreadable(subject, detail) from error
    if layout.dtype.kind not in "iuf":
        kind = "colour" if layout.dtype.kind == "V" else layout.dtype.name
        raise FluoroError(f"{subject}: voxel type is {kind}, numbers are needed", "give a CT in HU")
    check_grid(subject, layout.shape_xyz, layout.world_from_voxel)
    needed = math.prod(layout.shape_xyz) * layout.dtype.itemsize + layout.skip
    there = max(0, layout.source.size - layout.offset)
    if needed > there * (INFLATE_MAX if layout.packed else 1):
        raise FluoroError(
            f"{subject}: its header promises {needed} bytes of voxels, the file has {there}",
            "the file is cut short or its header wrong: fetch it again",
        )
    return layout


def read_hu(layout: Layout, subject: str) -> Volume:
    """The voxels as int16 HU on the stored grid; memory: the int16 volume and one plane."""
    hu = np.empty(layout.shape_xyz[::-1], dtype=np.int16)
    for out, stored in zip(hu, stored_planes(layout, subject), strict=True):
        out[:] = plane_to_hu(stored, layout.slope, layout.intercept)
    check_hu(hu, subject)
    return Volume(hu, layout.world_from_voxel)


def stored_planes(layout: Layout, subject: str) -> Iterator[np.ndarray]:
    """The voxels as stored, plane by plane, (y, x). Raises FluoroError when the data end early or are damaged."""
    plane_bytes = layout.shape_xyz[0] * layout.shape_xyz[1] * layout.dtype.itemsize
    try:
        with layout.source.open() as file:
            file.seek(layout.offset)
            stream = io.BufferedReader(_Inflating(file), CHUNK_BYTES) if layout.packed else file
            left = layout.skip
            while left and (dropped := len(stream.read(min(left, CHUNK_BYTES)))):
                left -= dropped
            for _ in range(layout.shape_xyz[2]):
                data = stream.read(plane_bytes)
                if len(data) < plane_bytes:
                    raise EOFError
                yield np.frombuffer(data, dtype=layout.dtype).reshape(layout.shape_xyz[1::-1])
            if layout.packed:
                stream.read(CHUNK_BYTES)  # on to the check sum
    except (OSError, EOFError, ValueError, zlib.error, NotImplementedError) as error:
        raise _unreadable(subject, "its voxels end early or are damaged") from error


class _Inflating(io.RawIOBase):
    """What deflated data hold, gzip (of one or several members) or zlib, at most as many bytes at once as asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(47)  # 32 + 15: either header, any window

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while True:
            if self._inflater.eof:
                data = self._inflater.unused_data.lstrip(b"\0") or self._file.read(CHUNK_BYTES)
                if not data:
                    return 0
                self._inflater = zlib.decompressobj(47)
            else:
                data = self._inflater.unconsumed_tail or self._file.read(CHUNK_BYTES)
            out = self._inflater.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)
            if not data and not self._inflater.eof:
                raise EOFError


# --- headers ----------------------------------------------------------------------------------------------------------


def _nifti(source: Source, subject: str) -> Layout:
    _import_nibabel()
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    packed = source.name.lower().endswith(".gz")
    with source.open() as file:
        head = (io.BufferedReader(_Inflating(file), 4096) if packed else file).read(540)
    sizes = {int.from_bytes(head[:4], order): order for order in ("little", "big")}
    kind, length = (Nifti2Header, 540) if 540 in sizes else (Nifti1Header, 348)
    if not {348, 540} & sizes.keys() or len(head) < length:
        raise _unreadable(subject, "no NIfTI header")
    try:
        header = kind(head[:length], check=False)
        shape = header.get_data_shape()
        slope, intercept = header.get_slope_inter()
        layout = Layout(
            source=source,
            offset=0 if packed else max(int(header["vox_offset"]), length),
            packed=packed,
            skip=max(int(header["vox_offset"]), length) if packed else 0,
            dtype=header.get_data_dtype(),
            shape_xyz=tuple(map(int, shape[:3] if shape[3:] == (1,) else shape)),  # pyright: ignore[reportArgumentType]
            world_from_voxel=LPS_FROM_RAS.diagonal()[:, None] * np.asarray(header.get_best_affine(), dtype=np.float64),
            slope=1.0 if slope is None else float(slope),
            intercept=0.0 if intercept is None else float(intercept),
        )
        if np.isinf(header["scl_slope"]):
            raise HeaderDataError("infinite slope")
    except HeaderDataError as error:
        raise _unreadable(subject, str(error).splitlines()[0]) from error
    if bytes(header["magic"].item()).rstrip(b"\0") not in (b"n+1", b"n+2", b"n+2\0\r\n\x1a\n"):
        raise _unreadable(subject, "wrong magic")
    if not header["sform_code"] and not header["qform_code"]:
        raise FluoroError(f"{subject}: its header does not say how the patient lies", "set the sform or the qform")
    return layout


def _import_nibabel() -> None:
    """Import nibabel as if pydicom were not installed: with its decoders it takes 30 MB that no header needs."""
    hidden = "pydicom" not in sys.modules and "nibabel" not in sys.modules
    if hidden:
        sys.modules["pydicom"] = None  # pyright: ignore[reportArgumentType] - an import of it fails
    try:
        importlib.import_module("nibabel")
    finally:
        if hidden:
            del sys.modules["pydicom"]


def _nrrd(source: Source, subject: str) -> Layout:
    with source.open() as file:
        if file.read(4) != b"NRRD":
            raise _unreadable(subject, "wrong magic")
    fields, offset = text_header(source, subject, ":", last_key="")
    if int(fields["dimension"]) != 3:
        layered = ":segment0_name" in fields  # Slicer's segments that overlap
        raise FluoroError(
            f"{subject}: has {int(fields['dimension'])} axes, a 3D volume is needed",
            "export one label map from Slicer" if layered else "give one 3D CT per file",
        )
    space = NRRD_SPACES.get(fields.get("space", "").lower())
    if space is None:
        raise FluoroError(
            f"{subject}: its header does not say how the patient lies", "write it with space and directions"
        )
    directions = np.array([_numbers(word, 3) for word in re.findall(r"\(([^)]*)\)", fields["space directions"])])
    origin = np.array(_numbers(fields["space origin"].strip("()"), 3))
    matrix = np.eye(4)
    matrix[:3] = np.diag(space) @ np.column_stack([*directions, origin])
    return nrrd_layout(source, subject, fields, offset, _sizes(fields["sizes"]), matrix)


def nrrd_layout(
    source: Source,
    subject: str,
    fields: Mapping[str, str],
    offset: int,
    shape: tuple[int, int, int],
    world_from_voxel: np.ndarray,
) -> Layout:
    """Where the voxels lie that a header's `fields` describe, which ends at `offset`. Raises FluoroError, KeyError."""
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz") or fields.get("line skip", "0") != "0":
        raise FluoroError(f"{subject}: its encoding is not read, raw and gzip are", "write it as raw or gzip")
    voxels = source
    if "data file" in fields or "datafile" in fields:
        voxels, offset = source.beside(fields.get("data file") or fields["datafile"]), 0
    endian = fields.get("endian", "").lower()
    dtype = np.dtype(NRRD_TYPES[fields["type"].lower()])
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise _unreadable(subject, "no endian field")
    skip, packed = int(fields.get("byte skip") or fields.get("byteskip") or 0), encoding != "raw"
    if skip < -1 or (skip == -1 and packed):
        raise _unreadable(subject, "byte skip")
    if skip == -1:
        offset, skip = max(offset, voxels.size - math.prod(shape) * dtype.itemsize), 0
    return Layout(
        voxels,
        offset if packed else offset + skip,
        packed,
        skip if packed else 0,
        dtype.newbyteorder(">" if endian == "big" else "<"),
        shape,
        world_from_voxel,
    )


def _metaimage(source: Source, subject: str) -> Layout:
    fields, offset = text_header(source, subject, "=", last_key="elementdatafile")
    if int(fields["ndims"]) != 3 or int(fields.get("elementnumberofchannels", 1)) != 1:
        raise FluoroError(f"{subject}: is not one 3D volume of single values", "give one 3D CT per file")
    if fields.get("binarydata", "true").lower() not in ("true", "1"):
        raise FluoroError(f"{subject}: its voxels are text, which is not read", "write it with BinaryData = True")
    shape = _sizes(fields["dimsize"])
    spacing = _numbers(fields.get("elementspacing") or fields["elementsize"], 3)
    origin = _numbers(fields.get("offset") or fields.get("position") or fields["origin"], 3)
    axes = _numbers(
        fields.get("transformmatrix") or fields.get("rotation") or fields.get("orientation", "1 0 0 0 1 0 0 0 1"), 9
    )
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(axes, (3, 3)).T * spacing  # the text holds one axis after the other
    matrix[:3, 3] = origin
    msb = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false")).lower() in ("true", "1")
    dtype = np.dtype(METAIMAGE_TYPES[fields["elementtype"].upper()]).newbyteorder(">" if msb else "<")
    packed = fields.get("compresseddata", "false").lower() in ("true", "1")
    voxels = source
    if fields["elementdatafile"].upper() != "LOCAL":
        voxels, offset = source.beside(fields["elementdatafile"]), 0
        header_bytes = int(fields.get("headersize", 0))
        offset = voxels.size - math.prod(shape) * dtype.itemsize if header_bytes == -1 and not packed else header_bytes
    if offset < 0:
        raise _unreadable(subject, "its voxels end early or are damaged")
    return Layout(voxels, offset, packed, 0, dtype, shape, matrix)


def text_header(source: Source, subject: str, separator: str, last_key: str) -> tuple[dict[str, str], int]:
    """The fields of a text header, keys in lower case, and the offset of what follows it.

    It ends with a blank line, or with the line of `last_key`. NRRD's comments (#) are dropped; the key of a free
    pair (:=) begins with a colon.
    """
    fields: dict[str, str] = {}
    offset = 0
    with source.open() as file:
        while line := file.readline(MAX_TEXT_BYTES):
            offset += len(line)
            text = line.decode(errors="replace").strip()
            key, found, value = text.partition(separator)
            key = key.strip().lower()
            stray = text and not found and not text.startswith("#") and offset > len(line)
            if offset > MAX_TEXT_BYTES or stray:
                raise _unreadable(subject, "no header")
            if found and not text.startswith("#"):
                fields[":" + key if value.startswith("=") else key] = value.removeprefix("=").strip()
            if not text or (last_key and key == last_key):
                break
    return fields, offset


def _numbers(text: str, count: int) -> list[float]:
    numbers = [float(word) for word in text.replace(",", " ").split()]
    if len(numbers) != count:
        raise ValueError
    return numbers


def _sizes(text: str) -> tuple[int, int, int]:
    x, y, z = (int(word) for word in text.split())
    return x, y, z


def _unreadable(subject: str, detail: str) -> FluoroError:
    return FluoroError(
        f"{subject}: not a readable NIfTI, NRRD or MetaImage file ({detail})", "check the file, or fetch it again"
    )

"""DICOM files: reading them without trust, the CT slices that a file holds, and their stored values.

Headers are read for geometry, grouping and `--series` only. No text of a header gets into a message, and pydicom's own
warnings, which quote values, are silenced. Sizes are compared before anything is inflated.

Compressed pixels are decoded by GDCM (JPEG, JPEG-LS, JPEG 2000) and pydicom (RLE); `pylibjpeg-libjpeg`, which pydicom
would prefer where it is installed, is under the GPL.
"""

import contextlib
import logging
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from fluorosam_cli.ct.sources import Source

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_SIDE = 4096  # columns or rows of a slice
MAX_DECODED_SIDE = 10_000  # of whatever is decoded: radiographs are larger
MAX_FRAMES = 20_000
MAX_FILE_BYTES = 2**32
MAX_INFLATED_BYTES = 2**28  # of a deflated file, which pydicom holds in memory twice
CHUNK_BYTES = 2**20

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2" + kind for kind in ("", ".1", ".2")
}  # CT, enhanced, legacy converted enhanced
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
GDCM_SYNTAXES = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91)}
HIGH_THROUGHPUT = {f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)}  # JPEG 2000
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
CODE_STREAMS = GDCM_SYNTAXES | HIGH_THROUGHPUT
TRANSFER_SYNTAXES = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", DEFLATED, "1.2.840.10008.1.2.2", RLE} | CODE_STREAMS
HEADER_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageType"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase"),
    *("KVP", "ConvolutionKernel"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)


class SeriesId(NamedTuple):
    """What `--series` may name. Never written."""

    uid: str
    number: int | None
    description: str

    @property
    def subject(self) -> str:
        return "DICOM without a series number" if self.number is None else f"DICOM series {self.number}"


NO_SERIES = SeriesId("", None, "")


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane of a CT: a file, or a frame of a file."""

    source: Source
    frame: int
    uid: str
    series: SeriesId
    columns: int
    rows: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]  # of the rows' and of the columns' direction
    spacing: tuple[float, ...]  # between rows, between columns
    slope: float
    intercept: float
    padding: tuple[int, ...]  # stored values, signed or not, that are no image from the one to the other; () for none
    syntax: str
    phases: tuple[str, ...]  # what tells volumes of one series apart that share their positions, most telling first


@dataclass(frozen=True, slots=True)
class NoCT:
    """A DICOM file that is no slice of a CT volume."""

    source: Source
    series: SeriesId
    reason: str
    damaged: bool = False  # it may have been one


class Refused(Exception):
    """Why a header is not that of a CT slice."""


class Unreadable(Refused):
    """Why a CT slice cannot be read."""


# --- headers ----------------------------------------------------------------------------------------------------------


def read_slices(source: Source) -> list[Slice] | NoCT | None:
    """The CT slices in a file, or why it has none; None for a file without DICOM's mark, whatever its name."""
    series, sop_class, what = NO_SERIES, "", "cannot be read"
    try:
        with silenced(), source.open() as file:
            if file.read(132)[128:] != b"DICM":
                return None
            what = "damaged DICOM"
            sop_class = str(_meta(file).get("MediaStorageSOPClassUID", ""))
            if sop_class == DICOMDIR_CLASS:  # only lists other files
                return []
            header = read_data_set(file, source.size, keywords=HEADER_KEYWORDS)
            number = header.get("SeriesNumber")
            series = SeriesId(
                str(header.get("SeriesInstanceUID", "")),
                None if number is None else int(number),
                str(header.get("SeriesDescription", "")),
            )
            return _slices_of(header, source, series)
    except Refused as refused:
        return NoCT(source, series, str(refused), damaged=isinstance(refused, Unreadable))
    except Exception as error:  # pydicom raises whatever a damaged file makes it trip over
        return NoCT(source, series, f"{what} ({type(error).__name__})", damaged=sop_class in ("", *CT_CLASSES))


def _slices_of(header: "Dataset", source: Source, series: SeriesId) -> list[Slice]:
    sop_class = str(header.get("SOPClassUID", ""))
    if not sop_class:
        raise Unreadable("damaged DICOM (cut short)")
    if sop_class not in CT_CLASSES:
        raise Refused(f"{uid_name(sop_class)}, CT Image Storage is needed")
    if "LOCALIZER" in _words(header.get("ImageType")):
        raise Refused("localiser")
    syntax = str(header.file_meta.TransferSyntaxUID)
    if syntax not in TRANSFER_SYNTAXES:
        raise Unreadable(f"compressed as {uid_name(syntax)}, which is not read")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise Refused("colour, no CT")
    columns, rows, frames = int(header.Columns), int(header.Rows), int(header.get("NumberOfFrames", 1) or 1)
    if not (1 < columns <= MAX_SIDE and 1 < rows <= MAX_SIDE and 0 < frames <= MAX_FRAMES):
        raise Unreadable(f"{columns}x{rows} pixels in {frames} frames are implausible")
    shared, per_frame = _functional_groups(header, frames)
    slices = []
    for frame in range(frames):
        groups = [group for group in (per_frame[frame] if per_frame else None, shared, header) if group is not None]
        slope = _first(groups, "PixelValueTransformationSequence", "RescaleSlope")
        intercept = _first(groups, "PixelValueTransformationSequence", "RescaleIntercept")
        rescale_type = _first(groups, "PixelValueTransformationSequence", "RescaleType") or "HU"
        if rescale_type not in ("HU", "US"):  # US: unspecified, what some scanners write beside HU
            raise Refused("no HU: its RescaleType says otherwise")
        if "LOCALIZER" in _words(_first(groups, "CTImageFrameTypeSequence", "FrameType")):
            raise Refused("localiser")
        slices.append(
            Slice(
                source,
                frame,
                uid=f"{header.get('SOPInstanceUID', source)}:{frame}",
                series=series,
                columns=columns,
                rows=rows,
                position=_vector(_first(groups, "PlanePositionSequence", "ImagePositionPatient"), 3, "position"),
                orientation=_directions(_first(groups, "PlaneOrientationSequence", "ImageOrientationPatient")),
                spacing=_vector(_first(groups, "PixelMeasuresSequence", "PixelSpacing"), 2, "pixel spacing"),
                slope=_vector(1.0 if slope is None else slope, 1, "rescale slope")[0],
                intercept=_vector(0.0 if intercept is None else intercept, 1, "rescale intercept")[0],
                padding=_padding(header),
                syntax=syntax,
                phases=_phases(header, groups),
            )
        )
    return slices


def _padding(header: "Dataset") -> tuple[int, ...]:
    """The padding value and the other end of its range (PS3.3 C.7.5.1.1.2), the value again where there is none."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return ()
    return value, limit if isinstance(limit, int) else value


def _phases(header: "Dataset", groups: list["Dataset"]) -> tuple[str, ...]:
    def text(*pairs: tuple[str, str]) -> str:
        return " ".join(word for pair in pairs for word in _words(_first(groups, *pair)))

    content = "FrameContentSequence"
    return (
        text(("", "AcquisitionNumber"), (content, "FrameAcquisitionNumber")),
        text(
            ("", "TemporalPositionIdentifier"),
            (content, "TemporalPositionIndex"),
            ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
        ),
        text(("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase")),
        text((content, "StackID")),
        text(("", "ImageType"), ("CTImageFrameTypeSequence", "FrameType")),
        text(("", "KVP"), ("CTXRayDetailsSequence", "KVP")),
        text(("CTReconstructionSequence", "ConvolutionKernel")),
    )


def _functional_groups(header: "Dataset", frames: int) -> tuple["Dataset | None", Sequence["Dataset"]]:
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or []), None)
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) not in (0, frames) or (frames > 1 and not per_frame):
        raise Unreadable(f"{frames} frames, the positions of {len(per_frame)}")
    return shared, per_frame


def _first(groups: Iterable["Dataset"], sequence: str, keyword: str):
    """The value of `keyword` in the first group that has it, inside `sequence` or not; None when there is none."""
    for group in groups:
        items = group.get(sequence) if sequence else None
        value = (items[0] if items else group).get(keyword)
        if value is not None and value != "":
            return value
    return None


def _directions(value) -> tuple[float, ...]:
    rows, columns = np.split(np.array(_vector(value, 6, "orientation")), 2)
    if max(abs(np.linalg.norm(rows) - 1), abs(np.linalg.norm(columns) - 1), abs(rows @ columns)) > 1e-2:
        raise Refused("its orientation is no pair of orthogonal directions")
    return (*rows.tolist(), *columns.tolist())


def _words(value: object) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else [str(word) for word in _listed(value)]


def _listed(value) -> list:
    return list(value) if hasattr(value, "__iter__") else [value]


def _vector(value, count: int, name: str) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in _listed(value)) if value is not None else ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise Refused(f"no {name}")
    return numbers


# --- pixels -----------------------------------------------------------------------------------------------------------


def decode(source: Source, frames: list[int]) -> Iterator[np.ndarray]:
    """The stored values, (rows, columns), of some frames of a file, ascending; of colour images RGB in a third axis.

    Raises Refused, or whatever pydicom and GDCM make of a damaged file. Call it inside `silenced`, and for
    `CODE_STREAMS` in a process of its own, as `ct/decoder.py` does.
    """
    from pydicom.pixels import get_decoder  # pyright: ignore[reportPrivateImportUsage]

    if not frames:  # pydicom would take it for all of them
        return
    with source.open() as file:
        data = read_data_set(file, source.size)
    size = (int(data.Rows), int(data.Columns))
    samples = int(data.get("SamplesPerPixel", 1))
    if max(size) > MAX_DECODED_SIDE or samples not in (1, 3):
        raise Unreadable("implausible pixels")
    syntax = data.file_meta.TransferSyntaxUID
    if syntax in CODE_STREAMS:
        _check_code_streams(data, size)
    if syntax in HIGH_THROUGHPUT or (syntax == JPEG_EXTENDED and int(data.BitsStored) > 8):
        yield from _decode_rare(data, frames)
        return
    if syntax in GDCM_SYNTAXES:
        _silence_gdcm()
    plugin = "gdcm" if syntax in GDCM_SYNTAXES else "pydicom" if syntax == RLE else ""
    raw = samples == 1  # else YBR becomes RGB
    for plane, _ in get_decoder(syntax).iter_array(data, indices=frames, raw=raw, decoding_plugin=plugin):
        yield plane


def _decode_rare(data: "Dataset", frames: list[int]) -> Iterator[np.ndarray]:
    """High-throughput JPEG 2000, and JPEG of 12 bits, which GDCM does not read."""
    from pydicom.encaps import generate_frames

    syntax = data.file_meta.TransferSyntaxUID
    try:
        import imagecodecs
    except ImportError:
        raise Unreadable(f"compressed as {uid_name(syntax)}: pip install 'fluorosam-cli[dicom]'") from None
    decoded = imagecodecs.htj2k_decode if syntax in HIGH_THROUGHPUT else imagecodecs.jpeg8_decode
    streams = list(generate_frames(data.PixelData, number_of_frames=int(data.get("NumberOfFrames", 1) or 1)))
    for frame in frames:
        if syntax == JPEG_EXTENDED and not streams[frame].rstrip(b"\0").endswith(b"\xff\xd9"):
            raise Unreadable("its compressed pixels are cut short")  # libjpeg would paint the rest grey
        plane = decoded(streams[frame])
        if 8 * plane.itemsize != data.BitsAllocated:  # its window would be another's
            raise Unreadable("its compressed pixels are of another depth than its header")
        yield plane.view(f"i{plane.itemsize}") if data.PixelRepresentation == 1 else plane


def read_data_set(file: IO[bytes], size: int, keywords: Sequence[str] = ()) -> "Dataset":
    """The data set in a file of `size` bytes, or with `keywords` only these elements, without pixels.

    Raises Refused, or whatever pydicom makes of a damaged file. Call it inside `silenced`.
    """
    from pydicom import dcmread

    if size > MAX_FILE_BYTES:
        raise Unreadable(f"{size} bytes in one file are implausible")
    if str(_meta(file).TransferSyntaxUID) == DEFLATED:
        _check_inflated(file)
    file.seek(0)
    return dcmread(file, specific_tags=list(keywords) or None, stop_before_pixels=bool(keywords))  # pyright: ignore


def _meta(file: IO[bytes]) -> "Dataset":
    """The elements of group 2, which end where the file is left."""
    from pydicom.filereader import read_dataset, read_preamble

    file.seek(0)
    read_preamble(file, force=False)  # pyright: ignore[reportArgumentType]
    return read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)  # pyright: ignore


def _check_inflated(file: IO[bytes]) -> None:
    """Raise Refused when the rest of the file inflates beyond measure: pydicom would do so without limit."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data, total = file.read(CHUNK_BYTES), 0
    while data and not inflater.eof:
        total += len(inflater.decompress(data, CHUNK_BYTES))
        if total > MAX_INFLATED_BYTES:
            raise Unreadable(f"would inflate to more than {MAX_INFLATED_BYTES} bytes")
        data = inflater.unconsumed_tail or file.read(CHUNK_BYTES)


def _check_code_streams(data: "Dataset", size: tuple[int, int]) -> None:
    """Raise Refused unless every compressed frame is of the header's size, for which memory is known to suffice."""
    from pydicom.encaps import generate_frames

    for stream in generate_frames(data.PixelData, number_of_frames=int(data.get("NumberOfFrames", 1) or 1)):
        if _size_in(stream) != size:
            raise Unreadable("its compressed pixels are of another size than its header")


def _size_in(stream: bytes) -> tuple[int, int]:
    """Rows and columns in a JPEG, JPEG-LS (ITU-T T.81 B.2.2) or JPEG 2000 (T.800 A.5.1) code stream."""
    start = stream.find(b"\xff\x4f\xff\x51")
    if 0 <= start < 1024:  # behind the boxes of a JP2 file, if any
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        return bottom - top, right - left
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            return rows, columns
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", stream, at + 2)[0]
    return 0, 0


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Without the warnings in which pydicom quotes the values of a header."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def uid_name(uid: str) -> str:
    """The standard's name of a UID, never the UID."""
    from pydicom.uid import UID

    name = UID(uid).name
    return "something unknown" if name == uid else name


def _silence_gdcm() -> None:
    import gdcm  # pyright: ignore[reportMissingImports] - no stubs

    for channel in ("Debug", "Warning", "Error", "Stream"):
        getattr(gdcm.Trace, f"{channel}Off", lambda: None)()

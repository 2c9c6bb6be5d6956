"""Radiographs in DICOM files: CR, DX, XA, RF and secondary captures, plain or compressed, single or multi-frame.

Values go the way of the grey-scale pipeline (PS3.4 N.2): modality LUT or rescale, then VOI LUT or window, then
MONOCHROME1 or an inverse presentation LUT turns them. Colour becomes luma. No text of a header gets into a message.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluorosam_cli.ct.dicom import MAX_FRAMES, TRANSFER_SYNTAXES, Refused, read_data_set, silenced, uid_name
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.images import luma
from fluorosam_cli.prediction.radiograph import Found, PixelSpacing, Plain, check_size, inverted, unusual_hanging

if TYPE_CHECKING:
    from pydicom import Dataset

STORAGE = "1.2.840.10008.5.1.4.1.1."
RADIOGRAPHS = {
    STORAGE + kind
    for kind in (
        "1",  # CR
        *("1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # DX, mammography, intra-oral: for presentation, processing
        *("7", "7.1", "7.2", "7.3"),  # secondary capture
        *("12.1", "12.1.1", "12.2", "12.2.1"),  # XA, enhanced XA, RF, enhanced RF
    )
}
KEYWORDS = (
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "PresentationLUTShape", "PresentationIntentType"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelIntensityRelationship", "PixelIntensityRelationshipSign", "PatientOrientation"),
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
# Where an enhanced object keeps, frame by frame, what others have at the top.
IN_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "FramePixelDataPropertiesSequence": (
        *("PixelIntensityRelationship", "PixelIntensityRelationshipSign", "ImagerPixelSpacing"),
    ),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


def probe(path: Path) -> Found:
    frames = int(_header(path).get("NumberOfFrames", 1) or 1)
    return Found(frames, frames > 1)


def read(path: Path, numbers: Sequence[int]) -> Iterator[Plain]:
    from fluorosam_cli.ct.decoder import stored_frames

    header = _header(path)
    remarks = tuple(_remarks(header))
    try:
        with silenced():
            stored = stored_frames(Source(path), str(header.file_meta.TransferSyntaxUID), [n - 1 for n in numbers])
            for number, plane in zip(numbers, stored, strict=True):
                if plane.shape[:2] != (header.Rows, header.Columns):
                    raise ValueError
                view = _of_frame(header, number - 1)
                pixels, turned = _shown(plane, view)
                yield Plain(pixels, _bone_bright(view, turned), _spacing(view), remarks)
    except (FluoroError, GeneratorExit):
        raise
    except ValueError:
        raise _unreadable(path, Refused("its pixels do not fit its header")) from None
    except Exception as error:  # pydicom raises whatever a damaged file makes it trip over
        raise _unreadable(path, error) from None


def _header(path: Path) -> "Dataset":
    """What KEYWORDS name, after a check that it is a radiograph of a plausible size that can be read."""
    try:
        with silenced(), open(path, "rb") as file:
            header = read_data_set(file, path.stat().st_size, KEYWORDS)
            sop_class = str(header.get("SOPClassUID", ""))
            syntax = str(header.file_meta.TransferSyntaxUID)
            columns, rows, frames = int(header.Columns), int(header.Rows), int(header.get("NumberOfFrames", 1) or 1)
            kind = "MONOCHROME" if int(header.get("SamplesPerPixel", 1)) == 1 else ("RGB", "YBR")
            is_shown = header.PhotometricInterpretation.startswith(kind)
    except Exception as error:  # as above
        raise _unreadable(path, error) from None
    if sop_class not in RADIOGRAPHS:
        raise FluoroError(f"{path}: is {uid_name(sop_class)}, no radiograph", "give a CR, DX, XA or RF image")
    if not is_shown:
        raise FluoroError(f"{path}: its colours come from a palette", "export it as PNG")
    if syntax not in TRANSFER_SYNTAXES:
        raise FluoroError(f"{path}: is compressed as {uid_name(syntax)}, which is not read", "gdcmconv --raw IN OUT")
    check_size(str(path), columns, rows)
    if not 0 < frames <= MAX_FRAMES:
        raise FluoroError(f"{path}: claims {frames} frames", "the file is damaged: export it again")
    return header


def _of_frame(header: "Dataset", index: int) -> "Dataset":
    """The header with what the functional groups say of this frame, at the top."""
    from pydicom.dataset import Dataset

    groups: list[Any] = list(header.get("SharedFunctionalGroupsSequence") or [])
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    groups += [per_frame[index]] if index < len(per_frame) else []
    view = Dataset()
    view.update(header)
    view.file_meta = header.file_meta
    for group in groups:
        for sequence, keywords in IN_GROUPS.items():
            for item in group.get(sequence) or []:
                for keyword in keywords:
                    if keyword in item:
                        view[keyword] = item[keyword]
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        if keyword in view and view[keyword].is_empty:
            del view[keyword]
    return view


def _shown(stored: np.ndarray, view: "Dataset") -> tuple[np.ndarray, bool]:
    """What a viewer shows bright is bright; whether black and white of the stored values were exchanged for that.

    Padding (PS3.3 C.7.5.1.1.2) has no part in that, and is black.
    """
    if stored.ndim == 3:
        return luma(stored), False  # windows are for grey values
    values = _without_unused_bits(stored, view)
    padding = _is_padding(values, stored.dtype, view)
    if padding.any() and not padding.all():
        values = np.where(padding, values[~padding].min(), values)
        shown = _presented(values, view)
        shown[padding] = shown[~padding].min()
    else:
        shown = _presented(values, view)
    return shown, bool(shown.flat[values.argmax()] < shown.flat[values.argmin()])


def _is_padding(values: np.ndarray, stored_as: np.dtype, view: "Dataset") -> np.ndarray:
    value, limit = view.get("PixelPaddingValue"), view.get("PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(values.shape, bool)
    ends = np.array([value, value if limit is None else limit])
    ends = ends.astype(stored_as)  # some write the value of a signed image unsigned, or the other way round
    return (values >= ends.min()) & (values <= ends.max())


def _presented(values: np.ndarray, view: "Dataset") -> np.ndarray:
    """Stored values, without bits that are not used, through the grey-scale pipeline."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut  # pyright: ignore[reportPrivateImportUsage]

    if view.get("PresentationIntentType") == "FOR PROCESSING" and view.get("PixelIntensityRelationship") == "LIN":
        values = np.log1p(np.maximum(values, 0, dtype=np.float32))  # linear in the beam; films see its logarithm
    else:
        values = apply_modality_lut(values, view)
        _widen_table(view)
        windowed = apply_voi_lut(values, view) if view.get("VOILUTSequence") or _has_width(view) else values
        if windowed.min() < windowed.max():  # a window beside the values would show nothing
            values = windowed
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    inverse = view.get("PresentationLUTShape") == "INVERSE" or view.PhotometricInterpretation == "MONOCHROME1"
    return inverted(values) if inverse else values


def _widen_table(view: "Dataset") -> None:
    """Tell a VOI table of 8 bits as one of 16: pydicom counts its entries, which may be more, in as many bits.

    It also takes every entry for a word, where two may share one.
    """
    if view.get("VOILUTSequence") and view.VOILUTSequence[0].LUTDescriptor[2] == 8:
        table = deepcopy(view.VOILUTSequence[0])
        entries = table.LUTDescriptor[0] or 2**16
        table.LUTDescriptor = [*table.LUTDescriptor[:2], 16]
        words = table.LUTData if isinstance(table.LUTData, bytes) else np.array(table.LUTData, "<u2").tobytes()
        if len(words) < 2 * entries:
            table.add_new("LUTData", "US", list(words[:entries]))
        view.VOILUTSequence = [table]


def _remarks(header: "Dataset") -> Iterator[str]:
    """What of the header makes the picture or its masks other than one may expect."""
    to_right, to_bottom = (str(way)[:1] for way in (*(header.get("PatientOrientation") or ()), "", "")[:2])
    if hangs := unusual_hanging(to_right, to_bottom):
        yield hangs
    bits, high = header.get("BitsStored"), header.get("HighBit")
    if bits and high is not None and high != bits - 1:
        yield f"HighBit is {high}, values are read as if it were {bits - 1}"


def _has_width(view: "Dataset") -> bool:
    """Whether the first window, which is the one that counts, has a width above 0."""
    widths = view.get("WindowWidth")
    return float(widths[0] if isinstance(widths, Sequence) else widths or 0) > 0


def _without_unused_bits(stored: np.ndarray, view: "Dataset") -> np.ndarray:
    """Old files keep overlays in the bits that the values leave free."""
    bits, allocated = int(view.BitsStored), 8 * stored.dtype.itemsize
    if not 0 < bits < allocated:
        return stored
    values = stored.astype(np.int32) & ((1 << bits) - 1)
    if int(view.get("PixelRepresentation", 0)) == 1:
        values = values - ((values >> (bits - 1)) << bits)
    return values


def _bone_bright(view: "Dataset", turned: bool) -> bool | None:
    """As the header tells (PS3.3 C.8.11.3.1.2 and C.8.7.1.1.2); None when it does not."""
    sign = view.get("PixelIntensityRelationshipSign")
    if sign is not None:
        return (int(sign) < 0) != turned  # -1: more is stored where less of the beam arrives
    if str(view.get("PixelIntensityRelationship", "")) in ("LIN", "LOG"):
        return turned
    return None


def _spacing(view: "Dataset") -> PixelSpacing | None:
    """Calibrated or corrected to the patient, else on the detector or the film that was scanned (PS3.3 10.7.1.3)."""
    imager, pixel = _pair(view.get("ImagerPixelSpacing")), _pair(view.get("PixelSpacing"))
    if pixel and (view.get("PixelSpacingCalibrationType") or (imager and not _alike(imager, pixel))):
        return PixelSpacing(*pixel, "patient")
    if imager:
        return PixelSpacing(*imager, "detector")
    if pixel:
        return PixelSpacing(*pixel, "unknown")
    scanned = _pair(view.get("NominalScannedPixelSpacing"))
    return PixelSpacing(*scanned, "detector") if scanned else None


def _alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """The same but for rounding."""
    return all(isclose(a, b, rel_tol=1e-3) for a, b in zip(one, other, strict=True))


def _pair(value: Any) -> tuple[float, float] | None:
    try:
        row_mm, column_mm = map(float, value)
    except (TypeError, ValueError):
        return None
    return (row_mm, column_mm) if 0 < row_mm < 100 and 0 < column_mm < 100 else None


def _unreadable(path: Path, error: BaseException) -> FluoroError:
    from pydicom.errors import InvalidDicomError

    hint = "check the file, or export it again"
    if isinstance(error, InvalidDicomError):
        detail, hint = "no preamble", "if it is DICOM all the same, `dcmconv IN OUT` gives it one"
    elif isinstance(error, AttributeError):
        detail = f"lacks {error.name or 'pixels, or what describes them'}"
    else:
        detail = str(error) if isinstance(error, Refused) else type(error).__name__
    return FluoroError(f"{path}: not a readable DICOM image ({detail})", hint)

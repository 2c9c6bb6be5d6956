"""DICOM segmentation objects (SEG) of a radiograph, written by highdicom (extra `dicom`).

A SEG carries the patient, study and frame of the image it belongs to: it has to. Structures have the SNOMED CT codes
of the structure table, with their side as the code's modifier, which `segment-ct --labels` reads as well. highdicom
does not write segmentations of multi-frame radiographs, so each frame of a film has an object of its own, which names
the frame it was drawn on.

Identifiers come from the image's and from what `prediction.json` holds, dates from the image: the same call again gives
the same bytes, which an archive knows for the same object, and whatever differs gives another one.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluorosam_cli import __version__
from fluorosam_cli.anatomy import structures
from fluorosam_cli.contracts import Prediction
from fluorosam_cli.ct.dicom import read_data_set, silenced
from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

SCT = "SCT"
BODY_STRUCTURE = ("123037004", SCT, "Body structure")
PHYSICAL_OBJECT = ("260787004", SCT, "Physical object")
SIDES = {"left": ("7771000", SCT, "Left"), "right": ("24028007", SCT, "Right")}
PLAIN_CLASS = (
    "1.2.840.10008.5.1.4.1.1.1"  # CR, which highdicom takes for what it is: one frame without a place in space
)
# Of films, and a spacing, which highdicom would write but not read again without a slice's thickness
LEFT_OUT = ("NumberOfFrames", "FrameIncrementPointer", "FrameTime", "FrameTimeVector", "PixelData", "PixelSpacing")


def segmentation(image: Path, header: Prediction, masks: Sequence[np.ndarray]) -> "Segmentation":
    """A binary SEG with one segment for each mask (H, W) that is not empty, of one frame of a DICOM file.

    Raises FluoroError when the image's header does not suffice.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    drawn = [i for i, mask in enumerate(masks) if mask.any()]
    with silenced():
        try:
            source = _source(image)
            sop_class = source.file_meta.MediaStorageSOPClassUID
            uid = partial(_uid, source.SOPInstanceUID, __version__, header.model_dump_json())
            made: Any = Segmentation(
                source_images=[source],
                pixel_array=np.stack([masks[i] for i in drawn], axis=-1)[None].astype(np.uint8),
                segmentation_type=SegmentationTypeValues.BINARY,
                segment_descriptions=[_description(n, header, i) for n, i in enumerate(drawn, 1)],
                series_instance_uid=uid("series"),
                series_number=100,
                sop_instance_uid=uid("object"),
                instance_number=header.frame,
                manufacturer="fluoro",
                manufacturer_model_name="fluoro predict",
                software_versions=__version__,
                device_serial_number=header.checkpoint_sha256[:16],
                omit_empty_frames=False,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            detail = str(error).splitlines()[0] if isinstance(error, AttributeError) else type(error).__name__
            raise FluoroError(
                f"{image}: its header does not suffice for a DICOM segmentation ({detail})", "leave out dicom-seg"
            ) from error
        _mend_references(made, header, sop_class)
        date, time = made.ContentDate, made.ContentTime = _when(source, image)
        made.InstanceCreationDate, made.InstanceCreationTime = date, time
        for item in made.get("ContributingEquipmentSequence", []):
            item.ContributionDateTime = date + time
        for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
            item.DimensionOrganizationUID = uid("dimensions")
    return made


def _source(image: Path) -> Any:
    """The image's data set as that of a single frame, without pixels."""
    with open(image, "rb") as file:
        source = read_data_set(file, image.stat().st_size)
    for keyword in LEFT_OUT:
        if keyword in source:
            delattr(source, keyword)
    source.SOPClassUID = PLAIN_CLASS
    return source


def _uid(*parts: str) -> str:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=list(parts))


def _when(source: Any, image: Path) -> tuple[str, str]:
    """Date and time of the image, else of its file."""
    for kind in ("Content", "Acquisition", "Series", "Study"):
        if date := source.get(f"{kind}Date"):
            return date, source.get(f"{kind}Time") or "000000"
    written = datetime.fromtimestamp(image.stat().st_mtime, UTC)
    return f"{written:%Y%m%d}", f"{written:%H%M%S}"


def _description(number: int, header: Prediction, index: int) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept

    mask = header.masks[index]
    name, label = mask.structure, header.prompts[mask.prompt].text or Path(mask.mask).stem
    code, side = _code(name)
    kind = CodedConcept(*code)
    if side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept(*SIDES[side])]
    return SegmentDescription(
        segment_number=number,
        segment_label=(name or label)[:64],
        segmented_property_category=CodedConcept(*(PHYSICAL_OBJECT if code == PHYSICAL_OBJECT else BODY_STRUCTURE)),
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name="fluoro", family=CodedConcept("123110", "DCM", "Artificial Intelligence"), version=__version__
        ),
    )


def _code(name: str | None) -> tuple[tuple[str, str, str], str | None]:
    """SNOMED CT code and side of what a phrase was understood as; the most general code where it has none."""
    if name is None:
        return BODY_STRUCTURE, None
    if name not in structures.names():
        return PHYSICAL_OBJECT, None  # a tool
    side = structures.side_of(name)
    coded = name if name not in structures.outlines() else structures.outlines()[name][0]
    own = {one.name: one for one in structures.structures()}.get(coded)
    if own is None or own.snomed_ct is None or own.snomed_term is None:
        return BODY_STRUCTURE, side
    return (own.snomed_ct, SCT, own.snomed_term), side


def _mend_references(made: Any, header: Prediction, sop_class: str) -> None:
    """Give every reference to the image its true class, and of a film the frame that is meant."""
    groups = (*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence)
    derivations = [item for group in groups for item in group.get("DerivationImageSequence", [])]
    references = [source for item in derivations for source in item.SourceImageSequence]
    references += [
        one for series in made.get("ReferencedSeriesSequence", []) for one in series.ReferencedInstanceSequence
    ]
    for reference in references:
        reference.ReferencedSOPClassUID = sop_class
        if header.frames > 1:
            reference.ReferencedFrameNumber = header.frame

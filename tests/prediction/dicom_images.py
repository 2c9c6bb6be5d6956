"""DICOM radiographs for tests."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid


def write_cine(path: Path, frames: int, shape: tuple[int, int], **fields: object) -> None:
    """An XA run of smooth patterns that move; its texts are hostile."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    planes = [2000 + 1500 * np.sin((x + 40 * i) / 50) * np.cos(y / 40) for i in range(frames)]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = "<img src=x onerror=alert(1)>", "../../x"
    data.SeriesDescription = "<script>alert(1)</script>"
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "XA", "MONOCHROME2", 1
    data.Rows, data.Columns, data.NumberOfFrames = *shape, frames
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = np.stack(planes).astype("<u2").tobytes()
    for keyword, value in fields.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)

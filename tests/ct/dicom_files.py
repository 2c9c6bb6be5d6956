"""DICOM files of tiny CT series for tests, written with pydicom from a volume on any grid."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from fluorosam_cli.ct.volume import Volume

INTERCEPT = -1024
SYNTAXES = {
    "jpeg lossless": "1.2.840.10008.1.2.4.70",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg 2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}


def data_set(sop_class: str = CTImageStorage, **fields) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = sop_class
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for keyword, value in fields.items():
        setattr(data, keyword, value)
    return data


def set_pixels(data: Dataset, stored: np.ndarray) -> None:
    """Pixels of one plane (rows, columns) or several (frames, rows, columns), int16 or uint16."""
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[-2:]
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def geometry(volume: Volume) -> tuple[list[float], list[float], np.ndarray]:
    """Orientation, pixel spacing (between rows, between columns) and the slices' positions (z, 3)."""
    matrix = volume.world_from_voxel
    x, y = volume.spacing_xyz_mm[:2]
    orientation = [*(matrix[:3, 0] / x), *(matrix[:3, 1] / y)]
    positions = matrix[:3, 3] + np.arange(len(volume.array))[:, None] * matrix[:3, 2]
    return [round(v, 8) for v in orientation], [round(y, 6), round(x, 6)], positions


def series_of(volume: Volume, slope: float = 1, intercept: float = INTERCEPT, **fields) -> list[FileDataset]:
    """One data set per plane of `volume` (int16 HU, z, y, x), positions and all."""
    orientation, spacing, positions = geometry(volume)
    common = {
        "SeriesInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesNumber": 2,
        "Modality": "CT",
    }
    common |= {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "RescaleSlope": slope, "RescaleIntercept": intercept}
    common |= {"RescaleType": "HU", "ImageOrientationPatient": orientation, "PixelSpacing": spacing} | fields
    found = []
    for z, plane in enumerate(volume.array):
        data = data_set(**common, InstanceNumber=z + 1, ImagePositionPatient=[round(v, 4) for v in positions[z]])
        set_pixels(data, np.rint((plane - float(intercept)) / slope).astype(np.uint16))
        found.append(data)
    return found


def save(files: list[FileDataset], folder: Path, suffix: str = ".dcm", seed: int = 0) -> Path:
    """Write the data sets in a random order of names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in zip(np.random.default_rng(seed).permutation(len(files)), files, strict=True):
        data.save_as(folder / f"IM{number:04d}{suffix}", enforce_file_format=True)
    return folder


def compress(folder: Path, syntax: str) -> None:
    """Rewrite a folder's files in a compressed transfer syntax, with GDCM, or pydicom for RLE."""
    import gdcm
    from pydicom import dcmread

    for path in folder.iterdir():
        if syntax == SYNTAXES["rle"]:
            data = dcmread(path)
            data.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
            data.save_as(path)
            continue
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()


def enhanced(volume: Volume, order: list[int], **fields) -> FileDataset:
    """One multi-frame file whose frames are the planes of `volume` in the given order."""
    orientation, spacing, positions = geometry(volume)

    def item(**values) -> Dataset:
        data = Dataset()
        for keyword, value in values.items():
            setattr(data, keyword, value)
        return data

    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=orientation)]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=spacing, SliceThickness=1)]),
        PixelValueTransformationSequence=Sequence([item(RescaleSlope=1, RescaleIntercept=INTERCEPT, RescaleType="HU")]),
    )
    frames = [
        item(PlanePositionSequence=Sequence([item(ImagePositionPatient=[round(v, 4) for v in positions[z]])]))
        for z in order
    ]
    common = {"SeriesInstanceUID": generate_uid(), "SeriesNumber": 4, "Modality": "CT", "NumberOfFrames": len(order)}
    data = data_set(EnhancedCTImageStorage, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], **common, **fields)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    set_pixels(data, (volume.array[order] - INTERCEPT).astype(np.uint16))
    return data

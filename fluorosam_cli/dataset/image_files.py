"""Which files are images, and what an image is called: by suffix, or by DICOM's mark."""

from pathlib import Path, PurePath

from fluorosam_cli.ct.sources import DICOM_SUFFIXES

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
GRID_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr")
SUFFIXES = (*RASTER_SUFFIXES, *DICOM_SUFFIXES, *GRID_SUFFIXES)
DICOM_MAGIC_AT, DICOM_MAGIC = 128, b"DICM"


def images_in(folder: Path) -> list[Path]:
    """The images right in a folder, sorted; hidden and other files are passed over."""
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if _looks_like_one(path))


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark, whatever its name."""
    with open(path, "rb") as file:
        return file.read(DICOM_MAGIC_AT + len(DICOM_MAGIC))[DICOM_MAGIC_AT:] == DICOM_MAGIC


def stem_of(path: PurePath) -> str:
    """The file's name without the suffix of an image: dots in it stay."""
    name = path.name
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)] or name


def _looks_like_one(path: Path) -> bool:
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        return (not path.suffix or path.suffix[1:].isdigit()) and is_dicom(path)
    except OSError:
        return True  # who reads it says what is wrong

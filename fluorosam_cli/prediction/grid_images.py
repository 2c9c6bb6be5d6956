"""Radiographs in NIfTI and NRRD files: rows are the second axis, columns the first, further slices are frames.

The picture is not turned by what the header says of the patient, which only a remark tells: masks written beside it
have to lie on its own grid.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.ct.layout import NRRD_SPACES, Layout, nrrd_layout, stored_planes, text_header
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import LPS_FROM_RAS
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.radiograph import Found, PixelSpacing, Plain, check_size, unusual_hanging

SPACING_MM = (0.01, 10.0)  # of a radiograph's pixels; outside, the header is not in millimetres
UNIT = 1.0  # what writers put that know no spacing


def probe(path: Path) -> Found:
    layout, _ = _layout(path)
    return Found(layout.shape_xyz[2], False)


def read(path: Path, numbers: Sequence[int]) -> Iterator[Plain]:
    layout, spacing = _layout(path)
    hangs = unusual_hanging(*_ways(layout.world_from_voxel))
    wanted = set(numbers)
    for number, stored in enumerate(stored_planes(layout, str(path)), 1):
        if number in wanted:
            plane = stored.astype(stored.dtype.newbyteorder("="))
            if (layout.slope, layout.intercept) != (1.0, 0.0):
                plane = plane * layout.slope + layout.intercept
            yield Plain(plane, spacing=spacing, remarks=(hangs,) if hangs else ())


def nifti_affine(path: Path) -> np.ndarray | None:
    """The affine (4, 4) of a NIfTI file; None for every other file."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    return np.array(_nifti_image(path).affine)


def _layout(path: Path) -> tuple[Layout, PixelSpacing | None]:
    try:
        read = _nifti if path.name.lower().endswith((".nii", ".nii.gz")) else _nrrd
        layout, (column_mm, row_mm) = read(path)
    except FluoroError:
        raise
    except Exception as error:  # whatever a damaged header makes its parser trip over
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _unreadable(path, type(error).__name__) from error
    if layout.dtype.kind not in "iuf":
        kind = "colours" if layout.dtype.names else layout.dtype
        raise FluoroError(f"{path}: its values are {kind}, grey numbers are needed", "convert it to grey")
    check_size(str(path), *layout.shape_xyz[:2])
    plausible = all(SPACING_MM[0] <= mm <= SPACING_MM[1] for mm in (row_mm, column_mm))
    known = plausible and (row_mm, column_mm) != (UNIT, UNIT)
    return layout, PixelSpacing(row_mm, column_mm, "unknown") if known else None


def _nifti(path: Path) -> tuple[Layout, tuple[float, float]]:
    image = _nifti_image(path)
    header, stored = image.header, image.dataobj
    shape, slope, intercept = stored.shape, stored.slope, stored.inter
    packed, offset = path.name.lower().endswith(".gz"), int(stored.offset)
    zooms = [*map(float, header.get_zooms()), 1.0, 1.0]
    layout = Layout(
        source=Source(path),
        offset=0 if packed else offset,
        packed=packed,
        skip=offset if packed else 0,
        dtype=header.get_data_dtype(),
        shape_xyz=_as_stack(path, shape),
        world_from_voxel=LPS_FROM_RAS @ image.affine,
        slope=float(slope),
        intercept=float(intercept),
    )
    return layout, (zooms[0], zooms[1])


def _nifti_image(path: Path) -> Any:
    import nibabel

    return nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage] - voxels are not read


def _nrrd(path: Path) -> tuple[Layout, tuple[float, float]]:
    with open(path, "rb") as file:
        if file.read(4) != b"NRRD":
            raise _unreadable(path, "wrong magic")
    source = Source(path)
    fields, offset = text_header(source, str(path), ":", last_key="")
    shape = _as_stack(path, [int(word) for word in fields["sizes"].split()])
    found = re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    vectors = [[float(word) for word in vector.split(",")] for vector in found[:2]]
    world_from_voxel = np.eye(4)
    space = NRRD_SPACES.get(fields.get("space", "").lower())
    if space is not None and [len(vector) for vector in vectors] == [3, 3]:
        world_from_voxel[:3, :2] = np.diag(space) @ np.transpose(vectors)
    lengths = [math.hypot(*vector) for vector in vectors] or list(map(float, fields.get("spacings", "").split()))
    spacing = (lengths[0], lengths[1]) if len(lengths) >= 2 else (UNIT, UNIT)
    return nrrd_layout(source, str(path), fields, offset, shape, world_from_voxel), spacing


def _ways(world_from_voxel: np.ndarray) -> tuple[str, str]:
    """The ways in which rows and columns run, as DICOM's letters."""
    rows, columns = world_from_voxel[:3, :2].T
    return _way(rows), _way(columns)


def _way(axis_lps: np.ndarray) -> str:
    longest = int(np.abs(axis_lps).argmax())
    return ("LPH" if axis_lps[longest] > 0 else "RAF")[longest]


def _as_stack(path: Path, shape: Sequence[int]) -> tuple[int, int, int]:
    sides = [int(side) for side in shape]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) not in (2, 3) or min(sides) < 1:
        raise FluoroError(f"{path}: its shape is {tuple(sides)}, one image or a stack of images is needed", "split it")
    return sides[0], sides[1], sides[2] if len(sides) == 3 else 1


def _unreadable(path: Path, detail: str) -> FluoroError:
    return FluoroError(f"{path}: not a readable NIfTI or NRRD file ({detail})", "check the file, or convert it to PNG")

"""A case in memory, ready to be projected: its voxels as materials, cropped to what is not air, on a device."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.tissues import tissues_with
from fluorosam_cli.artefacts import find_artefacts
from fluorosam_cli.contracts import Case
from fluorosam_cli.ct.volume import Volume, read_nifti, to_hu
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.positions import Anatomy, anatomy_of
from fluorosam_cli.render.deepdrr import DeepDrr
from fluorosam_cli.render.masks import MaskOutput, mask_outputs
from fluorosam_cli.render.materials import AIR_HU, kinds_of_labels, material_table, set_rows
from fluorosam_cli.render.projector import Interpolation, Named, Projector
from fluorosam_cli.tools.placement_anatomy import BodyMap

AFFINE_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class CaseFolder:
    path: Path
    case: Case


@dataclass(frozen=True)
class Body:
    """A case on a device. `tissues` are the first of the projector's paths, and the only ones without `--travel`."""

    case: Case
    anatomy: Anatomy
    outputs: list[MaskOutput]
    tissues: tuple[str, ...]
    projector: Projector
    rows: np.ndarray  # (z, y, x) int16, see `materials.set_rows`
    labels: np.ndarray
    world_from_voxel: np.ndarray
    deepdrr: DeepDrr | None = None  # makes the image instead of our projector

    @property
    def number(self) -> int:
        """What makes the case's random streams its own."""
        return int.from_bytes(hashlib.sha256(self.case.name.encode()).digest()[:4])

    @cached_property
    def map(self) -> BodyMap:
        """What tools are placed by; every kind of voxel that is not air lies above the skin's threshold."""
        ids = {structure.name: (structure.label_id,) for structure in self.case.structures}
        return BodyMap(self.labels, self.world_from_voxel, self.rows, ids)


def find_cases(path: Path) -> list[CaseFolder]:
    """The cases at `path`, one or a folder of them. Raises FluoroError for names that cannot be those of files."""
    found = [CaseFolder(folder, case) for folder, case in find_artefacts(path, "case.json", Case)]
    names: set[str] = set()
    for folder, case in ((item.path, item.case) for item in found):
        if not case.name or case.name != Path(case.name).name or case.name.startswith("."):
            raise FluoroError(f"{folder}/case.json: {case.name!r} cannot name a folder", "rename the case")
        if case.name in names:
            raise FluoroError(f"{folder}/case.json: a second case is called {case.name}", "rename one of them")
        names.add(case.name)
    return found


def load_body(
    item: CaseFolder,
    device: str = "cpu",
    threads: int | None = None,
    *,
    interpolation: Interpolation = "siddon",
    min_path_mm: float,
    contrast: tuple[str, ...] = (),
    travel: bool = False,
    deepdrr: bool = False,
) -> Body:
    """Read a case's volumes and set up its projector; `contrast` names what is filled with contrast agent.

    With `travel`, the projector's paths are those of all outputs after those of the tissues. Needs 3 bytes a voxel (4
    with more than 255 labels) while it runs. Raises FluoroError for volumes that do not fit each other.
    """
    case = item.case
    hu, labels = _volumes(item)
    outputs = mask_outputs(case)
    named: list[Named] = [(output.name, output.label_ids) for output in outputs]
    anatomy = anatomy_of(labels, hu.world_from_voxel, named)
    if not anatomy.positions:
        raise FluoroError(f"{item.path / case.labels}: holds no structure", "label the scan with fluoro segment-ct")
    absent = [name for name in contrast if name not in anatomy.positions]
    if absent:
        raise FluoroError(f"{case.name}: no {' or '.join(absent)} to fill with contrast agent", "leave --contrast out")

    low, high = occupied_box(hu.array, labels)
    rows, labels = cropped_in_place(hu.array, low, high), cropped_in_place(labels, low, high)
    world_from_voxel = hu.world_from_voxel.copy()
    world_from_voxel[:3, 3] += world_from_voxel[:3, :3] @ low[::-1]
    other = DeepDrr(rows.copy(), world_from_voxel) if deepdrr else None
    set_rows(rows, labels, kinds_of_labels({s.label_id: s.name for s in case.structures}, contrast))
    tissues = tissues_with({s.label_id for s in case.structures})
    return Body(
        case=case,
        anatomy=anatomy,
        outputs=outputs,
        tissues=tuple(name for name, _ in tissues),
        projector=Projector(
            rows,
            labels,
            world_from_voxel,
            named,
            material_table(),
            paths=[*tissues, *(named if travel else ())],
            interpolation=interpolation,
            device=device,
            min_path_mm=min_path_mm,
            threads=threads,
        ),
        rows=rows,
        labels=labels,
        world_from_voxel=world_from_voxel,
        deepdrr=other,
    )


def _volumes(item: CaseFolder) -> tuple[Volume, np.ndarray]:
    case, folder = item.case, item.path
    ct, labels = read_nifti(folder / case.ct), read_nifti(folder / case.labels)
    subject = f"{folder / case.labels}"
    if labels.array.shape != ct.array.shape:
        raise FluoroError(
            f"{subject}: shape is {labels.array.shape}, that of {case.ct} is {ct.array.shape}",
            "write the case again with fluoro segment-ct",
        )
    apart = float(np.abs(labels.world_from_voxel - ct.world_from_voxel).max())
    if apart > AFFINE_TOLERANCE_MM:
        raise FluoroError(
            f"{subject}: affine differs from {case.ct} by {apart:.2f} mm", "write the case again with fluoro segment-ct"
        )
    return ct if ct.array.dtype == np.int16 else to_hu(ct, str(folder / case.ct)), _as_labels(labels.array, subject)


def _as_labels(array: np.ndarray, subject: str) -> np.ndarray:
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.min() < 0 or array.max() > np.iinfo(np.uint16).max or (array.dtype.kind == "f" and (array % 1).any()):
        raise FluoroError(f"{subject}: values are not label ids from 0 to 65535", "give a label volume")
    return array.astype(np.uint16)


def occupied_box(hu: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (z, y, x) of the voxels that are not air or have a label, the upper exclusive. Slice by slice."""
    depth, height, width = hu.shape
    z, y, x = np.zeros(depth, bool), np.zeros(height, bool), np.zeros(width, bool)
    for index in range(depth):
        held = (hu[index] > AIR_HU) | (labels[index] > 0)
        rows = held.any(axis=1)
        z[index] = rows.any()
        y |= rows
        x |= held.any(axis=0)
    spans = [np.flatnonzero(held) for held in (z, y, x)]
    return np.array([span[0] for span in spans]), np.array([span[-1] + 1 for span in spans])


def cropped_in_place(volume: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The box of a volume, moved to the front of its own memory: a copy would need as much again."""
    if not volume.flags.writeable:
        volume = volume.copy()
    size = high - low
    if size.prod() == volume.size:
        return volume
    flat = volume.reshape(-1)
    at = 0
    for z in range(low[0], high[0]):
        part = volume[z, low[1] : high[1], low[2] : high[2]].ravel()  # copied first: source and target may overlap
        flat[at : at + part.size] = part
        at += part.size
    return flat[:at].reshape(size)

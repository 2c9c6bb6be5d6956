"""A case in memory, ready to be projected: its voxels as materials, cropped to what is not air, on a device."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.tissues import tissues_with
from fluorosam_cli.artefacts import find_artefacts, sha256_of
from fluorosam_cli.contracts import Case
from fluorosam_cli.ct.deform import deformed, draw_deformation
from fluorosam_cli.ct.layout import Layout, read_hu, read_layout, stored_planes
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.positions import Anatomy, anatomy_of
from fluorosam_cli.render.deepdrr import DeepDrr
from fluorosam_cli.render.masks import MaskOutput, mask_outputs
from fluorosam_cli.render.materials import AIR_HU, kinds_of_labels, material_table, set_rows
from fluorosam_cli.render.outlines import DRAWN_FROM, LUNGS
from fluorosam_cli.render.projector import Named, Projector
from fluorosam_cli.render.settings import Settings
from fluorosam_cli.tools.placement_anatomy import BodyMap

DEFORMATION = 3  # random stream of a case, beside those of its views (view.py)
AFFINE_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class CaseFolder:
    path: Path
    case: Case


@dataclass(frozen=True)
class Body:
    """A case on a device. The projector's paths are those of `tissues`, then, with `--travel`, of all outputs."""

    case: Case
    anatomy: Anatomy
    scanned: Anatomy  # of the scan as it is: where what `anatomy` holds lay before it was deformed
    outputs: list[MaskOutput]
    tissues: tuple[str, ...]
    projector: Projector
    rows: np.ndarray  # (z, y, x) int16, see `materials.set_rows`
    labels: np.ndarray
    world_from_voxel: np.ndarray
    deformation: int = 0  # 0: the scan as it is
    deepdrr: DeepDrr | None = None  # makes the image instead of our projector

    @property
    def number(self) -> int:
        return case_number(self.case.name)

    @property
    def middle_lps_mm(self) -> np.ndarray:
        """Of the box that is not air."""
        last = np.array(self.rows.shape[::-1]) - 1
        return (self.world_from_voxel @ [*last / 2, 1])[:3]

    @cached_property
    def map(self) -> BodyMap:
        """What tools are placed by; every kind of voxel that is not air lies above the skin's threshold."""
        ids = {structure.name: (structure.label_id,) for structure in self.case.structures}
        return BodyMap(self.labels, self.world_from_voxel, self.rows, ids)


def case_number(name: str) -> int:
    """What makes a case's random streams its own."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


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


def load_body(item: CaseFolder, settings: Settings, deformation: int = 0) -> Body:
    """Read a case's volumes, deform them if `deformation` is not 0, and set up the projector.

    The projector's paths are those of the tissues: all with `--integrals`, else those that outlines are drawn from;
    after them, with `--travel`, those of all outputs. Raises FluoroError for volumes that do not fit each other, and
    for structures to be filled with contrast agent that are not there.
    """
    physics, extras = settings.physics, settings.extras
    case = item.case
    hu, labels = _volumes(item)
    outputs = mask_outputs(case)
    named: list[Named] = [(output.name, output.label_ids) for output in outputs]
    anatomy = scanned = anatomy_of(labels, hu.world_from_voxel, named)
    if deformation:
        rng = np.random.default_rng([settings.seed, case_number(case.name), deformation, DEFORMATION])
        hu, labels = deformed(hu, labels, draw_deformation(rng, hu, _chest_mm(anatomy)))
        anatomy = anatomy_of(labels, hu.world_from_voxel, named)
        kept = {name: position for name, position in scanned.positions.items() if name in anatomy.positions}
        scanned = replace(scanned, positions=kept)
    if not anatomy.positions:
        raise FluoroError(f"{item.path / case.labels}: holds no structure", "label the scan with fluoro segment-ct")
    absent = [name for name in physics.contrast if name not in anatomy.positions]
    if absent:
        raise FluoroError(f"no {' or '.join(absent)} to fill with contrast agent", "leave --contrast out")

    low, high = occupied_box(hu.array, labels)
    rows, labels = cropped_in_place(hu.array, low, high), cropped_in_place(labels, low, high)
    world_from_voxel = hu.world_from_voxel.copy()
    world_from_voxel[:3, 3] += world_from_voxel[:3, :3] @ low[::-1]
    other = DeepDrr(rows.copy(), world_from_voxel, settings.device) if physics.deepdrr else None
    set_rows(rows, labels, kinds_of_labels({s.label_id: s.name for s in case.structures}, physics.contrast))
    tissues = tissues_with({s.label_id for s in case.structures})
    if extras.integrals is None:
        chest = any(name in LUNGS for name, _ in tissues)
        tissues = [(name, ids) for name, ids in tissues if chest and name in DRAWN_FROM]
    return Body(
        case=case,
        anatomy=anatomy,
        scanned=scanned,
        outputs=outputs,
        tissues=tuple(name for name, _ in tissues),
        projector=Projector(
            rows,
            labels,
            world_from_voxel,
            named,
            material_table(),
            paths=[*tissues, *(named if extras.travel else ())],
            interpolation=physics.interpolation,
            device=settings.device,
            min_path_mm=physics.min_path_mm,
            threads=settings.threads,
        ),
        rows=rows,
        labels=labels,
        world_from_voxel=world_from_voxel,
        deformation=deformation,
        deepdrr=other,
    )


def _chest_mm(anatomy: Anatomy) -> tuple[float, float, float] | None:
    """Heights of the lungs' top and base and of the pelvis' top; unseen, it is as far below as the lungs are high."""
    lungs = anatomy.positions.get("lungs")
    if lungs is None:
        return None
    top, base = lungs.high[2], lungs.low[2]
    hips = anatomy.positions.get("hips")
    return top, base, hips.high[2] if hips else 2 * base - top


def _volumes(item: CaseFolder) -> tuple[Volume, np.ndarray]:
    """CT and labels, read plane by plane: nothing is in memory twice. They have to be the files that the case names."""
    ct_file, labels_file = item.path / item.case.ct, item.path / item.case.labels
    ct, labels = _layout(ct_file), _layout(labels_file)
    if labels.shape_xyz != ct.shape_xyz:
        raise FluoroError(
            f"{labels_file}: shape is {labels.shape_xyz[::-1]}, that of {item.case.ct} is {ct.shape_xyz[::-1]}",
            "write the case again with fluoro segment-ct",
        )
    apart = float(np.abs(labels.world_from_voxel - ct.world_from_voxel).max())
    if apart > AFFINE_TOLERANCE_MM:
        raise FluoroError(
            f"{labels_file}: affine differs from {item.case.ct} by {apart:.2f} mm",
            "write the case again with fluoro segment-ct",
        )
    hu, ids = read_hu(ct, str(ct_file)), _read_labels(labels, str(labels_file))
    if sha256_of(ct_file) != item.case.ct_sha256:
        raise FluoroError(
            f"{ct_file}: is not the CT that case.json was written for", "write the case again with fluoro segment-ct"
        )
    if sha256_of(labels_file) != item.case.labels_sha256:
        raise FluoroError(
            f"{labels_file}: are not the labels that case.json was written for",
            f"import corrected labels: fluoro segment-ct {ct_file} --labels {labels_file} -o corrected",
        )
    return hu, ids


def _layout(path: Path) -> Layout:
    if not path.is_file():
        raise FluoroError(f"{path}: no such file", "write the case again with fluoro segment-ct")
    return read_layout(Source(path), str(path))


def _read_labels(layout: Layout, subject: str) -> np.ndarray:
    limits = np.iinfo(np.uint8 if layout.dtype == np.uint8 else np.uint16)
    labels = np.empty(layout.shape_xyz[::-1], limits.dtype)
    for out, plane in zip(labels, stored_planes(layout, subject), strict=True):
        if plane.min() < 0 or plane.max() > limits.max or (plane.dtype.kind == "f" and (plane % 1).any()):
            raise FluoroError(f"{subject}: values are not label ids from 0 to 65535", "give a label volume")
        out[:] = plane
    return labels


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
    """The box of a volume that owns its memory, moved to the front of it; what is behind goes back to the system.

    A copy would need as much memory again. The volume itself is no longer to be used.
    """
    size = high - low
    if tuple(size) == volume.shape:
        return volume
    at = 0
    for z in range(low[0], high[0]):
        part = volume[z, low[1] : high[1], low[2] : high[2]].ravel()  # copied first: source and target may overlap
        volume.reshape(-1)[at : at + part.size] = part
        at += part.size
    volume.resize(tuple(size), refcheck=False)
    return volume

"""The render stage: cases -> 16-bit radiographs, each with the mask of every structure in it.

While one view is projected, those before it are exposed, encoded and written by a few threads. Records keep the order
of cases and views, and each view's randomness comes from `[seed, case, view]` alone, so that neither threads nor an
interruption change a byte.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from fluorosam_cli.artefacts import Lines, Output, Track, atomic_path, find_artefacts, sha256_of, silent
from fluorosam_cli.contracts import Case, View, Views, ViewsCase
from fluorosam_cli.contracts import Projector as ProjectorHeader
from fluorosam_cli.ct.volume import Volume, read_nifti, to_hu
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry import views as view_table
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render import detector, physics, projector
from fluorosam_cli.render.masks import MaskOutput, mask_outputs, structure_masks
from fluorosam_cli.render.projector import Projection, Projector

HEADER = "views.json"
LINES = "views.jsonl"
PNG_LEVEL = 3  # zlib: noise hardly shrinks at any level, and higher ones take several times as long
AFFINE_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class Settings:
    """What decides the pictures, besides the cases; `device` and `threads` only how fast they come."""

    views: int  # per case
    size_px: int
    seed: int
    names: tuple[str, ...] = ()  # of standard views; empty: all that are possible
    random_share: float = 0.4
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class CaseFolder:
    path: Path
    case: Case


@dataclass(frozen=True)
class Body:
    """A case in memory, ready to be projected."""

    case: Case
    number: int  # of the case's random streams
    positions: dict[str, view_table.Box]
    possible: tuple[view_table.StandardView, ...]
    outputs: list[MaskOutput]
    projector: Projector


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


def render(cases: Sequence[CaseFolder], output: Output, settings: Settings, track: Track = silent) -> None:
    """Render `settings.views` views of every case into `output`: images, `views.jsonl`, and at last `views.json`.

    A case that cannot be read is put on `output.failed`; when none could be, its error is raised.
    """
    with Lines(output.path / LINES, View) as lines:
        done = {(view.case, view.index) for view in lines.done}
        counts = {item.case.name: 0 for item in cases}
        for name, _ in done:
            counts[name] += 1
        output.skipped = len(done)
        total = len(cases) * settings.views - len(done)
        for view in track(_rendered(cases, output, settings, done), "render", total, "views"):
            lines.append(view)
            counts[view.case] += 1
            output.done += 1
    output.finish(
        Views(
            count=sum(counts.values()),
            seed=settings.seed,
            width=settings.size_px,
            height=settings.size_px,
            polarity="bone_bright",
            projector=ProjectorHeader(
                name="siddon",
                version=projector.VERSION,
                interpolation="siddon",
                min_path_mm=projector.MIN_PATH_MM,
                materials=list(physics.MATERIALS),
            ),
            cases=[
                ViewsCase(
                    name=item.case.name,
                    case_sha256=sha256_of(item.path / "case.json"),
                    views=counts[item.case.name],
                )
                for item in cases
                if counts[item.case.name]
            ],
        )
    )


def _rendered(
    cases: Sequence[CaseFolder], output: Output, settings: Settings, done: set[tuple[str, int]]
) -> Iterator[View]:
    """The records of all views not done yet, in order; each is yielded when its image is written."""
    errors: list[FluoroError] = []
    waiting: deque[Future[View]] = deque()
    with ThreadPoolExecutor(settings.threads) as pool:
        for item in cases:
            indices = [i for i in range(settings.views) if (item.case.name, i) not in done]
            if not indices:
                continue
            try:
                body = load(item, settings)
            except FluoroError as error:
                errors.append(error)
                output.failed.append(f"{item.case.name}: {error.problem}")
                continue
            for index in indices:
                waiting.append(pool.submit(_develop, output.path, *_shoot(body, index, settings)))
                if len(waiting) > settings.threads:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if len(errors) == len(cases):
        raise errors[0]


# --- one case ---------------------------------------------------------------------------------------------------------


def load(item: CaseFolder, settings: Settings) -> Body:
    """Read a case's volumes and set up its projector. Raises FluoroError for volumes that do not fit each other."""
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
    hu = ct if ct.array.dtype == np.int16 else to_hu(ct, str(folder / case.ct))
    labels = Volume(_as_labels(labels.array, subject), labels.world_from_voxel)
    positions = structure_boxes(case, labels)
    if not positions:
        raise FluoroError(f"{subject}: holds no structure", "label the scan with fluoro segment-ct")
    possible = view_table.possible_views(positions, settings.names)
    if settings.names and not possible and view_table.RANDOM not in settings.names:
        missing = sorted(_needed(settings.names) - positions.keys())
        reason = f"for want of {', '.join(missing[:4])}" if missing else "too little of its structures is in the scan"
        raise FluoroError(
            f"{case.name}: no view {' or '.join(settings.names)}: {reason}",
            "fluoro render --list-views says what each view needs",
        )
    outputs = mask_outputs(case)
    return Body(
        case=case,
        number=int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:4]),
        positions=positions,
        possible=possible,
        outputs=outputs,
        projector=Projector(
            hu.array,
            labels.array,
            hu.world_from_voxel,
            [(output.name, output.label_ids) for output in outputs],
            physics.material_table(),
            device=settings.device,
            threads=settings.threads,
        ),
    )


def structure_boxes(case: Case, labels: Volume) -> dict[str, view_table.Box]:
    """Extent in LPS mm of every structure and group of the case that has a voxel."""
    from scipy.ndimage import find_objects

    slices = find_objects(labels.array)
    boxes: dict[int, view_table.Box] = {}
    for label_id, place in enumerate(slices, 1):
        if place is not None:
            spans = [(part.start - 0.5, part.stop - 0.5) for part in reversed(place)]  # x, y, z
            corners = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3)
            world = corners @ labels.world_from_voxel[:3, :3].T + labels.world_from_voxel[:3, 3]
            boxes[label_id] = view_table.Box(world.min(axis=0), world.max(axis=0))
    positions = {}
    for output in mask_outputs(case):
        parts = [boxes[label_id] for label_id in output.label_ids if label_id in boxes]
        if parts:
            low, high = np.min([part.low for part in parts], axis=0), np.max([part.high for part in parts], axis=0)
            positions[output.name] = view_table.Box(low, high)
    return positions


def _as_labels(array: np.ndarray, subject: str) -> np.ndarray:
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.min() < 0 or array.max() > np.iinfo(np.uint16).max or (array.dtype.kind == "f" and (array % 1).any()):
        raise FluoroError(f"{subject}: values are not label ids from 0 to 65535", "give a label volume")
    return array.astype(np.uint16)


def _needed(names: Sequence[str]) -> set[str]:
    return {
        structure
        for view in view_table.standard_views()
        if view.name in names
        for structure in view.target + view.needs
    }


# --- one view ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """A view's numbers, before it is exposed."""

    index: int
    name: str
    carm: CArm
    seed: tuple[int, int, int]
    settings: Settings


def _shoot(body: Body, index: int, settings: Settings) -> tuple[Body, Shot, Projection]:
    seed = (settings.seed, body.number, index)
    rng = np.random.default_rng([*seed, 0])
    share = _random_share(settings, body)
    name, carm = view_table.draw_view(rng, body.positions, body.possible, share, settings.size_px)
    projection = body.projector.project(carm.intrinsic, carm.camera_from_world, settings.size_px, settings.size_px)
    return body, Shot(index, name, carm, seed, settings), projection


def _random_share(settings: Settings, body: Body) -> float:
    """With `--view`, only the views named; `random` is one name among them."""
    if not settings.names:
        return settings.random_share
    return 1 / (len(body.possible) + 1) if view_table.RANDOM in settings.names else 0.0


def _develop(out: Path, body: Body, shot: Shot, projection: Projection) -> View:
    """Expose, encode and write one view."""
    from PIL import Image

    rng = np.random.default_rng([*shot.seed, 1])
    exposure = detector.draw_exposure(rng, shot.name)
    carm = shot.carm
    intensity = detector.expose(projection.mass_g_cm2, exposure, carm.pixel_spacing_mm, carm.source_to_detector_mm, rng)
    image = f"images/{body.case.name}/{shot.index:05d}.png"
    with atomic_path(out / image) as temporary:
        Image.fromarray(detector.display_image(intensity)).save(temporary, format="PNG", compress_level=PNG_LEVEL)
    return View(
        case=body.case.name,
        index=shot.index,
        image=image,
        view=shot.name,
        seed=list(shot.seed),
        positioner_primary_angle_deg=carm.positioner_primary_angle_deg,
        positioner_secondary_angle_deg=carm.positioner_secondary_angle_deg,
        source_to_detector_mm=carm.source_to_detector_mm,
        source_to_isocenter_mm=carm.source_to_isocenter_mm,
        pixel_spacing_mm=carm.pixel_spacing_mm,
        intrinsic=cast(list[list[float]], carm.intrinsic.tolist()),
        camera_from_world=cast(list[list[float]], carm.camera_from_world.tolist()),
        kvp=exposure.kvp,
        mas=exposure.mas,
        filtration_mm_al=exposure.filtration_mm_al,
        filtration_mm_cu=exposure.filtration_mm_cu,
        structures=structure_masks(projection, body.outputs),
    )

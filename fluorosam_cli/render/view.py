"""One view: its geometry, projection, exposure and picture, and its record in `views.jsonl`.

Each of a view's random streams is `[seed, case, view, purpose]`: geometry, exposure and tools are drawn apart, so that
leaving one of them out changes nothing about the others.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from fluorosam_cli.artefacts import atomic_path
from fluorosam_cli.contracts import Collimation, IntegralsHeader, Look, View
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.geometry.poses import Camera, poses_of
from fluorosam_cli.geometry.views import RANDOM, StandardView, draw_view
from fluorosam_cli.render import RANDOM_SHARE, detector, display, field
from fluorosam_cli.render.body import Body
from fluorosam_cli.render.exposure import draw_exposure, stripped, technique_for
from fluorosam_cli.render.integrals import write_integrals, write_travel
from fluorosam_cli.render.masks import outline_masks, structure_masks, tool_masks
from fluorosam_cli.render.materials import MATERIALS
from fluorosam_cli.render.outlines import outlines
from fluorosam_cli.render.physics import tube_spectrum
from fluorosam_cli.render.projector import Projection
from fluorosam_cli.render.settings import Extras, Settings
from fluorosam_cli.render.tools import ToolProjection, project_tools
from fluorosam_cli.tools.placement import PlacedTool, place_tools, record
from fluorosam_cli.tools.placement_pose import Beam

GEOMETRY, EXPOSURE, TOOLS = range(3)  # random streams of a view
PNG_LEVEL = 3  # zlib: noise hardly shrinks at any level, and higher ones take several times as long


@dataclass(frozen=True)
class Shot:
    """A view that is aimed, before it is projected."""

    index: int
    name: str
    carm: CArm | Camera
    seed: tuple[int, int, int]
    placed: tuple[PlacedTool, ...]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.carm.detector_width_px, self.carm.detector_height_px

    @property
    def depths_mm(self) -> tuple[float, float]:
        return self.carm.nearest_mm, self.carm.farthest_mm


# --- aiming -----------------------------------------------------------------------------------------------------------


def aim(body: Body, possible: tuple[StandardView, ...], index: int, settings: Settings) -> Shot:
    """The geometry of a view, and the tools in it."""
    wanted, tooling = settings.aim, settings.tooling
    seed = settings.seed, body.number, index
    if wanted.poses:
        carm = poses_of(wanted.poses, body.case.name)[index].around(body.middle_lps_mm)
        name = carm.name
    else:
        share = wanted.random_share
        if share is None and wanted.names:  # as many random views as of any other name, if they are named
            share = 1 / (len(possible) + 1) if RANDOM in wanted.names else 0.0
        elif share is None:
            share = RANDOM_SHARE
        name, carm = draw_view(_rng(seed, GEOMETRY), body.anatomy, possible, share, wanted.size_px)
    placed: list[PlacedTool] = []
    low, high = tooling.per_view
    if high:
        rng = _rng(seed, TOOLS)
        count = int(rng.integers(low, high + 1))
        placed = place_tools(rng, tooling.tools, body.map, Beam.of(carm), count)
    return Shot(index, name, carm, seed, tuple(placed))


def _rng(seed: tuple[int, int, int], purpose: int) -> np.random.Generator:
    return np.random.default_rng([*seed, purpose])


def project(body: Body, shots: list[Shot]) -> list[tuple[Projection, ToolProjection | None]]:
    """Views of one size: bodies first, in as few launches as the device allows, then the tools."""
    size = shots[0].size_px
    cameras = [(shot.carm.intrinsic, shot.carm.camera_from_world, shot.depths_mm) for shot in shots]
    projections = body.projector.project_views(cameras, *size, paths=bool(body.projector.paths))
    tools = [
        project_tools(
            shot.placed,
            shot.carm.intrinsic,
            shot.carm.camera_from_world,
            *size,
            body.projector,
            shot.depths_mm,
        )
        if shot.placed
        else None
        for shot in shots
    ]
    return list(zip(projections, tools, strict=True))


# --- developing -------------------------------------------------------------------------------------------------------


def develop(
    out: Path, body: Body, shot: Shot, projection: Projection, tools: ToolProjection | None, settings: Settings
) -> View:
    """Expose, encode and write one view."""
    from PIL import Image

    carm, physics = shot.carm, settings.physics
    width, height = shot.size_px
    rng = _rng(shot.seed, EXPOSURE)
    exposure = stripped(draw_exposure(rng, shot.name, width, height), physics.without)
    if isinstance(carm, Camera):
        exposure = replace(exposure, kvp=carm.kvp or exposure.kvp, mas=carm.mas or exposure.mas)
    look = display.draw_look(rng, physics.style)
    geometry = field.Geometry(
        carm.pixel_spacing_mm,
        carm.source_to_detector_mm,
        carm.source_to_isocenter_mm,
        (float(carm.intrinsic[0, 2]), float(carm.intrinsic[1, 2])),
    )
    mass, materials = _masses(projection, tools)
    if body.deepdrr:
        spectrum = tube_spectrum(exposure.kvp, exposure.filtration_mm_al, exposure.filtration_mm_cu)
        intensity = body.deepdrr.transmission(
            carm.intrinsic,
            carm.camera_from_world,
            *shot.size_px,
            carm.source_to_detector_mm,
            spectrum.energy_kev,
            spectrum.fluence,
        )
    else:
        intensity = detector.expose(mass, exposure, geometry, rng, materials=materials, without=physics.without)
    inside = field.exposed(exposure, geometry, intensity.shape) if exposure.collimation else None
    window_share = technique_for(shot.name).window_share
    shown = display.display_image(intensity, look, inside, physics.polarity, window_share)
    files = _files(body.case.name, shot.index, settings.extras)
    with atomic_path(out / files["image"]) as temporary:
        Image.fromarray(shown).save(temporary, format="PNG", compress_level=PNG_LEVEL)
    if "raw" in files:
        with atomic_path(out / files["raw"]) as temporary:
            Image.fromarray(intensity).save(temporary, format="TIFF", compression="tiff_deflate")
    masks = structure_masks(projection, body.outputs, inside)
    paths = projection.path_mm if projection.path_mm is not None else np.zeros((0, height, width), np.float32)
    of_tissues, of_outputs = paths[: len(body.tissues)], paths[len(body.tissues) :]
    mm_per_px = carm.pixel_spacing_mm * carm.source_to_isocenter_mm / carm.source_to_detector_mm
    drawn = outlines(of_tissues, body.tissues, carm.intrinsic, carm.camera_from_world, mm_per_px)
    masks += outline_masks(drawn, body.outputs, inside)
    if settings.extras.integrals:
        full = _for_header(mass, materials, settings.extras.integrals)
        write_integrals(out / files["integrals"], full, of_tissues, body.tissues, settings.extras.integrals)
    if settings.extras.travel:
        write_travel(out / files["travel"], of_outputs, body.projector.paths[len(body.tissues) :])
    if tools is not None:
        masks += tool_masks(shot.placed, tools.masks, inside)
    return View(
        case=body.case.name,
        index=shot.index,
        width=width,
        height=height,
        view=shot.name,
        seed=list(shot.seed),
        positioner_primary_angle_deg=carm.positioner_primary_angle_deg,
        positioner_secondary_angle_deg=carm.positioner_secondary_angle_deg,
        image_rotation_deg=carm.image_rotation_deg,
        source_to_detector_mm=carm.source_to_detector_mm,
        source_to_isocenter_mm=carm.source_to_isocenter_mm,
        pixel_spacing_mm=carm.pixel_spacing_mm,
        deformation=body.deformation,
        nearest_mm=carm.nearest_mm,
        farthest_mm=carm.farthest_mm if np.isfinite(carm.farthest_mm) else None,
        intrinsic=cast(list[list[float]], carm.intrinsic.tolist()),
        camera_from_world=cast(list[list[float]], carm.camera_from_world.tolist()),
        kvp=exposure.kvp,
        mas=exposure.mas,
        filtration_mm_al=exposure.filtration_mm_al,
        filtration_mm_cu=exposure.filtration_mm_cu,
        grid_ratio=exposure.grid_ratio,
        focal_spot_mm=exposure.focal_spot_mm,
        anode_side=exposure.anode_side,
        flat_fielded=exposure.flat_fielded,
        collimation=exposure.collimation and Collimation(**asdict(exposure.collimation)),
        look=Look(**asdict(look)),
        tools=[record(tool) for tool in shot.placed],
        structures=masks,
        **files,
    )


def _masses(projection: Projection, tools: ToolProjection | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Mass per area of tissue and tools, (M, H, W), and the materials: metal displaces the tissue it sits in."""
    mass = projection.mass_g_cm2
    if tools is None:
        return mass, MATERIALS
    mass = np.maximum(mass - tools.displaced_g_cm2, 0)
    return np.concatenate([mass, tools.mass_g_cm2]), (*MATERIALS, *tools.materials)


def _for_header(mass: np.ndarray, materials: tuple[str, ...], header: IntegralsHeader) -> np.ndarray:
    """The mass maps in the order of the header's materials, those not in the view 0."""
    if list(materials) == header.materials:
        return mass
    full = np.zeros((len(header.materials), *mass.shape[1:]), np.float32)
    for plane, material in zip(mass, materials, strict=True):
        full[header.materials.index(material)] = plane
    return full


def _files(case: str, index: int, extras: Extras) -> dict[str, str]:
    """The files of a view by their field in its record."""
    wanted = {
        "image": ("images", "png", True),
        "raw": ("raw", "tif", extras.raw),
        "integrals": ("integrals", "npz", extras.integrals is not None),
        "travel": ("travel", "npz", extras.travel),
    }
    return {
        name: f"{folder}/{case}/{index:05d}.{suffix}" for name, (folder, suffix, stored) in wanted.items() if stored
    }

"""The catalogue of surgical tools and implants: names, families, materials, sizes and where each belongs.

Each design is a function of one module of `designs/`, and its sizes stand in the TOML table of the same name beside it
with their source. Listing the catalogue reads only the tables; a mesh is built when it is asked for.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    import numpy as np


MODULES = (  # of designs/, each with its table
    "screws", "wires", "plates", "shaped_plates", "nails", "spine", "hips", "knees", "arms", "fixation", "fixators",
    "drills", "bone_tools", "vessels", "stents", "electronics", "hearts", "tubes", "needles", "instruments",
    "retractors", "scopes", "markers", "clothing", "foreign_bodies",
)  # fmt: skip

PLACEMENTS: dict[str, str] = {
    # Rigid tools that enter bone: z is their axis, the tip at the origin, the shaft toward +z.
    "in_bone": "the tip inside or just through a bone, the shaft along a likely axis through it, the head outside",
    "pedicle": "through a pedicle into a vertebral body; sometimes one on each side",
    "medullary": "in the canal of a long bone: z along it, +z toward the end it entered, the tip in the far third",
    "spine_rods": "along the back of the spine beside the spinous processes: z cranial, y anterior, x lateral",
    # Rigid implants on or between bones. The origin is the middle of the surface that meets the bone.
    "on_bone": "flat on a bone's surface: z along the bone, +y away from it, x across; screws in it point to -y",
    "around_bone": "around a long bone: z along the bone's axis, +y away from the body",
    "joint_hip": "the centre of the head at the origin: -z distal along the femur, +x lateral, +y anterior",
    "joint_knee": "the middle of the joint line at the origin: +z proximal, +y anterior, x lateral or medial",
    "joint_shoulder": "the centre of the head at the origin: -z distal along the humerus, +x lateral, +y anterior",
    "joint_elbow": "the joint's axis along x at the origin: +z proximal along the humerus, +y anterior",
    "joint_ankle": "the middle of the joint at the origin: +z proximal along the tibia, +y anterior",
    "disc_space": "between two vertebral bodies: +z cranial, +y anterior, origin in the middle of the disc",
    "spine_front": "flat on the front of vertebral bodies: z cranial, +y away from them",
    "skull": "on or just inside the skull: origin on the bone, +z outward",
    "tooth": "in a jaw at the teeth: +z out of the bone",
    # Flexible tools: they follow a centre line from the tip outward. Drawn without one they lie straight along +z.
    "artery": "from inside the aorta or a branch, out through an iliac or subclavian artery",
    "vein": "from the right heart or a great vein, out through a jugular, subclavian or femoral vein",
    "vein_pocket": "like vein, but ends under the skin of the upper chest, where the case or port lies",
    "airway": "from the trachea or a main bronchus out through the mouth",
    "neck_airway": "from the trachea out through the front of the neck",
    "oesophagus": "from the stomach up through the oesophagus and out through nose or mouth",
    "spinal_canal": "along the spinal canal and out through the back",
    "pleura": "between lung and ribs, out between two ribs",
    "abdomen": "within the abdomen and out through its wall",
    "biliary": "along the bile ducts near the liver's hilum",
    "ureter": "from a kidney to the urinary bladder",
    "bladder": "from the urinary bladder out through the urethra",
    "medullary_flexible": "curved along the canal of a long bone, from the far end to where it entered",
    "brain": "from inside the skull out through a hole in it, or on along under the skin of the neck",
    "surface_line": "along the skin: leads, lines and lengths of wire",
    # Rigid implants in vessels, heart and other organs: z is their axis, the origin their middle.
    "in_artery": "inside an artery, z along it",
    "in_vein": "inside a great vein, +z toward the heart",
    "heart": "within the heart or at its valves",
    "soft_tissue": "anywhere in soft tissue: clips, seeds, coils",
    "pelvis": "in the middle of the pelvis, behind the bladder: +z cranial",
    "chest_wall": "just under the skin of the chest: +z outward",
    "midline_chest": "through the sternum: z cranial, +y anterior",
    # Outside the patient.
    "skin": "on the skin: origin on it, +z outward",
    "through_skin": "the tip in soft tissue at the origin, the shaft toward +z and out through the skin",
    "over_field": "above the patient: tip at the origin, in the field; z toward the handle, flat in x-z",
    "clutter": "anything in the beam, on or under the patient, lying flat in x-y, the origin its middle",
}


@dataclass(frozen=True)
class Tool:
    """One named tool of one size. Its frame is described by its placement (`PLACEMENTS`); lengths are millimetres."""

    name: str
    display_name: str
    family: str
    design: str
    materials: Mapping[str, str] = field(hash=False)  # part -> material of `render/physics`, the main part first
    parameters: Mapping[str, float] = field(hash=False)
    placement: str
    sites: tuple[str, ...]  # structures or groups it belongs to, without a side where both will do; () for any
    flexible: bool  # follows a centre line
    size: str = ""
    synonyms: tuple[str, ...] = ()
    use: str = ""
    source: str = ""
    module: str = ""  # of designs/; empty for a user's mesh
    file: Path | None = None  # a user's mesh, and
    unit_mm: float = 1.0  # its unit

    @property
    def material(self) -> str:
        """The main part's material."""
        return next(iter(self.materials.values()))


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface, counter-clockwise seen from outside."""

    vertices_mm: "np.ndarray"  # (V, 3) float64
    triangles: "np.ndarray"  # (T, 3) int32


# --- names ------------------------------------------------------------------------------------------------------------


@cache
def catalogue() -> tuple[Tool, ...]:
    """Every tool, family by family."""
    order = {name: index for index, name in enumerate(families())}
    tools = [tool for module in MODULES for tool in _tools_of(module, _table(module))]
    return tuple(sorted(tools, key=lambda tool: order[tool.family]))


@cache
def families() -> dict[str, str]:
    """The words for each family: "bone_screws" -> "bone screws"."""
    return {name: words for module in MODULES for name, words in _table(module)["families"].items()}


@cache
def _table(module: str) -> dict[str, Any]:
    return tomllib.loads((files("fluorosam_cli.tools.designs") / f"{module}.toml").read_text(encoding="utf-8"))


def _tools_of(module: str, table: Mapping[str, Any]) -> list[Tool]:
    """The tools of one table: `columns` names the numbers (and words) of each row of `sizes`, `fixed` those that all
    sizes share; `size` and `words` are patterns over both."""
    tools = []
    for design, entry in table["designs"].items():
        for row in entry.get("sizes", [[]]):
            values = entry.get("fixed", {}) | dict(zip(entry.get("columns", []), row, strict=True))
            written = {key: f"{value:g}" if isinstance(value, int | float) else value for key, value in values.items()}
            size = entry.get("size", "").format(**written)
            suffix = size.lower().replace(" ", "_").replace(".", "_").replace("/", "_").replace("-", "_")
            tools.append(
                Tool(
                    name=f"{design}_{suffix}" if size else design,
                    display_name=entry["words"].format(**written | {"size": size}).strip(),
                    family=entry["family"],
                    design=design,
                    materials=entry["materials"],
                    parameters={key: float(v) for key, v in values.items() if isinstance(v, int | float)},
                    placement=entry["placement"],
                    sites=tuple(entry.get("sites", ())),
                    flexible=entry.get("flexible", False),
                    size=size,
                    synonyms=tuple(entry.get("synonyms", ())),
                    use=entry.get("use", ""),
                    source=entry.get("source", ""),
                    module=module,
                )
            )
    return tools


# --- meshes -----------------------------------------------------------------------------------------------------------


def parts(tool: Tool, centre_line_mm: "np.ndarray | None" = None) -> list[tuple[str, Mesh]]:
    """The materials of a tool and the closed mesh of each; meshes of different parts do not overlap.

    A flexible tool follows `centre_line_mm` (N, 3), from its tip outward, and is given in that line's frame; it ends
    with the line where the line is shorter than the tool. Without a line it lies straight along +z.
    """
    if centre_line_mm is None:
        return list(_parts_once(tool))
    return _built(tool, centre_line_mm)


@lru_cache(maxsize=1024)  # all rigid tools: 77 MB, and 27 ms saved each time one comes again
def _parts_once(tool: Tool) -> tuple[tuple[str, Mesh], ...]:
    return tuple(_built(tool, None))


def _built(tool: Tool, centre_line_mm: "np.ndarray | None") -> list[tuple[str, Mesh]]:
    from fluorosam_cli.tools.shapes import Solid, arrays_of

    if tool.file is not None:
        from fluorosam_cli.tools.meshes import read_mesh

        return [(tool.material, read_mesh(tool.file, tool.unit_mm))]
    shape = getattr(import_module(f"fluorosam_cli.tools.designs.{tool.module}"), tool.design)
    made: Solid | dict[str, Solid] = shape(
        *([_line(tool, centre_line_mm)] if tool.flexible else []), **_arguments(tool)
    )
    solids = {next(iter(tool.materials)): made} if isinstance(made, Solid) else made
    return [(material, Mesh(*arrays_of(solids[part]))) for part, material in tool.materials.items()]


def _arguments(tool: Tool) -> dict[str, float]:
    return {key: value for key, value in tool.parameters.items() if not (tool.flexible and key == "length_mm")}


def _line(tool: Tool, centre_line_mm: "np.ndarray | None"):
    import numpy as np

    from fluorosam_cli.tools.shapes import Line

    length = tool.parameters["length_mm"]
    if centre_line_mm is None:
        return Line.straight(length)
    points = np.asarray(centre_line_mm, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 2 or not np.isfinite(points).all():
        raise FluoroError(
            f"{tool.name}: its centre line has shape {points.shape}", "give two or more points, (N, 3) mm"
        )
    moved = np.r_[True, np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6]
    if moved.sum() < 2:
        raise FluoroError(f"{tool.name}: its centre line has no length", "give two or more points that differ")
    return Line(points[moved]).cut(length)

"""Meshes that users bring: a folder of STL, OBJ and PLY files, checked, repaired where possible, else refused.

An optional `tools.toml` in the folder describes them, one table per file name without its suffix:

    [my_plate]
    name = "wrist plate"             # words for it; otherwise made from the file's name
    description = "holds a broken wrist"
    material = "titanium"            # otherwise stainless steel
    unit = "m"                       # mm, cm, m or inch; otherwise mm, or m where the longest side would be under 1 mm
    placement = "on_bone"            # a name of catalogue.PLACEMENTS for rigid tools; otherwise over_field
    sites = ["radius"]               # structures or groups it belongs to
    synonyms = ["volar plate"]

Only geometry is read: materials and textures an OBJ points to are never opened, and nothing is fetched.
"""

import hashlib
import io
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluorosam_cli.anatomy.structures import groups, names, structures
from fluorosam_cli.anatomy.wording import without_accents
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.tools.catalogue import PLACEMENTS, Mesh, Tool, catalogue, families, parts

if TYPE_CHECKING:
    from trimesh import Trimesh

SUFFIXES = (".stl", ".obj", ".ply")
UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}
KEYS = {"name", "description", "material", "unit", "placement", "sites", "synonyms"}
MOST_BYTES, MOST_TRIANGLES = 200_000_000, 1_000_000
SMALLEST_MM, LARGEST_MM = 0.2, 2000.0  # a tool's longest side
WELD = 1e-5  # corners closer than this share of the longest side are one corner: STL stores each triangle apart
MOST_CAPPED = 0.5  # of the surface's area: what may be added to close its holes
FAMILY = "user_tools"


def load_tools(*folders: Path) -> list[Tool]:
    """The tools of folders, by file name. Every mesh is read and checked, so that a bad one is refused at once.

    Raises FluoroError that names the file: not a mesh, no volume, cannot be closed, of an impossible size, of a name
    that something else has, or `tools.toml` says something unknown.
    """
    tools: dict[str, Tool] = {}
    for path, about in (item for folder in folders for item in _files(folder)):
        name = _name(path)
        if name in tools:
            raise FluoroError(f"{path} and {tools[name].file}: two tools named {name}", "rename one of the files")
        if name in _taken():
            raise FluoroError(f"{path}: {name} is a structure or a tool of the catalogue", "rename the file")
        tools[name] = _tool(path, about)
        parts(tools[name])
    return list(tools.values())


def files_of(tools: Iterable[Tool]) -> list[Path]:
    """The files that users' tools were read from; none for those of the catalogue."""
    meshes = sorted({tool.file for tool in tools if tool.file is not None})
    described = dict.fromkeys(mesh.parent / "tools.toml" for mesh in meshes)
    return [*meshes, *(path for path in described if path.is_file())]


def _files(folder: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """The meshes of a folder, and what its `tools.toml` says about each."""
    if not folder.is_dir():
        raise FluoroError(f"{folder}: no such folder of meshes", "give a folder with STL, OBJ or PLY files")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise FluoroError(f"{folder}: holds no STL, OBJ or PLY file", "give a folder with meshes of tools")
    described = _described(folder / "tools.toml", {path.stem for path in paths})
    return [(path, described.get(path.stem, {})) for path in paths]


def _name(path: Path) -> str:
    """The file's name in plain letters, digits and underscores; with a hash of it where it has other letters."""
    latin = without_accents(path.stem.lower())
    name = re.sub(r"[^a-z0-9]+", "_", latin).strip("_") or "tool"
    return name if latin.isascii() else f"{name}_{hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:8]}"


@cache
def _taken() -> set[str]:
    """What masks are named already."""
    return {*names(), *families(), FAMILY, *(name for tool in catalogue() for name in (tool.name, tool.design))}


@cache
def _known() -> dict[str, list[str]]:
    """What the words of `tools.toml` may be. A mesh is rigid and follows no line."""
    along_lines = {tool.placement for tool in catalogue() if tool.flexible}
    known = [item.name for item in structures()]
    unsided = [name.removesuffix("_left").removesuffix("_right") for name in known]
    return {
        "unit": list(UNITS_MM),
        "placement": [name for name in PLACEMENTS if name not in along_lines],
        "sites": [*dict.fromkeys([*known, *unsided, *groups()])],
    }


def _tool(path: Path, about: Mapping[str, Any]) -> Tool:
    name = _name(path)
    return Tool(
        name=name,
        display_name=about.get("name", re.sub(r"[_\s]+", " ", path.stem).strip()),
        family=FAMILY,
        design=name,
        materials={"mesh": about.get("material", "stainless_steel")},
        parameters={},
        placement=about.get("placement", "over_field"),
        sites=tuple(about.get("sites", ())),
        flexible=False,
        synonyms=tuple(about.get("synonyms", ())),
        use=about.get("description", ""),
        source=path.name,
        file=path,
        unit_mm=UNITS_MM[about["unit"]] if "unit" in about else _likely_unit_mm(path),
    )


def _likely_unit_mm(path: Path) -> float:
    longest = float(np.ptp(_loaded(path).vertices, axis=0).max())
    return UNITS_MM["m" if longest < 1.0 else "mm"]


def _described(path: Path, stems: set[str]) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FluoroError(f"{path}: not valid TOML ({error})", "correct the file") from error
    for stem, about in tables.items():
        if stem not in stems:
            raise FluoroError(f"{path}: [{stem}] is not a mesh of the folder", f"meshes are {', '.join(sorted(stems))}")
        if not isinstance(about, dict) or not about.keys() <= KEYS:
            odd = ", ".join(sorted(about.keys() - KEYS)) if isinstance(about, dict) else "no table"
            raise FluoroError(f"{path}: [{stem}]: {odd}: not known", f"known are {', '.join(sorted(KEYS))}")
        for key, value in about.items():
            listed = key in ("sites", "synonyms")
            fits = (
                isinstance(value, list) and all(isinstance(v, str) for v in value) if listed else isinstance(value, str)
            )
            if not fits:
                raise FluoroError(
                    f"{path}: [{stem}] {key} is {value!r}", f"give {'a list of words' if listed else 'words'}"
                )
        for key, known in _known().items():
            value = about.get(key, [])
            for word in [value] if isinstance(value, str) else value:
                if word not in known:
                    near = get_close_matches(word, known)
                    hint = f"near: {', '.join(near)}" if near else f"known are {', '.join(known)}"
                    raise FluoroError(f"{path}: [{stem}] {key}: {word!r} is not known", hint)
    return tables


def read_mesh(path: Path, unit_mm: float = 1.0) -> Mesh:
    """One file as a closed mesh oriented outward, in millimetres.

    Corners are welded, faces turned to agree, holes closed, and pieces that overlap united.
    Raises FluoroError with the reason when there is no solid in the file.
    """
    loaded = _loaded(path)
    if not np.isfinite(loaded.vertices).all():
        raise FluoroError(f"{path.name}: has coordinates that are not numbers", "export the mesh again")
    longest = float(np.ptp(loaded.vertices, axis=0).max()) * unit_mm
    if not SMALLEST_MM <= longest <= LARGEST_MM:
        raise FluoroError(
            f"{path.name}: its longest side is {longest:.4g} mm, expected {SMALLEST_MM:g} to {LARGEST_MM:g}",
            f'name its unit in tools.toml: [{path.stem}] unit = "m", "cm" or "inch"',
        )
    vertices, faces = _repaired(loaded, path)
    return Mesh(vertices * unit_mm, faces.astype(np.int32))


@lru_cache(maxsize=1)  # looked at for its unit, then read
def _loaded(path: Path) -> "Trimesh":
    import trimesh

    if path.stat().st_size > MOST_BYTES:
        raise FluoroError(f"{path.name}: larger than {MOST_BYTES // 10**6} MB", "simplify the mesh")
    try:
        # From memory and without a resolver, the loader has no way to any other file.
        loaded = trimesh.load_mesh(
            io.BytesIO(path.read_bytes()), file_type=path.suffix[1:].lower(), process=False, skip_materials=True
        )
    except Exception as error:  # the loaders raise whatever a broken file makes them stumble over
        raise FluoroError(
            f"{path.name}: cannot be read as {path.suffix[1:].upper()} ({error})", "export the mesh again"
        ) from error
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise FluoroError(f"{path.name}: holds no triangles", "export a triangle mesh")
    if len(loaded.faces) > MOST_TRIANGLES:
        raise FluoroError(
            f"{path.name}: has {len(loaded.faces):,} triangles, at most {MOST_TRIANGLES:,}", "simplify the mesh"
        )
    return loaded


def _repaired(mesh: "Trimesh", path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    box = float(np.prod(np.maximum(np.ptp(mesh.vertices, axis=0), 1e-12)))
    welded = _welded(mesh)
    if len(welded.faces) and not (_is_closed(welded.faces) and welded.volume > 0):
        trimesh.repair.fix_normals(welded, multibody=True)
    vertices, faces = np.asarray(welded.vertices, np.float64), np.asarray(welded.faces, np.int64)
    open_edges = _unmatched(faces)
    if len(open_edges):
        vertices, faces, cap_area = _capped(vertices, faces, open_edges)
        if cap_area > MOST_CAPPED * float(welded.area):
            raise FluoroError(
                f"{path.name}: not a closed surface, {len(open_edges)} open edges around too large a gap",
                "close it in a mesh editor",
            )
    if _volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    vertices, faces = _united(vertices, faces)
    if not 1e-6 * box < _volume(vertices, faces) <= 1.001 * box:
        raise FluoroError(f"{path.name}: encloses no volume", "give the mesh some thickness")
    return vertices, faces


def _welded(mesh: "Trimesh") -> "Trimesh":
    import trimesh

    longest = float(np.ptp(mesh.vertices, axis=0).max())
    steps = np.round(mesh.vertices / (WELD * longest)).astype(np.int64)
    _, first, where = np.unique(steps, axis=0, return_index=True, return_inverse=True)
    faces = where.reshape(-1)[mesh.faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return trimesh.Trimesh(mesh.vertices[first], faces[whole], process=False)


def _is_closed(faces: np.ndarray) -> bool:
    return len(faces) > 0 and not len(_unmatched(faces))


def _unmatched(faces: np.ndarray) -> np.ndarray:
    """Directed edges (N, 2) that no neighbour runs back along. Where there are none, rays enter as often as they leave:
    all that path lengths need, even where four faces meet in an edge."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    base = int(edges.max(initial=0)) + 1
    up = edges[:, 0] < edges[:, 1]
    keys, where = np.unique(
        np.where(up, edges[:, 0] * base + edges[:, 1], edges[:, 1] * base + edges[:, 0]), return_inverse=True
    )
    surplus = np.bincount(where.reshape(-1), np.where(up, 1, -1), len(keys)).astype(np.int64)
    low, high = keys // base, keys % base
    forward = np.repeat(np.stack([low, high], 1), np.maximum(surplus, 0), axis=0)
    backward = np.repeat(np.stack([high, low], 1), np.maximum(-surplus, 0), axis=0)
    return np.concatenate([forward, backward])


def _capped(vertices: np.ndarray, faces: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Every hole closed by a fan from the middle of its rim, and the area that took."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(edges)), edges.T), (len(vertices), len(vertices)))
    _, hole = np.unique(connected_components(graph, directed=False)[1][edges[:, 0]], return_inverse=True)
    count = np.bincount(hole)
    middle = np.stack([np.bincount(hole, vertices[edges[:, 0], axis]) / count for axis in range(3)], 1)
    fans = np.stack([edges[:, 1], edges[:, 0], len(vertices) + hole], 1)
    vertices = np.concatenate([vertices, middle])
    corners = vertices[fans]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    return vertices, np.concatenate([faces, fans]), float(area)


def _united(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solids that overlap as one, so that no ray counts them twice; left as they are where manifold3d cannot."""
    from manifold3d import Error
    from trimesh.graph import connected_component_labels, face_adjacency

    from fluorosam_cli.tools.shapes import arrays_of, solid_of, union

    labels = connected_component_labels(face_adjacency(faces), node_count=len(faces))
    if labels.max() == 0:
        return vertices, faces
    solids = []
    for label in range(labels.max() + 1):
        used, compact = np.unique(faces[labels == label], return_inverse=True)
        corners, triangles = vertices[used], compact.reshape(-1, 3)
        if len(_unmatched(triangles)) or _volume(corners, triangles) <= 0:
            return vertices, faces  # an inner surface, which makes a hollow, or a piece that leans on others
        solid = solid_of(corners, triangles)
        if solid.status() != Error.NoError:
            return vertices, faces
        solids.append(solid)
    return arrays_of(union(solids))


def _volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]] - vertices.mean(0) for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

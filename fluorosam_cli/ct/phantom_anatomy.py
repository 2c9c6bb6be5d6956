"""From the table of the parametric human (anatomy/human.toml) to the solids of one phantom, in its own world."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from fluorosam_cli.anatomy.structures import structures
from fluorosam_cli.ct.phantom_families import GENERATORS, Family, Sketch
from fluorosam_cli.ct.phantom_pose import Pose, turn
from fluorosam_cli.ct.phantom_shapes import Loft, Piece, Solid, ball, half_space, sheet, tube

SHAPES = ("tubes", "balls", "sheets")
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Part:
    name: str | None
    solids: tuple[Solid, ...]
    fill: str
    cortex_mm: float
    shaft_mm: float | None  # half thickness at which the cortex is `cortex_mm`; thinner where the bone is wider
    within: tuple[str, ...]


@dataclass(frozen=True)
class Skin:
    """A piece of the lean body's outline, and the fat over it at some heights (interpolated between them)."""

    piece: Piece
    at_z_mm: np.ndarray
    fat_mm: np.ndarray
    lean: bool = True  # whether muscle fills it


@dataclass(frozen=True)
class Anatomy:
    skin: tuple[Skin, ...]
    parts: tuple[Part, ...]
    tissue: dict[str, float]  # HU


@cache
def human() -> dict[str, Any]:
    """The table as read; do not change it."""
    return tomllib.loads((files("fluorosam_cli.anatomy") / "human.toml").read_text(encoding="utf-8"))


def build(pose: Pose, random: np.random.Generator) -> Anatomy:
    """The anatomy of one phantom; `random` draws what is its own beside the pose: HU, organ shifts and sizes, bowel."""
    table = human()
    tissue = {name: float(random.normal(mean, spread)) for name, (mean, spread) in table["tissue"].items()}
    regions = _regions(table["region"], pose)
    thorax = Loft(np.insert(np.array(table["region"]["thorax"]["loft"], float)[:, [1, 0, 2, 3, 4, 5]], 0, 0.0, axis=1))
    known = {structure.name for structure in structures()}
    parts = []
    for keys in table["part"]:
        family = Family(table, thorax, pose, random, keys)
        sketches = GENERATORS[keys["generator"]](family) if "generator" in keys else [Sketch(keys)]
        for sketch in sketches:
            if sketch.keys.get("sex", pose.sex) == pose.sex:
                parts += _sided(sketch, pose, random, regions)
    unknown = [part.name for part in parts if part.name and part.name not in known]
    assert not unknown, unknown
    return Anatomy(tuple(_skin(table["skin"], pose)), tuple(parts), tissue)


def _sided(sketch: Sketch, pose: Pose, random: np.random.Generator, regions: dict[str, Solid]) -> Iterator[Part]:
    keys = sketch.keys
    name = keys.get("name")
    yield _part(sketch, name, 1, pose, random, regions)
    if name and name.endswith("_left") and not keys.get("one_side"):
        yield _part(sketch, name.removesuffix("left") + "right", -1, pose, random, regions)


def _part(
    sketch: Sketch, name: str | None, sign: int, pose: Pose, random: np.random.Generator, regions: dict[str, Solid]
) -> Part:
    keys = sketch.keys
    segment = keys.get("segment", "trunk")
    if f"{segment}_left" in pose.segments:
        segment += "_left" if sign > 0 else "_right"
    shift = random.normal(0, 1, 3) * keys.get("wobble", 0.0) + [0, 0, pose.breath_mm * keys.get("breath", 0.0)]
    size = float(np.clip(random.normal(1, keys.get("vary", 0.0)), 0.7, 1.3))
    placing = _Placing(pose, segment, sign, shift, size, _middle(keys), sketch.metric)
    groups = [group for group in (keys, *keys.get("solid", [])) if any(_shape_keys(group)) or "region" in group]
    return Part(
        name=name,
        solids=tuple(_solid(group, placing, regions) for group in groups),
        fill=keys["fill"],
        cortex_mm=keys.get("cortex_mm", 1.5),
        shaft_mm=keys.get("shaft_mm"),
        within=tuple(keys.get("within", ())),
    )


def _shape_keys(keys: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for shape in SHAPES:
        for key in (f"{prefix}{shape}", f"pair_{prefix}{shape}"):
            if key in keys:
                yield key


def _middle(keys: dict[str, Any]) -> np.ndarray:
    """The point about which a part is resized: the mean of its first shape's points."""
    for key in _shape_keys(keys):
        first = np.array(keys[key][0], float) if not key.endswith("balls") else np.array(keys[key][0][:3], float)
        return first.reshape(-1, first.shape[-1])[:, :3].mean(axis=0)
    return np.zeros(3)


@dataclass(frozen=True)
class _Placing:
    """From the table's coordinates to the phantom's world: mirror, resize, shift, pose."""

    pose: Pose
    segment: str
    sign: int
    shift: np.ndarray
    size: float
    middle: np.ndarray
    metric: tuple[float, float, float]

    def own(self, points: np.ndarray, mirrored: bool) -> np.ndarray:
        moved = self.middle + self.size * (points - self.middle)
        moved = moved * (MIRROR if mirrored else 1) * (MIRROR if self.sign < 0 else 1)
        return moved + self.shift

    def points(self, rows: np.ndarray, mirrored: bool) -> np.ndarray:
        """Rows (..., 4) of x, y, z and a radius, placed."""
        flat = rows.reshape(-1, 4)
        placed = self.pose.place(self.own(flat[:, :3], mirrored), self.segment)
        radius = flat[:, 3:] * self.size * self.pose.size
        return np.hstack([placed, radius]).reshape(rows.shape)

    def pieces(self, keys: dict[str, Any], prefix: str = "") -> list[Piece]:
        found: list[Piece] = []
        for key in _shape_keys(keys, prefix):
            for mirrored in (False, True) if key.startswith("pair_") else (False,):
                for shape in keys[key]:
                    if key.endswith("balls"):
                        found += self.ball(shape, mirrored)
                    elif key.endswith("tubes"):
                        found += tube(self.points(np.array(shape, float), mirrored), self.metric)
                    else:
                        found += sheet(self.points(np.array(shape, float), mirrored))
        return found

    def ball(self, row: list[float], mirrored: bool) -> list[Piece]:
        centre, radii = np.array(row[:3], float), np.array(row[3:6], float)
        axes = (turn(*row[6:9]) if len(row) > 6 else np.eye(3)) * radii * self.size
        for flipped in (mirrored, self.sign < 0):
            axes = axes * MIRROR[:, None] if flipped else axes
        own = self.own(centre[None], mirrored)[0]
        placed = self.pose.place(own, self.segment)[0]
        return ball(placed, self.pose.jacobian(own, self.segment) @ axes, row[9] if len(row) > 9 else 2.0)

    def half_space(self, point: list[float], normal: list[float]) -> list[Piece]:
        own = self.own(np.array([point], float), False)[0]
        direction = np.array(normal, float) * (MIRROR if self.sign < 0 else 1)
        across = np.linalg.inv(self.pose.jacobian(own, self.segment)).T @ direction
        return half_space(self.pose.place(own, self.segment)[0], across)


def _solid(keys: dict[str, Any], placing: _Placing, regions: dict[str, Solid]) -> Solid:
    pieces = placing.pieces(keys)
    base = regions[keys["region"]] if "region" in keys else Solid(tuple(pieces))
    inside = [regions[name] for name in keys.get("inside", [])]
    inside += [Solid(tuple(placing.half_space(*plane))) for plane in keys.get("above", [])]
    outside = [regions[name] for name in keys.get("outside", [])]
    holes = placing.pieces(keys, "holes_")
    if holes:
        outside.append(Solid(tuple(holes)))
    return Solid(base.pieces, base.inside + tuple(inside), base.outside + tuple(outside), base.grow_mm)


def _regions(table: dict[str, Any], pose: Pose) -> dict[str, Solid]:
    regions: dict[str, Solid] = {}
    for name, keys in table.items():
        if "loft" in keys or "loft_of" in keys:
            rows = keys["loft"] if "loft" in keys else table[keys["loft_of"]]["loft"]
            regions[name] = Solid(tuple(posed_loft(np.array(rows, float), pose).pieces(keys.get("inset_mm", 0.0))))
        elif "grown_of" in keys:
            pieces = [piece for other in keys["grown_of"] for piece in regions[other].pieces]
            regions[name] = Solid(tuple(pieces), grow_mm=keys["grow_mm"])
        else:
            shift = np.array([0, 0, pose.breath_mm * keys.get("breath", 0.0)])
            placing = _Placing(pose, keys.get("segment", "trunk"), 1, shift, 1.0, np.zeros(3), (1.0, 1.0, 1.0))
            regions[name] = _solid(keys, placing, regions)
    return regions


def posed_loft(rows: np.ndarray, pose: Pose) -> Loft:
    """A loft of the trunk, from rows of z, y, half width, front, back, power (the human's own, unposed)."""
    z, y, width, front, back, power = rows[:, :6].T
    bend = pose.bend(z)
    sx, sy, sz = pose.scale_xyz
    stations = np.stack([bend[:, 0], sy * y + bend[:, 1], sz * z, sx * width, sy * front, sy * back, power], axis=1)
    return Loft(stations, pose.roll_deg, pivot_y=-90.0)


def _skin(table: dict[str, Any], pose: Pose) -> Iterator[Skin]:
    trunk = np.array(table["trunk"], float)
    heights = trunk[:, 0] * pose.scale_xyz[2]
    for piece in posed_loft(trunk, pose).pieces():
        yield Skin(piece, heights, trunk[:, 6] * pose.fat_mm)
    plain = (1.0, 1.0, 1.0)
    rows = [(row, key, False) for key in ("tubes", "balls") for row in table[key]]
    rows += [(row, key, pair) for key in ("tubes", "balls") for row in table[f"pair_{key}"] for pair in (False, True)]
    if pose.sex == "female":
        rows += [(["breast", 0.4, row], "balls", pair) for row in table["breasts"] for pair in (False, True)]
    for (segment, share, shape), key, right in rows:
        side = f"{segment}_{'right' if right else 'left'}"
        segment = side if side in pose.segments else segment
        placing = _Placing(pose, segment, -1 if right else 1, np.zeros(3), 1.0, np.zeros(3), plain)
        for piece in placing.pieces({key: [shape]}):
            yield Skin(piece, np.zeros(1), np.array([share * pose.fat_mm]), lean=segment != "breast")

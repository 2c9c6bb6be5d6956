"""The parts of the parametric human that follow a rule: vertebrae, discs, cord, ribs, cartilages, bowel, lung vessels.

Each generator returns `Sketch`es: shapes of the standing human, before the pose, in the words of anatomy/human.toml.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from fluorosam_cli.ct.phantom_pose import Pose
from fluorosam_cli.ct.phantom_shapes import Loft


@dataclass(frozen=True)
class Sketch:
    """A part as written in the table: `keys` are the keys of a [[part]]."""

    keys: dict[str, Any]
    metric: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Family:
    """What a generator may look at."""

    table: dict[str, Any]
    thorax: Loft
    pose: Pose
    random: np.random.Generator
    keys: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Vertebra:
    level: str
    z: float
    y: float
    half_width: float
    half_depth: float
    half_height: float
    half_span: float
    spinous_y: float
    spinous_drop: float

    @property
    def canal_y(self) -> float:
        return self.y + self.half_depth + (9 if self.half_depth else 20)


def _vertebrae(family: Family) -> list[Vertebra]:
    return [Vertebra(*row) for row in family.table["spine"]["vertebrae"]]


def _slope(vertebrae: list[Vertebra], index: int) -> float:
    """Tilt (degrees about x) of a vertebral body that stands square on the spine's curve."""
    above, below = vertebrae[max(index - 1, 1)], vertebrae[min(index + 1, len(vertebrae) - 1)]
    return float(np.degrees(np.arctan2(-(above.y - below.y), above.z - below.z)))


def vertebrae(family: Family) -> Iterator[Sketch]:
    """Body, pedicles, laminae, transverse, articular and spinous processes, around an open canal."""
    column = _vertebrae(family)
    for index, v in enumerate(column):
        keys: dict[str, Any] = {"name": f"vertebrae_{v.level}", "fill": "bone", "cortex_mm": 0.9}
        if v.level == "C1":
            ring = [[0, -97, v.z, 4.5], [14, -94, v.z, 4.5], [20, -82, v.z, 5.5], [17, -68, v.z, 4.5], [0, -58, v.z, 4]]
            keys["pair_tubes"] = [ring, [[20, -82, v.z, 7], [v.half_span, -78, v.z, 4.5]]]
            yield Sketch(keys)
            continue
        tilt = _slope(column, index)
        body = [0, v.y, v.z, v.half_width, v.half_depth, v.half_height, tilt, 0, 0, 5]
        small = v.half_height < 7.1
        wide, back = max(0.62 * v.half_width, 9.5), v.y + v.half_depth
        upper = v.z + (0.35 * v.half_height if not small else 0)
        r = 0.3 * v.half_height + 1.4
        joint = [wide + 4, v.canal_y + 2, upper - 2]
        tip = [v.half_span, v.canal_y + (10 if v.level[0] == "T" else -2 if v.level[0] == "C" else 4), upper]
        arch = [2.5, v.canal_y + 10, v.z - 0.4 * v.half_height]
        keys["balls"] = [body]
        keys["pair_tubes"] = [
            [[wide, back - 4, upper, r], [*joint, r]],
            [[*joint, r + 0.6], [*arch, r]],
            [[*joint, r + 0.6], [tip[0], tip[1], tip[2], r]],
            [
                [joint[0], joint[1], upper + 0.9 * v.half_height, r],
                [joint[0], joint[1] + 3, v.z - 1.3 * v.half_height, r],
            ],
        ]
        spine_tip = [0, v.spinous_y - 4, v.z - v.spinous_drop, 0.75 * r + 1]
        keys["tubes"] = [[[0, arch[1], arch[2], r], spine_tip]]
        if v.level[0] == "L":
            keys["tubes"] += [[[0, a[1], a[2] - 6, r], [0, a[1], a[2] + 3, r]] for a in (spine_tip, arch)]
        if v.level == "C2":
            keys["tubes"] += [[[0, v.y, v.z, 6], [0, v.y - 1, v.z + 14, 5], [0, v.y, v.z + 22, 4]]]
        yield Sketch(keys)


def discs(family: Family) -> Iterator[Sketch]:
    column = _vertebrae(family)[1:]
    balls = []
    for index, (upper, lower) in enumerate(pairwise(column)):
        top, bottom = upper.z - upper.half_height, lower.z + lower.half_height
        width, depth = (0.48 * (upper.half_width + lower.half_width), 0.48 * (upper.half_depth + lower.half_depth))
        half = max((top - bottom) / 2 + 1.5, 2)
        balls.append(
            [0, (upper.y + lower.y) / 2, (top + bottom) / 2, width, depth, half, _slope(column, index), 0, 0, 5]
        )
    balls.append([0, -82, 926, 24, 16, 6, 14, 0, 0, 5])
    yield Sketch({**family.keys, "balls": balls})


def spinal_cord(family: Family) -> Iterator[Sketch]:
    column = [v for v in _vertebrae(family) if v.level not in ("L2", "L3", "L4", "L5")]
    yield Sketch({**family.keys, "tubes": [[[0, v.canal_y, v.z, 5] for v in column]]})


def _rib_curve(family: Family, index: int) -> np.ndarray:
    """Centre line (n, 4) of the left rib `index` (0-11): from its vertebra back to the angle, then down and around."""
    z_back, z_front, end_deg, half = family.table["rib_cage"]["ribs"][index][:4]
    start_deg = 26.0
    angles = np.linspace(start_deg, end_deg, max(4, int((end_deg - start_deg) / 11)))
    falls = (np.cos(np.radians(start_deg)) - np.cos(np.radians(angles))) / (
        np.cos(np.radians(start_deg)) - np.cos(np.radians(max(end_deg, 60)))
    )
    around = [
        [*family.thorax.outline(z_back - (z_back - z_front) * fall, angle), z_back - (z_back - z_front) * fall, half]
        for angle, fall in zip(angles, falls, strict=True)
    ]
    vertebra = _vertebrae(family)[7 + index]
    side = vertebra.half_width + 3
    z_head = vertebra.z + 0.6 * vertebra.half_height
    head = [
        [side, vertebra.y + vertebra.half_depth - 3, z_head, half],
        [side + 12, vertebra.canal_y + 4, (z_head + z_back) / 2, half],
    ]
    return np.array(head + around)


RIB_METRIC = (1.0, 1.0, 0.72)  # ribs are taller than thick


def ribs(family: Family) -> Iterator[Sketch]:
    for side, sign in (("left", 1), ("right", -1)):
        for index in range(12):
            curve = _rib_curve(family, index) * [sign, 1, 1, 1]
            keys = {"name": f"rib_{side}_{index + 1}", "fill": "bone", "cortex_mm": 1.1, "tubes": [curve.tolist()]}
            yield Sketch({**keys, "one_side": True}, metric=RIB_METRIC)


def costal_cartilages(family: Family) -> Iterator[Sketch]:
    tubes = []
    for index, row in enumerate(family.table["rib_cage"]["ribs"]):
        if len(row) <= 4:
            continue
        end = _rib_curve(family, index)[-1]
        target = np.array([*row[4:7], end[3]])
        bend = 0.55 * end + 0.45 * target
        if index >= 4:  # the lower ones run on along the rib before they rise
            bend[2] = end[2] + 0.15 * (target[2] - end[2])
        on_chest = family.thorax.outline(bend[2], float(np.degrees(np.arctan2(bend[0], 105 + bend[1]))))
        bend[1] = min(bend[1], on_chest[1])
        tubes.append([end.tolist(), bend.tolist(), target.tolist()])
    yield Sketch({**family.keys, "pair_tubes": tubes}, metric=RIB_METRIC)


def small_bowel(family: Family) -> Iterator[Sketch]:
    """Loops swept to and fro through the middle of the abdomen."""
    points = []
    for row, z in enumerate(np.linspace(1020, 855, 7)):
        xs = np.linspace(-62, 62, 5) * (0.75 if z < 880 or z > 1000 else 1.0)
        for x in xs if row % 2 else xs[::-1]:
            jitter = family.random.normal(0, [5, 12, 8])
            points.append([x + jitter[0], np.clip(-146 + jitter[1], -172, -122), z + jitter[2], 13])
    yield Sketch({**family.keys, "tubes": [points]})


def bowel_gas(family: Family) -> Iterator[Sketch]:
    """Bubbles wherever the bowel happens to run through them."""
    colon = family.keys["within"] == ["colon"]
    count = int(family.random.integers(4, 9)) if colon else int(family.random.integers(3, 8))
    balls = []
    for _ in range(count):
        if colon:
            x = family.random.choice([-1, 1]) * family.random.uniform(60, 98)
            centre = [x, family.random.uniform(-125, -100), family.random.uniform(880, 1070)]
            if family.random.random() < 0.4:
                centre = [family.random.uniform(-60, 60), -168, family.random.uniform(1010, 1035)]
        else:
            centre = [family.random.uniform(-60, 60), -155, family.random.uniform(860, 1010)]
        balls.append([*centre, *family.random.uniform([10, 8, 10], [24, 14, 24])])
    yield Sketch({**family.keys, "balls": balls})


def lung_vessels(family: Family) -> Iterator[Sketch]:
    """Branches that fan out from the hila, halving in radius on the way."""
    tubes = []
    for side in (1, -1):
        hilum = np.array([side * 44.0, -86.0, 1262.0])
        for _ in range(26):
            angle = family.random.uniform(0, 2 * np.pi)
            z = family.random.uniform(1140, 1350)
            x, y = family.thorax.outline(z, float(np.degrees(angle)))
            end = np.array([side * (0.9 * abs(x) + 4), -100 + 0.88 * (y + 100), z])
            middle = hilum + 0.5 * (end - hilum) + family.random.normal(0, 8, 3)
            first = hilum + family.random.normal(0, 5, 3)
            radius = family.random.uniform(2.4, 4.2)
            tubes.append([[*first, radius], [*middle, 0.6 * radius], [*end, 0.7]])
            for fork in family.random.normal(0, 20, (2, 3)):
                tubes.append([[*middle, 0.5 * radius], [*(middle + 0.55 * (end - middle) + fork), 0.7]])
    yield Sketch({**family.keys, "tubes": tubes})


GENERATORS: dict[str, Callable[[Family], Iterator[Sketch]]] = {
    function.__name__: function
    for function in (vertebrae, discs, spinal_cord, ribs, costal_cartilages, small_bowel, bowel_gas, lung_vessels)
}

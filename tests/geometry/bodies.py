"""A body of straight bones, drawn as clouds of points, for the tests of views: every limb can be turned as a whole."""

import numpy as np

from fluorosam_cli.anatomy.structures import groups
from fluorosam_cli.geometry.positions import Anatomy, Position, joined


def cloud(low, high, count: int = 600) -> np.ndarray:
    """Points that fill a box of LPS mm evenly."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    steps = np.maximum(2, np.rint((high - low) * (count / np.prod(high - low)) ** (1 / 3)).astype(int))
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, steps, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def position(points: np.ndarray) -> Position:
    return Position(points.min(axis=0), points.max(axis=0), points)


def box(low, high) -> Position:
    return position(cloud(low, high))


def anatomy(positions: dict[str, Position], low: float = -np.inf, high: float = np.inf) -> Anatomy:
    """Structures with every group that has a member among them, named as those of a case are (`mask_outputs`)."""
    found = dict(positions)
    for group, members in groups().items():
        if parts := [positions[name] for name in dict.fromkeys((group, *members)) if name in positions]:
            found[group] = joined(parts)
    return Anatomy(found, (low, high))


# The left limbs of a standing person in the anatomical position: arm hanging, palm forward.
ARM = {
    "scapula": cloud((90, 10, 1230), (170, 20, 1370)),
    "humerus": np.concatenate([cloud((215, 0, 1060), (235, 20, 1330)), cloud((195, 5, 1050), (255, 20, 1070))]),
    "ulna": cloud((208, 2, 800), (220, 14, 1060)),
    "radius": cloud((236, 0, 800), (248, 12, 1045)),
    "carpal": cloud((208, 0, 775), (246, 14, 798)),
    "metacarpal": cloud((200, 2, 705), (255, 10, 773)),
    "phalanges_hand": np.concatenate(
        [cloud((200, 2, 620), (240, 10, 703)), cloud((265, -2, 690), (275, 8, 740), 60)]  # fingers, thumb
    ),
}
LEG = {
    "hip": cloud((20, -60, 820), (140, 60, 1030)),
    "femur": np.concatenate([cloud((85, -15, 480), (112, 15, 900)), cloud((60, -30, 460), (137, 30, 500))]),
    "patella": cloud((80, -55, 480), (117, -38, 520)),
    "tibia": np.concatenate([cloud((88, -12, 80), (110, 12, 420)), cloud((62, -25, 420), (135, 25, 455))]),
    "fibula": cloud((128, 14, 60), (140, 26, 430)),
    "tarsal": cloud((75, -60, 10), (125, 50, 60)),
    "metatarsal": np.concatenate([cloud((70, -130, 8), (128, -62, 20))]),
    "phalanges_feet": cloud((70, -180, 8), (128, -132, 18)),
}


def limb(bones: dict[str, np.ndarray], side: str = "left", turn: np.ndarray | None = None, shift=(0, 0, 0)):
    """The limb of one side, turned about the origin and moved; the right one is the left one's mirror image."""
    mirror = np.diag([1.0 if side == "left" else -1.0, 1.0, 1.0])
    turn = np.eye(3) if turn is None else turn
    return {f"{name}_{side}": position((points @ mirror) @ turn.T + shift) for name, points in bones.items()}

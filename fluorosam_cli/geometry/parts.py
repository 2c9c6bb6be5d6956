"""The frames of body parts: where a limb's own left, back and head-end point, however it lies in the scan.

A view of a limb is described on a person standing in the anatomical position (arms hanging, palms forward) and then
placed in the limb's frame, three unit vectors as the columns of a matrix (3, 3): to the body's left, to the back, and
up, as they are on that standing person. Each is found from the bones themselves: an axis through a long bone, and a
second direction from two neighbours (radius and ulna, tibia and fibula, patella and femur). The bones that tell a
direction may lie beyond the scan; then the part is taken to lie as in the supine body, its back towards +y.
"""

from collections.abc import Callable, Mapping

import numpy as np

from fluorosam_cli.geometry.positions import Position

Positions = Mapping[str, Position]
END_MM = 30.0  # of a long bone, what counts as its end
MIN_SHAFT_MM = 100.0  # a shorter piece of a long bone has no axis to trust
BACK = np.array([0.0, 1.0, 0.0])
UP = np.array([0.0, 0.0, 1.0])


def part_axes(part: str, side: str, positions: Positions) -> np.ndarray:
    """The frame of a part of the body, (3, 3); `side` is left, right, or empty for the body itself."""
    return PARTS[part](positions, side)


# --- the frames -------------------------------------------------------------------------------------------------------


def _body(positions: Positions, side: str) -> np.ndarray:
    return np.eye(3)


def _scapula(positions: Positions, side: str) -> np.ndarray:
    """Back: the normal of the blade, which faces 30 to 45 degrees outwards."""
    normal = _principal_axes(positions[f"scapula_{side}"].points)[2]
    return _frame(UP, back=normal if normal @ BACK > 0 else -normal, keep="back")


def _humerus(positions: Positions, side: str) -> np.ndarray:
    return _frame(_upper_arm(positions, side), left=_elbow_left(positions, side))


def _elbow(positions: Positions, side: str) -> np.ndarray:
    """Up: halfway between upper arm and forearm, so that a bent elbow is seen from the outside of the bend."""
    up = _upper_arm(positions, side) + _forearm_up(positions, side)
    return _frame(up, left=_elbow_left(positions, side))


def _forearm(positions: Positions, side: str) -> np.ndarray:
    return _frame(_forearm_up(positions, side), left=_from_ulna_to_radius(positions, side, "middle"))


def _hand(positions: Positions, side: str) -> np.ndarray:
    """Up: from the knuckles to the wrist. Back: the back of the hand, normal to the metacarpals' plane.

    Thumb and radius lie on one side; where the forearm is not in the scan, the thumb is known by its bones reaching
    farther back to the wrist than those of the fingers.
    """
    wrist, palm = positions[f"carpal_{side}"], positions[f"metacarpal_{side}"]
    up = wrist.centre - palm.centre
    across = _principal_axes(palm.points - np.outer((palm.points - palm.centre) @ _unit(up), _unit(up)))[0]
    left = _from_ulna_to_radius(positions, side, "bottom")
    if left is None and (fingers := positions.get(f"phalanges_hand_{side}")) is not None:
        near = fingers.points[_top(fingers.points @ _unit(up), 0.08)]
        left = _outwards(side) * (near.mean(axis=0) - fingers.centre)
    if left is None:
        return _frame(up)
    return _frame(up, left=across if across @ left > 0 else -across)


def _femur(positions: Positions, side: str) -> np.ndarray:
    return _frame(_thigh_up(positions, side), back=_knee_back(positions, side))


def _knee(positions: Positions, side: str) -> np.ndarray:
    return _frame(_leg_up(positions, side), back=_knee_back(positions, side))


def _ankle(positions: Positions, side: str) -> np.ndarray:
    """Left: the line through the malleoli, turned outwards by some 15 degrees against the foot."""
    tibia, fibula = positions[f"tibia_{side}"].points, positions.get(f"fibula_{side}")
    up = _leg_up(positions, side)
    if fibula is None:
        return _frame(up)
    return _frame(up, left=_outwards(side) * (_end(fibula.points, -up) - _end(tibia, -up)))


def _foot(positions: Positions, side: str) -> np.ndarray:
    """Back: from the metatarsals to the tarsus. Up: the back of the foot, where the shin bone is."""
    tarsus, toes = positions[f"tarsal_{side}"], positions[f"metatarsal_{side}"]
    back = tarsus.centre - toes.centre
    tibia = positions.get(f"tibia_{side}")
    up = _principal_axes(toes.points)[2]
    towards = UP if tibia is None else _end(tibia.points, -_leg_up(positions, side)) - tarsus.centre
    return _frame(up if up @ towards > 0 else -up, back=back, keep="back")


PARTS: dict[str, Callable[[Positions, str], np.ndarray]] = {
    "body": _body,
    "scapula": _scapula,
    "humerus": _humerus,
    "elbow": _elbow,
    "forearm": _forearm,
    "hand": _hand,
    "femur": _femur,
    "knee": _knee,
    "ankle": _ankle,
    "foot": _foot,
}


# --- what bones tell --------------------------------------------------------------------------------------------------


def _upper_arm(positions: Positions, side: str) -> np.ndarray:
    return _shaft(positions, f"humerus_{side}", [f"scapula_{side}"], [f"radius_{side}", f"ulna_{side}"])


def _forearm_up(positions: Positions, side: str) -> np.ndarray:
    return _shaft(positions, f"ulna_{side}", [f"humerus_{side}"], [f"carpal_{side}", f"metacarpal_{side}"])


def _thigh_up(positions: Positions, side: str) -> np.ndarray:
    return _shaft(positions, f"femur_{side}", [f"hip_{side}"], [f"patella_{side}", f"tibia_{side}"])


def _leg_up(positions: Positions, side: str) -> np.ndarray:
    return _shaft(positions, f"tibia_{side}", [f"femur_{side}", f"patella_{side}"], [f"tarsal_{side}"])


def _shaft(positions: Positions, bone: str, above: list[str], below: list[str]) -> np.ndarray:
    """Unit vector along a long bone towards the trunk; the body's own axis where too little of the bone is there."""
    points = positions[bone].points if bone in positions else np.zeros((1, 3))
    axis = _principal_axes(points)[0]
    along = (points - points.mean(axis=0)) @ axis
    trunkwards = UP
    for names, sign in ((below, -1), (above, 1)):
        for name in names:
            if name in positions:
                trunkwards = sign * (positions[name].centre - points.mean(axis=0))
    if np.ptp(along) < MIN_SHAFT_MM:
        return UP
    return axis if axis @ trunkwards > 0 else -axis


def _from_ulna_to_radius(positions: Positions, side: str, where: str) -> np.ndarray | None:
    """The body's left as the forearm shows it: the radius is on the thumb's side, which is the outer one.

    `where` is the level: `top` for the elbow, `bottom` for the wrist; between them lies the turn of the forearm.
    """
    if f"radius_{side}" not in positions or f"ulna_{side}" not in positions:
        return None
    up = _forearm_up(positions, side)
    radius, ulna = positions[f"radius_{side}"].points, positions[f"ulna_{side}"].points
    if where != "middle":
        direction = up if where == "top" else -up
        level = _end(radius, direction) @ up
        radius, ulna = (
            near if len(near) else bone
            for bone in (radius, ulna)
            for near in [bone[np.abs(bone @ up - level) < END_MM / 2]]
        )
    return _outwards(side) * (radius.mean(axis=0) - ulna.mean(axis=0))


def _elbow_left(positions: Positions, side: str) -> np.ndarray | None:
    """The line through the epicondyles, the widest of the humerus' lower end; the radius says which end is outside."""
    outside = _from_ulna_to_radius(positions, side, "top")
    if outside is None or f"humerus_{side}" not in positions:
        return outside
    up = _upper_arm(positions, side)
    points = positions[f"humerus_{side}"].points
    lower = points[points @ up < (points @ up).min() + 0.8 * END_MM]
    across = _principal_axes(lower - np.outer(lower @ up, up))[0]
    return across if across @ outside > 0 else -across


def _knee_back(positions: Positions, side: str) -> np.ndarray | None:
    """From the kneecap to the joint; by the tibia's upper end, because one condyle of the femur reaches lower."""
    patella, tibia = positions.get(f"patella_{side}"), positions.get(f"tibia_{side}")
    if patella is None or tibia is None:
        return None
    return _end(tibia.points, _leg_up(positions, side)) - patella.centre


# --- vectors ----------------------------------------------------------------------------------------------------------


def _frame(
    up: np.ndarray, left: np.ndarray | None = None, back: np.ndarray | None = None, keep: str = "up"
) -> np.ndarray:
    """Left, back, up as columns, right-handed; of the two given, `keep` stays as it is and the other gives way."""
    if left is not None:
        up = _unit(up)
        return _columns(_unit(left - (left @ up) * up), up)
    back = BACK if back is None else back
    if keep == "back":
        back = _unit(back)
        up = _unit(up - (up @ back) * back)
    else:
        up = _unit(up)
        if abs(_unit(back) @ up) > 0.98:  # a part that points forwards or backwards: its back is the body's upper side
            back = UP
        back = _unit(back - (back @ up) * up)
    return _columns(np.cross(back, up), up)


def _columns(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    return np.stack([left, np.cross(up, left), up], axis=1)


def _principal_axes(points: np.ndarray) -> np.ndarray:
    """Unit vectors as rows (3, 3), the direction of the largest spread first."""
    centred = points - points.mean(axis=0)
    return np.linalg.eigh(centred.T @ centred)[1].T[::-1]


def _end(points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The middle of that end of a bone which lies in this direction."""
    along = points @ _unit(direction)
    return points[along > along.max() - END_MM].mean(axis=0)


def _top(values: np.ndarray, share: float) -> np.ndarray:
    return values >= np.quantile(values, 1 - share)


def _outwards(side: str) -> float:
    """+1 where away from the midline is the body's left."""
    return 1.0 if side == "left" else -1.0


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)

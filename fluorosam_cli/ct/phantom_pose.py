"""What differs between two phantoms: size, posture, breath, fat; and how that moves a point of the parametric human.

Points are first moved with their body segment (head, arm, leg ...) about its joint, then the whole is scaled, bent
sideways and front to back along its height, and rolled about the vertical.
"""

from dataclasses import dataclass

import numpy as np

PIVOT = np.array([0.0, -90.0, 0.0])  # the roll's axis passes through the middle of the body
HEIGHT_MM = 1640.0

# joints of the left side (mm, the standing human); the right side's are their mirror images
NECK = (0.0, -80.0, 1460.0)
STERNOCLAVICULAR = (18.0, -134.0, 1349.0)
SCAPULA = (105.0, -35.0, 1320.0)
SHOULDER = (161.0, -72.0, 1325.0)
ELBOW = (213.0, -60.0, 1054.0)
HIP = (77.0, -91.0, 822.0)


@dataclass(frozen=True)
class Pose:
    """One phantom's body."""

    sex: str  # "female" or "male"
    scale_xyz: np.ndarray
    sideways_mm: np.ndarray  # (4,) amplitudes of sine waves along the height
    forward_mm: np.ndarray  # (4,)
    roll_deg: float
    breath_mm: float  # the diaphragm's travel, positive upwards
    fat_mm: float
    segments: dict[str, np.ndarray]  # (4, 4) per segment and side, of the standing human

    def bend(self, z: np.ndarray) -> np.ndarray:
        """Shift (n, 2) in x and y at heights z (n,) of the standing human."""
        waves = np.sin(np.pi * np.arange(1, 5)[:, None] * np.clip(z, 0, HEIGHT_MM) / HEIGHT_MM)
        return np.stack([self.sideways_mm @ waves, self.forward_mm @ waves], axis=1)

    def place(self, points: np.ndarray, segment: str = "trunk") -> np.ndarray:
        """Points (n, 3) of the standing human, in the phantom's world (LPS mm)."""
        points = np.atleast_2d(points)
        if segment in self.segments:
            points = points @ self.segments[segment][:3, :3].T + self.segments[segment][:3, 3]
        moved = points * self.scale_xyz
        moved[:, :2] += self.bend(points[:, 2])
        return (moved - PIVOT) @ turn(z_deg=self.roll_deg).T + PIVOT

    def jacobian(self, point: np.ndarray, segment: str) -> np.ndarray:
        """How `place` maps small vectors at a point: (3, 3)."""
        step = 0.5
        ends = self.place(np.vstack([point + step * np.eye(3), point - step * np.eye(3)]), segment)
        return ((ends[:3] - ends[3:]) / (2 * step)).T

    @property
    def size(self) -> float:
        return float(np.prod(self.scale_xyz) ** (1 / 3))


def turn(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> np.ndarray:
    """Rotation matrix (3, 3): about x, then y, then z."""
    (sx, sy, sz), (cx, cy, cz) = (f(np.radians([x_deg, y_deg, z_deg])) for f in (np.sin, np.cos))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _about(joint: tuple[float, float, float], rotation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.array(joint) - rotation @ np.array(joint)
    return matrix


def draw_pose(random: np.random.Generator) -> Pose:
    """One body, drawn from its own stream."""
    sex = "female" if random.random() < 0.5 else "male"
    overall = np.clip(random.normal(0.96 if sex == "female" else 1.02, 0.04), 0.9, 1.1)
    scale = np.clip(overall * random.normal(1, [0.03, 0.04, 0.03]), 0.88, 1.12)
    fat = float(np.clip(random.lognormal(np.log(16 if sex == "female" else 12), 0.45), 5, 38))
    raised = bool(random.random() < 0.45)
    segments = {"head": _about(NECK, turn(random.normal(0, 4), random.normal(0, 2.5), random.normal(0, 4)))}
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    for side in ("left", "right"):
        for name, matrix in _limbs(random, raised, fat).items():
            segments[f"{name}_{side}"] = matrix if side == "left" else mirror @ matrix @ mirror
    return Pose(
        sex=sex,
        scale_xyz=scale,
        sideways_mm=random.normal(0, [4.0, 3.0, 3.0, 2.0]),
        forward_mm=random.normal(0, [6.0, 4.0, 3.0, 2.0]),
        roll_deg=float(np.clip(random.normal(0, 2.5), -7, 7)),
        breath_mm=float(random.uniform(-18, 12)),
        fat_mm=fat,
        segments=segments,
    )


def _limbs(random: np.random.Generator, raised: bool, fat_mm: float) -> dict[str, np.ndarray]:
    """Segment matrices of the left limbs. Raising turns +x towards +z: a negative turn about y."""
    lift = random.uniform(24, 34) if raised else random.uniform(-3, 5)
    abduction = random.uniform(105, 124) if raised else random.uniform(-4, 7) + 0.22 * fat_mm - lift
    scapula = _about(SCAPULA, turn(y_deg=-lift))
    scapula[:3, 3] += [-0.25 * lift, 0, 0.15 * lift] if raised else [0, 0, 0]
    arm = scapula @ _about(SHOULDER, turn(x_deg=random.uniform(-8, 8), y_deg=-abduction))
    flexion = turn(x_deg=random.uniform(0, 25) * (1 if raised else 0.6), y_deg=-random.uniform(25, 70) if raised else 0)
    leg_turn = turn(random.normal(0, 1.5), -random.uniform(-2, 5), random.uniform(-6, 12))
    return {
        "clavicle": _about(STERNOCLAVICULAR, turn(y_deg=-(0.3 * lift if raised else lift))),
        "scapula": scapula,
        "girdle": _about((60.0, -60.0, 1350.0), turn(y_deg=-(0.7 * lift if raised else lift))),
        "arm": arm,
        "forearm": arm @ _about(ELBOW, flexion),
        "leg": _about(HIP, leg_turn),
    }

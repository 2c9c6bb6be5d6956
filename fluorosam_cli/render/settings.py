"""What decides a run's pictures: which views, which physics, which tools, and what is stored beside them."""

from dataclasses import dataclass

from fluorosam_cli.anatomy.tissues import tissues
from fluorosam_cli.contracts import IntegralsHeader
from fluorosam_cli.geometry.poses import Camera, poses_of
from fluorosam_cli.render import MIN_PATH_MM, display
from fluorosam_cli.render.materials import MATERIALS
from fluorosam_cli.render.projector import Interpolation
from fluorosam_cli.tools.catalogue import Tool


@dataclass(frozen=True)
class Aim:
    """Which views are taken."""

    views: int  # per case
    size_px: int
    names: tuple[str, ...] = ()  # of standard views; empty: all that are possible
    random_share: float | None = None  # None: RANDOM_SHARE; beside names none, or that of one name if `random` is one
    poses: tuple[Camera, ...] = ()  # these instead


@dataclass(frozen=True)
class Physics:
    """How they are projected and exposed. With `deepdrr`, DeepDRR makes the image, and `without` holds all of TERMS."""

    deepdrr: bool = False
    interpolation: Interpolation = "siddon"
    min_path_mm: float = MIN_PATH_MM
    contrast: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    style: display.Style | None = None  # None: drawn per view
    polarity: display.Polarity = "bone_bright"


@dataclass(frozen=True)
class Tooling:
    """Which tools may appear, and how many: each number from the lowest to the highest is as likely."""

    tools: tuple[Tool, ...] = ()
    per_view: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Extras:
    """What is stored beside image and masks."""

    raw: bool = False
    travel: bool = False
    integrals: IntegralsHeader | None = None


@dataclass(frozen=True)
class Settings:
    """What decides the pictures, besides the cases; `device` and `threads` only how fast they come."""

    seed: int
    aim: Aim
    physics: Physics = Physics()
    tooling: Tooling = Tooling()
    extras: Extras = Extras()
    deformations: int = 0  # of each case, beside the scan as it is; views are taken of each in turn
    device: str = "cpu"
    threads: int = 1

    def views_of(self, case: str) -> int:
        """How many views a case gets."""
        return len(poses_of(self.aim.poses, case)) if self.aim.poses else self.aim.views

    def pixels_of(self, case: str) -> int:
        """How many pixels they have together."""
        if not self.aim.poses:
            return self.aim.views * self.aim.size_px**2
        return sum(camera.detector_width_px * camera.detector_height_px for camera in poses_of(self.aim.poses, case))


def integrals_header(size_px: int, tooling: Tooling) -> IntegralsHeader:
    """What `--integrals` stores: every material of bodies and of the tools that may appear, every tissue group."""
    metals = {material for tool in tooling.tools for material in tool.materials.values()}
    return IntegralsHeader(
        size_px=size_px,
        materials=[*MATERIALS, *sorted(metals - set(MATERIALS))],
        tissues=list(tissues()),
    )

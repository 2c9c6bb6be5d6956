"""The contract of views: rendered X-rays with their masks."""

from typing import Literal

from fluorosam_cli.contracts.schema import BoxXYXY, Matrix3x3, Matrix4x4, Model, Sha256


class Rle(Model):
    """COCO compressed run-length code (column-major), as pycocotools reads and writes it."""

    size: tuple[int, int]  # rows, columns
    counts: str


class StructureMask(Model):
    name: str
    kind: Literal["structure", "group", "outline", "tool"]
    rle: Rle
    box_xyxy: BoxXYXY
    area_px: int
    truncated: list[Literal["detector", "scan"]]  # cut by the edge of the detector or field, by the scan's border


class Collimation(Model):
    shape: Literal["rectangle", "circle"]
    box_xyxy: tuple[float, float, float, float]  # edges of the field in pixels, beyond the image where none is in it


class Look(Model):
    """How the image was processed for display; `render/display.py` says what the numbers do."""

    style: Literal["plain", "vendor", "clahe"]
    detail: float
    evening: float
    grey: float
    curve: float
    latitude: tuple[float, float]
    masked: bool  # what the collimator covers is black


class ViewTool(Model):
    """A tool in the beam: what it is and where; its mask is a `StructureMask` of kind `tool`."""

    name: str
    family: str
    placement: str
    structure: str | None  # the one it was placed in
    world_from_tool: Matrix4x4 | None = None  # LPS mm; a reflection where a left one was made from a right one
    centre_line_lps_mm: list[tuple[float, float, float]] | None = None  # of a flexible tool, from its tip outward


class View(Model):
    """One line of `views.jsonl`."""

    case: str
    index: int
    image: str
    width: int
    height: int
    view: str  # "chest_pa", "knee_lateral_left", "random", ..., or the name of a pose
    seed: list[int]
    positioner_primary_angle_deg: float
    positioner_secondary_angle_deg: float
    source_to_detector_mm: float
    source_to_isocenter_mm: float
    pixel_spacing_mm: float
    image_rotation_deg: float = 0.0  # of the image's top against the head's direction
    deformation: int = 0  # number of the deformed body that was rendered, 0: the scan as it is
    nearest_mm: float = 0.0  # depths from the source between which the body is in the beam
    farthest_mm: float | None = None
    intrinsic: Matrix3x3
    camera_from_world: Matrix4x4
    kvp: float
    mas: float
    filtration_mm_al: float
    filtration_mm_cu: float = 0.0
    grid_ratio: float = 0.0  # 0: no grid
    focal_spot_mm: float = 0.0
    anode_side: Literal["left", "right", "top", "bottom"] | None = None  # of the image, weakened by the heel
    flat_fielded: bool = True
    collimation: Collimation | None = None
    look: Look | None = None  # None: the raw intensity
    raw: str | None = None  # file of the intensity at the detector as a share of the open beam, 32-bit TIFF
    integrals: str | None = None  # file of what the rays crossed, at the size in `Views.integrals`
    travel: str | None = None  # file of the path length through every structure, at full size
    tools: list[ViewTool] = []
    structures: list[StructureMask]


class Projector(Model):
    name: str
    version: str
    interpolation: Literal["siddon", "joseph"]
    min_path_mm: float
    materials: list[str]


class IntegralsHeader(Model):
    """What the files named in `View.integrals` hold; `render/integrals.py` writes and reads them."""

    size_px: int  # the longer side
    materials: list[str]
    tissues: list[str]


class ViewsCase(Model):
    name: str
    case_sha256: Sha256  # of the scan that the case was made from, whatever it is called
    views: int
    segmenter: str = ""  # who drew the labels, and of which task: as in case.json
    task: str = ""
    structures: list[str] = []  # that the labels hold


class Views(Model):
    format: Literal["fluoro.views/1"] = "fluoro.views/1"
    views: str = "views.jsonl"
    count: int
    seed: int
    bits: Literal[16] = 16
    polarity: Literal["bone_bright", "bone_dark"]
    projector: Projector
    contrast: list[str] = []  # structures filled with contrast agent
    without: list[str] = []  # terms of the physics left out
    integrals: IntegralsHeader | None = None
    cases: list[ViewsCase]

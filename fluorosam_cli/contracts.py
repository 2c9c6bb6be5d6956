"""The schema of every artefact: what the JSON files between the stages contain.

Each artefact is a folder with one JSON header whose first field is `format`, for example `fluoro.views/1`. Units stand
in field names; coordinates are LPS millimetres in the world and `(x, y)` pixels in images, with pixel centres at
integers and boxes inclusive-exclusive. The JSON Schema of each model is a golden file in `tests/golden`: a change of
meaning raises the number after the slash.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Matrix3x3 = list[list[float]]
Matrix4x4 = list[list[float]]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Split = Literal["train", "val", "test"]
BoxXYXY = tuple[int, int, int, int]


class Model(BaseModel):
    """Strict about names, so that a misspelt or newer field is an error and never silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- case: one CT with its labels -------------------------------------------------------------------------------------


class Segmenter(Model):
    name: str  # "TotalSegmentator", "imported", "phantom"
    version: str
    task: str
    source_sha256: Sha256 | None = None  # of the imported labels (of several files: of their digests in order)


class CaseStructure(Model):
    label_id: int = Field(ge=1, le=65535)
    name: str
    snomed_ct: str | None
    volume_ml: float
    cut_by: list[Literal["superior", "inferior", "left", "right", "anterior", "posterior"]]  # borders of the scan


class Finding(Model):
    gate: Literal["structures", "volume", "side", "order", "fit"]
    structure: str | None
    text: str  # what a person has to look at


class CaseQuality(Model):
    suspicious: bool
    findings: list[Finding]
    body_ml: float  # denser than -400 HU
    table_ml: float  # of that density, outside the body and set to air
    metal_ml: float  # at 3000 HU or more: metal, or undiluted contrast medium


class Case(Model):
    format: Literal["fluoro.case/1"] = "fluoro.case/1"
    name: str
    ct: str = "ct.nii.gz"
    labels: str = "labels.nii.gz"
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    world_from_voxel: Matrix4x4  # LPS mm from voxel (x, y, z)
    source_sha256: Sha256
    ct_sha256: Sha256
    labels_sha256: Sha256
    segmenter: Segmenter
    structures: list[CaseStructure]
    quality: CaseQuality | None = None


# --- views: rendered X-rays with their masks --------------------------------------------------------------------------


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
    view: str  # "pa", "ap", "lateral_left", "random", ...
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
    case_sha256: Sha256
    views: int


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


# --- descriptions: words for structures -------------------------------------------------------------------------------

PhraseKind = Literal["official", "name", "synonym", "lay", "latin", "abbreviation", "variant", "phrase", "relation"]


class Description(Model):
    """One line of `descriptions.jsonl`."""

    name: str  # structure, group or tool
    text: str
    kind: PhraseKind
    split: Literal["train", "test"]
    source: Literal["lexicon", "template", "llm"]
    model: str | None = None
    prompt_sha256: Sha256 | None = None


class Descriptions(Model):
    format: Literal["fluoro.descriptions/1"] = "fluoro.descriptions/1"
    descriptions: str = "descriptions.jsonl"
    count: int
    names: int
    seed: int


# --- shards: what training reads --------------------------------------------------------------------------------------


class Shard(Model):
    file: str
    split: Split
    images: int
    masks: int
    sha256: Sha256


class ShardsPhrase(Model):
    structure: str
    text: str
    split: Literal["train", "test"]


class Shards(Model):
    format: Literal["fluoro.shards/1"] = "fluoro.shards/1"
    size_px: int
    polarity: Literal["bone_bright", "bone_dark"]
    structures: list[str]  # masks refer to this list by position
    cases: dict[str, Split]
    phrases: list[ShardsPhrase]
    integrals: IntegralsHeader | None = None  # what the images' integrals hold, where they have any
    shards: list[Shard]


# --- checkpoint -------------------------------------------------------------------------------------------------------


class ModelConfig(Model):
    """Everything that decides the network's shape: `model.FluoroSAM(config)` rebuilds it without the weights."""

    preset: str
    backbone: str
    image_size_px: int
    grid_px: int  # side of the image embedding
    embedding_dim: int
    neck_dim: int
    neck_blocks: int = 3
    detail_dim: int = 0  # channels of features at 4 x the grid that reach the decoder; 0: none, as in the paper
    upscale_stages: int  # each doubles the resolution of the mask logits
    decoder_depth: int
    decoder_heads: int
    decoder_mlp_dim: int
    text_dim: int
    text_hidden_dim: int
    codebook_size: int  # 0: no quantiser
    text_map: bool  # a first mask from words goes to the decoder as its mask prompt; needs detail_dim
    travel: bool = False  # the decoder also predicts the path length inside the structure
    adapters: bool = False  # small trainable layers behind every block of the backbone


class TextEncoderConfig(Model):
    name: str  # "minilm", "open_clip:ViT-B-32:..."
    revision: str
    dim: int


class WordsHeader(Model):
    """A text head that has learnt its words and has seen no image."""

    format: Literal["fluoro.words/1"] = "fluoro.words/1"
    text_encoder: TextEncoderConfig
    weights: str = "words.safetensors"
    weights_sha256: Sha256
    names: list[str]  # the quantiser's code i belongs to names[i % len(names)]
    scores: dict[str, float]


class Checkpoint(Model):
    format: Literal["fluoro.checkpoint/1"] = "fluoro.checkpoint/1"
    model: ModelConfig
    text_encoder: TextEncoderConfig
    weights: str = "model.safetensors"
    weights_sha256: Sha256
    step: int
    seed: int
    structures: list[str]  # what the model was trained to find
    shards_sha256: Sha256
    metrics: dict[str, float]
    training: dict[str, object] = {}  # how it was trained: recipe, rates, batch


# --- metrics and predictions ------------------------------------------------------------------------------------------


class Estimate(Model):
    mean: float
    ci95_low: float
    ci95_high: float
    count: int


class MaskScores(Model):
    """How well a set of masks was found; None where nothing was measured."""

    masks: int
    iou: Estimate | None  # of the mask with the highest predicted IoU
    dice: Estimate | None
    nsd: Estimate | None  # share of both outlines within `Metrics.nsd_tolerance` of the other
    hd95: Estimate | None  # in `Metrics.surface_unit`


class StructureScores(Model):
    structure: str
    prompt: str
    mean_area_px: float
    scores: MaskScores


class PartScores(Model):
    """Means over the structures of a group or a region of the body, or over those of one view."""

    of: Literal["group", "region", "view"]
    name: str
    prompt: str
    scores: MaskScores


class PromptScores(Model):
    prompt: str  # "text", "text+1", ..., "points+1", ..., "box", "box+1", ...
    over_structures: MaskScores  # each structure counts once, however often it is seen
    over_samples: MaskScores  # each mask counts once
    oracle_iou: float | None  # over structures; best of the alternatives by comparing with the truth, reported apart


class ClicksNeeded(Model):
    """Clicks until the IoU reaches a goal (NoC); a mask that never does counts as `cap`."""

    start: Literal["text", "points", "box"]
    goal_iou: float
    cap: int
    clicks: Estimate  # over structures
    failed: float  # share of masks that never do


class PresenceScores(Model):
    present: int  # phrases of structures that are in the image
    absent: int
    auroc: float | None
    threshold: float
    false_positive_rate: float  # share of absent ones called present
    true_positive_rate: float


class ParaphraseScores(Model):
    """The same mask asked for with several held-out phrases."""

    masks: int
    phrases: float  # of each mask, on average
    iou: Estimate  # over structures
    range: Estimate  # highest less lowest IoU
    sd: Estimate


class EvaluatedModel(Model):
    kind: Literal["fluoro", "sam", "medsam", "sam-med2d", "onnx"]
    name: str
    sha256: Sha256  # of the checkpoint's header, or of the weights
    takes: list[Literal["text", "points", "box", "mask"]]  # prompts it understands; others are left out


class EvaluatedData(Model):
    kind: Literal["shards", "images"]
    sha256: Sha256
    split: Split | None
    images: int
    cases: int
    images_held: int  # in the split or folder; more than `images` under --limit
    unknown_names: dict[str, int] = {}  # of masks that no structure could be found for
    problems: list[str] = []  # masks and images that could not be used


class Metrics(Model):
    format: Literal["fluoro.metrics/1"] = "fluoro.metrics/1"
    model: EvaluatedModel
    data: EvaluatedData
    phrases: Literal["train", "test", "all", "file"]
    samples: str = "samples.csv"
    report: str = "report.html"
    bootstrap_over: Literal["cases", "images"]
    surface_unit: Literal["mm", "px"]  # mm in the plane of the detector
    nsd_tolerance: float
    prompts: list[PromptScores]
    structures: list[StructureScores]
    parts: list[PartScores]
    clicks_needed: list[ClicksNeeded]
    presence: PresenceScores | None
    paraphrases: ParaphraseScores | None
    largest_ten_text_iou: float | None


class PairedScores(Model):
    prompt: str
    metric: Literal["iou", "dice", "nsd", "hd95"]
    masks: int  # that both have
    a: float  # mean over structures
    b: float
    difference: Estimate  # b - a, mean over structures


class Comparison(Model):
    format: Literal["fluoro.comparison/1"] = "fluoro.comparison/1"
    a: EvaluatedModel
    b: EvaluatedModel
    data: EvaluatedData
    report: str = "report.html"
    bootstrap_over: Literal["cases", "images"]
    prompts: list[PairedScores]
    structures: dict[str, list[PairedScores]]
    only_a: int  # rows without a partner
    only_b: int


class PredictedMask(Model):
    prompt: int  # position in `prompts`
    structure: str | None  # what the phrase was understood as
    understood: Literal["known", "respelt", "ambiguous", "unknown"] | None = None  # how; None without a phrase
    asked: str | None = None  # the words the network was given
    mask: str
    score: float  # predicted IoU
    presence: float | None  # probability that it is in the image; None without a phrase
    rle: Rle
    box_xyxy: BoxXYXY | None
    area_px: int
    area_mm2: float | None = None  # in the plane that `spacing_plane` names


class Prompt(Model):
    text: str | None = None
    points_xy: list[tuple[float, float]] = []
    point_labels: list[Literal[0, 1]] = []
    box_xyxy: tuple[float, float, float, float] | None = None
    mask: str | None = None  # file of a mask of the image's size, beside the file that names it


class Prompts(Model):
    """What `predict --prompts` reads; a list of its prompts alone is read as well."""

    format: Literal["fluoro.prompts/1"] = "fluoro.prompts/1"
    prompts: list[Prompt]


class Prediction(Model):
    format: Literal["fluoro.prediction/1"] = "fluoro.prediction/1"
    image: str
    image_sha256: Sha256
    frame: int = 1  # of a film, counted from 1
    frames: int = 1
    width: int
    height: int
    polarity: Literal["bone_bright", "bone_dark"] = "bone_bright"  # as a viewer shows it
    polarity_from: Literal["header", "detected", "option"] = "detected"
    pixel_spacing_mm: tuple[float, float] | None = None  # between rows, between columns
    spacing_plane: Literal["detector", "patient", "unknown"] | None = None  # where that, and so areas, are measured
    checkpoint_sha256: Sha256
    overlay: str = "overlay.png"
    files: list[str] = []  # the same masks in other formats
    prompts: list[Prompt]
    masks: list[PredictedMask]
    absent: dict[str, float] = {}  # presence of the structures that `--all` did not find


class OnnxTensor(Model):
    name: str
    type: str
    shape: list[int | str]  # a word for a length that the caller chooses


class OnnxNetwork(Model):
    file: str
    sha256: Sha256
    inputs: list[OnnxTensor]
    outputs: list[OnnxTensor]


class OnnxPhrase(Model):
    """A row of the table of text features."""

    text: str
    structure: str


class Onnx(Model):
    """What `export --onnx` writes; docs/onnx.md says how to use it."""

    format: Literal["fluoro.onnx/1"] = "fluoro.onnx/1"
    checkpoint_sha256: Sha256
    image_size_px: int  # of the encoder's square
    mask_input_px: int
    logits_px: int
    text_encoder: TextEncoderConfig
    text_features: str  # file: float32, little endian, a row of `text_encoder.dim` for each phrase
    phrases: list[OnnxPhrase]
    encoder: OnnxNetwork
    decoder: OnnxNetwork


# --- run: how an output came about ------------------------------------------------------------------------------------


class Run(Model):
    """Written by every stage beside its header; only here may a resumed run differ from an unbroken one."""

    format: Literal["fluoro.run/1"] = "fluoro.run/1"
    stage: str
    status: Literal["running", "done", "failed", "interrupted"]
    argv: list[str]
    versions: dict[str, str]
    commit: str | None
    device: str
    seed: int
    config: dict[str, object]
    inputs_sha256: dict[str, Sha256]
    done: int
    skipped: int
    failed: list[str]
    seconds: float


ARTEFACTS: dict[str, type[Model]] = {
    "case.json": Case,
    "views.json": Views,
    "descriptions.json": Descriptions,
    "shards.json": Shards,
    "words.json": WordsHeader,
    "checkpoint.json": Checkpoint,
    "metrics.json": Metrics,
    "comparison.json": Comparison,
    "prompts.json": Prompts,
    "prediction.json": Prediction,
    "onnx.json": Onnx,
    "run.json": Run,
}

"""The contracts of evaluations and of their comparisons."""

from typing import Literal

from fluorosam_cli.contracts.schema import Model, Sha256, Split


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
    oracle_iou: float | None  # over structures; best of all masks by comparing with the truth, reported apart


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
    surface_unit: Literal["mm", "px"]  # mm by the pixel spacing of the images, as a rule in the plane of the detector
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

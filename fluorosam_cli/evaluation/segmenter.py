"""What is evaluated: our checkpoints and other people's weights, behind one pair of calls."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np

from fluorosam_cli.contracts import EvaluatedModel
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.prediction.predictor import ImagePrompt, PredictedMasks, Predictor

Takes = Literal["text", "points", "box", "mask"]
Kind = Literal["fluoro", "sam", "medsam", "sam-med2d", "onnx"]
EXAMPLES = "sam:vit_b:sam_vit_b_01ec64.pth, medsam:medsam_vit_b.pth, sam-med2d:sam-med2d_b.pth or onnx:model.onnx"
NO_FLUOROSAM = (
    "fluorosam: its weights have no published format but code under a non-commercial licence, so they are not read",
    "export them to one ONNX file with its own code, and give --model onnx:PATH",
)


@dataclass(frozen=True)
class DrawnMasks:
    """What a network that is not ours answers, as `PredictedMasks`."""

    masks: np.ndarray  # (M, H, W) bool at the image's own size
    ious: np.ndarray  # (M,) predicted
    presence: float  # NaN where the model does not tell
    best: int
    logits: np.ndarray  # (M, h, w), one of which can be fed back

    @property
    def mask(self) -> np.ndarray:
        return self.masks[self.best]

    @property
    def iou(self) -> float:
        return float(self.ious[self.best])


Answer = PredictedMasks | DrawnMasks


class Segmenter(Protocol):
    """As `Predictor`: encode an image once, then answer prompts, each as if it were asked alone."""

    def set_image(self, image: np.ndarray) -> object: ...

    def predict_batch(self, prompts: Sequence[ImagePrompt]) -> Sequence[Answer]: ...


def load_segmenter(model: str, device: str) -> tuple[Segmenter, EvaluatedModel]:
    """`builtin`, a checkpoint or run folder, or `KIND:[SIZE:]PATH` of other people's weights.

    Raises FluoroError when it is not there or not what it says, UsageError for an unknown kind.
    """
    kind, path = split_model(model)
    if kind == "fluoro":
        predictor = Predictor.from_checkpoint(model, device)
        header = predictor.checkpoint
        name = f"{header.model.preset}, step {header.step}"
        return predictor, _described(kind, name, predictor.checkpoint_sha256, ["text", "points", "box", "mask"])
    size, _, file = path.rpartition(":") if re.match(r"vit_\w+:", path) else ("", "", path)
    if not Path(file).is_file():
        raise FluoroError(f"{file}: no such file", f"give weights as {EXAMPLES}")
    if kind == "onnx":
        from fluorosam_cli.evaluation.baselines.onnx import OnnxSegmenter

        found = OnnxSegmenter(Path(file), device)
    else:
        from fluorosam_cli.evaluation.baselines.sam import SamSegmenter

        found = SamSegmenter(Path(file), cast(Literal["sam", "medsam", "sam-med2d"], kind), size, device)
    return found, _described(kind, found.name, found.sha256, found.takes)


def split_model(model: str) -> tuple[Kind, str]:
    """`sam:vit_b:x.pth` -> ("sam", "vit_b:x.pth"); what has no such prefix is a checkpoint of ours."""
    kind, colon, rest = model.partition(":")
    if kind == "fluorosam" and colon:
        raise FluoroError(*NO_FLUOROSAM)
    if colon and kind in ("sam", "medsam", "sam-med2d", "onnx"):
        return kind, rest
    if colon and not Path(model).exists() and re.fullmatch(r"[\w-]{2,}", kind):
        raise UsageError(f"--model {model}: {kind} is not a kind of weights that is known", f"give {EXAMPLES}")
    return "fluoro", model


def _described(kind: Kind, name: str, sha256: str, takes: list[Takes]) -> EvaluatedModel:
    return EvaluatedModel(kind=kind, name=name, sha256=sha256, takes=takes)

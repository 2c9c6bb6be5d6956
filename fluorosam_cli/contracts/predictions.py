"""The contracts of predictions, of prompts in a file, and of exported networks."""

from typing import Literal

from fluorosam_cli.contracts.checkpoints import TextEncoderConfig
from fluorosam_cli.contracts.schema import BoxXYXY, Model, Sha256
from fluorosam_cli.contracts.views import Rle


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
    remarks: list[str] = []  # what of the image may make its masks other than expected: a mirrored film, odd bits
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
    text: str
    structure: str
    row: int  # of the table of tokens; phrases of one structure mostly share theirs


class Onnx(Model):
    """What `export --onnx` writes; docs/onnx.md says how to use it."""

    format: Literal["fluoro.onnx/1"] = "fluoro.onnx/1"
    checkpoint_sha256: Sha256
    image_size_px: int  # of the encoder's square
    mask_input_px: int
    logits_px: int
    text_encoder: TextEncoderConfig
    tokens: str  # file: float32, little endian, rows of `token_dim`
    token_dim: int
    phrases: list[OnnxPhrase]
    encoder: OnnxNetwork
    decoder: OnnxNetwork

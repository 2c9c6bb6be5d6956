"""The schema of every artefact: what the JSON files between the stages contain.

Each artefact is a folder with one JSON header whose first field is `format`, for example `fluoro.views/1`. Units stand
in field names; coordinates are LPS millimetres in the world and `(x, y)` pixels in images, with pixel centres at
integers and boxes inclusive-exclusive. The JSON Schema of each model is a golden file in `tests/golden`: a change of
meaning raises the number after the slash.
"""

from fluorosam_cli.contracts.cases import Case, CaseQuality, CaseStructure, Finding, Segmenter
from fluorosam_cli.contracts.checkpoints import Checkpoint, ModelConfig, TextEncoderConfig, WordsHeader
from fluorosam_cli.contracts.descriptions import Description, Descriptions, PhraseKind
from fluorosam_cli.contracts.metrics import (
    ClicksNeeded,
    Comparison,
    Estimate,
    EvaluatedData,
    EvaluatedModel,
    MaskScores,
    Metrics,
    PairedScores,
    ParaphraseScores,
    PartScores,
    PresenceScores,
    PromptScores,
    StructureScores,
)
from fluorosam_cli.contracts.predictions import (
    Onnx,
    OnnxNetwork,
    OnnxPhrase,
    OnnxTensor,
    PredictedMask,
    Prediction,
    Prompt,
    Prompts,
)
from fluorosam_cli.contracts.run import Run
from fluorosam_cli.contracts.schema import BoxXYXY, Matrix3x3, Matrix4x4, Model, Sha256, Split
from fluorosam_cli.contracts.shards import Shard, Shards, ShardsPhrase
from fluorosam_cli.contracts.views import (
    Collimation,
    IntegralsHeader,
    Look,
    Projector,
    Rle,
    StructureMask,
    View,
    Views,
    ViewsCase,
    ViewTool,
)

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

__all__ = [
    "ARTEFACTS",
    "BoxXYXY",
    "Case",
    "CaseQuality",
    "CaseStructure",
    "Checkpoint",
    "ClicksNeeded",
    "Collimation",
    "Comparison",
    "Description",
    "Descriptions",
    "Estimate",
    "EvaluatedData",
    "EvaluatedModel",
    "Finding",
    "IntegralsHeader",
    "Look",
    "MaskScores",
    "Matrix3x3",
    "Matrix4x4",
    "Metrics",
    "Model",
    "ModelConfig",
    "Onnx",
    "OnnxNetwork",
    "OnnxPhrase",
    "OnnxTensor",
    "PairedScores",
    "ParaphraseScores",
    "PartScores",
    "PhraseKind",
    "PredictedMask",
    "Prediction",
    "PresenceScores",
    "Projector",
    "Prompt",
    "PromptScores",
    "Prompts",
    "Rle",
    "Run",
    "Segmenter",
    "Sha256",
    "Shard",
    "Shards",
    "ShardsPhrase",
    "Split",
    "StructureMask",
    "StructureScores",
    "TextEncoderConfig",
    "View",
    "ViewTool",
    "Views",
    "ViewsCase",
    "WordsHeader",
]

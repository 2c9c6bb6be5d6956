"""What all contracts share: strict models, and types that several of them use."""

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

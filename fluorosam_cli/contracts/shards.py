"""The contract of shards: what training reads."""

from typing import Literal

from fluorosam_cli.contracts.schema import Model, Sha256, Split
from fluorosam_cli.contracts.views import IntegralsHeader


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

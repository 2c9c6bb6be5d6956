"""The contract of descriptions: words for structures."""

from typing import Literal

from fluorosam_cli.contracts.schema import Model, Sha256

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

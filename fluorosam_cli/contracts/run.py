"""The contract of `run.json`: how an output came about."""

from typing import Literal

from fluorosam_cli.contracts.schema import Model, Sha256


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

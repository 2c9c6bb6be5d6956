"""What a training run is told, and what can be refused before a process is started."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch

from fluorosam_cli.dataset.randomisation import Strength
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.training.devices import Devices, cores_each
from fluorosam_cli.training.logs import check_tensorboard
from fluorosam_cli.training.recipe import FLUORO, Recipe
from fluorosam_cli.training.start import Origin, check_origin, config_of

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class TrainSettings:
    origin: Origin = field(default_factory=Origin)
    recipe: Recipe = FLUORO
    steps: int = 1000
    batch: int = 16  # global: over all processes and micro-batches
    micro_batch: int | None = None  # images at once in each process; None: its whole share of the batch
    prompts: int = 4  # per image, through the decoder
    map_prompts: int = 28  # per image, through the text map alone (where the preset has one)
    augment: Strength = "full"
    exclude: tuple[str, ...] = ()  # structures neither shown nor named, unless within a group that has them
    validations: int = 10
    validation_images: int = 32
    patience: int | None = None  # validations without a better one before training stops
    precision: Literal["bf16", "fp32"] = "fp32"
    compile: bool = False
    workers: int | None = None  # loader processes of each process; None: what the free cores allow
    tensorboard: bool | None = None  # None: where it is installed
    seed: int = 0

    def record(self) -> dict[str, object]:
        """For the checkpoint's header: what decides the weights, files by their names alone."""
        origin = {name: value.name if isinstance(value, Path) else value for name, value in asdict(self.origin).items()}
        here = {"compile", "workers", "tensorboard", "origin"}
        return origin | {name: value for name, value in asdict(self).items() if name not in here}


def check(shards: Path, settings: TrainSettings, devices: Devices) -> ShardReader:
    """Raises FluoroError for whatever cannot work; returns the training split."""
    if settings.batch % devices.world:
        raise UsageError(
            f"--batch {settings.batch} cannot be split over {devices.world} processes", "choose a multiple of --gpus"
        )
    if not settings.prompts and not config_of(settings.origin).text_map:
        raise UsageError(f"--prompts 0: {settings.origin.preset} has no text map to train alone", "give at least 1")
    check_tensorboard(settings.tensorboard)
    reader, validation = ShardReader(shards, "train"), ShardReader(shards, "val")
    if not len(reader):
        raise FluoroError(f"{shards}: no training images", "pack more cases, or give --val and --test smaller shares")
    if settings.patience is not None and not len(validation):
        raise UsageError(f"--patience: {shards} has no validation images", "leave it out, or pack with --val 0.05")
    for shard in (*reader.shards, *validation.shards):
        if not (shards / shard.file).is_file():
            raise FluoroError(f"{shards / shard.file}: not found", "copy the whole folder")
    for split in filter(len, (reader, validation)):
        split[len(split) - 1]
    unknown = sorted(set(settings.exclude) - set(reader.header.structures))
    if unknown:
        raise UsageError(
            f"--exclude-structures {unknown[0]}: not a structure of {shards}",
            f"fluoro info shows them: {_some(reader)}",
        )
    if not set(reader.header.structures) - set(settings.exclude):
        raise UsageError("--exclude-structures: nothing is left to train", "exclude fewer")
    if settings.origin.travel and not reader.has_travel():
        raise FluoroError(f"--travel: {shards} has no path lengths", "fluoro render --travel, then pack again")
    check_origin(settings.origin)
    return reader


def _some(reader: ShardReader) -> str:
    return ", ".join(reader.header.structures[:5]) + " ..."


def excluded(names: Sequence[str] | None) -> tuple[str, ...]:
    """`a,b`, repeated or not, or files with one name a line -> sorted names."""
    found: set[str] = set()
    for word in names or ():
        is_file = os.path.isfile(word)  # Path.is_file raises where a list is too long for a name
        lines = Path(word).read_text(encoding="utf-8-sig").splitlines() if is_file else word.split(",")
        found |= {line.strip() for line in lines if line.strip()}
    return tuple(sorted(found))


def choose_precision(wanted: Precision, kind: str) -> Literal["bf16", "fp32"]:
    """bf16 where the hardware multiplies it: GPUs from Ampere on, CPUs with AMX or AVX-512 BF16; else fp32."""
    if wanted != "auto":
        return wanted
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch does not tell
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


def choose_workers(wanted: int | None, devices: Devices) -> int:
    """Loader processes for each training process: on a CPU only on cores that the training itself leaves free."""
    if wanted is not None:
        return wanted
    cores = cores_each(devices)
    return min(8, cores) if devices.kind == "cuda" else min(4, max(0, cores - torch.get_num_threads()))

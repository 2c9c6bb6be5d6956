"""The `train` stage: words first, then masks, on one CPU or several devices.

`launch` teaches the words and starts one process per device; every process runs `_train`. Samples depend on (seed,
step) alone and losses are sums over a fixed number of prompts, so two processes with global batch B follow one process
with batch B, and a resumed run continues bit for bit on the same machine.
"""

import csv
import logging
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fluorosam_cli.artefacts import Track, atomic_path, sha256_of, silent
from fluorosam_cli.contracts import ModelConfig, TextEncoderConfig
from fluorosam_cli.dataset.loader import Positions, SampleConfig, TrainingSamples
from fluorosam_cli.dataset.shards import HEADER, ShardReader
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.model.checkpoint import save_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.text.encoder import load_text_encoder
from fluorosam_cli.training.objective import Objective, draws_per_prompt
from fluorosam_cli.training.validate import text_iou
from fluorosam_cli.training.words import train_words

log = logging.getLogger("fluoro")

WARM_UP_SHARE = 0.05
WEIGHT_DECAY = 0.05
CLIP_NORM = 1.0
EMA_DECAY = 0.999
LOG_COLUMNS = ("step", "loss", "mask", "iou", "presence", "first_iou", "learning_rate", "validation_text_iou")


@dataclass(frozen=True)
class TrainSettings:
    preset: str = "small"
    text_encoder: str = "minilm"
    quantise: bool = True
    steps: int = 1000
    batch: int = 16  # global: over all processes
    prompts: int = 4  # per image, through the decoder
    map_prompts: int = 28  # per image, through the text map alone (where the preset has one)
    rounds: int = 2
    learning_rate: float = 8e-4  # FluoroSAM's, at batch 16
    absent_share: float = 0.1
    validations: int = 10
    validation_images: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Devices:
    """`world` processes, on CUDA devices 0 .. world - 1 or on the CPU."""

    kind: str
    world: int


def choose_devices(gpus: int | None, device: str) -> Devices:
    """What `--gpus` and `--device` mean here. Raises FluoroError when the GPUs asked for are not there."""
    found = torch.cuda.device_count()
    if device == "cpu" or gpus == 0:
        return Devices("cpu", max(1, gpus or 1))
    wanted = gpus if gpus is not None else min(1, found) if device == "auto" else 1
    if wanted == 0:
        return Devices("cpu", 1)
    if wanted > found:
        asked = f"--gpus {wanted}" if gpus is not None else f"--device {device}"
        raise FluoroError(
            f"{found or 'no'} CUDA device{'s' if found > 1 else ''}; {asked} was requested",
            f"use --gpus {found}, or --device cpu to run {wanted} process{'es' if wanted > 1 else ''} on the CPU",
        )
    return Devices("cuda", wanted)


def check(shards: Path, settings: TrainSettings, devices: Devices) -> ShardReader:
    """Everything that can be refused before a process is started; returns the training split."""
    if settings.batch % devices.world:
        raise UsageError(
            f"--batch {settings.batch} cannot be split over {devices.world} processes", "choose a multiple of --gpus"
        )
    preset(settings.preset, text_dim=1)
    reader = ShardReader(shards, "train")
    if not len(reader):
        raise FluoroError(f"{shards}: no training images", "pack more cases, or give --val and --test smaller shares")
    reader[len(reader) - 1]
    return reader


def launch(shards: Path, folder: Path, settings: TrainSettings, devices: Devices, track: Track = silent) -> float:
    """Train into `folder` (`last/`, `best/`, `log.csv`), continuing from `last/` if it is there.

    Returns the best validation IoU (text only, mean over structures). Memory per process: the model with its
    gradients, moments and average (about 20 bytes per parameter) plus the activations of its share of the batch.
    """
    words = _learn_words(ShardReader(shards, "train"), settings)
    job = _Job(devices, shards, folder, settings, words)
    if devices.world == 1:
        _train(0, job, track)
    else:
        context = torch.multiprocessing.get_context("spawn")
        problems = context.SimpleQueue()
        with tempfile.TemporaryDirectory() as meeting:
            arguments = (job, track, f"file://{meeting}/store", problems)
            try:
                torch.multiprocessing.spawn(_process, arguments, nprocs=devices.world)  # pyright: ignore
            except (torch.multiprocessing.ProcessRaisedException, torch.multiprocessing.ProcessExitedException):  # pyright: ignore
                if problems.empty():
                    raise
                raise FluoroError(*problems.get()) from None
    return float(_load_state(folder)["best"])


@dataclass(frozen=True)
class _Words:
    """What every process starts from: the phrases' features, and the text head once it has learnt them."""

    features: Tensor  # (n_phrases, text_dim), in the order of shards.json
    encoder: TextEncoderConfig
    head: dict[str, Tensor]
    scores: dict[str, float]


@dataclass(frozen=True)
class _Job:
    devices: Devices
    shards: Path
    folder: Path
    settings: TrainSettings
    words: _Words


def _learn_words(reader: ShardReader, settings: TrainSettings) -> _Words:
    encoder = load_text_encoder(settings.text_encoder)
    phrases = reader.header.phrases
    features = torch.from_numpy(encoder.encode([p.text for p in phrases]))
    number = {name: i for i, name in enumerate(reader.header.structures)}
    structure = torch.tensor([number[p.structure] for p in phrases])
    held_out = torch.tensor([p.split == "test" for p in phrases])
    torch.manual_seed(settings.seed)
    head = TextHead(_model_config(settings, encoder.dim))
    scores = train_words(head, features, structure, held_out, seed=settings.seed)
    found = {"words_train_accuracy": scores.train}
    if scores.held_out is not None:
        found["words_held_out_accuracy"] = scores.held_out
    log.info("words: %s", ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    config = TextEncoderConfig(name=encoder.name, revision=encoder.revision, dim=encoder.dim)
    return _Words(features, config, head.state_dict(), found)


def _model_config(settings: TrainSettings, text_dim: int) -> ModelConfig:
    config = preset(settings.preset, text_dim)
    return config if settings.quantise else config.model_copy(update={"codebook_size": 0})


def _process(rank: int, job: _Job, track: Track, store: str, problems: Any) -> None:
    import torch.distributed as dist

    _log_in_child()
    world = job.devices.world
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    if job.devices.kind == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if job.devices.kind == "cuda" else "gloo", init_method=store, rank=rank, world_size=world
    )
    try:
        _train(rank, job, track if rank == 0 else silent)
    except FluoroError as error:
        problems.put((error.problem, error.hint))
        raise
    finally:
        dist.destroy_process_group()


def _log_in_child() -> None:
    if not log.handlers:
        logging.basicConfig(format="%(message)s")
        log.setLevel(logging.INFO)


# --- one process ------------------------------------------------------------------------------------------------------


def _train(rank: int, job: _Job, track: Track) -> None:
    devices, settings, folder, words = job.devices, job.settings, job.folder, job.words
    device = torch.device(devices.kind, rank) if devices.kind == "cuda" else torch.device("cpu")
    reader = ShardReader(job.shards, "train")
    torch.manual_seed(settings.seed)
    model = FluoroSAM(_model_config(settings, words.encoder.dim))
    model.text_head.load_state_dict(words.head)
    model.text_head.requires_grad_(False)
    average = FluoroSAM(model.config).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    objective = Objective(model, words.features, settings.prompts, settings.rounds).to(device)
    average.to(device)
    optimiser = torch.optim.AdamW(_groups(model), lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
    start, best, metrics = 0, -1.0, words.scores
    if (folder / "last" / "trainer.pt").is_file():
        state = _load_state(folder)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start, best, metrics = int(state["step"]), float(state["best"]), dict(state["metrics"])
    validation = ShardReader(job.shards, "val")
    names = _name_features(reader, words.features).to(device)
    every = max(1, settings.steps // settings.validations)
    table = _Log(folder / "log.csv", start) if rank == 0 else None
    amp = torch.autocast("cuda", torch.bfloat16) if devices.kind == "cuda" else nullcontext()
    steps = range(start, settings.steps)
    batches = _batches(reader, settings, start, rank, devices)
    for step, batch in track(zip(steps, batches, strict=True), "train", len(steps), "steps"):
        rate = learning_rate(step, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with amp:
            losses = objective({name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()})
        if not torch.isfinite(losses.total):
            first, last = step * settings.batch, (step + 1) * settings.batch - 1
            raise FluoroError(
                f"loss is {float(losses.total.detach())} at step {step} (samples {first} to {last})",
                "lower --learning-rate; --resume continues from the last checkpoint",
            )
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        if devices.world > 1:
            _average_gradients(model, devices.world)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        _update_average(average, model, step)
        if rank != 0:
            continue
        assert table is not None
        done = step + 1
        validated: float | None = None
        if done % every == 0 or done == settings.steps:
            validated = text_iou(average, validation, names, settings.validation_images) if len(validation) else None
        table.write(done, losses, rate, validated)
        if done % every == 0 or done == settings.steps:
            if validated is not None:
                metrics = {**metrics, "validation_text_iou": validated}
            saved = {
                "text_encoder": words.encoder,
                "step": done,
                "seed": settings.seed,
                "structures": reader.header.structures,
                "shards_sha256": sha256_of(job.shards / HEADER),
                "metrics": metrics,
            }
            if validated is None or validated > best:
                best = best if validated is None else validated
                save_checkpoint(folder / "best", average, **saved)
            save_checkpoint(folder / "last", average, **saved)
            _save_state(folder, model, average, optimiser, done, best, metrics)


def _batches(
    reader: ShardReader, settings: TrainSettings, start: int, rank: int, devices: Devices
) -> Iterator[dict[str, Tensor]]:
    config = preset(settings.preset, text_dim=1)
    samples = SampleConfig(
        size_px=config.image_size_px,
        prompts=settings.prompts + (settings.map_prompts if config.text_map else 0),
        draws=draws_per_prompt(settings.rounds),
        absent_share=settings.absent_share,
        seed=settings.seed,
    )
    positions = Positions(start, settings.steps, settings.batch, rank, devices.world)
    cuda = devices.kind == "cuda"
    workers = min(8, (os.cpu_count() or 1) // devices.world) if cuda else 0
    return iter(
        DataLoader(TrainingSamples(reader, samples), batch_sampler=positions, num_workers=workers, pin_memory=cuda)
    )


def _average_gradients(model: FluoroSAM, world: int) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    import torch.distributed as dist

    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _name_features(reader: ShardReader, features: Tensor) -> Tensor:
    """One training phrase per structure (its first: the lexicon puts the name first), (n_structures, text_dim)."""
    first: dict[str, int] = {}
    for number, phrase in enumerate(reader.header.phrases):
        if phrase.split == "train":
            first.setdefault(phrase.structure, number)
    return features[[first[name] for name in reader.header.structures]]


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then a cosine to 1 % of the base rate."""
    warm_up = max(1, round(WARM_UP_SHARE * settings.steps))
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, settings.steps - warm_up)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _groups(model: FluoroSAM) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},  # norms and biases
    ]


@torch.no_grad()
def _update_average(average: FluoroSAM, model: FluoroSAM, step: int) -> None:
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _save_state(
    folder: Path,
    model: FluoroSAM,
    average: FluoroSAM,
    optimiser: torch.optim.Optimizer,
    step: int,
    best: float,
    metrics: dict,
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "best": best,
        "metrics": metrics,
    }
    with atomic_path(folder / "last" / "trainer.pt") as temporary:
        torch.save(state, temporary)


def _load_state(folder: Path) -> dict[str, Any]:
    import pickle

    path = folder / "last" / "trainer.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise FluoroError(
            f"{path}: cannot be read ({str(error).splitlines()[0]})", "train again with --overwrite"
        ) from error


class _Log:
    """`log.csv`, one row per step; rows after the step a run resumes from are dropped."""

    def __init__(self, path: Path, start: int) -> None:
        rows: list[list[str]] = [list(LOG_COLUMNS)]
        if start and path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                rows += [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= start]
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        self.path = path

    def write(self, step: int, losses: Any, rate: float, validated: float | None) -> None:
        values = [losses.total.detach(), losses.mask, losses.iou, losses.presence, losses.text_iou, rate]
        row = [str(step), *(f"{float(v):.6g}" for v in values), "" if validated is None else f"{validated:.6g}"]
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)

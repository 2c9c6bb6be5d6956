"""The `train` stage: words first, then masks, on one CPU or many devices.

Every process runs `_train`. Samples depend on (seed, step) alone and losses are means over a fixed number of prompts,
so N processes with global batch B follow one process with batch B, and a resumed run continues bit for bit on the same
machine.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fluorosam_cli.artefacts import Track, read_header, sha256_of, silent
from fluorosam_cli.contracts import Checkpoint, ModelConfig
from fluorosam_cli.dataset.loader import Positions, SampleConfig, TrainingSamples
from fluorosam_cli.dataset.randomisation import randomisation
from fluorosam_cli.dataset.shards import HEADER, ShardReader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
from fluorosam_cli.model.checkpoint import save_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM
from fluorosam_cli.training.devices import Devices, Process, run
from fluorosam_cli.training.exchange import average, from_all, from_first
from fluorosam_cli.training.logs import FIGURES, Line, Logs, Stopwatch
from fluorosam_cli.training.memory import with_advice
from fluorosam_cli.training.objective import Objective
from fluorosam_cli.training.optimise import Optimiser, WeightAverage, learning_rate
from fluorosam_cli.training.settings import TrainSettings, choose_workers
from fluorosam_cli.training.start import Start, build, name_tokens, prepare
from fluorosam_cli.training.state import Saver, State
from fluorosam_cli.training.validate import selection, validate

log = logging.getLogger("fluoro")

CLIP_NORM = 1.0
STEPS_BETWEEN_READS = {"cpu": 1, "cuda": 10}  # reading a figure from a GPU makes it wait
SECONDS_BETWEEN_LAPS = 5.0
SHOWN_SAMPLES = 8
LOWER_RATE = "lower --learning-rate (in a new folder)"
MASKS_FINER = 2  # than the text map, along a side: the share of a cell that a structure covers is learnt in fifths


@dataclass(frozen=True)
class Job:
    shards: Path
    folder: Path
    settings: TrainSettings
    devices: Devices


@dataclass(frozen=True)
class _Taken:
    """A step whose figures have not been read from the device yet."""

    step: int
    figures: Tensor  # (len(FIGURES),)
    per_image: Tensor  # this process's share of the batch
    known: dict[str, float]


def launch(job: Job, track: Track = silent) -> dict[str, float]:
    """Train into `job.folder` (`last/`, `best/`, `log.csv`, `speed.csv`), continuing from `last/` if it is there.

    Returns the metrics of the last validation, in the first process alone. Memory per process: the model with its
    gradients, moments and average (about 20 bytes per parameter) plus the activations of one micro-batch.
    """
    run(partial(_train, job, track), job.devices)
    return {} if job.devices.rank else read_header(job.folder / "last" / CHECKPOINT, Checkpoint).metrics


def _train(job: Job, track: Track, process: Process) -> None:
    settings, recipe, device = job.settings, job.settings.recipe, process.device
    track = track if process.first else silent
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU is left with fp32
    reader = ShardReader(job.shards, "train")
    kept = job.folder / "words"
    start = prepare(reader, settings.origin, settings.exclude, settings.seed, kept, track) if process.first else None
    start = from_first(start, process)
    reader.header = reader.header.model_copy(update={"phrases": start.phrases})
    model = build(start, settings.origin, settings.seed, report=process.first).to(device)
    averaged = FluoroSAM(model.config).requires_grad_(False).to(device)
    averaged.load_state_dict(model.state_dict())
    state = State(model, averaged, Optimiser(model, recipe, process), metrics=start.scores)
    state.restore(job.folder, process)
    mean = WeightAverage(averaged, model)
    objective = Objective(model, start.tokens, settings.prompts, recipe, settings.precision == "bf16").to(device)
    if settings.compile:
        model.image_encoder.compile()
        model.mask_decoder.compile(dynamic=True)
    observer = _Observer(job, reader, start, state, process)
    trained = [p for p in model.parameters() if p.requires_grad]
    micro = settings.micro_batch or settings.batch // process.world
    steps = range(state.step, state.step if state.stopped else settings.steps)
    batches = _waited_for(_batches(reader, job, start.config, state.step, process), observer.watch)
    for step, batch in track(zip(steps, batches, strict=False), observer.line, len(steps), "steps"):
        rate = learning_rate(step, settings.steps, recipe.learning_rate)
        attempt = partial(_gradients, objective, batch, device)
        figures, per_image = with_advice(attempt, micro)
        figures = average(trained, figures, process)
        norm = nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        state.optimiser.step(rate)
        mean.update(step)
        state.step = step + 1
        known = {"learning_rate": rate, **observer.codes_of(batch)}
        observer.take(_Taken(step, torch.cat([figures, norm[None]]), per_image, known))
        if state.stopped:
            break
    observer.close()


def _gradients(
    objective: Objective, batch: dict[str, Tensor], device: torch.device, micro: int
) -> tuple[Tensor, Tensor]:
    """Add the gradients of a batch, `micro` images at a time; -> FIGURES but the last, and the loss of each image."""
    share = len(batch["image"])
    total = torch.zeros(len(FIGURES) - 1, device=device)
    per_image = []
    for first in range(0, share, micro):
        part = {name: tensor[first : first + micro].to(device, non_blocking=True) for name, tensor in batch.items()}
        losses = objective(part)
        weight = len(part["image"]) / share
        (losses.total * weight).backward()
        figures = [losses.total.detach(), losses.mask, losses.iou, losses.presence, losses.travel, losses.first_iou]
        total += weight * torch.stack([figure.float() for figure in figures])
        per_image.append(losses.per_image)
    return total, torch.cat(per_image)


class _Observer:
    """Reads figures, writes logs, validates and saves; the first process's alone, but for stopping."""

    def __init__(self, job: Job, reader: ShardReader, start: Start, state: State, process: Process) -> None:
        settings = job.settings
        self.job, self.reader, self.state, self.process = job, reader, state, process
        self.line, self.watch = Line(), Stopwatch(process.device, process.world)
        self.logs = Logs(job.folder, state.step, settings.tensorboard) if process.first else None
        self.validation = ShardReader(job.shards, "val")
        self.names = name_tokens(reader, start.tokens, settings.exclude).to(process.device)
        self.every = max(1, settings.steps // settings.validations)
        self.codes = start.codes
        save = partial(
            save_checkpoint,
            text_encoder=start.encoder,
            seed=settings.seed,
            structures=start.structures,
            shards_sha256=sha256_of(job.shards / HEADER),
            training=settings.record(),
        )
        self.saver = Saver(job.folder, save)
        self._unread: list[_Taken] = []

    def codes_of(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """How many of the quantiser's codes the phrases of this process's share fall on."""
        return {} if self.codes is None else {"codes": float(self.codes[batch["phrase"]].unique().numel())}

    def take(self, taken: _Taken) -> None:
        """Called by every process after every step."""
        self._unread.append(taken)
        done, settings = taken.step + 1, self.job.settings
        due = done % self.every == 0 or done == settings.steps
        if not due and done % STEPS_BETWEEN_READS[self.process.device.type]:
            return
        rows = self._read()
        if self.logs is not None:
            validated = self._validate() if due and len(self.validation) else {}
            for row in rows[:-1]:
                self.logs.write_step(*row)
            self.logs.write_step(done, {**rows[-1][1], **{f"validation_{k}": v for k, v in validated.items()}})
            self.line.loss = rows[-1][1]["loss"]
            if due or self.watch.seconds > SECONDS_BETWEEN_LAPS:
                speed = self.watch.lap()
                self.line.images_per_second = speed["images_per_second"]
                self.logs.write_speed(done, speed)
            if due and not len(self.validation):
                self.saver.save_best(self.state)
            if due or self.saver.due:
                self.saver.save_last(self.state)
        if due and settings.patience is not None:
            self.state.stopped = from_first(self.state.stopped, self.process)

    def _read(self) -> list[tuple[int, dict[str, float]]]:
        """The figures of the steps since the last time. Raises FluoroError where a loss is not a number."""
        table = torch.stack([taken.figures for taken in self._unread]).cpu().tolist()
        rows = []
        for figures, taken in zip(table, self._unread, strict=True):
            if not math.isfinite(figures[0]):
                raise self._not_finite(taken, figures[0])
            if not math.isfinite(figures[-1]):
                raise FluoroError(f"the gradient is {figures[-1]} at step {taken.step}", LOWER_RATE)
            rows.append((taken.step + 1, {**dict(zip(FIGURES, figures, strict=True)), **taken.known}))
        self._unread.clear()
        return rows

    def _not_finite(self, taken: _Taken, loss: float) -> FluoroError:
        bad = (~torch.isfinite(taken.per_image)).nonzero()[:, 0].tolist()
        batch, world = self.job.settings.batch, self.process.world
        samples = TrainingSamples(self.reader, sample_config(self.job, self.state.model.config))
        found = [samples.askable(samples.index(taken.step * batch + self.process.rank + i * world)) for i in bad]
        names = from_all([f"{sample.case}/{sample.view}" for sample in found], self.process)
        more = f" and {len(names) - SHOWN_SAMPLES} more" if len(names) > SHOWN_SAMPLES else ""
        return FluoroError(
            f"loss is {loss} at step {taken.step}, from the images {', '.join(names[:SHOWN_SAMPLES])}{more}",
            f"look at these images; if they are sound, {LOWER_RATE}",
        )

    def _validate(self) -> dict[str, float]:
        state, settings = self.state, self.job.settings
        began = time.perf_counter()
        scores = validate(state.average, self.validation, self.names, settings.validation_images)
        state.metrics = {**state.metrics, **{f"validation_{name}": value for name, value in scores.items()}}
        if not scores:  # nothing in these images can be asked for: as without them, the newest is the best
            self.saver.save_best(state)
            return scores
        self.line.text_iou = scores.get("text_iou")
        found = selection(scores, with_text=settings.recipe.teaches_text)
        state.stale += 1
        if found > state.best:
            state.best, state.stale = found, 0
            self.saver.save_best(state)
        if settings.patience is not None and state.stale >= settings.patience:
            log.info("stopped at step %d: no better for %d validations", state.step, state.stale)
            state.stopped = True
        self.watch.exclude(time.perf_counter() - began)
        return scores

    def close(self) -> None:
        if self.logs is not None:
            self.logs.close()


# --- data -------------------------------------------------------------------------------------------------------------


def sample_config(job: Job, config: ModelConfig) -> SampleConfig:
    """How samples are drawn for a network of this configuration."""
    settings = job.settings
    return SampleConfig(
        size_px=config.image_size_px,
        masks_px=min(config.image_size_px, MASKS_FINER * config.detail_px),
        prompts=settings.prompts + (settings.map_prompts if config.text_map else 0),
        draws=settings.recipe.draws,
        absent_share=settings.recipe.absent,
        seed=settings.seed,
        exclude=settings.exclude,
        randomisation=randomisation(settings.augment),
        travel=settings.prompts if config.travel else 0,
    )


def _batches(
    reader: ShardReader, job: Job, config: ModelConfig, first: int, process: Process
) -> Iterator[dict[str, Tensor]]:
    settings = job.settings
    workers = choose_workers(settings.workers, job.devices)
    return iter(
        DataLoader(
            TrainingSamples(reader, sample_config(job, config)),
            batch_sampler=Positions(first, settings.steps, settings.batch, process.rank, process.world),
            num_workers=workers,
            pin_memory=process.device.type == "cuda",
            prefetch_factor=4 if workers else None,
        )
    )


def _waited_for(batches: Iterator[dict[str, Tensor]], watch: Stopwatch) -> Iterator[dict[str, Tensor]]:
    """The same batches; how long each took to come is noted."""
    while True:
        began = time.perf_counter()
        try:
            batch = next(batches, None)
        except FluoroError as error:  # from a loader process it comes as that process's whole traceback
            raise FluoroError(
                error.problem.strip().rpartition("\n")[2].partition("FluoroError: ")[2] or error.problem,
                error.hint or "fluoro pack --verify tells which shards are whole",
            ) from error
        if batch is None:
            return
        watch.waited(time.perf_counter() - began, len(batch["image"]))
        yield batch

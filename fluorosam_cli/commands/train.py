"""`fluoro train`: shards -> checkpoint."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fluorosam_cli.commands.stage import Stage, command

if TYPE_CHECKING:
    from fluorosam_cli.dataset.shards import ShardReader
    from fluorosam_cli.training.train import Job

HERE = ("gpus", "micro_batch", "workers", "tensorboard")  # about this machine, so a resumed run may change them


def train(
    stage: Stage,
    shards: Annotated[Path, typer.Argument(help="Folder written by `fluoro pack`.")],
    gpus: Annotated[
        int | None, typer.Option(min=0, help="Processes, one per GPU; 0 is the CPU.", show_default="1 if any")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; --gpus 2 --device cpu runs two CPU processes.")
    ] = "auto",
    preset: Annotated[
        str | None,
        typer.Option(
            help="Network: swin-l-448, swin-b-448, swin-t-448, vit-b-256, small or tiny.",
            show_default="small, or that of --from",
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="FLUORO_TRAIN_FROM",
            help="Fine-tune this checkpoint or run folder, or `builtin`.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="How prompts are simulated: fluoro, fluorosam or sam-med2d.")] = "fluoro",
    epochs: Annotated[float, typer.Option(min=0.01, max=1e6, help="Passes over the training images.")] = 10.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps, instead of --epochs.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per step, over all processes.")] = 16,
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images at once in each process; gradients add up.", show_default="its share"),
    ] = None,
    prompts: Annotated[int, typer.Option(min=0, help="Prompts per image; 0: the text map alone, in last/.")] = 4,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Decoder rounds: 1 + those with clicks.", show_default="the recipe's")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, max=1e3, help="Peak.", show_default="the recipe's, of which one is for --from and --init"),
    ] = None,
    augment: Annotated[Literal["off", "weak", "full"], typer.Option(help="Randomisation of the images.")] = "full",
    show_augmentations: Annotated[
        Path | None,
        typer.Option(help="Draw a sheet of training samples and stop.", metavar="OUT.png", show_default=False),
    ] = None,
    exclude_structures: Annotated[
        list[str] | None,
        typer.Option(help="Hold out: a,b or a file of names; shown in groups alone.", show_default=False),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(help="minilm, or open_clip:ARCH[:PRETRAINED or path].", show_default="minilm, or that of --from"),
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="Words learnt by `fluoro words`.", show_default="learnt from the shards")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Start from SAM, MedSAM or SAM-Med2D weights, or a run or checkpoint of any size, where they fit.",
            show_default=False,
        ),
    ] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="Start the backbone from one of timm's tags, or a file.", show_default=False)
    ] = None,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Leave the image encoder's given weights as they are.")
    ] = False,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Add small trainable layers to the encoder (SAM-Med2D).")
    ] = False,
    travel: Annotated[
        bool, typer.Option("--travel", help="Also learn path lengths, from views rendered with --travel.")
    ] = False,
    no_vq: Annotated[bool, typer.Option("--no-vq", help="Leave the text token unquantised.")] = False,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many validations without a better one.", show_default=False)
    ] = None,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"], typer.Option(help="bf16 where the device has it in hardware.")
    ] = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile the network.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Loader processes of each process.", show_default="on free cores")
    ] = None,
    tensorboard: Annotated[
        bool | None, typer.Option(help="Write TensorBoard events.", show_default="if installed")
    ] = None,
) -> dict[str, object]:
    """Train the promptable network. Writes runs/PRESET/best and /last, each a checkpoint, and log.csv.

    `best` has the highest mean of text IoU and IoU after 3 clicks on the validation cases.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on few cores
    from dataclasses import replace

    from fluorosam_cli.artefacts import silent
    from fluorosam_cli.dataset.shards import HEADER
    from fluorosam_cli.training.devices import plan_processes
    from fluorosam_cli.training.recipe import find_recipe
    from fluorosam_cli.training.settings import TrainSettings, check, choose_precision, excluded
    from fluorosam_cli.training.start import find_origin
    from fluorosam_cli.training.train import Job, launch

    devices = plan_processes(gpus, device)
    origin = find_origin(
        preset=preset,
        text_encoder=text_encoder,
        quantise=not no_vq,
        checkpoint=from_,
        words=words,
        init=init,
        backbone_weights=backbone_weights,
        freeze_encoder=freeze_encoder,
        adapters=adapters,
        travel=travel,
    )
    rules = find_recipe(recipe)
    rate = learning_rate if learning_rate is not None else (rules.tuning_rate if from_ or init else rules.learning_rate)
    settings = TrainSettings(
        origin=origin,
        recipe=replace(rules, rounds=rounds or rules.rounds, learning_rate=rate),
        batch=batch,
        micro_batch=micro_batch,
        prompts=prompts,
        augment=augment,
        exclude=excluded(exclude_structures),
        patience=patience,
        precision=choose_precision(precision, devices.kind),
        compile=compile,
        workers=workers,
        tensorboard=tensorboard,
        seed=stage.seed,
    )
    reader = check(shards, settings, devices)
    if devices.rank and (stage.dry_run or show_augmentations is not None):
        raise typer.Exit  # started by a launcher, and not the first: the first one prints and draws
    if show_augmentations is not None:
        return _show(stage, show_augmentations, reader, Job(shards, stage.folder, settings, devices))
    count = steps if steps is not None else max(1, round(epochs * len(reader) / batch))
    settings = replace(settings, steps=count)
    if stage.options["out"] is None:
        stage.folder = Path("runs") / origin.preset
    for name in HERE:
        stage.resolved.pop(name)
    stage.resolved |= {
        "device": devices.kind,
        "precision": settings.precision,
        "exclude_structures": list(settings.exclude),
    }
    summary = {
        "images": len(reader),
        "steps": count,
        "structures": len(reader.header.structures) - len(settings.exclude),
    }
    if devices.rank:  # started by a launcher, and not the first: the first one owns the folder and the screen
        logging.getLogger("fluoro").setLevel(logging.ERROR)
        launch(Job(shards, stage.folder, settings, devices), silent)
        raise typer.Exit
    reads = [Path(word) for word in (*(exclude_structures or ()), backbone_weights or "") if os.path.isfile(word)]
    folder = stage.output(None, inputs=[shards / HEADER, *origin.files], reads=reads, device=devices.kind)
    if stage.dry_run:
        return stage.plan(**summary, device=f"{devices.world} x {devices.kind}")
    with folder as output:
        metrics = launch(Job(shards, output.path, settings, devices), stage.track)
        output.done = count
    return {
        **summary,
        **{name: round(value, 4) for name, value in metrics.items()},
        "checkpoint": str(output.path / "best"),
    }


def _show(stage: Stage, out: Path, reader: "ShardReader", job: "Job") -> dict[str, object]:
    from fluorosam_cli.dataset.sheet import check_sheet, write_sheet
    from fluorosam_cli.training.start import config_of, few_phrases
    from fluorosam_cli.training.train import sample_config

    check_sheet(out, stage.options["overwrite"])
    phrases = few_phrases(reader.header.phrases, stage.seed)
    reader.header = reader.header.model_copy(update={"phrases": phrases})
    stage.folder = out
    if not stage.dry_run:
        write_sheet(out, reader, sample_config(job, config_of(job.settings.origin)))
    return {"images": len(reader), "strength": job.settings.augment}


def register(app: typer.Typer) -> None:
    command(app, "train", default_out="runs/small")(train)

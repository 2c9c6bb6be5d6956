"""`fluoro train`: shards -> checkpoint."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command


def train(
    stage: Stage,
    shards: Annotated[Path, typer.Argument(help="Folder written by `fluoro pack`.")],
    gpus: Annotated[
        int | None, typer.Option(min=0, help="Processes, one per GPU; 0 is the CPU.", show_default="1 if any")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda; --gpus 2 --device cpu runs two CPU processes.")
    ] = "auto",
    preset: Annotated[
        str, typer.Option(help="Network size: swin-l-448, swin-b-448, swin-t-448, small or tiny.")
    ] = "small",
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the training images.")] = 10.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps, instead of --epochs.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per step, over all processes.")] = 16,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per image.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Decoder rounds per prompt: 1 + simulated clicks.")] = 2,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 8e-4,
    text_encoder: Annotated[str, typer.Option(help="minilm, or open_clip:ARCH[:PRETRAINED or path].")] = "minilm",
    no_vq: Annotated[bool, typer.Option("--no-vq", help="Leave the text token unquantised.")] = False,
) -> dict[str, object]:
    """Train the promptable network. Writes runs/PRESET/best and /last, each a checkpoint."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on few cores
    from fluorosam_cli.dataset.shards import HEADER
    from fluorosam_cli.training.train import TrainSettings, check, choose_devices, launch

    devices = choose_devices(gpus, device)
    settings = TrainSettings(
        preset=preset,
        text_encoder=text_encoder,
        quantise=not no_vq,
        batch=batch,
        prompts=prompts,
        rounds=rounds,
        learning_rate=learning_rate,
        seed=stage.seed,
    )
    reader = check(shards, settings, devices)
    count = steps if steps is not None else max(1, round(epochs * len(reader) / batch))
    settings = TrainSettings(**{**vars(settings), "steps": count})
    if stage.options["out"] is None:
        stage.folder = Path("runs") / preset
    summary = {"images": len(reader), "steps": count, "structures": len(reader.header.structures)}
    if stage.dry_run:
        return stage.plan(**summary, device=f"{devices.world} x {devices.kind}")
    with stage.output(None, inputs=[shards / HEADER], device=devices.kind) as output:
        best = launch(shards, output.path, settings, devices, stage.track)
        output.done = count
    return {
        **summary,
        "validation_text_iou": None if best < 0 else round(best, 4),
        "checkpoint": str(output.path / "best"),
    }


def register(app: typer.Typer) -> None:
    command(app, "train", default_out="runs/small")(train)

"""`fluoro eval`: a checkpoint and shards -> metrics and a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fluorosam_cli.commands.stage import Stage, command

if TYPE_CHECKING:
    from fluorosam_cli.contracts import Metrics


def register(app: typer.Typer) -> None:
    command(app, "eval", default_out="metrics")(evaluate)


def evaluate(
    stage: Stage,
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint or run folder written by `fluoro train`.")],
    shards: Annotated[Path, typer.Argument(help="Folder written by `fluoro pack`.")],
    split: Annotated[
        Literal["test", "val", "train"] | None,
        typer.Option(help="Which cases.", show_default="test if there are any, else val"),
    ] = None,
    phrases: Annotated[
        Literal["train", "test", "all"], typer.Option(help="Words seen in training, words held out, or both.")
    ] = "all",
    clicks: Annotated[int, typer.Option(min=0, max=20, help="Simulated clicks after text, and alone.")] = 3,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images, spread over the split.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> dict[str, object]:
    """Measure a checkpoint on held-out images, asked with text, points and boxes; write numbers and a report."""
    from fluorosam_cli.artefacts import read_header
    from fluorosam_cli.contracts import Checkpoint, Metrics
    from fluorosam_cli.dataset.shards import HEADER as SHARDS
    from fluorosam_cli.evaluation.evaluate import HEADER, plan_eval
    from fluorosam_cli.evaluation.evaluate import evaluate as score
    from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
    from fluorosam_cli.model.checkpoint import find_checkpoint
    from fluorosam_cli.prediction.predictor import Predictor, choose_device

    plan = plan_eval(shards, split, phrases, clicks, limit, stage.seed)
    folder = find_checkpoint(checkpoint)
    device = choose_device(device)
    if stage.dry_run:
        header = read_header(folder / CHECKPOINT, Checkpoint)
        return stage.plan(images=len(plan.images), split=plan.split, preset=header.model.preset, step=header.step)
    predictor = Predictor.from_checkpoint(folder, device)
    with stage.output(HEADER, inputs=[folder / CHECKPOINT, shards / SHARDS], device=device) as output:
        if output.finished:
            output.skipped = len(plan.images)
            metrics = read_header(output.path / HEADER, Metrics)
        else:
            metrics = score(plan, predictor, output, stage.track).metrics
    return _summary(metrics)


def _summary(metrics: "Metrics") -> dict[str, object]:
    return {
        "images": metrics.images,
        "split": metrics.split,
        "iou": {scores.prompt: scores.iou.mean for scores in metrics.prompts},
        "largest_ten_text_iou": metrics.largest_ten_text_iou,
        "presence_auroc": metrics.presence_auroc,
    }

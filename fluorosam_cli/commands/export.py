"""`fluoro export`: a checkpoint -> the same network for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import UsageError


def register(app: typer.Typer) -> None:
    command(app, "export", default_out="exported")(export)


def export(
    stage: Stage,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint or run folder.", show_default="the built-in one"),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Encoder and decoder as ONNX files.")] = False,
) -> dict[str, object]:
    """Write the network as ONNX for onnxruntime, browsers or C++; docs/onnx.md says how to use it."""
    if not onnx:
        raise UsageError("no format is named", "fluoro export --onnx")
    from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
    from fluorosam_cli.model.checkpoint import find_checkpoint
    from fluorosam_cli.prediction.onnx_export import HEADER, export_onnx
    from fluorosam_cli.prediction.predictor import builtin_checkpoint

    found = find_checkpoint(checkpoint) if checkpoint is not None else builtin_checkpoint()
    if stage.dry_run:
        return stage.plan(checkpoint=str(found))
    with stage.output(HEADER, inputs=[found / CHECKPOINT]) as output:
        if not output.finished:
            output.finish(export_onnx(found, output.path))
            output.done = 1
    files = sorted(path for path in stage.folder.iterdir() if path.suffix in (".onnx", ".f32"))
    return {path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in files}

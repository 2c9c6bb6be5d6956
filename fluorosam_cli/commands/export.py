"""`fluoro export`: a checkpoint -> the same network for other runtimes."""

from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import UsageError


def register(app: typer.Typer) -> None:
    command(app, "export", default_out="exported")(export)


def export(
    stage: Stage,
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint or run folder; `builtin` is the one that is shipped.")
    ] = "builtin",
    onnx: Annotated[bool, typer.Option("--onnx", help="Encoder and decoder as ONNX files.")] = False,
) -> dict[str, object]:
    """Write the network as ONNX for onnxruntime, browsers or C++; docs/onnx.md says how to use it."""
    if not onnx:
        raise UsageError("no format is named", "fluoro export --onnx")
    from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
    from fluorosam_cli.prediction.onnx_export import HEADER, export_onnx, load_exportable

    exportable = load_exportable(checkpoint)
    folder = stage.output(HEADER, inputs=[exportable.folder / CHECKPOINT])
    if stage.dry_run:
        return stage.plan(checkpoint=str(exportable.folder), phrases=len(exportable.phrases))
    with folder as output:
        if not output.finished:
            output.finish(export_onnx(exportable, output.path, stage.track))
            output.done = 1
    files = sorted(path for path in stage.folder.iterdir() if path.suffix in (".onnx", ".f32"))
    return {path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in files}

"""`fluoro pack`: views and descriptions -> shards."""

from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command


def pack(
    stage: Stage,
    views: Annotated[Path, typer.Argument(help="Folder written by `fluoro render`.")],
    descriptions: Annotated[Path, typer.Option(help="Folder written by `fluoro describe`.")] = Path("descriptions"),
    size: Annotated[int, typer.Option(min=32, max=2048, help="Longest side of the packed images, in pixels.")] = 448,
    val: Annotated[float, typer.Option(help="Share of cases held out to choose the best checkpoint.")] = 0.05,
    test: Annotated[float, typer.Option(help="Share of cases held out for `fluoro eval`.")] = 0.0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the sha256 of existing shards; VIEWS is their folder.")
    ] = False,
) -> dict[str, object]:
    """Pack rendered views and their descriptions into HDF5 shards, split by case."""
    from fluorosam_cli.artefacts import read_header
    from fluorosam_cli.contracts import Shards
    from fluorosam_cli.dataset.pack import pack as write_shards
    from fluorosam_cli.dataset.pack import plan_pack
    from fluorosam_cli.dataset.shards import HEADER
    from fluorosam_cli.dataset.shards import verify as differing

    if verify:
        stage.folder = views
        return {"failed": [f"{name}: absent or its sha256 differs from {HEADER}" for name in differing(views)]}
    plan = plan_pack(views, descriptions, size, val, test, stage.seed)
    split = {name: sum(s == name for s in plan.cases.values()) for name in ("train", "val", "test")}
    if stage.dry_run:
        return stage.plan(images=plan.header.count, cases=split, phrases=len(plan.phrases))
    inputs = [views / "views.json", views / plan.header.views, descriptions / "descriptions.json"]
    with stage.output(HEADER, inputs=inputs) as output:
        if output.finished:
            header = read_header(output.path / HEADER, Shards)
            output.skipped = plan.header.count
        else:
            header = write_shards(plan, output, stage.track)
    masks = sum(shard.masks for shard in header.shards)
    return {"images": plan.header.count, "masks": masks, "cases": split, "structures": len(header.structures)}


def register(app: typer.Typer) -> None:
    command(app, "pack", default_out="shards")(pack)

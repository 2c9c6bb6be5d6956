"""`fluoro render`: cases -> radiographs with a mask of every structure in them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command


def register(app: typer.Typer) -> None:
    command(app, "render", default_out="views")(render)


def _list_views(wanted: bool) -> None:
    if wanted:
        from fluorosam_cli.geometry.views import RANDOM, standard_views

        lines = [f"{view.name}\t{', '.join(view.target + view.needs)}" for view in standard_views()]
        sys.stdout.write("\n".join([*lines, f"{RANDOM}\tany structure"]) + "\n")
        raise typer.Exit


def render(
    stage: Stage,
    cases: Annotated[Path, typer.Argument(help="A case, or a folder of cases, as `fluoro segment-ct` writes them.")],
    views: Annotated[int, typer.Option(min=1, max=99_999, help="Views per case.")] = 10,
    size: Annotated[int, typer.Option(min=16, max=8192, help="Pixels along a side of the square detector.")] = 512,
    view: Annotated[
        list[str] | None, typer.Option(help="Only this standard view (repeatable).", show_default=False)
    ] = None,
    random_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of random views; the others are standard ones.")
    ] = 0.4,
    list_views: Annotated[
        bool,
        typer.Option(
            "--list-views", help="List the standard views and what they need.", callback=_list_views, is_eager=True
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all cores by default.", show_default=False)
    ] = None,
) -> dict[str, object]:
    """Render X-rays of cases, each with the mask of every structure seen in it."""
    from fluorosam_cli.geometry.views import check_names
    from fluorosam_cli.render import render as stage_of
    from fluorosam_cli.render.projector import available_threads, device_named

    names = tuple(view or ())
    check_names(names)
    found = stage_of.find_cases(cases)
    stage.resolved["device"] = device_named(device)
    del stage.resolved["threads"], stage.resolved["list_views"]  # neither changes what is written
    settings = stage_of.Settings(
        views=views,
        size_px=size,
        seed=stage.seed,
        names=names,
        random_share=random_share,
        device=stage.resolved["device"],
        threads=threads or available_threads(),
    )
    counts: dict[str, object] = {"cases": len(found), "views": len(found) * views}
    output = stage.output(stage_of.HEADER, inputs=[item.path / "case.json" for item in found], device=settings.device)
    if stage.dry_run:
        return stage.plan(**counts, pixels_mb=round(len(found) * views * size * size * 2 / 1e6, 1))
    if output.finished:
        return counts
    with output as out:
        stage_of.render(found, out, settings, stage.track)
    return {"cases": len(found), "views": out.done + out.skipped, "failed": out.failed}

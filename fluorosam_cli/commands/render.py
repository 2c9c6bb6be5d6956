"""`fluoro render`: cases -> radiographs with a mask of every structure in them."""

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.render import MIN_PATH_MM, RANDOM_SHARE, TERMS

if TYPE_CHECKING:
    from fluorosam_cli.render.settings import Tooling
    from fluorosam_cli.tools.catalogue import Tool

VIEWS = 10  # of a case, unless --views or --poses say otherwise
SIZE_PX = 512
INTEGRALS_PX = 224


def register(app: typer.Typer) -> None:
    command(app, "render", default_out="views")(render)


def _list_views(wanted: bool) -> None:
    if wanted:
        from fluorosam_cli.geometry.views import view_rows

        sys.stdout.write("".join("\t".join(row).rstrip() + "\n" for row in view_rows()))
        raise typer.Exit


def render(
    stage: Stage,
    cases: Annotated[Path, typer.Argument(help="A case, or a folder of cases, as `fluoro segment-ct` writes them.")],
    views: Annotated[
        int | None, typer.Option(min=1, max=99_999, help="Views per case.", show_default=str(VIEWS))
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=16, max=8192, help="Pixels along a side of the square detector.", show_default=str(SIZE_PX)),
    ] = None,
    view: Annotated[
        list[str] | None, typer.Option(help="Only this standard view (repeatable).", show_default=False)
    ] = None,
    random_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of random views; the others are standard ones.",
            show_default=f"{RANDOM_SHARE}; beside --view 0, or that of one view if random is one",
        ),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(help="Views given by their matrices instead: a fluoro.poses/1 file.", show_default=False),
    ] = None,
    list_views: Annotated[
        bool,
        typer.Option(
            "--list-views",
            help="List the standard views, what they need and how they are taken.",
            callback=_list_views,
            is_eager=True,
        ),
    ] = False,
    tools_per_view: Annotated[
        str, typer.Option(help="Tools and implants in a view: a number or a range such as 0-4.")
    ] = "0",
    tools: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this family, design or size of the catalogue, or folder of STL, OBJ or PLY. May be repeated.",
            show_default="all of the catalogue",
        ),
    ] = None,
    augment_anatomy: Annotated[
        int,
        typer.Option(
            min=0, max=999, help="Deformed bodies of each case that views are also taken of: scaled, bent, breathing."
        ),
    ] = 0,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="Structure or group filled with contrast agent (repeatable).", show_default=False),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help=f"Leave out {', '.join(TERMS[:-1])} or {TERMS[-1]} (repeatable).", show_default=False),
    ] = None,
    look: Annotated[
        Literal["any", "plain", "vendor", "clahe"], typer.Option(help="Display processing; any: one drawn per view.")
    ] = "any",
    polarity: Annotated[Literal["bone-bright", "bone-dark"], typer.Option(help="What is bright.")] = "bone-bright",
    raw: Annotated[bool, typer.Option("--raw", help="Also the intensity at the detector, 32-bit TIFF.")] = False,
    integrals: Annotated[
        bool, typer.Option("--integrals", help="Also what the rays crossed, for training to draw the physics again.")
    ] = False,
    integrals_size: Annotated[
        int | None,
        typer.Option(
            min=16, max=8192, help="Pixels along the longer side of --integrals.", show_default=str(INTEGRALS_PX)
        ),
    ] = None,
    travel: Annotated[
        bool, typer.Option("--travel", help="Also the path length through every structure, at full size.")
    ] = False,
    projector: Annotated[
        Literal["fluoro", "deepdrr"],
        typer.Option(help="deepdrr: DeepDRR makes the image (a CUDA machine with the extra deepdrr)."),
    ] = "fluoro",
    interpolation: Annotated[Literal["siddon", "joseph"], typer.Option(help="Of the image.")] = "siddon",
    min_path_mm: Annotated[
        float, typer.Option(min=0.001, max=1000, help="Path through a structure from which it shows.")
    ] = MIN_PATH_MM,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes, each on a GPU of its own (or on the CPU with --device cpu); 0 is the CPU.",
            show_default="1 if any",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all cores by default.", show_default=False)
    ] = None,
) -> dict[str, object]:
    """Render X-rays of cases, each with the mask of every structure seen in it."""
    from fluorosam_cli.devices import available_threads, choose_devices
    from fluorosam_cli.errors import UsageError
    from fluorosam_cli.geometry.poses import read_poses
    from fluorosam_cli.geometry.views import check_names
    from fluorosam_cli.render import render as stage_of
    from fluorosam_cli.render.body import find_cases
    from fluorosam_cli.render.deepdrr import check_depths, require_deepdrr
    from fluorosam_cli.render.exposure import check_terms
    from fluorosam_cli.render.projector import count_gpus
    from fluorosam_cli.render.settings import Aim, Extras, Physics, Settings, integrals_header
    from fluorosam_cli.render.tools import check_pixels
    from fluorosam_cli.tools.meshes import files_of

    names = tuple(view or ())
    check_names(names)
    if projector == "deepdrr":
        require_deepdrr()
    aimed = {"views": views, "size": size, "view": names or None, "random-share": random_share}
    for option, value in {**aimed, "augment-anatomy": augment_anatomy or None}.items():
        if poses and value is not None:
            raise UsageError(f"--poses and --{option} exclude each other", "give one of them")
    if integrals_size and not integrals:
        raise UsageError("--integrals-size needs --integrals", "add --integrals")
    tooling = _tooling(tools_per_view, tools)
    if projector == "deepdrr" and (tooling.tools or contrast):
        raise UsageError("--projector deepdrr shows neither tools nor contrast agent", "leave them out")
    devices = choose_devices(device, gpus, count_gpus)
    found = find_cases(cases)
    cameras = read_poses(poses) if poses else ()
    strangers = {camera.case for camera in cameras} - {None, *(item.case.name for item in found)}
    if strangers:
        raise UsageError(f"{poses}: no case is called {', '.join(sorted(map(str, strangers)))}", "name a case, or none")
    if projector == "deepdrr":
        check_depths(names, cameras)
    if tooling.tools:
        sizes = [(camera.detector_width_px, camera.detector_height_px) for camera in cameras]
        check_pixels(*max(sizes or [(size or SIZE_PX,) * 2], key=math.prod))
    settings = Settings(
        seed=stage.seed,
        aim=Aim(views or VIEWS, size or SIZE_PX, names, random_share, cameras),
        physics=Physics(
            interpolation=interpolation,
            deepdrr=projector == "deepdrr",
            min_path_mm=min_path_mm,
            contrast=_known("--contrast", contrast or ()),
            without=check_terms(TERMS if projector == "deepdrr" else without or ()),
            style=None if look == "any" else look,
            polarity="bone_dark" if polarity == "bone-dark" else "bone_bright",
        ),
        tooling=tooling,
        extras=Extras(raw, travel, integrals_header(integrals_size or INTEGRALS_PX, tooling) if integrals else None),
        deformations=augment_anatomy,
        device=devices[0],
        threads=threads or available_threads(),
    )
    stage.resolved["device"] = devices[0].partition(":")[0]
    if not poses:
        stage.resolved |= {"views": settings.aim.views, "size": settings.aim.size_px}
    for name in ("threads", "gpus", "list_views"):
        del stage.resolved[name]  # they do not change what is written
    count = sum(settings.views_of(item.case.name) for item in found)
    counts: dict[str, object] = {"cases": len(found), "views": count}
    inputs = [item.path / "case.json" for item in found] + ([poses] if poses else []) + files_of(tooling.tools)
    output = stage.output(stage_of.HEADER, inputs=inputs, device=" ".join(devices))
    if stage.dry_run:
        pixels = sum(settings.pixels_of(item.case.name) for item in found)
        return stage.plan(**counts, pixels_mb=round(pixels * 2 / 1e6, 1))
    if output.finished:
        return counts
    with output as out:
        stage_of.render(found, out, settings, devices, stage.track)
    return {**counts, "views": out.done + out.skipped, "skipped": out.skipped, "failed": out.failed}


def _known(option: str, words: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """The structures or groups that these names or words mean."""
    from fluorosam_cli.anatomy.structures import groups, names
    from fluorosam_cli.errors import UsageError
    from fluorosam_cli.text.phrases import resolve

    found = {word: word if word in groups() or word in set(names()) else resolve(word) for word in words}
    for word, name in found.items():
        if name is None:
            raise UsageError(
                f"{option} {word}: no known structure", f'fluoro describe --resolve "{word}" tells what is'
            )
    return tuple(name for name in found.values() if name is not None)


def _tooling(per_view: str, wanted: list[str] | None) -> "Tooling":
    """The tools that may appear, and the fewest and most of them in a view."""
    from fluorosam_cli.errors import UsageError
    from fluorosam_cli.render.settings import Tooling
    from fluorosam_cli.render.tools import MAX_TOOLS

    match = re.fullmatch(r"([0-9]{1,2})(?:-([0-9]{1,2}))?", per_view)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)  # no range
    if not low <= high <= MAX_TOOLS:
        raise UsageError(
            f"--tools-per-view {per_view}: not a number of tools", f"give a number up to {MAX_TOOLS}, or a range as 0-4"
        )
    if wanted and not high:
        raise UsageError("--tools needs --tools-per-view", "add --tools-per-view 0-4")
    return Tooling(_tools(wanted or []), (low, high)) if high else Tooling()


def _tools(wanted: list[str]) -> "tuple[Tool, ...]":
    """What folders hold and the catalogue calls by these names or words; all of the catalogue where there are none."""
    from fluorosam_cli.errors import FluoroError, UsageError
    from fluorosam_cli.render.physics import all_materials
    from fluorosam_cli.text.phrases import matches, meanings
    from fluorosam_cli.tools.catalogue import catalogue
    from fluorosam_cli.tools.meshes import load_tools

    if not wanted:
        return catalogue()
    own = load_tools(*(Path(word) for word in wanted if Path(word).is_dir()))
    for tool in own:  # before anything is rendered
        if tool.material not in all_materials():
            known = ", ".join(all_materials())
            raise FluoroError(f"{tool.file}: material {tool.material} is not known", f"known are {known}")
    asked: set[str] = set()
    labels = {tool.name: {tool.name, tool.design, tool.family} for tool in catalogue()}
    for word in wanted:
        names = {word, *meanings(word)} & set().union(*labels.values())
        if not names and not Path(word).is_dir():
            near = [match.name for match in matches(word) if any(match.name in each for each in labels.values())]
            hint = f"did you mean {' or '.join(near[:3])}?" if near else "`fluoro info tools` lists the catalogue"
            raise UsageError(f"--tools {word}: neither a folder nor a tool of the catalogue", hint)
        asked |= names
    return (*own, *(tool for tool in catalogue() if labels[tool.name] & asked))

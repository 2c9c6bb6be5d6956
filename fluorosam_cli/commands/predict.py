"""`fluoro predict`: an image and phrases, points or a box -> masks."""

import logging
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.contracts import Prediction, Prompt

log = logging.getLogger("fluoro")


def register(app: typer.Typer) -> None:
    command(app, "predict", default_out="predictions")(predict)


def predict(
    stage: Stage,
    image: Annotated[str, typer.Argument(help="An image (PNG, JPEG, TIFF), a folder of them, or a quoted glob.")],
    phrases: Annotated[list[str] | None, typer.Argument(help='What to segment: "left femur" "sacrum".')] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="x,y inside the structure; x,y,0 outside it. May be repeated.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1 around the structure.", show_default=False)] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint or run folder.", show_default="the built-in one")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threshold: Annotated[float, typer.Option(help="A pixel is in the mask above this probability.")] = 0.5,
) -> dict[str, object]:
    """Segment what phrases name, points mark or a box encloses. Points and box go with every phrase."""
    prompts = _prompts(phrases or [], point or [], box)
    _check_folder(stage)
    from fluorosam_cli.artefacts import write_json
    from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
    from fluorosam_cli.model.checkpoint import find_checkpoint
    from fluorosam_cli.prediction.images import find_images
    from fluorosam_cli.prediction.predictor import Predictor, builtin_checkpoint, choose_device
    from fluorosam_cli.prediction.write import HEADER, segment, write_masks

    found = find_images(image)
    checkpoint = find_checkpoint(model) if model is not None else builtin_checkpoint()
    device = choose_device(device)
    single = not Path(image).is_dir() and len(found) == 1
    if stage.dry_run:
        return stage.plan(images=len(found), prompts=len(prompts), checkpoint=str(checkpoint))
    predictor = Predictor.from_checkpoint(checkpoint, device, threshold)
    _warn_of_unknown_words(prompts)
    inputs = [checkpoint / CHECKPOINT, *found]
    if single:
        segmented = segment(predictor, found[0], prompts)  # whatever is wrong shows before a folder is made
        _choose_folder(stage, found[0].stem)
        with stage.output(HEADER, inputs=inputs, device=device) as output:
            header = write_masks(output.path, segmented)
            output.finish(header)
            output.done = 1
        _report(header, stage.folder)
        return _summary(stage, [header], [])

    _choose_folder(stage, Path(image).resolve().name if Path(image).is_dir() else "images")
    headers: list[Prediction] = []
    with stage.output(None, inputs=inputs, device=device) as output:
        for path, name in stage.track(list(zip(found, _names(found), strict=True)), "predict", len(found), "images"):
            folder = output.path / name
            if output.resuming and (folder / HEADER).is_file():
                output.skipped += 1
                continue
            try:
                header = write_masks(folder, segment(predictor, path, prompts))
            except FluoroError as error:
                output.failed.append(error.problem)
                continue
            write_json(folder / HEADER, header)
            headers.append(header)
            output.done += 1
            _report(header, folder)
    return _summary(stage, headers, output.failed)


def _prompts(phrases: list[str], points: list[str], box: str | None) -> "list[Prompt]":
    """One prompt for each phrase, each with all points and the box; or one without words."""
    marks = [_numbers("--point", text, (2, 3), "x,y or x,y,1 (inside) or x,y,0 (outside)") for text in points]
    for text, mark in zip(points, marks, strict=True):
        if len(mark) == 3 and mark[2] not in (0, 1):
            raise UsageError(f"--point {text}: the third number is 1 (inside) or 0 (outside)", "--point 120,300,0")
    corners = None if box is None else _numbers("--box", box, (4,), "x0,y0,x1,y1")
    if any(not phrase.strip() for phrase in phrases):
        raise UsageError("a phrase is empty", 'name a structure, for example "left femur"')
    if not phrases and not marks and corners is None:
        raise UsageError("nothing to segment is named", 'add a phrase such as "left femur", --point x,y or --box')
    from fluorosam_cli.contracts import Prompt

    return [
        Prompt(
            text=phrase,
            points_xy=[(mark[0], mark[1]) for mark in marks],
            point_labels=[1 if len(mark) == 2 or mark[2] else 0 for mark in marks],
            box_xyxy=None if corners is None else (corners[0], corners[1], corners[2], corners[3]),
        )
        for phrase in (phrases or [None])
    ]


def _numbers(option: str, text: str, counts: tuple[int, ...], form: str) -> list[float]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(abs(value) < 1e6 for value in values):
        raise UsageError(
            f"{option} {text}: not of the form {form}", f"for example {option} 120,300" + ",400,500" * (4 in counts)
        )
    return values


def _check_folder(stage: Stage) -> None:
    for option in ("resume", "overwrite"):
        if stage.options[option] and stage.options["out"] is None:
            raise UsageError(f"--{option} without -o: every call gets a fresh folder", "say which folder with -o")


def _choose_folder(stage: Stage, stem: str) -> None:
    """Without -o every call gets a fresh folder: predictions/STEM-001, -002, ..."""
    if stage.options["out"] is not None:
        return
    stage.folder.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = stage.folder / f"{stem}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        stage.folder = folder
        return


def _names(paths: list[Path]) -> list[str]:
    """A folder name for each image: its stem, or its whole name where two stems are equal."""
    stems = [path.stem for path in paths]
    names = [path.stem if stems.count(path.stem) == 1 else path.name for path in paths]
    return [name if names.count(name) == 1 else f"{name}-{i + 1}" for i, name in enumerate(names)]


def _warn_of_unknown_words(prompts: "list[Prompt]") -> None:
    from fluorosam_cli.text.phrases import matches, resolve

    for prompt in prompts:
        if prompt.text is not None and resolve(prompt.text) is None:
            near = [match.name for match in matches(prompt.text, 3)]
            also = f"; the nearest are {', '.join(near)}" if near else ""
            log.warning('warning: "%s" is no known name of a structure%s', prompt.text, also)


def _report(header: "Prediction", folder: Path) -> None:
    from fluorosam_cli.prediction.write import PRESENT

    for mask in header.masks:
        text = header.prompts[mask.prompt].text
        if text is not None and mask.presence is not None and mask.presence < PRESENT:
            log.warning('"%s": not in this image (presence %.2f)', text, mask.presence)
        log.info("%s: %d px, predicted IoU %.2f", folder / mask.mask, mask.area_px, mask.score)


def _summary(stage: Stage, headers: "list[Prediction]", failed: list[str]) -> dict[str, object]:
    summary: dict[str, object] = {"images": len(headers), "masks": sum(len(header.masks) for header in headers)}
    if stage.options["json"]:
        summary["predictions"] = [header.model_dump(mode="json") for header in headers]
    return {**summary, "failed": failed}

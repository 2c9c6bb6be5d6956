"""`fluoro predict`: an image and phrases, points, a box or a mask -> masks."""

import logging
import sys
import tempfile
from contextlib import ExitStack
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.contracts import Prediction, Prompt
    from fluorosam_cli.prediction.predictor import Predictor

log = logging.getLogger("fluoro")


def register(app: typer.Typer) -> None:
    command(app, "predict", default_out="predictions")(predict)


def predict(
    stage: Stage,
    image: Annotated[
        str,
        typer.Argument(help="An image (PNG, JPEG, TIFF, DICOM, NIfTI, NRRD), a folder of them, a quoted glob, or -."),
    ],
    phrases: Annotated[
        list[str] | None, typer.Argument(help='What to segment: "left femur" "sacrum"; a mask each.')
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="x,y inside the structure; x,y,0 outside it. May be repeated.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1 around the structure.", show_default=False)] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A rough mask of the image's size, white inside.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", envvar="FLUORO_PREDICT_ALL", help="Every structure that is in the image.")
    ] = False,
    prompts: Annotated[
        Path | None, typer.Option(help='prompts.json, or a list such as [{"text": "heart"}].', show_default=False)
    ] = None,
    model: Annotated[
        str, typer.Option(help="Checkpoint or run folder; `builtin` is the one that is shipped.")
    ] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threshold: Annotated[float, typer.Option(help="A pixel is in the mask above this probability.")] = 0.5,
    tta: Annotated[bool, typer.Option("--tta", help="Average over five looks at the image; see RESULTS.md.")] = False,
    frames: Annotated[
        str | None, typer.Option(help="1,5-10 or all of a film or stack.", show_default="all of a film")
    ] = None,
    invert: Annotated[
        bool | None,
        typer.Option("--invert/--no-invert", help="Bone is dark, or bright.", show_default="as header or pixels tell"),
    ] = None,
    largest_component: Annotated[
        bool, typer.Option("--largest-component", help="Keep only the largest connected part of each mask.")
    ] = False,
    format: Annotated[
        list[str] | None,
        typer.Option(help="Also write coco, nifti, npz or dicom-seg. May be repeated.", show_default=False),
    ] = None,
) -> dict[str, object]:
    """Segment what phrases name, points mark or a box encloses. Points, box and mask go with every phrase."""
    from fluorosam_cli.prediction.formats import check_formats, write_coco

    formats = check_formats(format or [])
    asked, masks_at = _asked(phrases or [], point or [], box, mask, everything, prompts)
    _check_folder(stage)
    from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
    from fluorosam_cli.model.checkpoint import find_checkpoint
    from fluorosam_cli.prediction.answers import Request
    from fluorosam_cli.prediction.batch import batch_of, parse_frames, read_stdin
    from fluorosam_cli.prediction.images import find_images
    from fluorosam_cli.prediction.predictor import Predictor, choose_device, logit_of
    from fluorosam_cli.prediction.prompts import read_masks
    from fluorosam_cli.prediction.write import HEADER, write_prediction
    from fluorosam_cli.text.encoder import encoder_of

    wanted = None if frames is None else parse_frames(frames)
    logit_of(threshold)  # raises what is wrong with it
    with ExitStack() as cleanup:
        if image == "-":
            scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fluoro-")))
            paths = [read_stdin(sys.stdin.buffer, scratch)]
        else:
            paths = find_images(image)
        checkpoint, device = find_checkpoint(model), choose_device(device)
        batch = batch_of(image, paths, wanted)
        request = Request(asked, read_masks(asked, masks_at), invert, tta)
        if stage.dry_run:
            plan = stage.plan(images=batch.images, prompts=len(asked), checkpoint=str(checkpoint))
            return {**plan, "failed": batch.failed}
        predictor = Predictor.from_checkpoint(checkpoint, device, threshold)
        if everything or any(prompt.text for prompt in asked):
            encoder_of(predictor.checkpoint.text_encoder)  # what is wrong with it is wrong for every image
        _warn_of_words(asked, predictor)
        done = batch.done(stage.folder) if stage.options["resume"] else {}
        results = batch.segmented(predictor, request, done)
        if not batch.single:
            results = iter(stage.track(results, "predict", batch.images - len(done), "images"))
        first = list(islice(results, 1))  # whatever is wrong with a single image shows before a folder is made
        if batch.failed and not first and not done:
            raise FluoroError(
                f"{image}: none of its {len(paths)} images can be read; {batch.failed[0]}", "mend or remove them"
            )
        if stage.options["out"] is None:
            stage.folder = _fresh_folder(stage.folder, batch.title)
        inputs = [checkpoint / CHECKPOINT, *(masks_at / name for name in request.masks)]
        inputs += [] if prompts is None else [prompts]
        headers: dict[str, Prediction] = {}
        header = HEADER if batch.single else None
        with stage.output(header, inputs=inputs, reads=paths, device=device) as output:
            output.failed, output.skipped = batch.failed, len(done)
            for name, one in chain(first, results):
                with batch.listing():
                    folder = output.path / name
                    headers[name] = write_prediction(folder, one, formats, largest_component, batch.single)
                    output.done += 1
                    _report(headers[name], folder, formats)
            if not headers and not done:
                raise FluoroError(
                    f"{image}: none of its images could be segmented; {batch.failed[0]}", "mend or remove them"
                )
            if "coco" in formats and not batch.single:
                there = done | headers
                write_coco(output.path, [(name, there[name]) for name in batch.places.values() if name in there])
    summary: dict[str, object] = {"images": len(headers), "masks": sum(len(one.masks) for one in headers.values())}
    if stage.options["json"]:
        summary["predictions"] = [header.model_dump(mode="json") for header in headers.values()]
    return {**summary, "failed": batch.failed}


def _asked(
    phrases: list[str], points: list[str], box: str | None, mask: Path | None, everything: bool, file: Path | None
) -> "tuple[list[Prompt], Path]":
    """The prompts, none for --all, and the folder that their masks are relative to."""
    from fluorosam_cli.prediction.prompts import prompts_of, read_prompts, spelt_out

    for phrase in phrases:
        if Path(phrase).suffix and Path(phrase).is_file():
            raise UsageError(
                f"{phrase}: is a file, a phrase is expected", "for several images quote a pattern: 'a/*.png'"
            )
    named = bool(phrases or points or box or mask)
    if everything + (file is not None) + named > 1:
        raise UsageError("--all, --prompts and prompts on the command line exclude each other", "give one of them")
    if everything:
        return [], Path()
    if file is not None:
        return spelt_out(read_prompts(file)), file.parent
    asked = prompts_of(phrases, points, box, None if mask is None else mask.name)
    return spelt_out(asked), Path() if mask is None else mask.parent


def _check_folder(stage: Stage) -> None:
    for option in ("resume", "overwrite"):
        if stage.options[option] and stage.options["out"] is None:
            raise UsageError(f"--{option} without -o: every call gets a fresh folder", "say which folder with -o")


def _fresh_folder(parent: Path, stem: str) -> Path:
    """Without -o every call gets a folder of its own: predictions/STEM-001, -002, ..."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / f"{stem}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def _warn_of_words(prompts: "list[Prompt]", predictor: "Predictor") -> None:
    from fluorosam_cli.prediction.understanding import remarks_on

    for text in (prompt.text for prompt in prompts if prompt.text is not None):
        for remark in remarks_on(predictor, text):
            log.warning('warning: "%s": %s', text, remark)


def _report(header: "Prediction", folder: Path, formats: list[str]) -> None:
    from fluorosam_cli.prediction.answers import PRESENT

    for mask in header.masks:
        text = header.prompts[mask.prompt].text
        if text is not None and mask.presence is not None and mask.presence < PRESENT:
            log.warning('"%s": not in this image (presence %.2f)', text, mask.presence)
        elif mask.understood == "ambiguous":
            log.info('"%s": taken as "%s"', text, mask.asked)
        log.info("%s: %d px, predicted IoU %.2f", folder / mask.mask, mask.area_px, mask.score)
    if "dicom-seg" in formats and not any(mask.area_px for mask in header.masks):
        log.warning("warning: %s: every mask is empty, so there is no masks.dcm", folder)

"""`fluoro predict`: an image and phrases, points, a box or a mask -> masks."""

import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.contracts import Prediction, Prompt
    from fluorosam_cli.prediction.predictor import Predictor
    from fluorosam_cli.prediction.write import Segmented

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
    from fluorosam_cli.prediction.batch import Job, job_of, names_of, parse_frames, read_stdin, segment
    from fluorosam_cli.prediction.images import find_images
    from fluorosam_cli.prediction.predictor import Predictor, choose_device
    from fluorosam_cli.prediction.prompts import read_masks
    from fluorosam_cli.prediction.write import HEADER, is_done, read_prediction, write_prediction
    from fluorosam_cli.text.encoder import encoder_of

    wanted = None if frames is None else parse_frames(frames)
    with ExitStack() as cleanup:
        if image == "-":
            scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fluoro-")))
            paths = [read_stdin(sys.stdin.buffer, scratch)]
        else:
            paths = find_images(image)
        checkpoint, device = find_checkpoint(model), choose_device(device)
        alone = len(paths) == 1 and not Path(image).is_dir()
        jobs: list[Job] = []
        failed: list[str] = []
        for path, name in zip(paths, names_of(paths), strict=True):
            with _listed(failed, alone):
                jobs.append(job_of(path, name, wanted))
        images = sum(len(job.frames) for job in jobs)
        if stage.dry_run:
            return {**stage.plan(images=images, prompts=len(asked), checkpoint=str(checkpoint)), "failed": failed}
        predictor = Predictor.from_checkpoint(checkpoint, device, threshold)
        if everything or any(prompt.text for prompt in asked):
            encoder_of(predictor.checkpoint.text_encoder)  # what is wrong with it is wrong for every image
        _warn_of_words(asked, predictor)
        request = Request(asked, read_masks(asked, masks_at), invert, tta)
        single = alone and images == 1  # its results lie in the output folder itself, others have a folder each

        places = {(job, frame): "" if single else job.folder_name(frame) for job in jobs for frame in job.frames}
        for name, count in Counter(places.values()).items():
            if count > 1:
                raise FluoroError(f"{image}: the results of two images would be called {name}", "rename one of them")
        done = {key for key, name in places.items() if stage.options["resume"] and is_done(stage.folder / name)}

        def segmented() -> "Iterator[tuple[str, Segmented]]":
            for job in jobs:
                with _listed(failed, alone):
                    for one in segment(predictor, request, job, [n for n in job.frames if (job, n) not in done]):
                        yield places[job, one.radiograph.frame], one

        left = images - len(done)
        results = segmented() if single else iter(stage.track(segmented(), "predict", left, "images"))
        first = list(islice(results, 1))  # whatever is wrong with a single image shows before a folder is made
        if failed and not first and not done:
            raise FluoroError(
                f"{image}: none of its {len(paths)} images can be read; {failed[0]}", "mend or remove them"
            )
        if stage.options["out"] is None:
            source = Path(image).resolve()
            name = jobs[0].name if alone else source.name if source.is_dir() else "images"
            stage.folder = _fresh_folder(stage.folder, jobs[0].folder_name(jobs[0].frames[0]) if single else name)
        inputs = [checkpoint / CHECKPOINT, *(job.path for job in jobs), *(masks_at / name for name in request.masks)]
        inputs += [] if prompts is None else [prompts]
        headers: list[Prediction] = []
        with stage.output(HEADER if single else None, inputs=inputs, device=device) as output:
            output.failed, output.skipped = failed, len(done)
            for name, one in chain(first, results):
                with _listed(failed, alone):
                    headers.append(write_prediction(output.path / name, one, formats, largest_component))
                    output.done += 1
                    _report(headers[-1], output.path / name, formats)
            if not headers and not done:
                raise FluoroError(f"{image}: none of its images could be segmented; {failed[0]}", "mend or remove them")
            if "coco" in formats:
                there = [name for name in places.values() if is_done(output.path / name)]
                write_coco(output.path, [(name, read_prediction(output.path / name)) for name in there])
    summary: dict[str, object] = {"images": len(headers), "masks": sum(len(header.masks) for header in headers)}
    if stage.options["json"]:
        summary["predictions"] = [header.model_dump(mode="json") for header in headers]
    return {**summary, "failed": failed}


@contextmanager
def _listed(failed: list[str], alone: bool) -> Iterator[None]:
    """Of one image among several, what is wrong goes into the list, and the others go on."""
    try:
        yield
    except FluoroError as error:
        if alone:
            raise
        failed.append(error.problem)


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
    from fluorosam_cli.prediction.understanding import understand_for

    trained = {None, *predictor.checkpoint.structures}
    for text in (prompt.text for prompt in prompts if prompt.text is not None):
        words = understand_for(predictor, text)
        if words.remark:
            known = f" (known to the network: {predictor.known(text):.2f})" if words.how == "unknown" else ""
            log.warning("warning: %s%s", words.remark, known)
        if trained.isdisjoint(words.structures):
            log.warning('warning: "%s": this model has not been trained on it; the mask may be a guess', text)


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

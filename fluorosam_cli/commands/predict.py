"""`fluoro predict`: an image and phrases, points, a box or a mask -> masks."""

import logging
import sys
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fluorosam_cli.artefacts import Output
    from fluorosam_cli.contracts import Prediction, Prompt
    from fluorosam_cli.prediction.batch import Job
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
    phrases: Annotated[list[str] | None, typer.Argument(help='What to segment: "left femur" "sacrum".')] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="x,y inside the structure; x,y,0 outside it. May be repeated.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1 around the structure.", show_default=False)] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A rough mask of the image's size, white inside.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every structure that is in the image.")] = False,
    prompts: Annotated[
        Path | None, typer.Option(help='prompts.json, or a list such as [{"text": "heart"}].', show_default=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint or run folder.", show_default="the built-in one")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threshold: Annotated[float, typer.Option(help="A pixel is in the mask above this probability.")] = 0.5,
    tta: Annotated[bool, typer.Option("--tta", help="Average over five looks at the image: slower, steadier.")] = False,
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
    kinds = _formats(format or [])
    asked, folder = _asked(phrases or [], point or [], box, mask, everything, prompts)
    _check_folder(stage)
    from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
    from fluorosam_cli.model.checkpoint import find_checkpoint
    from fluorosam_cli.prediction.batch import job_of, names_of, parse_frames, read_stdin
    from fluorosam_cli.prediction.images import find_images, read_frames
    from fluorosam_cli.prediction.predictor import Predictor, builtin_checkpoint, choose_device
    from fluorosam_cli.prediction.prompts import read_masks

    wanted = None if frames is None else parse_frames(frames)
    with ExitStack() as cleanup:
        if image == "-":
            scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fluoro-")))
            found = [read_stdin(sys.stdin.buffer, scratch)]
        else:
            found = find_images(image)
        checkpoint = find_checkpoint(model) if model is not None else builtin_checkpoint()
        device = choose_device(device)
        jobs: list[Job] = []
        failed: list[str] = []
        alone = len(found) == 1 and not Path(image).is_dir()
        for path, name in zip(found, names_of(found), strict=True):
            try:
                jobs.append(job_of(path, name, wanted))
            except FluoroError as error:
                if alone:
                    raise
                failed.append(error.problem)
        images = sum(len(job.frames) for job in jobs)
        if stage.dry_run:
            plan = stage.plan(images=images, prompts=len(asked), checkpoint=str(checkpoint))
            return {**plan, "failed": failed}
        predictor = Predictor.from_checkpoint(checkpoint, device, threshold)
        _warn_of_words(asked, predictor)
        masks = read_masks(asked, folder)

        def segmented(job: "Job", numbers: list[int]) -> "Iterator[Segmented]":
            from fluorosam_cli.prediction.answers import answer_everything, answer_prompts
            from fluorosam_cli.prediction.write import Segmented

            for radiograph in read_frames(job.path, numbers, invert):
                predictor.set_image(radiograph.for_network, tta)
                absent: dict[str, float] = {}
                if everything:
                    answers, absent = answer_everything(predictor)
                else:
                    answers = answer_prompts(predictor, asked, masks)
                yield Segmented(job.path, radiograph, answers, predictor.checkpoint_sha256, absent)

        run = _one if alone and images == 1 else _many
        return run(stage, jobs, segmented, kinds, largest_component, failed, [checkpoint / CHECKPOINT, *found], device)


def _one(
    stage: Stage,
    jobs: "list[Job]",
    segmented: "Callable[[Job, list[int]], Iterator[Segmented]]",
    kinds: list[str],
    largest: bool,
    failed: list[str],
    inputs: list[Path],
    device: str,
) -> dict[str, object]:
    """One image: its results lie in the output folder itself."""
    from fluorosam_cli.prediction.formats import write_coco
    from fluorosam_cli.prediction.write import HEADER, write_masks

    done = next(segmented(jobs[0], list(jobs[0].frames)))  # whatever is wrong shows before a folder is made
    _choose_folder(stage, jobs[0].folder_name(jobs[0].frames[0]))
    with stage.output(HEADER, inputs=inputs, device=device) as output:
        header = write_masks(output.path, done, kinds, largest)
        if "coco" in kinds:
            write_coco(output.path, [("", header)])
        output.finish(header)
        output.done = 1
    _report(header, stage.folder)
    return _summary(stage, [header], failed)


def _many(
    stage: Stage,
    jobs: "list[Job]",
    segmented: "Callable[[Job, list[int]], Iterator[Segmented]]",
    kinds: list[str],
    largest: bool,
    failed: list[str],
    inputs: list[Path],
    device: str,
) -> dict[str, object]:
    """Several images or frames: a folder for each."""
    from fluorosam_cli.artefacts import read_header
    from fluorosam_cli.contracts import Prediction
    from fluorosam_cli.prediction.formats import write_coco
    from fluorosam_cli.prediction.write import HEADER

    source = Path(stage.resolved["image"])
    _choose_folder(stage, jobs[0].name if len(jobs) == 1 else source.resolve().name if source.is_dir() else "images")
    headers: list[Prediction] = []
    with stage.output(None, inputs=inputs, device=device) as output:
        output.failed += failed
        for job in stage.track(jobs, "predict", len(jobs), "images"):
            left = [n for n in job.frames if not (output.path / job.folder_name(n) / HEADER).is_file()]
            output.skipped += len(job.frames) - len(left)
            try:
                headers += _write_frames(output, job, segmented(job, left), kinds, largest)
            except FluoroError as error:
                output.failed.append(error.problem)
        if "coco" in kinds:
            names = [job.folder_name(number) for job in jobs for number in job.frames]
            there = [name for name in names if (output.path / name / HEADER).is_file()]
            write_coco(output.path, [(name, read_header(output.path / name / HEADER, Prediction)) for name in there])
    return _summary(stage, headers, output.failed)


def _write_frames(
    output: "Output", job: "Job", results: "Iterator[Segmented]", kinds: list[str], largest: bool
) -> "list[Prediction]":
    from fluorosam_cli.artefacts import write_json
    from fluorosam_cli.prediction.write import HEADER, write_masks

    headers = []
    for one in results:
        folder = output.path / job.folder_name(one.radiograph.frame)
        header = write_masks(folder, one, kinds, largest)
        write_json(folder / HEADER, header)
        headers.append(header)
        output.done += 1
        _report(header, folder)
    return headers


def _asked(
    phrases: list[str], points: list[str], box: str | None, mask: Path | None, everything: bool, file: Path | None
) -> "tuple[list[Prompt], Path]":
    """The prompts, none for --all, and the folder that their masks are relative to."""
    from fluorosam_cli.prediction.prompts import prompts_of, read_prompts

    named = bool(phrases or points or box or mask)
    if everything + (file is not None) + named > 1:
        raise UsageError("--all, --prompts and prompts on the command line exclude each other", "give one of them")
    if everything:
        return [], Path()
    if file is not None:
        return read_prompts(file), file.parent
    return prompts_of(
        phrases, points, box, None if mask is None else mask.name
    ), Path() if mask is None else mask.parent


def _formats(names: list[str]) -> list[str]:
    known = ("coco", "nifti", "npz", "dicom-seg")
    for name in names:
        if name not in known:
            raise UsageError(f"--format {name}: not known", f"choose among {', '.join(known)}; PNG is always written")
    return list(dict.fromkeys(names))


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


def _warn_of_words(prompts: "list[Prompt]", predictor: "Predictor") -> None:
    from fluorosam_cli.prediction.understanding import understand

    for prompt in prompts:
        if prompt.text is not None and (remark := (words := understand(prompt.text)).remark):
            known = f" (known to the network: {predictor.known(prompt.text):.2f})" if words.how == "unknown" else ""
            log.warning("warning: %s%s", remark, known)


def _report(header: "Prediction", folder: Path) -> None:
    from fluorosam_cli.prediction.answers import PRESENT

    for mask in header.masks:
        text = header.prompts[mask.prompt].text
        if text is not None and mask.presence is not None and mask.presence < PRESENT:
            log.warning('"%s": not in this image (presence %.2f)', text, mask.presence)
        elif mask.understood == "ambiguous":
            log.info('"%s": taken as "%s"', text, mask.asked)
        log.info("%s: %d px, predicted IoU %.2f", folder / mask.mask, mask.area_px, mask.score)


def _summary(stage: Stage, headers: "list[Prediction]", failed: list[str]) -> dict[str, object]:
    summary: dict[str, object] = {"images": len(headers), "masks": sum(len(header.masks) for header in headers)}
    if stage.options["json"]:
        summary["predictions"] = [header.model_dump(mode="json") for header in headers]
    return {**summary, "failed": failed}

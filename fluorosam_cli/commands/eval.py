"""`fluoro eval`: a model and images with known masks -> metrics and a report; or two of those side by side."""

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.contracts import Metrics

log = logging.getLogger("fluoro")
ALL = "text,text+points,points,box,box+points,presence,paraphrases"


def register(app: typer.Typer) -> None:
    command(app, "eval", default_out="metrics")(evaluate)


def evaluate(
    stage: Stage,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHECKPOINT] DATA",
            help="CHECKPOINT: a checkpoint or run folder, or `builtin`; left out with --model. "
            "DATA: shards, a folder with images/ and masks/ID/STRUCTURE.png, or a COCO JSON file.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Other weights: sam:vit_b:PATH, medsam:PATH, sam-med2d:PATH, onnx:PATH.", show_default=False),
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="Which of these to ask, with commas between; `text` alone is quickest.", metavar="KINDS")
    ] = ALL,
    clicks: Annotated[
        int, typer.Option(min=0, max=20, help="Clicks scored one by one, after text or box, and alone.")
    ] = 8,
    noc: Annotated[
        int, typer.Option(min=0, max=100, help="Click on to so many for masks below IoU 0.9 (NoC); 0: do not.")
    ] = 20,
    phrases: Annotated[
        Literal["train", "test", "all"], typer.Option(help="Words seen in training, words held out, or both.")
    ] = "all",
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            help="Phrases of your own: CSV (structure, phrase) or JSON {structure: [phrases]}.", show_default=False
        ),
    ] = None,
    split: Annotated[
        Literal["test", "val", "train"] | None,
        typer.Option(help="Which cases of shards.", show_default="test if there are any, else val"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images, spread evenly.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first mask that cannot be used.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Set two finished evaluations side by side instead.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> dict[str, object]:
    """Measure a model on images with known masks, asked with words, clicks and boxes; write numbers and a report."""
    if compare:
        _check_alone(stage)
        return _compare(stage, *compare)
    chosen, data = _model_and_data(paths or [], model)
    from fluorosam_cli.artefacts import read_header
    from fluorosam_cli.contracts import Metrics
    from fluorosam_cli.evaluation.evaluate import HEADER, EvalPlan
    from fluorosam_cli.evaluation.evaluate import evaluate as score
    from fluorosam_cli.evaluation.protocol import Protocol, understood
    from fluorosam_cli.evaluation.segmenter import load_segmenter
    from fluorosam_cli.evaluation.sources import choose_images, open_source, read_prompts
    from fluorosam_cli.prediction.predictor import choose_device

    series = _series(prompts)
    device = choose_device(device)
    source = open_source(data, split)
    words = read_prompts(prompt_file, source.structures) if prompt_file else source.words(phrases)
    images = choose_images(len(source), limit)
    segmenter, described = load_segmenter(chosen, device)
    asked = understood(series, described)
    if not asked:
        raise UsageError(
            f"--prompts {prompts}: {described.name} takes {', '.join(described.takes)}", "choose among those"
        )
    if asked == ("points",) and not clicks:
        raise UsageError("--clicks 0: leaves nothing of clicks alone to score", "give --clicks 1 or more")
    if any(part in ("text", "presence") for kind in asked for part in kind.split("+")) and not any(words.values()):
        raise FluoroError(f"{data}: no structure has a {phrases} phrase", "choose other --phrases")
    protocol = Protocol(asked, clicks, noc, words, source.words("test"), stage.seed)
    _tell(source.unknown_names, series, asked, described.name)
    stage.resolved |= {
        "device": device.partition(":")[0],
        "model_sha256": described.sha256,
        "data_sha256": source.sha256,
    }
    inputs = [prompt_file] if prompt_file else []
    folder = stage.output(HEADER, inputs=inputs, reads=[Path(chosen), data], device=device)
    if stage.dry_run:
        return stage.plan(
            images=len(images), held=len(source), split=source.split, structures=len(source.structures),
            model=described.name, prompts=list(asked), answers_per_mask=protocol.answers_per_mask(),
        )  # fmt: skip
    log.info("%d of %d images, at most %d answers for each mask", len(images), len(source), protocol.answers_per_mask())
    plan = EvalPlan(source, images, "file" if prompt_file else phrases, protocol, strict)
    with folder as output:
        if output.finished:
            output.skipped = len(images)
            metrics = read_header(output.path / HEADER, Metrics)
        else:
            metrics = score(plan, segmenter, described, output, stage.track)
    return _summary(metrics)


def _check_alone(stage: Stage) -> None:
    """Raise UsageError where an option of this command's own, which --compare would pass over, is not its default."""
    own = {key: parameter.default for key, parameter in inspect.signature(evaluate).parameters.items()}
    others = stage.resolved.keys() & own.keys() - {"compare"}
    given = [key for key in own if key in others and stage.resolved[key] not in (own[key], None, [])]
    if given:
        named = ", ".join("CHECKPOINT DATA" if key == "paths" else f"--{key.replace('_', '-')}" for key in given)
        raise UsageError("--compare takes two finished evaluations and nothing else", f"leave out {named}")


def _model_and_data(paths: list[str], model: str | None) -> tuple[str, Path]:
    if len(paths) != (1 if model else 2):
        wanted = "DATA, as --model says what is evaluated" if model else "CHECKPOINT DATA"
        raise UsageError(f"{len(paths)} arguments given, expected: {wanted}", "for example fluoro eval runs/a shards/")
    return model or paths[0], Path(paths[-1])


def _series(prompts: str) -> tuple[str, ...]:
    from fluorosam_cli.evaluation.protocol import SERIES

    asked = [word.strip() for word in prompts.split(",") if word.strip()]
    for word in asked:
        if word not in SERIES:
            raise UsageError(f"--prompts {word}: not known", f"choose among {', '.join(SERIES)}")
    if not asked:
        raise UsageError("--prompts: is empty", f"choose among {', '.join(SERIES)}")
    if {"presence", "paraphrases"} & set(asked):
        asked.append("text")  # which they are compared with
    return tuple(kind for kind in SERIES if kind in asked)


def _tell(unknown: dict[str, int], series: tuple[str, ...], asked: tuple[str, ...], name: str) -> None:
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.items())
        log.warning("skipped, as no structure is known by these names: %s", listed)
    blank = [kind for kind in series if kind not in asked]
    if blank:
        log.info("left blank, as %s does not take them: %s", name, ", ".join(blank))


def _compare(stage: Stage, first: Path, second: Path) -> dict[str, object]:
    from fluorosam_cli.evaluation.compare import HEADER, compare, read_evaluation

    if stage.options["out"] is None:
        stage.folder = Path("comparison")
    a, b = read_evaluation(first), read_evaluation(second)
    folder = stage.output(HEADER, inputs=[a.header, b.header])
    if stage.dry_run:
        return stage.plan(a=a.metrics.model.name, b=b.metrics.model.name, rows=[len(a.rows), len(b.rows)])
    with folder as output:
        found = compare(a, b, output, stage.seed)
    return {
        "a": found.a.name,
        "b": found.b.name,
        "iou_difference": {s.prompt: s.difference.mean for s in found.prompts if s.metric == "iou"},
    }


def _summary(metrics: "Metrics") -> dict[str, object]:
    means = {s.prompt: s.over_structures.iou.mean for s in metrics.prompts if s.over_structures.iou}
    return {
        "model": metrics.model.name,
        "images": metrics.data.images,
        "split": metrics.data.split,
        "iou": means,
        "largest_ten_text_iou": metrics.largest_ten_text_iou,
        "presence_auroc": metrics.presence.auroc if metrics.presence else None,
        "skipped_names": metrics.data.unknown_names,
        "failed": metrics.data.problems,
    }

"""The `eval` stage: a model is asked for every structure of images it has not seen, and its answers are scored.

`protocol.py` says what is asked, `summary.py` what is made of the answers, `report.py` how that is shown.
"""

from dataclasses import dataclass

import numpy as np

from fluorosam_cli.artefacts import Track, silent
from fluorosam_cli.contracts import EvaluatedData, EvaluatedModel, Metrics
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation import summary
from fluorosam_cli.evaluation.protocol import TOLERANCE, Protocol, score_scene
from fluorosam_cli.evaluation.report import write_report
from fluorosam_cli.evaluation.samples import ABSENT, PARAPHRASE, Row, RowFile, read_rows
from fluorosam_cli.evaluation.segmenter import Segmenter
from fluorosam_cli.evaluation.sources import Source
from fluorosam_cli.output import Output

HEADER = "metrics.json"
SAMPLES = "samples.csv"
REPORT = "report.html"


@dataclass(frozen=True)
class EvalPlan:
    """What is evaluated, and on what."""

    source: Source
    images: list[int]  # positions in the source
    phrases: str  # train, test, all or file
    protocol: Protocol
    strict: bool


def evaluate(
    plan: EvalPlan, segmenter: Segmenter, model: EvaluatedModel, output: Output, track: Track = silent
) -> Metrics:
    """Score every image, then write the report and `metrics.json`. A continued run skips images it has scored.

    Raises FluoroError when no mask could be scored and, under `strict`, at the first mask that cannot be used.
    """
    problems = list(plan.source.problems)
    _heed(plan, problems)
    path = output.path / SAMPLES
    cases: set[str] = set()
    with RowFile(path) as file:
        for image in track(plan.images, "eval", len(plan.images), "images"):
            scene = plan.source[image]
            problems += scene.problems
            _heed(plan, scene.problems)
            cases.add(scene.case)
            if image in file.scored:
                output.skipped += 1
                continue
            file.append(score_scene(plan.protocol, segmenter, "mask" in model.takes, scene, image))
            output.done += 1
    rows = read_rows(path)
    metrics = summarise(plan, model, rows, cases, problems)
    write_report(output.path / REPORT, metrics, rows, plan, segmenter)
    output.failed += problems
    output.finish(metrics)
    return metrics


def _heed(plan: EvalPlan, problems: list[str]) -> None:
    if problems and plan.strict:
        raise FluoroError(problems[0], "mend it, or leave --strict out to skip what cannot be used")


def summarise(plan: EvalPlan, model: EvaluatedModel, rows: list[Row], cases: set[str], problems: list[str]) -> Metrics:
    """All figures, from the rows as they stand in `samples.csv`."""
    protocol = plan.protocol
    scored = [row for row in rows if row.prompt not in (ABSENT, PARAPHRASE)]
    by_kind = summary.kinds(scored, protocol.clicks)
    if not by_kind:
        raise FluoroError(
            f"no mask could be scored{f': {problems[0]}' if problems else ''}",
            "masks of shards have to cover 0.1 % to 90 % of the image" if plan.source.kind == "shards" else "see above",
        )
    resampling = summary.Resampling.of(rows, protocol.seed)
    unit = summary.surface_unit(scored)
    structures = summary.structure_scores(by_kind, resampling, unit)
    largest = [s.scores.iou.mean for s in summary.largest_text(structures) if s.scores.iou]
    return Metrics(
        model=model,
        data=EvaluatedData(
            kind=plan.source.kind,
            sha256=plan.source.sha256,
            split=plan.source.split,
            images=len(plan.images),
            cases=len(cases),
            images_held=len(plan.source),
            unknown_names=plan.source.unknown_names,
            problems=problems,
        ),
        phrases=plan.phrases,  # pyright: ignore[reportArgumentType]
        bootstrap_over="cases" if resampling.over_cases else "images",
        surface_unit=unit,  # pyright: ignore[reportArgumentType]
        nsd_tolerance=TOLERANCE,
        prompts=summary.prompt_scores(by_kind, resampling, unit),
        structures=structures,
        parts=summary.part_scores(by_kind, resampling, unit),
        clicks_needed=summary.noc_scores(scored, resampling, protocol.cap),
        presence=summary.presence_scores(rows),
        paraphrases=summary.paraphrase_scores(rows, resampling),
        largest_ten_text_iou=round(float(np.mean(largest)), 6) if largest else None,
    )

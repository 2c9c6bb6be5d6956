"""The `eval` stage: a checkpoint is asked for every structure of held-out images, and the answers are scored.

Prompt kinds, for each mask: `text`; `text+1` ... `text+N`, a click more each time; `points+1` ... `points+N`, clicks
alone; `box`. After each answer the simulated user clicks into its largest error, and the answer's logits are fed back,
as in training. The mask is always the one with the highest predicted IoU; the best of the three alternatives, which
only an oracle can choose, is scored beside it. Presence is measured with as many phrases of structures that are not in
the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fluorosam_cli.artefacts import Output, Track, sha256_of, silent
from fluorosam_cli.contracts import Estimate, Metrics, PromptScores, Split, StructureScores
from fluorosam_cli.dataset.loader import usable
from fluorosam_cli.dataset.shards import HEADER as SHARDS
from fluorosam_cli.dataset.shards import Sample, ShardReader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation.clicks import next_click
from fluorosam_cli.evaluation.metrics import auroc, bootstrap_weights, dice, grouped_estimate, iou
from fluorosam_cli.evaluation.report import write_report
from fluorosam_cli.evaluation.samples import ABSENT, Row, RowFile, read_rows
from fluorosam_cli.prediction.predictor import ImagePrompt, PredictedMasks, Predictor
from fluorosam_cli.prediction.write import box_of

HEADER = "metrics.json"
SAMPLES = "samples.csv"
REPORT = "report.html"
LARGEST = 10
PROMPTS_AT_ONCE = 32  # bounds memory: four masks of the image's size for each

PhraseChoice = Literal["train", "test", "all"]


@dataclass(frozen=True)
class EvalPlan:
    """What is evaluated."""

    reader: ShardReader
    split: Split
    images: list[int]  # positions in the split
    phrases: PhraseChoice
    words: dict[str, list[str]]  # structure -> its phrases of that choice
    clicks: int
    seed: int


@dataclass(frozen=True)
class Scored:
    """A finished evaluation: the header's numbers and the rows they come from."""

    metrics: Metrics
    rows: list[Row]
    largest: list[str]  # the structures of `largest_ten_text_iou`
    unit: Literal["cases", "images"]  # what the bootstrap resamples


def plan_eval(
    shards: Path, split: Split | None, phrases: PhraseChoice, clicks: int, limit: int | None, seed: int
) -> EvalPlan:
    """Open the split (test if there is one, else val) and choose at most `limit` images spread over it.

    Raises FluoroError when the split holds no image, or no structure has a phrase of the kind asked for.
    """
    candidates: list[Split] = [split] if split else ["test", "val"]
    held: list[tuple[Split, ShardReader]] = [
        (name, reader) for name in candidates if len(reader := ShardReader(shards, name))
    ]
    if not held:
        raise FluoroError(
            f"{shards}: holds no {' and no '.join(candidates)} images",
            "fluoro pack ... --test 0.2 holds cases out" if not split else "choose another --split",
        )
    found, reader = held[0]
    words: dict[str, list[str]] = {name: [] for name in reader.header.structures}
    for phrase in reader.header.phrases:
        if phrases in ("all", phrase.split) and phrase.structure in words:
            words[phrase.structure].append(phrase.text)
    if not any(words.values()):
        raise FluoroError(f"{shards}: no structure has a {phrases} phrase", "choose other --phrases")
    count = min(limit or len(reader), len(reader))
    images = np.unique(np.linspace(0, len(reader) - 1, count).round().astype(int)).tolist()
    return EvalPlan(reader, found, images, phrases, words, clicks, seed)


def evaluate(plan: EvalPlan, predictor: Predictor, output: Output, track: Track = silent) -> Scored:
    """Score every image, then write the report and `metrics.json`. A continued run skips images it has scored."""
    path = output.path / SAMPLES
    with RowFile(path) as file:
        left = [image for image in plan.images if image >= file.next_image]
        output.skipped = len(plan.images) - len(left)
        for image in track(left, "eval", len(left), "images"):
            file.append(score_image(plan, predictor, image))
            output.done += 1
    scored = summarise(plan, predictor.checkpoint_sha256, read_rows(path))
    write_report(output.path / REPORT, scored, plan, predictor)
    output.finish(scored.metrics)
    return scored


# --- one image --------------------------------------------------------------------------------------------------------


def score_image(plan: EvalPlan, predictor: Predictor, image: int) -> list[Row]:
    """All rows of one image. Phrases and absent structures depend on the seed and the image alone."""
    sample = plan.reader[image]
    names = plan.reader.header.structures
    height, width = sample.inner_hw
    chosen = [int(row) for row in usable(sample)]
    real = [sample.mask(row)[:height, :width] for row in chosen]
    structures = [names[sample.structures[row]] for row in chosen]
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, image]))
    phrases = [_draw_phrase(plan.words[name], rng) for name in structures]
    absent = _draw_absent(plan, sample, sum(phrase is not None for phrase in phrases), rng)
    predictor.set_image(sample.image[:height, :width])

    def row(structure: str, prompt: str, phrase: str | None, mask: np.ndarray | None, answer: PredictedMasks) -> Row:
        return Row(
            image=image,
            case=sample.case,
            view=sample.view,
            structure=structure,
            prompt=prompt,
            phrase=phrase,
            area_px=0 if mask is None else int(mask.sum()),
            iou=None if mask is None else iou(answer.mask, mask),
            dice=None if mask is None else dice(answer.mask, mask),
            oracle_iou=None if mask is None else max(iou(m, mask) for m in answer.masks[1:]),
            predicted_iou=answer.iou,
            presence=None if phrase is None else answer.presence,
        )

    rows: list[Row] = []
    spoken = [i for i, phrase in enumerate(phrases) if phrase is not None]
    for kind, members in (("text", spoken), ("points", list(range(len(chosen)))), ("box", list(range(len(chosen))))):
        for part in _parts(members):
            masks = [real[i] for i in part]
            words = [phrases[i] if kind == "text" else None for i in part]
            for suffix, answers in _rounds(predictor, kind, words, masks, plan.clicks):
                for i, phrase, mask, answer in zip(part, words, masks, answers, strict=True):
                    rows.append(row(structures[i], kind + suffix, phrase, mask, answer))
    for part in _parts(absent):
        answers = predictor.predict_batch([ImagePrompt(text=phrase) for _, phrase in part])
        for (structure, phrase), answer in zip(part, answers, strict=True):
            rows.append(row(structure, ABSENT, phrase, None, answer))
    return rows


def _parts(items: list) -> Iterator[list]:
    return (items[start : start + PROMPTS_AT_ONCE] for start in range(0, len(items), PROMPTS_AT_ONCE))


def _rounds(
    predictor: Predictor, kind: str, words: Sequence[str | None], masks: Sequence[np.ndarray], clicks: int
) -> Iterator[tuple[str, list[PredictedMasks]]]:
    """The answers after the first prompt and after each click, as ("", "+1", ...); a perfect mask gets no more."""
    if kind == "box":
        yield "", predictor.predict_batch([ImagePrompt(box_xyxy=box_of(mask)) for mask in masks])
        return
    prompts = [ImagePrompt(text=text) for text in words]
    answers: list[PredictedMasks] = []
    if kind == "text":
        answers = predictor.predict_batch(prompts)
        yield "", answers
    for number in range(1, clicks + 1):
        before = [answer.mask for answer in answers] or [np.zeros_like(mask) for mask in masks]
        logits = [answer.logits[answer.best] for answer in answers] or [None] * len(masks)
        prompts = [_clicked(*args) for args in zip(prompts, before, masks, logits, strict=True)]
        answers = predictor.predict_batch(prompts)
        yield f"+{number}", answers


def _clicked(prompt: ImagePrompt, before: np.ndarray, real: np.ndarray, logits: np.ndarray | None) -> ImagePrompt:
    click = next_click(before, real)
    if click is None:
        return prompt
    return replace(
        prompt,
        points_xy=[*prompt.points_xy, (click.x, click.y)],
        point_labels=[*prompt.point_labels, click.label],
        mask_input=logits,
    )


def _draw_phrase(words: list[str], rng: np.random.Generator) -> str | None:
    return words[int(rng.integers(len(words)))] if words else None


def _draw_absent(plan: EvalPlan, sample: Sample, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """At most `count` structures that the image does not show at all, each with a phrase."""
    shown = {plan.reader.header.structures[number] for number in sample.structures}
    candidates = [name for name, words in plan.words.items() if words and name not in shown]
    chosen = rng.choice(len(candidates), min(count, len(candidates)), replace=False) if candidates else []
    names = [candidates[i] for i in sorted(int(i) for i in chosen)]
    return [(name, _draw_phrase(plan.words[name], rng) or "") for name in names]


# --- all images -------------------------------------------------------------------------------------------------------


def summarise(plan: EvalPlan, checkpoint_sha256: str, rows: list[Row]) -> Scored:
    """Means with intervals by prompt kind and structure, from the rows as they stand in `samples.csv`.

    The bootstrap resamples cases; when there is only one, its images.
    """
    scored = [row for row in rows if row.prompt != ABSENT]
    if not scored:
        raise FluoroError("no mask covers between 0.1 % and 90 % of its image", "evaluate other images")
    by_case = len({row.case for row in scored}) > 1
    units = {key: i for i, key in enumerate(dict.fromkeys(row.case if by_case else row.image for row in scored))}
    weights = bootstrap_weights(len(units), plan.seed)

    def scores(chosen: list[Row], field: Literal["iou", "dice"]) -> Estimate:
        values = np.array([getattr(row, field) for row in chosen])
        names = {name: i for i, name in enumerate(dict.fromkeys(row.structure for row in chosen))}
        groups = np.array([names[row.structure] for row in chosen])
        unit = np.array([units[row.case if by_case else row.image] for row in chosen])
        return grouped_estimate(values, groups, unit, weights)

    kinds: dict[str, list[Row]] = {kind: [] for kind in _kinds(plan.clicks)}
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in scored:
        kinds[row.prompt].append(row)
        cells.setdefault((row.structure, row.prompt), []).append(row)
    prompts = [
        PromptScores(
            prompt=kind,
            iou=scores(chosen, "iou"),
            dice=scores(chosen, "dice"),
            oracle_iou=round(_mean_over_structures(chosen), 6),
        )
        for kind, chosen in kinds.items()
        if chosen
    ]
    order = {kind: i for i, kind in enumerate(kinds)}
    structures = [
        StructureScores(
            structure=structure,
            prompt=prompt,
            mean_area_px=round(float(np.mean([row.area_px for row in chosen])), 1),
            iou=scores(chosen, "iou"),
            dice=scores(chosen, "dice"),
        )
        for (structure, prompt), chosen in sorted(cells.items(), key=lambda item: (item[0][0], order[item[0][1]]))
    ]
    largest = sorted((s for s in structures if s.prompt == "text"), key=lambda s: (-s.mean_area_px, s.structure))
    largest = largest[:LARGEST]
    if not largest:
        raise FluoroError(f"no structure in these images has a {plan.phrases} phrase", "choose other --phrases")
    metrics = Metrics(
        checkpoint_sha256=checkpoint_sha256,
        data_sha256=sha256_of(plan.reader.folder / SHARDS),
        split=plan.split,
        phrases=plan.phrases,
        images=len(plan.images),
        prompts=prompts,
        structures=structures,
        largest_ten_text_iou=round(float(np.mean([s.iou.mean for s in largest])), 6),
        presence_auroc=_presence_auroc(rows),
    )
    return Scored(metrics, rows, [s.structure for s in largest], "cases" if by_case else "images")


def _kinds(clicks: int) -> list[str]:
    numbers = [f"+{number}" for number in range(1, clicks + 1)]
    return ["text", *(f"text{n}" for n in numbers), *(f"points{n}" for n in numbers), "box"]


def _mean_over_structures(rows: list[Row]) -> float:
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row.structure, []).append(row.oracle_iou or 0.0)
    return float(np.mean([np.mean(v) for v in values.values()]))


def _presence_auroc(rows: list[Row]) -> float | None:
    present = np.array([row.presence for row in rows if row.prompt == "text"], float)
    absent = np.array([row.presence for row in rows if row.prompt == ABSENT], float)
    area = auroc(present, absent)
    return None if area is None else round(area, 6)

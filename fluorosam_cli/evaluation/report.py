"""`report.html`: the evaluation as one page a reviewer can check, from the conventions to the failures."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from fluorosam_cli.contracts import MaskScores, Metrics
from fluorosam_cli.evaluation import plots
from fluorosam_cli.evaluation.codes import code_map
from fluorosam_cli.evaluation.page import (
    PHRASES,
    facts,
    folded,
    interval,
    number,
    picture,
    spoken,
    svg,
    table,
    write_page,
)
from fluorosam_cli.evaluation.pictures import PREDICTED_RGB, TRUTH_RGB, Shown, best_median_worst, failures, shown
from fluorosam_cli.evaluation.samples import ABSENT, Row
from fluorosam_cli.evaluation.segmenter import Segmenter
from fluorosam_cli.evaluation.summary import largest_text, presence_values

if TYPE_CHECKING:
    from fluorosam_cli.evaluation.evaluate import EvalPlan

FIRST_PROMPTS = ("text", "box", "points+1")  # that stands for a model in bars and pictures: the first it takes
PARTS_SHOWN = 30  # rows of a table that is not folded


def write_report(path: Path, metrics: Metrics, rows: list[Row], plan: "EvalPlan", segmenter: Segmenter) -> None:
    """Write the page. Equal results give equal bytes."""
    first = next(prompt for prompt in FIRST_PROMPTS if any(s.prompt == prompt for s in metrics.prompts))
    asked = [row for row in rows if row.prompt == first]
    write_page(
        path,
        f"fluoro eval: {metrics.model.name}",
        [
            _head(metrics),
            _points(metrics),
            _clicks_needed(metrics),
            _structures(metrics, first),
            _parts(metrics, first),
            _presence(metrics, rows),
            _paraphrases(metrics),
            _codes(asked, plan, segmenter) if any("text" in s.prompt for s in metrics.prompts) else "",
            _failures(rows, asked, plan, segmenter),
            _examples(asked, first, plan, segmenter),
        ],
    )


def _head(metrics: Metrics) -> str:
    model, data = metrics.model, metrics.data
    unit = (
        "mm by the pixel spacing of the images, as a rule in the plane of the detector"
        if metrics.surface_unit == "mm"
        else "pixels of the scored images"
    )
    cases = f"{data.cases} case{'s' * (data.cases != 1)}"
    few = f" (of {data.images_held})" if data.images < data.images_held else ""
    where = f"{data.split} split of shards" if data.split else "images with masks"
    one = "" if metrics.bootstrap_over == "cases" else "; there is one case, so they say nothing about other bodies"
    shards = " Masks below 0.1 % or above 90 % of the image are not asked for." if data.kind == "shards" else ""
    skipped = ", ".join(f"{name} ({count})" for name, count in data.unknown_names.items())
    listed = "".join(f"<p>{p}</p>" for p in map(escape, data.problems))
    return (
        f"<h1>Evaluation of {escape(model.name)}</h1>"
        + facts(
            [
                (
                    "Model",
                    f"{model.kind}, {model.name}; understands {', '.join(model.takes)}; sha256 {model.sha256[:12]}",
                ),
                ("Data", f"{where}: {data.images} images{few} of {cases}; sha256 {data.sha256[:12]}"),
                ("Phrases", PHRASES[metrics.phrases]),
                (
                    "Mask",
                    "the one the model itself predicts to have the highest IoU; the oracle, which takes the best of "
                    "all its masks by looking at the truth, is a column of its own",
                ),
                (
                    "Next click",
                    "the centre of the largest error of the mask before it; at first of the whole structure",
                ),
                (
                    "Surfaces",
                    f"NSD with a tolerance of {metrics.nsd_tolerance:g} {metrics.surface_unit}; HD95 in {unit}; "
                    "an empty mask counts as NSD 0 and HD95 the image's diagonal",
                ),
                ("Means", "over structures, each counting once, unless it says samples, where each mask counts once"),
                ("Intervals", f"95 %, bootstrap over {metrics.bootstrap_over}{one}"),
                *([("Names skipped", f"{skipped}: no structure is known by them")] if skipped else []),
            ]
        )
        + f'<p class="muted">{shards}</p>'
        + (folded(f"{len(data.problems)} masks or images could not be used", listed) if data.problems else "")
    )


def _points(metrics: Metrics) -> str:
    rows = []
    for s in metrics.prompts:
        m, each = s.over_structures, s.over_samples
        oracle, samples = number(s.oracle_iou), [interval(each.iou), interval(each.dice)]
        rows.append([s.prompt, *_cells(m), oracle, *samples, str(m.masks)])
    heads = [
        "IoU",
        "Dice",
        "NSD",
        f"HD95, {metrics.surface_unit}",
        "oracle IoU",
        "IoU, samples",
        "Dice, samples",
        "masks",
    ]
    return (
        "<h2>Dice against the number of points</h2>"
        + svg(plots.dice_by_points(metrics), "mean Dice over structures for each number of points")
        + "<p class='muted'>Bands are 95 % intervals.</p>"
        + table(["prompt", *heads], rows)
    )


def _clicks_needed(metrics: Metrics) -> str:
    if not metrics.clicks_needed:
        return ""
    rows = [
        [plots.LABELS[n.start], f"{n.goal_iou:.0%}", interval(n.clicks, 1), f"{n.failed:.0%}"]
        for n in metrics.clicks_needed
    ]
    cap = metrics.clicks_needed[0].cap
    return (
        f"<h2>Clicks needed (NoC)</h2><p>Until the IoU reaches the goal; a mask that never does counts as {cap}.</p>"
        + table(["start", "IoU goal", "clicks", "never reached"], rows)
    )


def _structures(metrics: Metrics, first: str) -> str:
    cells = {(s.structure, s.prompt): s for s in metrics.structures}
    names = list(dict.fromkeys(s.structure for s in metrics.structures if s.prompt == first))
    clicked = [s.prompt for s in metrics.prompts if s.prompt.startswith(first.partition("+")[0] + "+")]
    last = clicked[-1] if clicked and clicked[-1] != first else ""
    dice = {n: s.scores.dice for n in names if (s := cells[n, first]).scores.dice}
    after = {n: s.scores.dice for n in names if last and (s := cells.get((n, last))) and s.scores.dice}
    kinds = [k for k in ("text", "text+1", "points+1", "box", last) if any(s.prompt == k for s in metrics.prompts)]
    kinds = list(dict.fromkeys(kinds))
    rows = []
    for name in names:
        here = cells[name, first]
        dices = [number(s.scores.dice.mean if (s := cells.get((name, k))) and s.scores.dice else None) for k in kinds]
        surfaces = [interval(here.scores.nsd), interval(here.scores.hd95, 1)]
        means = [interval(here.scores.iou), *surfaces, *dices]
        rows.append([spoken(name), str(here.scores.masks), f"{here.mean_area_px:.0f}", *means])
    heads = [f"IoU {first}", f"NSD {first}", f"HD95 {first}, {metrics.surface_unit}", *(f"Dice {k}" for k in kinds)]
    largest = largest_text(metrics.structures)
    ten = (
        f"<p>Text-only IoU of the {len(largest)} largest by mean area, single structures and groups alike: "
        f"<b>{number(metrics.largest_ten_text_iou)}</b> "
        f"({escape(', '.join(spoken(s.structure) for s in largest))}).</p>"
        if largest
        else ""
    )
    return (
        "<h2>By structure</h2>"
        + ten
        + svg(plots.dice_by_structure(dice, after, first, last), "Dice of each structure")
        + _long_table("Table by structure", ["structure", "masks", "mean area, px", *heads], rows)
    )


def _parts(metrics: Metrics, first: str) -> str:
    found = []
    for of, title in (("region", "By region of the body"), ("group", "By group"), ("view", "By view")):
        parts = [p for p in metrics.parts if p.of == of and p.prompt == first]
        rows = [[p.name.replace("_", " "), *_cells(p.scores), str(p.scores.masks)] for p in parts]
        heads = [of, "IoU", "Dice", "NSD", f"HD95, {metrics.surface_unit}", "masks"]
        found.append(f"<h3>{title}</h3>" + _long_table(title, heads, rows) if rows else "")
    note = f"<p>Answers to “{first}”, means over the structures in each; metrics.json has those of every prompt.</p>"
    return "<h2>By region, group and view</h2>" + note + "".join(found)


def _cells(scores: MaskScores) -> list[str]:
    return [interval(scores.iou), interval(scores.dice), interval(scores.nsd), interval(scores.hd95, 1)]


def _presence(metrics: Metrics, rows: list[Row]) -> str:
    p = metrics.presence
    if p is None:
        return ""
    figure = plots.presence_roc(*presence_values(rows), threshold=p.threshold)
    told = facts(
        [
            ("AUROC", number(p.auroc)),
            ("False positives", f"{p.false_positive_rate:.1%} of {p.absent} absent phrases are called present"),
            ("True positives", f"{p.true_positive_rate:.1%} of {p.present} present ones"),
            ("Threshold", f"{p.threshold:g}, the dot"),
        ]
    )
    known = "that has an empty mask" if metrics.data.kind == "images" else "of the case that the view does not show"
    note = f"<p>Is what the phrase names in the image? Absent is a structure {known}.</p>"
    return f'<h2>Presence</h2>{note}<div class="pair">{svg(figure, "ROC of presence")}{told}</div>'


def _paraphrases(metrics: Metrics) -> str:
    p = metrics.paraphrases
    if p is None:
        return ""
    return (
        "<h2>Other words for the same structure</h2>"
        f"<p>{p.masks} masks were asked for with {p.phrases:.1f} held-out phrases each. "
        "A model that understands words gives the same mask for all of them.</p>"
        + facts(
            [
                ("IoU, mean over phrases", interval(p.iou)),
                ("Spread: highest less lowest IoU", interval(p.range)),
                ("Standard deviation", interval(p.sd)),
            ]
        )
    )


def _codes(asked: list[Row], plan: "EvalPlan", segmenter: Segmenter) -> str:
    found = code_map(segmenter, plan.protocol.words, [row.structure for row in asked])
    if found is None:
        return ""
    shared = ["; ".join(spoken(name) for name in names) for names in found.shared]
    told = (
        f"<p>{found.phrases} phrases of the {len(found.structures)} structures asked for most use "
        f"{found.shares.shape[1]} of {found.codes} codes. Ideally each row has one dark cell, in a column of its own; "
        f"a column with several rows is a code that several structures share: {len(shared)} do.</p>"
    )
    several = "".join(f"<p>{escape(line)}</p>" for line in shared)
    figure = plots.code_map(found.shares, found.structures)
    return (
        "<h2>Codes of the text quantiser</h2>"
        + told
        + svg(figure, "structures by codes")
        + (folded("Structures that share a code", several) if shared else "")
    )


def _failures(rows: list[Row], asked: list[Row], plan: "EvalPlan", segmenter: Segmenter) -> str:
    chosen = failures([*asked, *(row for row in rows if row.prompt == ABSENT)])
    if not chosen:
        return ""
    note = "<p>Where the model was most sure and wrong, one of each structure, and what it saw that is not there.</p>"
    pictures = [_figure(one, spoken(one.row.structure)) for one in shown(chosen, plan.source, segmenter)]
    return f'<h2>Failures to look at</h2>{note}{_legend()}<div class="row">{"".join(pictures)}</div>'


def _examples(asked: list[Row], first: str, plan: "EvalPlan", segmenter: Segmenter) -> str:
    chosen = best_median_worst(asked)
    pictures = iter(shown([row for rows in chosen.values() for row in rows], plan.source, segmenter))
    titles = {1: ["only"], 2: ["best", "worst"], 3: ["best", "median", "worst"]}
    blocks = []
    for name, rows in chosen.items():
        figures = "".join(_figure(next(pictures), title) for title in titles[len(rows)])
        blocks.append(f'<h3>{escape(spoken(name))}</h3><div class="row">{figures}</div>')
    return f"<h2>Best, median and worst answer to “{first}”, by structure</h2>{_legend()}{''.join(blocks)}"


def _figure(one: Shown, title: str) -> str:
    row = one.row
    phrase = f"“{row.phrase}” · " if row.phrase else ""
    presence = f" · presence {row.presence:.2f}" if row.presence is not None else ""
    score = "not in this image" if row.iou is None else f"IoU {row.iou:.2f}, predicted {row.predicted_iou:.2f}"
    where = " ".join(dict.fromkeys([row.case, row.view])).strip()
    return picture(one.rgb, title, f"{phrase}{score}{presence} · {where}")


def _legend() -> str:
    predicted, truth = (f'<span style="color: rgb{rgb}">■</span>' for rgb in (PREDICTED_RGB, TRUTH_RGB))
    return f'<p class="muted">{predicted} predicted, {truth} truth (outline).</p>'


def _long_table(title: str, header: list[str], rows: list[list[str]]) -> str:
    drawn = table(header, rows)
    return drawn if len(rows) <= PARTS_SHOWN else folded(f"{title}: {len(rows)} rows", drawn)

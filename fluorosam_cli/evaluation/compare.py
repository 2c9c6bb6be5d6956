"""Two finished evaluations of the same images side by side, mask by mask."""

from dataclasses import dataclass
from pathlib import Path

from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Comparison, Metrics, PairedScores
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation import plots
from fluorosam_cli.evaluation.evaluate import HEADER as METRICS
from fluorosam_cli.evaluation.evaluate import REPORT, SAMPLES
from fluorosam_cli.evaluation.page import PHRASES, difference, facts, folded, number, spoken, svg, table, write_page
from fluorosam_cli.evaluation.samples import ABSENT, PARAPHRASE, Row, read_rows
from fluorosam_cli.evaluation.summary import METRICS as SCORES
from fluorosam_cli.evaluation.summary import Resampling
from fluorosam_cli.output import Output

HEADER = "comparison.json"

Pairs = list[tuple[Row, Row]]


@dataclass(frozen=True)
class Evaluation:
    header: Path
    metrics: Metrics
    rows: list[Row]


def read_evaluation(folder: Path) -> Evaluation:
    """A folder written by `fluoro eval`. Raises FluoroError when it is not there or not finished."""
    metrics = read_header(folder / METRICS, Metrics)
    return Evaluation(folder / METRICS, metrics, read_rows(folder / SAMPLES))


def compare(a: Evaluation, b: Evaluation, output: Output, seed: int) -> Comparison:
    """Write `comparison.json` and the report: differences b - a with intervals by bootstrap over cases.

    Raises FluoroError when they were measured on different data or have no mask in common.
    """
    if a.metrics.data.sha256 != b.metrics.data.sha256 or a.metrics.data.split != b.metrics.data.split:
        raise FluoroError("the two were measured on different data", "evaluate both on the same images")
    ours, theirs = _by_mask(a.rows), _by_mask(b.rows)
    by_prompt: dict[str, Pairs] = {}
    for key in ours:
        if key in theirs:
            by_prompt.setdefault(key[2], []).append((ours[key], theirs[key]))
    if not by_prompt:
        raise FluoroError("the two have no mask and prompt in common", "evaluate both with the same --prompts")
    resampling = Resampling.of([first for pairs in by_prompt.values() for first, _ in pairs], seed)
    wanted = [s.prompt for s in a.metrics.prompts if s.prompt in by_prompt]
    structures: dict[str, list[PairedScores]] = {}
    for prompt in (p for p in wanted if "+" not in p or p.endswith("+1")):
        for name in sorted({first.structure for first, _ in by_prompt[prompt]}):
            pairs = [pair for pair in by_prompt[prompt] if pair[0].structure == name]
            structures.setdefault(name, []).extend(_paired(pairs, prompt, resampling))
    found = Comparison(
        a=a.metrics.model,
        b=b.metrics.model,
        data=a.metrics.data,
        bootstrap_over="cases" if resampling.over_cases else "images",
        prompts=[scores for prompt in wanted for scores in _paired(by_prompt[prompt], prompt, resampling)],
        structures=structures,
        only_a=len(ours.keys() - theirs.keys()),
        only_b=len(theirs.keys() - ours.keys()),
    )
    _write_report(output.path / REPORT, found, a.metrics, b.metrics)
    output.done = sum(len(pairs) for pairs in by_prompt.values())
    output.finish(found)
    return found


def _by_mask(rows: list[Row]) -> dict[tuple[int, str, str], Row]:
    return {(r.image, r.structure, r.prompt): r for r in rows if r.prompt not in (ABSENT, PARAPHRASE)}


def _paired(pairs: Pairs, prompt: str, resampling: Resampling) -> list[PairedScores]:
    found = []
    for metric in SCORES:
        both = [(x, y) for x, y in pairs if getattr(x, metric) is not None and getattr(y, metric) is not None]
        both = [(x, y) for x, y in both if metric in ("iou", "dice") or x.unit == y.unit]
        if both:
            firsts = [x for x, _ in both]
            before, after = ([getattr(pair[i], metric) for pair in both] for i in (0, 1))
            found.append(
                PairedScores(
                    prompt=prompt,
                    metric=metric,  # pyright: ignore[reportArgumentType]
                    masks=len(both),
                    a=resampling.estimate(firsts, before).mean,
                    b=resampling.estimate(firsts, after).mean,
                    difference=resampling.estimate(firsts, [y - x for x, y in zip(before, after, strict=True)]),
                )
            )
    return found


def _write_report(path: Path, found: Comparison, a: Metrics, b: Metrics) -> None:
    names = [
        f"{one.model.kind}, {one.model.name} ({one.model.sha256[:8]}); phrases: {PHRASES[one.phrases]}"
        for one in (a, b)
    ]
    one = "" if found.bootstrap_over == "cases" else "; there is one case, so they say nothing about other bodies"
    hd95 = f"HD95, {' or '.join(dict.fromkeys([a.surface_unit, b.surface_unit]))} (lower is better)"
    data = found.data
    by_prompt = {metric: [s for s in found.prompts if s.metric == metric] for metric in ("dice", "iou", "nsd", "hd95")}
    dice = by_prompt["dice"]
    tables = "".join(
        f"<h3>{title}</h3>"
        + table(
            ["prompt", "A", "B", "B − A", "masks"],
            [
                [s.prompt, number(s.a, digits), number(s.b, digits), difference(s.difference, digits), str(s.masks)]
                for s in by_prompt[metric]
            ],
        )
        for metric, title, digits in (("iou", "IoU", 3), ("dice", "Dice", 3), ("nsd", "NSD", 3), ("hd95", hd95, 1))
        if by_prompt[metric]
    )
    first = next((s.prompt for s in dice if s.prompt in ("text", "box", "points+1")), dice[0].prompt)
    cells = [
        (name, s)
        for name, all_of in found.structures.items()
        for s in all_of
        if s.prompt == first and s.metric == "dice"
    ]
    cells.sort(key=lambda cell: -cell[1].difference.mean)
    rows = [[spoken(name), number(s.a), number(s.b), difference(s.difference), str(s.masks)] for name, s in cells]
    only = f"{found.only_a} answers of A and {found.only_b} of B have no partner and are left out" if (
        found.only_a or found.only_b
    ) else "every answer of each has its partner"  # fmt: skip
    sections = [
        "<h1>Two evaluations side by side</h1>",
        facts(
            [
                ("A", names[0]),
                ("B", names[1]),
                (
                    "Data",
                    f"{data.images} images of {data.cases} case{'s' * (data.cases != 1)}; sha256 {data.sha256[:12]}",
                ),
                ("Pairs", f"the same mask and prompt; {only}"),
                (
                    "Differences",
                    "B less A, means over structures; blue where the interval leaves out 0; one image has no spread",
                ),
                ("Intervals", f"95 %, paired bootstrap over {found.bootstrap_over}{one}"),
            ]
        ),
        "<h2>By prompt</h2>",
        svg(
            plots.paired_differences(dice, [s.prompt for s in dice], "difference in Dice, B − A"),
            "differences by prompt",
        ),
        tables,
    ]
    if cells:
        figure = plots.paired_differences(
            [s for _, s in cells], [spoken(name) for name, _ in cells], "difference in Dice, B − A"
        )
        by_structure = table(["structure", "A", "B", "B − A", "masks"], rows)
        sections += [f"<h2>By structure, asked with “{first}”</h2>", svg(figure, "differences by structure")]
        sections += [folded("Table by structure", by_structure)]
    write_page(path, "fluoro eval: comparison", sections)

"""`report.html`: the evaluation as one self-contained page; plots and overlays are PNGs inside it, without scripts."""

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluorosam_cli.anatomy.structures import display_name
from fluorosam_cli.anatomy.structures import names as known_names
from fluorosam_cli.artefacts import write_bytes
from fluorosam_cli.contracts import Estimate, Metrics, PromptScores, StructureScores
from fluorosam_cli.evaluation.samples import ABSENT, Row
from fluorosam_cli.prediction.overlay import Layer, draw
from fluorosam_cli.prediction.predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fluorosam_cli.evaluation.evaluate import EvalPlan, Scored

TEXT, POINTS, BOX = "#1f6feb", "#d9730d", "#6f6f6f"
PREDICTED_RGB, TRUTH_RGB = (255, 150, 30), (90, 220, 255)
DOTS_PER_INCH = 110
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .18rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; height: auto; } .muted { color: #666; } .wide { overflow-x: auto; }
.cases { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 300px; max-width: 340px; }
figcaption { font-size: .85rem; color: #444; }
"""


def write_report(path: Path, scored: "Scored", plan: "EvalPlan", predictor: Predictor) -> None:
    """Write the page. Equal results give equal bytes."""
    metrics = scored.metrics
    sections = [
        _summary(scored, plan, predictor),
        "<h2>Dice against the number of points</h2>",
        _image(_points_plot(metrics), "mean Dice over structures for each number of points"),
        _prompt_table(metrics),
        "<h2>Text only, by structure</h2>",
        _image(_structure_plot(metrics), "Dice of each structure for text alone and after the last click"),
        f'<div class="wide">{_structure_table(metrics)}</div>',
        "<h2>Best, median and worst answers to text alone</h2>",
        f'<p class="muted">{_swatch(PREDICTED_RGB)} predicted, {_swatch(TRUTH_RGB)} reference.</p>',
        _examples(scored.rows, plan, predictor),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fluoro eval</title><style>{STYLE}</style></head><body>\n" + "\n".join(sections) + "\n</body></html>\n"
    )
    write_bytes(path, page.encode())


def _summary(scored: "Scored", plan: "EvalPlan", predictor: Predictor) -> str:
    metrics, checkpoint = scored.metrics, predictor.checkpoint
    cases = len({row.case for row in scored.rows})
    asked = [row for row in scored.rows if row.prompt in ("text", ABSENT)]
    absent = sum(row.prompt == ABSENT for row in asked)
    presence = "not measured" if metrics.presence_auroc is None else f"{metrics.presence_auroc:.3f}"
    why = "" if scored.unit == "cases" else " (there is one case, so they say nothing about other bodies)"
    return (
        "<h1>Evaluation</h1>"
        f'<p class="muted">{escape(checkpoint.model.preset)}, step {checkpoint.step}, checkpoint '
        f"{metrics.checkpoint_sha256[:12]}; split {metrics.split}, {metrics.images} images of {cases} "
        f"case{'s' * (cases != 1)}, {metrics.phrases} phrases, data {metrics.data_sha256[:12]}.</p>"
        f"<p>Text-only IoU of the {len(scored.largest)} largest structures: <b>{metrics.largest_ten_text_iou:.3f}</b>. "
        f"They are, by mean area, single structures and groups alike: {escape(', '.join(map(_name, scored.largest)))}."
        f"<br>Presence AUROC: <b>{presence}</b> ({len(asked) - absent} present and {absent} absent phrases).</p>"
        f"<p>Intervals are 95 % bootstrap percentiles over {scored.unit}{why}. Of its four masks the model's own "
        "choice, the highest predicted IoU, is scored; the oracle takes the best of the three alternatives and is "
        "shown for comparison only. Means are over structures.</p>"
    )


def _prompt_table(metrics: Metrics) -> str:
    rows = [
        [s.prompt, _interval(s.iou), _interval(s.dice), f"{s.oracle_iou:.3f}", str(s.iou.count)]
        for s in metrics.prompts
    ]
    return _table(["prompt", "IoU", "Dice", "oracle IoU", "masks"], rows)


def _structure_table(metrics: Metrics) -> str:
    kinds = [scores.prompt for scores in metrics.prompts]
    rows = []
    for name, cells in _by_structure(metrics).items():
        some = next(iter(cells.values()))
        count = max(scores.iou.count for scores in cells.values())
        means = [f"{cells[kind].iou.mean:.3f}" if kind in cells else "–" for kind in kinds]
        rows.append([_name(name), f"{some.mean_area_px:.0f}", str(count), *means])
    return _table(["structure", "mean area, px", "masks", *(f"IoU {kind}" for kind in kinds)], rows)


def _by_structure(metrics: Metrics) -> dict[str, dict[str, StructureScores]]:
    found: dict[str, dict[str, StructureScores]] = {}
    for scores in metrics.structures:
        found.setdefault(scores.structure, {})[scores.prompt] = scores
    return found


# --- plots ------------------------------------------------------------------------------------------------------------


def _points_plot(metrics: Metrics) -> "Figure":
    """Mean Dice over structures against the number of points, with its interval as a band."""
    figure, axes = _figure(7.2, 4.0)
    by_prompt = {scores.prompt: scores for scores in metrics.prompts}
    for kind, colour, label in (("text", TEXT, "text, then points"), ("points", POINTS, "points alone")):
        curve = [(_clicks(s), s.dice) for s in by_prompt.values() if s.prompt.partition("+")[0] == kind]
        if not curve:
            continue
        x = [count for count, _ in curve]
        axes.plot(x, [d.mean for _, d in curve], "o-", color=colour, label=label)
        low, high = [d.ci95_low for _, d in curve], [d.ci95_high for _, d in curve]
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        if len(x) == 1:
            axes.errorbar(x, [curve[0][1].mean], yerr=_error_bars([curve[0][1]]), color=colour, capsize=3)
    if "box" in by_prompt:
        box = by_prompt["box"].dice
        axes.axhline(box.mean, color=BOX, linestyle="--", label="box")
        axes.axhspan(box.ci95_low, box.ci95_high, color=BOX, alpha=0.1, linewidth=0)
    axes.set(xlabel="points", ylabel="Dice", ylim=(0, 1))
    axes.set_xticks(range(max((_clicks(s) for s in metrics.prompts), default=0) + 1))
    axes.legend(frameon=False, loc="lower right")
    return figure


def _structure_plot(metrics: Metrics) -> "Figure":
    """Dice of each structure for text alone, and as a dot after the last click; best at the top."""
    last = max(
        (s.prompt for s in metrics.prompts if s.prompt.startswith("text+")), key=lambda p: int(p[5:]), default=""
    )
    cells = {name: prompts for name, prompts in _by_structure(metrics).items() if "text" in prompts}
    order = sorted(cells, key=lambda name: cells[name]["text"].dice.mean)
    dices = [cells[name]["text"].dice for name in order]
    figure, axes = _figure(7.2, 1.1 + 0.24 * len(order))
    y = np.arange(len(order))
    axes.barh(y, [d.mean for d in dices], height=0.7, color=TEXT, alpha=0.75, label="text")
    axes.errorbar(
        [d.mean for d in dices], y, xerr=_error_bars(dices), fmt="none", ecolor="#333", elinewidth=0.9, capsize=2
    )
    if last:
        after = [cells[name][last].dice.mean if last in cells[name] else np.nan for name in order]
        axes.plot(after, y, "o", color=POINTS, markersize=5, label=last)
    axes.set(xlabel="Dice", xlim=(0, 1), ylim=(-0.6, len(order) - 0.4))
    axes.set_yticks(y, [_name(name) for name in order], fontsize=8)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.55 / (0.24 * len(order) + 0.6)), ncols=2)
    return figure


def _figure(width: float, height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _error_bars(values: list[Estimate]) -> np.ndarray:
    """(2, n) distances below and above the mean."""
    bars = [(max(0.0, v.mean - v.ci95_low), max(0.0, v.ci95_high - v.mean)) for v in values]
    return np.array(bars).T


def _clicks(scores: PromptScores) -> int:
    return int(scores.prompt.partition("+")[2] or 0)


# --- examples ---------------------------------------------------------------------------------------------------------


def _examples(rows: list[Row], plan: "EvalPlan", predictor: Predictor) -> str:
    """The answers with the highest, the middle and the lowest IoU, predicted again for their pictures."""
    order = sorted((row for row in rows if row.prompt == "text"), key=lambda row: -(row.iou or 0))
    picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    figures = []
    for title, row in picks.items():
        caption = f"{title}: “{row.phrase}”, IoU {row.iou:.3f}, predicted {row.predicted_iou:.3f}"
        where = f"{row.case}, {row.view}, image {row.image}"
        picture = _data_url(_png_of(_example(row, plan, predictor)))
        figures.append(
            f'<figure><img alt="{escape(title)}" src="{picture}">'
            f'<figcaption>{escape(caption)}<br><span class="muted">{escape(where)}</span></figcaption></figure>'
        )
    return f'<div class="cases">{"".join(figures)}</div>'


def _example(row: Row, plan: "EvalPlan", predictor: Predictor) -> np.ndarray:
    sample = plan.reader[row.image]
    height, width = sample.inner_hw
    image = sample.image[:height, :width]
    number = plan.reader.header.structures.index(row.structure)
    real = sample.mask(int(np.flatnonzero(sample.structures == number)[0]))[:height, :width]
    predictor.set_image(image)
    predicted = predictor.predict(text=row.phrase).mask
    return draw(image, [Layer(predicted, colour=PREDICTED_RGB), Layer(real, colour=TRUTH_RGB, fill=False)])


# --- HTML -------------------------------------------------------------------------------------------------------------


def _name(structure: str) -> str:
    return display_name(structure) if structure in known_names() else structure


def _interval(value: Estimate) -> str:
    return f"{value.mean:.3f} ({value.ci95_low:.3f}–{value.ci95_high:.3f})"


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _swatch(rgb: tuple[int, int, int]) -> str:
    return f'<span style="color: rgb{rgb}">■</span>'


def _image(figure: "Figure", description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return f'<p><img alt="{escape(description)}" src="{_data_url(buffer.getvalue())}"></p>'


def _png_of(rgb: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    return buffer.getvalue()


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()

"""MODEL_CARD.md from evaluations of the built-in checkpoint and the text of model_card.md.

Usage: python scripts/model_card.py CHECKPOINT EVALUATIONS [LEFT_OUT] > MODEL_CARD.md

EVALUATIONS is the folder of examples/train_builtin.sh with the outputs of `fluoro eval` on held-out simulated bodies
(`simulated`) and, where REAL was given, on real images (`real`), on their negatives (`negative`) and on what they
cannot show (`absent`). LEFT_OUT is the folder of a run of that script with a CT left out; `left_out` in EVALUATIONS are
the checkpoint's own scores on that CT. A figure that was not measured stays "not measured".
"""

import argparse
import csv
import re
import sys
from pathlib import Path
from statistics import mean

from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Checkpoint, Metrics
from fluorosam_cli.evaluation.evaluate import SAMPLES
from fluorosam_cli.geometry.views import RANDOM

PROMPTS = ("text", "text+1", "text+3", "text+8")
# parts of the body: names, Dice wanted from text alone
PARTS = {
    "large bones": (r"(femur|humerus|tibia|hip|scapula)_(left|right)|skull|pelvis|sacrum", 0.85),
    "skull, pelvis, femora, humeri": (r"(femur|humerus|hip)_(left|right)|skull|pelvis", 0.88),
    "single vertebrae": (r"vertebrae_\w+", 0.65),
    "single ribs": (r"rib_(left|right)_\d+", 0.55),
    "large organs": (
        r"(lung_above_diaphragm|kidney)_(left|right)|cardiac_silhouette|liver|spleen|stomach|urinary_bladder|brain",
        0.75,
    ),
    "tools and implants": (r"tool:.*", 0.70),
}
# outlines: Dice wanted from text alone, after 3 and after 8 clicks
OUTLINES = {
    "lung_above_diaphragm_left": (0.88, 0.94, 0.96),
    "lung_above_diaphragm_right": (0.88, 0.94, 0.96),
    "mediastinum": (0.84, None, None),
}
UNKNOWN = "not measured"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("evaluations", type=Path)
    parser.add_argument("left_out", type=Path, nargs="?")
    options = parser.parse_args()
    header = read_header(options.checkpoint / "checkpoint.json", Checkpoint)
    found = {
        name: read_header(options.evaluations / name / "metrics.json", Metrics)
        for name in ("simulated", "real", "negative", "absent")
        if (options.evaluations / name / "metrics.json").is_file()
    }
    fields = {
        "preset": header.model.preset,
        "size": str(header.model.image_size_px),
        "steps": str(header.step),
        "batch": str(header.training.get("batch", UNKNOWN)),
        "seed": str(header.seed),
        "sha256": header.weights_sha256,
        "simulated": simulated(options.evaluations / "simulated" / SAMPLES),
        "left_out": left_out(options.left_out, options.evaluations),
        "simulated_images": images(found.get("simulated")),
        "real": real(found.get("real"), found.get("negative")),
        "real_images": images(found.get("real")),
        "presence": presence(found),
    }
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    sys.stdout.write(re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], template))


def images(metrics: Metrics | None) -> str:
    return UNKNOWN if metrics is None else f"{metrics.data.images} images of {metrics.data.cases} cases"


def real(metrics: Metrics | None, negative: Metrics | None) -> str:
    """Dice with its interval for each outline and number of clicks; the last column is that of negatives."""
    if metrics is None:
        return UNKNOWN
    lines = [["outline", "text alone", "+ 1 click", "+ 3 clicks", "+ 8 clicks", "goals", "text alone, negative"]]
    for name, goals in OUTLINES.items():
        cells = [dice(metrics, name, prompt) for prompt in PROMPTS]
        wanted = ", ".join(f"{goal:.2f}" for goal in goals if goal)
        turned = UNKNOWN if negative is None else dice(negative, name, "text")
        lines.append([f"`{name}`", *cells, wanted, turned])
    return table(lines)


def dice(metrics: Metrics, structure: str, prompt: str) -> str:
    for each in metrics.structures:
        if (each.structure, each.prompt) == (structure, prompt) and each.scores.dice:
            value = each.scores.dice
            return f"{value.mean:.3f} ({value.ci95_low:.3f} to {value.ci95_high:.3f})"
    return UNKNOWN


def simulated(samples: Path) -> str:
    """Mean Dice over the structures of each part, of all views and of those that are no random ones."""
    rows = rows_of(samples)
    if not rows:
        return UNKNOWN
    lines = [
        ["structures", "number", "text alone", "goal", "", "+ 3 clicks", "standard views: text alone", "+ 3 clicks"]
    ]
    for part, (pattern, goal) in PARTS.items():
        mine = [row for row in rows if re.fullmatch(pattern, kind(row["structure"]))]
        standard = [row for row in mine if row["view"] != RANDOM]
        number = len({row["structure"] for row in mine if row["prompt"] == "text"})
        text, clicked, *of_standard = (
            mean_of_structures(some, prompt) for some in (mine, standard) for prompt in ("text", "text+3")
        )
        met = UNKNOWN if text is None else "met" if text >= goal else "missed"
        shown = [UNKNOWN if each is None else f"{each:.3f}" for each in (text, clicked, *of_standard)]
        lines.append([part, str(number), shown[0], f"{goal:.2f}", met, *shown[1:]])
    return table(lines)


def left_out(check: Path | None, evaluations: Path) -> str:
    """Mean Dice of each part: of a network that never saw the CT, on it and on other bodies, and of this one on it."""
    if check is None:
        return UNKNOWN
    lines = [["structures", "number", "the CT: text alone", "+ 3 clicks"]]
    lines[0] += [
        "other held-out bodies: text alone",
        "+ 3 clicks",
        "this checkpoint, trained on the CT: text alone",
        "+ 3 clicks",
    ]
    tables = [
        rows_of(folder / SAMPLES)
        for folder in (check / "left_out/scores", check / "simulated", evaluations / "left_out")
    ]
    for part, (pattern, _) in PARTS.items():
        mine = [[row for row in rows if re.fullmatch(pattern, kind(row["structure"]))] for rows in tables]
        number = len({row["structure"] for row in mine[0] if row["prompt"] == "text"})
        means = [mean_of_structures(rows, prompt) for rows in mine for prompt in ("text", "text+3")]
        lines.append([part, str(number), *(UNKNOWN if each is None else f"{each:.3f}" for each in means)])
    return table(lines)


def rows_of(samples: Path) -> list[dict[str, str]]:
    """The answers that have a Dice."""
    if not samples.is_file():
        return []
    with open(samples, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["dice"]]


def mean_of_structures(rows: list[dict[str, str]], prompt: str) -> float | None:
    """The mean over structures of the mean over each one's images."""
    dices: dict[str, list[float]] = {}
    for row in rows:
        if row["prompt"] == prompt:
            dices.setdefault(row["structure"], []).append(float(row["dice"]))
    return mean(mean(values) for values in dices.values()) if dices else None


def kind(name: str) -> str:
    from fluorosam_cli.anatomy.structures import names

    return name if name in set(names()) else f"tool:{name}"


def presence(found: dict[str, Metrics]) -> str:
    lines = [["images", "present accepted", "absent accepted", "AUROC"]]
    for name, label in (("simulated", "simulated, held-out bodies"), ("absent", "real chests, 20 absent structures")):
        scores = found[name].presence if name in found else None
        if scores is not None:
            auroc = UNKNOWN if scores.auroc is None else f"{scores.auroc:.3f}"
            rates = [f"{100 * rate:.1f} %" for rate in (scores.true_positive_rate, scores.false_positive_rate)]
            lines.append([label, *rates, auroc])
    return table(lines)


def table(lines: list[list[str]]) -> str:
    first, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([first, "|" + " --- |" * len(lines[0]), *rest])


if __name__ == "__main__":
    main()

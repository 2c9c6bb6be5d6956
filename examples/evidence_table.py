"""Finished evaluations as one Markdown table: IoU, the oracle's, and what the network predicted for itself.

    python examples/evidence_table.py "with VQ=metrics/vq" "without=metrics/plain" --held-out heart,liver

Each figure is a mean over structures. With --held-out, those structures get a line of their own.
"""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

COLUMNS = ("masks", "structures", "IoU", "oracle IoU", "predicted IoU", "error of prediction")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("evaluations", nargs="+", metavar="LABEL=FOLDER", help="folders that `fluoro eval` wrote")
    parser.add_argument("--held-out", default="", help="structures that training never met: a,b or a file of names")
    parser.add_argument("--prompt", default="text", help="kind of prompt, as in samples.csv")
    options = parser.parse_args(words)
    named = options.held_out
    is_file = os.path.isfile(named)  # Path.is_file raises where a list is too long for a name
    held_out = set(Path(named).read_text(encoding="utf-8-sig").split() if is_file else named.split(",")) - {""}
    lines = [["", *COLUMNS], ["---", *["---:"] * len(COLUMNS)]]
    for evaluation in options.evaluations:
        label, _, folder = evaluation.rpartition("=")
        rows = read(Path(folder) / "samples.csv", options.prompt)
        for name, wanted in ((label, False), (f"{label}, structures held out", True)):
            part = [row for row in rows if (row["structure"] in held_out) == wanted]
            if part:
                lines.append([name, *cells(part)])
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return 0


def read(path: Path, prompt: str) -> list[dict[str, str]]:
    """The rows of `samples.csv` for one kind of prompt, scored ones only."""
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["prompt"] == prompt and row["iou"]]


def cells(rows: list[dict[str, str]]) -> list[str]:
    """What COLUMNS name, as text."""
    structures = np.array([row["structure"] for row in rows])
    iou, oracle, predicted = (
        np.array([float(row[name] or "nan") for row in rows]) for name in ("iou", "oracle_iou", "predicted_iou")
    )
    names = sorted(set(structures))
    means = [
        np.mean([np.nanmean(values[structures == name]) for name in names])
        for values in (iou, oracle, predicted, abs(predicted - iou))
    ]
    return [str(len(rows)), str(len(names)), *(f"{mean:.3f}" for mean in means)]


if __name__ == "__main__":
    sys.exit(main())

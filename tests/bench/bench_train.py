"""Training the `small` preset at 192 px on the CPU, in images/s.

Two processes, batch 32 as for the built-in checkpoint, 4 prompts, 3 decoder rounds (two with clicks), full
randomisation, the physics drawn again from stored integrals.
"""

import csv
import sys
from pathlib import Path

from tests.bench.bench import Bench, Failed, alone, say
from tests.bench.bench_data import PROMPTS, rendered_shards
from tests.bench.rows import Row

BATCH, ROUNDS = 32, 3
IMAGES_PER_SECOND = 20.0  # the goal
STEPS = {"full": 24, "small": 4}


def rows(bench: Bench) -> list[Row]:
    run = bench.folder / "training run"
    try:
        shards = rendered_shards(bench)
        say("training the small preset in two processes")
        alone(
            *(sys.executable, "-m", "fluorosam_cli", "train", shards, "--preset", "small", "--batch", BATCH),
            *("--prompts", PROMPTS, "--rounds", ROUNDS, "--steps", STEPS[bench.scale_name]),
            *("--gpus", 2, "--device", "cpu", "--no-tensorboard", "-o", run),
        )
    except Failed as error:
        return [Row("training", None, "ms/image", note=str(error))]
    per_image = 1000 / speed(run)
    note = f"{1000 / per_image:.1f} images/s; the goal is {IMAGES_PER_SECOND:.0f}"
    name = "training, small preset at 192 px on 2 cores"
    return [Row(name, per_image, "ms/image", value_at_most=1000 / IMAGES_PER_SECOND, note=note)]


def speed(run: Path) -> float:
    """Images/s over the second half of a run: the first steps also set things up."""
    with open(run / "speed.csv", newline="", encoding="utf-8") as file:
        laps = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    late = laps[len(laps) // 2 :]
    return len(late) / sum(1 / lap for lap in late)

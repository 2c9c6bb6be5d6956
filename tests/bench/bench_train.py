"""Training the `small` preset at 192 px on the CPU: images/s, what a sample costs, and what fewer rounds would give.

Two processes, batch 16, 4 prompts, 3 decoder rounds (two with clicks), full randomisation; shapes drawn into shards
stand for views, as neither the network nor the randomisation minds what it sees.
"""

import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.bench.bench import Bench, Failed, alone, say
from tests.bench.rows import Row
from tests.shapes import write_shapes

SIZE, BATCH, PROMPTS, ROUNDS = 192, 16, 4, 3
IMAGES_PER_SECOND, LOADING_SHARE = 20.0, 25.0  # goals
STEPS = {"full": 40, "small": 4}


def rows(bench: Bench) -> list[Row]:
    shards = write_shapes(bench.folder / "training shards", SIZE, images=64, splits=("train",))
    run = bench.folder / "training run"
    say("training the small preset in two processes")
    try:
        alone(
            *(sys.executable, "-m", "fluorosam_cli", "train", shards, "--preset", "small", "--batch", BATCH),
            *("--prompts", PROMPTS, "--rounds", ROUNDS, "--steps", STEPS[bench.scale_name]),
            *("--gpus", 2, "--device", "cpu", "--no-tensorboard", "-o", run),
        )
    except Failed as error:
        return [Row("training", None, "ms/image", note=str(error))]
    per_image = 1000 / speed(run)
    loading = milliseconds_per_sample(shards)
    share = 100 * loading / (2 * per_image)  # of two cores
    return [
        Row(
            "training, small preset at 192 px on 2 cores",
            per_image,
            "ms/image",
            value_at_most=1000 / IMAGES_PER_SECOND,
            note=f"{1000 / per_image:.1f} images/s; the goal is {IMAGES_PER_SECOND:.0f}",
        ),
        Row("loading and randomisation, of the cores' time", share, "%", value_at_most=LOADING_SHARE),
    ]


def speed(run: Path) -> float:
    """Images/s over the second half of a run: the first steps also set things up."""
    with open(run / "speed.csv", newline="", encoding="utf-8") as file:
        laps = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    late = laps[len(laps) // 2 :]
    return len(late) / sum(1 / lap for lap in late)


def milliseconds_per_sample(shards: Path) -> float:
    """One core reads, randomises and warps a sample with all its masks."""
    from fluorosam_cli.dataset.loader import TrainingSamples
    from fluorosam_cli.dataset.shards import ShardReader
    from fluorosam_cli.model.fluorosam import preset
    from fluorosam_cli.training.devices import Devices
    from fluorosam_cli.training.settings import TrainSettings
    from fluorosam_cli.training.start import Origin
    from fluorosam_cli.training.train import Job, sample_config

    settings = replace(TrainSettings(origin=Origin(preset="small")), prompts=PROMPTS)
    reader = ShardReader(shards, "train")
    job = Job(shards, shards, settings, Devices("cpu", 2))
    samples = TrainingSamples(reader, sample_config(job, preset("small", 1)))
    samples[0]
    began = time.perf_counter()
    count = len(reader)
    for position in range(count):
        samples[position]
    return 1000 * (time.perf_counter() - began) / count

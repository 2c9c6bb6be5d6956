"""What a training sample of 192 px costs one core: drawn again from its integrals, and loaded and randomised in full.

Rendered views of the scene, packed with their integrals. CPU time of the process, one thread, images in random order.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

from tests.bench.bench import Bench, Failed, alone, alone_in_python, say
from tests.bench.bench_render import FLUORO, case_of
from tests.bench.rows import Row

SIZE, MASKS_PX, PROMPTS, MAP_PROMPTS = 192, 96, 4, 28  # as training asks of the small preset
VIEWS = {"full": 40, "small": 4}
REDRAW_MS, SAMPLE_MS = 15.0, 25.0  # the latter is a quarter of 2 cores at 20 images/s


def rows(bench: Bench) -> list[Row]:
    redraw, sample = "drawing a 192 px radiograph again", "loading and randomising a 192 px sample, 32 prompts"
    try:
        found = alone_in_python("tests.bench.bench_data", rendered_shards(bench))
    except Failed as failed:
        return [Row(name, None, "ms", note=str(failed)) for name in (redraw, sample)]
    return [
        Row(redraw, found["redraw_ms"], "ms", value_at_most=REDRAW_MS),
        Row(sample, found["sample_ms"], "ms", value_at_most=SAMPLE_MS, note=f"4 prompts: {found['few_ms']:.3g} ms"),
    ]


def rendered_shards(bench: Bench) -> Path:
    views, words, out = (bench.folder / name for name in ("views for shards", "words for shards", "shards"))
    if out.exists():
        return out
    case = case_of(bench)
    say("rendering and packing views with integrals")
    count = VIEWS[bench.scale_name]
    alone(*FLUORO, "render", case, "--views", count, "--size", 256, "--integrals", "-o", views)
    alone(*FLUORO, "describe", "-o", words)
    packing = ("--size", SIZE, "--val", 0, "-o", out)
    alone(*FLUORO, "pack", views, "--descriptions", words, *packing)
    return out


def measure(shards: Path) -> dict[str, float]:
    """Mean CPU milliseconds of redrawing a picture, and of whole samples with all prompts and with few."""
    import numpy as np
    import torch

    from fluorosam_cli.dataset.loader import SampleConfig, TrainingSamples
    from fluorosam_cli.dataset.redraw import redrawn
    from fluorosam_cli.dataset.shards import ShardReader

    torch.set_num_threads(1)
    reader = ShardReader(shards, "train")
    config = SampleConfig(SIZE, PROMPTS + MAP_PROMPTS, draws=20, absent_share=0.25, seed=0, masks_px=MASKS_PX)
    samples = TrainingSamples(reader, config)
    few = TrainingSamples(reader, replace(config, prompts=PROMPTS))
    header = reader.header.integrals
    assert header is not None

    def redraw(position: int) -> float:
        packed = reader[samples.index(position)]
        integrals = packed.integrals
        assert integrals is not None
        spacing_mm = packed.pixel_spacing_mm * max(packed.original_hw) / SIZE
        rng = np.random.default_rng(position)
        began = time.process_time()
        redrawn(integrals, header.materials, packed.view, spacing_mm, rng, packed.collimation)
        return time.process_time() - began

    def draw(drawn: TrainingSamples, position: int) -> float:
        began = time.process_time()
        drawn[position]
        return time.process_time() - began

    epochs = range(len(reader), 4 * len(reader))  # the one before makes spectra and kernels
    for position in range(len(reader)):
        draw(samples, position)
    return {
        "redraw_ms": 1000 * mean(redraw(position) for position in epochs),
        "sample_ms": 1000 * mean(draw(samples, position) for position in epochs),
        "few_ms": 1000 * mean(draw(few, position) for position in epochs),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]))) + "\n")

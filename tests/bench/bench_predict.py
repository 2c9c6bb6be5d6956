"""`fluoro predict` from a cold start, and each further click, with the built-in checkpoint.

The image is no radiograph, but of a real one's size. Random weights would not do: their ragged masks take longer.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from tests.bench.bench import Bench, alone, alone_in_python, say
from tests.bench.contenders import THREADS
from tests.bench.rows import Row

SIDES = (512, 2048)
CLICKS = 15
STARTS = 3


def rows(bench: Bench) -> list[Row]:
    say("predict: the built-in checkpoint")
    image = bench.folder / "image.png"
    Image.fromarray(picture(SIDES[-1])).save(image)
    starts = []
    for number in range(STARTS):
        start = time.perf_counter()
        alone(
            *(sys.executable, "-m", "fluorosam_cli", "predict", image, "left lung", "--point", "900,700"),
            *("-o", bench.folder / f"predicted-{number}"),
        )
        starts.append(time.perf_counter() - start)
    told = alone_in_python("tests.bench.bench_predict", image)
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in told["start"].items())
    found = [
        Row("fluoro predict, cold start to masks on disk, 2048 px", median(starts), "s", value_at_most=5, note=parts)
    ]
    for side, (mask_ms, code_ms) in told["clicks"].items():
        name = f"further click, {side} x {side} px, mask"
        found.append(Row(name, mask_ms, "ms", value_at_most=50, note=f"with box and run-length code {code_ms:.3g} ms"))
    return found


def picture(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side
    smooth = np.sin(9 * x) * np.cos(7 * y) + np.random.default_rng(0).normal(0, 0.05, (side, side))
    return ((smooth + 1.3) * 25_000).clip(0, 65535).astype(np.uint16)


def measure(image: Path) -> dict[str, dict]:
    """Seconds of the parts of a start; milliseconds of a click with its mask, and with box and code as well."""
    start = {}
    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        start[name], last = now - last, now

    import torch

    lap("import torch")
    torch.set_num_threads(THREADS)
    from fluorosam_cli.prediction.predictor import Predictor

    lap("import fluoro")
    predictor = Predictor.from_checkpoint("builtin")
    lap("load network")
    from fluorosam_cli.geometry.boxes import box_of
    from fluorosam_cli.prediction.images import read_image
    from fluorosam_cli.prediction.write import rle_of

    pixels = read_image(image)
    lap("read image")
    predictor.set_image(pixels)
    lap("encode image")
    _ = predictor.predict("left lung", [[900, 700]]).mask
    lap("encode words, first mask")
    clicks = {}
    for side in SIDES:
        predictor.set_image(picture(side))
        masks, codes = [], []
        earlier = None
        for number in range(CLICKS):
            xy = [[(number * 37) % side, (number * 91) % side]]
            begin = time.perf_counter()
            answer = predictor.predict("left lung", xy, mask_input=earlier)
            mask = answer.mask
            masks.append(time.perf_counter() - begin)
            box_of(mask), rle_of(mask)
            codes.append(time.perf_counter() - begin)
            earlier = answer.logits[answer.best]
        clicks[str(side)] = (1000 * median(masks), 1000 * median(codes))
    return {"start": start, "clicks": clicks}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]))) + "\n")

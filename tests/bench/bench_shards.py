"""Reading shards beside webdataset tars of the same pictures: time and bytes of an image with its masks.

A tar holds what its users put there: the image as a 16-bit PNG and every mask as a 1-bit PNG of its own. It is read
from its beginning to its end, as tars are; shards are read in random order. Both from the page cache, on one core.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tests.bench.bench import Bench, Failed, alone, alone_in_python
from tests.bench.bench_render import FLUORO, case_of
from tests.bench.rows import Row

VIEWS, MASKS, SIZES = 40, 4, (448, 192)
TRAINING_MS = 1000 / 25  # per image: the small preset's 25 images/s at 192 px on two cores
KEY = "{:06d}"


def rows(bench: Bench) -> list[Row]:
    table = []
    for size in SIZES:
        name = f"image and {MASKS} masks from a shard, {size} px"
        limit = {"value_at_most": TRAINING_MS / 10}
        try:
            found = alone_in_python("tests.bench.bench_shards", _shards(bench, size))
        except Failed as failed:
            table.append(Row(name, None, "ms", **limit, note=str(failed)))
            continue
        peer = None if found["tar_ms"] is None else "webdataset"
        note = f"a tenth of the {TRAINING_MS:g} ms that the small preset trains on one at 192 px"
        table.append(Row(name, found["shard_ms"], "ms", peer, found["tar_ms"], **limit, note=note))
        what = f"image and all masks in a shard, {size} px"
        table.append(Row(what, found["shard_bytes"], "bytes/image", peer, found["tar_bytes"]))
        if found["integrals_bytes"]:
            table.append(Row(f"integrals beside them, {size} px", found["integrals_bytes"], "bytes/image"))
            table.append(Row(f"reading these too, {size} px", found["integrals_ms"], "ms"))
    return table


def _shards(bench: Bench, size: int) -> Path:
    views, words, out = (bench.folder / name for name in ("shard-views", "words", f"shards-{size}"))
    if not views.exists():
        pixels = bench.scale.detector_px
        alone(*FLUORO, "render", case_of(bench), "--views", VIEWS, "--size", pixels, "--integrals", "-o", views)
        alone(*FLUORO, "describe", "-o", words)
    alone(*FLUORO, "pack", views, "--descriptions", words, "--size", size, "-o", out)
    return out


def measure(folder: Path) -> dict[str, float | None]:
    """Milliseconds and bytes per image."""
    from fluorosam_cli.dataset.shards import ShardReader

    reader = ShardReader(folder, "train")
    order = np.random.default_rng(0).permutation(len(reader)).tolist()
    files = [folder / shard.file for shard in reader.shards]
    integrals = sum(_stored(file, "integrals/values") for file in files)

    def read(index: int) -> None:
        sample = reader[index]
        for number in range(min(MASKS, len(sample.structures))):
            sample.mask(number)

    plain = _milliseconds(lambda: [read(index) for index in order]) / len(order)
    more = _milliseconds(lambda: [reader[index].integrals for index in order]) / len(order)
    tar_ms = tar_bytes = None
    if find_spec("webdataset"):
        tar_ms, tar_bytes = _tar(reader, folder / "peer.tar")
    return {
        "shard_ms": plain,
        "shard_bytes": (sum(file.stat().st_size for file in files) - integrals) / len(order),
        "integrals_ms": more,
        "integrals_bytes": integrals / len(order),
        "tar_ms": tar_ms,
        "tar_bytes": tar_bytes,
    }


def _stored(path: Path, name: str) -> int:
    import h5py

    with h5py.File(path) as file:
        data: Any = file[name]
        return data.id.get_storage_size()


def _milliseconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1000 * median(taken)


def _tar(reader, path: Path) -> tuple[float, float]:
    """Write the samples as a webdataset tar; milliseconds and bytes per image."""
    import webdataset
    from PIL import Image

    with webdataset.TarWriter(str(path)) as tar:  # pyright: ignore[reportAttributeAccessIssue]
        for index, sample in enumerate(reader):
            record = {"__key__": KEY.format(index), "image.png": _png(sample.image)}
            for number, structure in enumerate(sample.structures):
                record[f"{reader.header.structures[structure]}.mask.png"] = _png(sample.mask(number))
            tar.write(record)

    def read() -> None:
        for record in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
            np.asarray(Image.open(io.BytesIO(record["image.png"])))
            for name in [name for name in record if name.endswith(".mask.png")][:MASKS]:
                np.asarray(Image.open(io.BytesIO(record[name])))

    return _milliseconds(read) / len(reader), path.stat().st_size / len(reader)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]))) + "\n")

"""The `pack` stage: rendered views and descriptions become shards, split by case."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import Output, Track, read_header, read_lines, sha256_of, silent
from fluorosam_cli.contracts import Description, Descriptions, Rle, Shard, Shards, ShardsPhrase, Split, View, Views
from fluorosam_cli.dataset.shards import HEADER, PackedImage, pack_mask, write_shard
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.geometry.frame import Frame

IMAGES_PER_SHARD = 500


@dataclass(frozen=True)
class PackPlan:
    """Validated inputs: which views go where."""

    views: Path
    header: Views
    phrases: list[ShardsPhrase]
    cases: dict[str, Split]
    size_px: int


def plan_pack(views: Path, descriptions: Path, size_px: int, val: float, test: float, seed: int) -> PackPlan:
    """Read the headers, split the cases.

    Raises FluoroError when an input is missing or unfinished, UsageError when no case is left for training.
    """
    header = read_header(views / "views.json", Views)
    words = read_header(descriptions / "descriptions.json", Descriptions)
    phrases = [
        ShardsPhrase(structure=d.name, text=d.text, split=d.split)
        for d in read_lines(descriptions / words.descriptions, Description)
    ]
    return PackPlan(views, header, phrases, split_cases([c.name for c in header.cases], val, test, seed), size_px)


def split_cases(names: list[str], val: float, test: float, seed: int) -> dict[str, Split]:
    """Assign whole cases to train, val and test. A share above 0 gets at least one case if two remain for the others.

    The order is by hash of seed and name, so that adding a case moves few others.
    """
    if not 0 <= val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise UsageError(f"--val {val} and --test {test} leave nothing to train on", "give shares that sum to below 1")
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    counts = {}
    left = len(order) - 1  # one case is always for training
    for split, share in (("test", test), ("val", val)):
        counts[split] = min(left, max(1, round(share * len(order)))) if share > 0 else 0
        left -= counts[split]
    rank = {name: position for position, name in enumerate(order)}

    def split_of(name: str) -> Split:
        if rank[name] < counts["test"]:
            return "test"
        return "val" if rank[name] < counts["test"] + counts["val"] else "train"

    return {name: split_of(name) for name in names}


def pack(plan: PackPlan, output: Output, track: Track = silent) -> Shards:
    """Write the shards, then `shards.json`. Memory: one shard's packed images (about 100 MB at 448 px)."""
    structures, cases = _structures(plan), [case.name for case in plan.header.cases]
    shards: list[Shard] = []
    batches: dict[Split, list[PackedImage]] = {"train": [], "val": [], "test": []}

    def flush(split: Split) -> None:
        images = batches[split]
        name = f"{split}-{sum(s.split == split for s in shards):05d}.h5"
        path = output.path / name
        done = output.path / (name + ".sha256")  # a killed run's finished shard; removed at the end
        if done.is_file() and path.is_file() and sha256_of(path) == done.read_text():
            output.skipped += len(images)
        else:
            write_shard(path, images, cases)
            done.write_text(sha256_of(path))
            output.done += len(images)
        masks = sum(len(image.masks) for image in images)
        shards.append(Shard(file=name, split=split, images=len(images), masks=masks, sha256=done.read_text()))
        images.clear()

    for split, image in track(_packed(plan, structures, cases), "pack", plan.header.count, "images"):
        batches[split].append(image)
        if len(batches[split]) == IMAGES_PER_SHARD:
            flush(split)
    for split in batches:
        if batches[split]:
            flush(split)
    header = Shards(
        size_px=plan.size_px,
        polarity=plan.header.polarity,
        structures=structures,
        cases=plan.cases,
        phrases=[p for p in plan.phrases if p.structure in set(structures)],
        shards=shards,
    )
    _check_phrases(header)
    output.finish(header)
    for marker in output.path.glob("*.sha256"):
        marker.unlink()
    assert (output.path / HEADER).is_file()
    return header


def _structures(plan: PackPlan) -> list[str]:
    lines = read_lines(plan.views / plan.header.views, View)
    return sorted({mask.name for view in lines for mask in view.structures})


def _check_phrases(header: Shards) -> None:
    wordless = set(header.structures) - {p.structure for p in header.phrases if p.split == "train"}
    if wordless:
        raise FluoroError(
            f"no training phrase for {', '.join(sorted(wordless)[:5])}" + (" ..." if len(wordless) > 5 else ""),
            "describe them: fluoro describe -o descriptions/ --overwrite",
        )


def _packed(plan: PackPlan, structures: list[str], cases: list[str]) -> Iterator[tuple[Split, PackedImage]]:
    from pycocotools import mask as coco

    number = {name: i for i, name in enumerate(structures)}
    for view in read_lines(plan.views / plan.header.views, View):
        image = read_png16(plan.views / view.image)
        fitted, inner = fit_image(image, plan.size_px)
        for structure in view.structures:
            _check_size(structure.rle, image.shape, view)
        codes: Any = [{"size": list(m.rle.size), "counts": m.rle.counts.encode()} for m in view.structures]
        decoded: Any = coco.decode(codes) if codes else None
        corners: Any = coco.toBbox(codes) if codes else []
        masks = []
        for i, (structure, (x, y, w, h)) in enumerate(zip(view.structures, corners, strict=True)):
            box = (int(x), int(y), int(x + w), int(y + h))
            packed = pack_mask(fit_mask(decoded[:, :, i], box, plan.size_px), number[structure.name])
            if packed is not None:
                masks.append(packed)
        yield (
            plan.cases[view.case],
            PackedImage(
                image=fitted,
                inner_hw=inner,
                original_hw=(image.shape[0], image.shape[1]),
                case=cases.index(view.case),
                view=view.view.encode()[:32],
                angles_deg=(view.positioner_primary_angle_deg, view.positioner_secondary_angle_deg),
                pixel_spacing_mm=view.pixel_spacing_mm,
                masks=masks,
            ),
        )


def _check_size(rle: Rle, shape: tuple[int, ...], view: View) -> None:
    if tuple(rle.size) != tuple(shape):
        raise FluoroError(f"{view.image}: masks are {rle.size}, the image is {shape}", "render the views again")


def read_png16(path: Path) -> np.ndarray:
    """A 16-bit grey PNG as (H, W) uint16. Raises FluoroError when it is absent or damaged."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image).astype(np.uint16)
    except (OSError, SyntaxError, ValueError) as error:
        raise FluoroError(f"{path}: not a readable PNG ({error})", "render the views again with --resume") from error


def fit_image(image: np.ndarray, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Scale (H, W) uint16 so that its longest side is `size`; zero padded at the bottom and right to (size, size)."""
    from PIL import Image

    inner = Frame(image.shape[0], image.shape[1], size).inner
    scaled = Image.fromarray(image.astype(np.float32)).resize((inner[1], inner[0]), Image.Resampling.BOX)
    fitted = np.zeros((size, size), np.uint16)
    values = np.rint(np.asarray(scaled))
    fitted[: inner[0], : inner[1]] = values - values.min()  # padding is the darkest value, as in preprocess.fit
    return fitted, inner


def fit_mask(mask: np.ndarray, box_xyxy: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Scale a mask (H, W) like `fit_image`: a pixel is in when at least half of its area is. -> (size, size) bool.

    Nothing outside `box_xyxy` is set, so only what it covers is scaled.
    """
    from PIL import Image

    height, width = mask.shape
    rows, columns = Frame(height, width, size).inner
    tall, wide = height / rows, width / columns  # source pixels per fitted pixel
    x0, y0 = int(box_xyxy[0] / wide), int(box_xyxy[1] / tall)
    x1, y1 = min(columns, int(box_xyxy[2] / wide) + 1), min(rows, int(box_xyxy[3] / tall) + 1)
    left, top = int(x0 * wide), int(y0 * tall)
    crop = mask[top : int(np.ceil(y1 * tall)), left : int(np.ceil(x1 * wide))]
    source = (x0 * wide - left, y0 * tall - top, x1 * wide - left, y1 * tall - top)
    picture = Image.fromarray(np.ascontiguousarray(crop > 0).view(np.uint8) * 255)
    fitted = np.zeros((size, size), bool)
    fitted[y0:y1, x0:x1] = np.asarray(picture.resize((x1 - x0, y1 - y0), Image.Resampling.BOX, source)) >= 128
    return fitted

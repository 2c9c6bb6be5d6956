"""What is in a shard, and whether a file that says it is one keeps to it.

Layout (N images, M masks, K maps; no variable-length types, no pickles; concatenated parts in chunks of 32 KiB):

    images               (N, S, S) uint16    one chunk per image, top-left aligned, zero padded
    inner_hw             (N, 2) int32        rows and columns the image covers
    original_hw          (N, 2) int32        size before it was scaled to S
    case                 (N,) int32          position in `cases`
    cases                (C,) bytes          names, UTF-8
    view                 (N,) S64            name of the view, or of a user's image
    angles_deg           (N, 2) float32      positioner primary, secondary; NaN: unknown
    pixel_spacing_mm     (N,) float32        of the original image; NaN: unknown or unequal
    field_xyxy           (N, 4) float32      edges of the collimated field in shard pixels; NaN: none in the image
    field_round          (N,) uint8          1: the field is the ellipse that touches them
    absent               (N, B) uint8        bit s, first high: structure s was looked for and is not in the image
    first_mask           (N + 1,) int64      masks of image i: first_mask[i] to first_mask[i + 1]
    mask/structure       (M,) int32          position in shards.json's `structures`
    mask/box_xyxy        (M, 4) int32        inclusive-exclusive, in shard pixels
    mask/area_px         (M,) int32
    mask/offset          (M + 1,) int64      bytes of mask m: offset[m] to offset[m + 1]
    mask/bits            (bytes,) uint8      each mask cropped to its box, rows concatenated, packed (first pixel high)
    travel/offset        (M + 1,) int64      as above; an empty part where the path length is not known
    travel/values        (values,) float16   path length in mm through the structure, cropped to its mask's box
    first_map            (N + 1,) int64      integrals of image i: first_map[i] to first_map[i + 1]
    integrals/hw         (N, 2) int32        their rows and columns; 0: the image has none
    integrals/map        (K,) int32          position in shards.json's `integrals`: materials, then tissues
    integrals/box_xyxy   (K, 4) int32        what of the map is not 0
    integrals/offset     (K + 1,) int64
    integrals/values     (values,) float16   g/cm2 or mm, cropped
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fluorosam_cli.contracts import Shard, Shards

PART_CHUNK_BYTES = 1 << 15
NAME_BYTES = 64
PER_IMAGE = {
    "inner_hw": ("int32", (2,)),
    "original_hw": ("int32", (2,)),
    "case": ("int32", ()),
    "view": (f"S{NAME_BYTES}", ()),
    "angles_deg": ("float32", (2,)),
    "pixel_spacing_mm": ("float32", ()),
    "field_xyxy": ("float32", (4,)),
    "field_round": ("uint8", ()),
}
MORE_PER_IMAGE = ("cases", "absent", "first_mask", "first_map", "integrals/hw")
PARTS = (("mask/bits", "uint8"), ("travel/values", "float16"), ("integrals/values", "float16"))
KINDS = {
    "uint16": ("images",),
    "uint8": ("absent", "mask/bits"),
    "float16": ("travel/values", "integrals/values"),
    "int32": ("mask/structure", "mask/box_xyxy", "mask/area_px", "integrals/hw", "integrals/map", "integrals/box_xyxy"),
    "int64": ("first_mask", "first_map", "mask/offset", "travel/offset", "integrals/offset"),
    "S": ("cases",),
}
LAYOUT = {name: kind for kind, names in KINDS.items() for name in names}
LAYOUT |= {name: kind for name, (kind, _) in PER_IMAGE.items()}


def check_tables(data: Mapping[str, Any], shard: Shard, header: Shards, file_bytes: int) -> None:
    """Raise ValueError unless every table has the size and the values that the others and the header allow."""
    size, names, count = header.size_px, len(header.structures), shard.images
    maps = 0 if header.integrals is None else len(header.integrals.materials) + len(header.integrals.tissues)
    shapes: dict[str, tuple[int, ...]] = {name: (count, *trailing) for name, (_, trailing) in PER_IMAGE.items()}
    shapes |= {"images": (count, size, size), "integrals/hw": (count, 2), "cases": data["cases"].shape[:1]}
    shapes |= {"first_mask": (count + 1,), "first_map": (count + 1,)}
    shapes["absent"] = (count, -(-names // 8) if data["absent"].shape[1:] != (0,) else 0)
    for group, table, rows, most in (("mask", "structure", shard.masks, names), ("integrals", "map", None, maps)):
        rows = len(data[f"{group}/{table}"]) if rows is None else rows
        _need(rows <= count * most, f"{group} of {rows} rows")
        shapes |= {f"{group}/{table}": (rows,), f"{group}/box_xyxy": (rows, 4), f"{group}/offset": (rows + 1,)}
        shapes |= {"mask/area_px": (rows,), "travel/offset": (rows + 1,)} if group == "mask" else {}
    _need(0 < count <= file_bytes and 0 < len(data["cases"]) <= count, f"{count} images")
    for name, shape in shapes.items():
        _need(data[name].shape == shape, f"{name} is of shape {data[name].shape}, not {shape}")
    for name, chunk_bytes in (("images", 2 * size * size), *((part, PART_CHUNK_BYTES) for part, _ in PARTS)):
        chunk = data[name].chunks
        _need(chunk is not None and np.prod(chunk) * data[name].dtype.itemsize == chunk_bytes, f"chunks of {name}")
    t = {name: data[name][:] for name in shapes if name not in ("images", "cases", "view")}
    _need(_within(t["case"], 0, len(data["cases"]) - 1), "cases")
    _need(_within(t["inner_hw"], 1, size), "inner_hw")
    _need(not np.unpackbits(t["absent"], axis=1)[:, names:].any(), "absent")
    _need(_within(t["mask/structure"], 0, names - 1), "structures")
    areas = _areas(t["mask/box_xyxy"], np.full((shard.masks, 2), size))
    _need(((t["mask/area_px"] > 0) & (t["mask/area_px"] <= areas)).all(), "areas of masks")
    _check_ends(t["first_mask"], shard.masks)
    _check_ends(t["mask/offset"], len(data["mask/bits"]), (areas + 7) // 8)
    _check_ends(t["travel/offset"], len(data["travel/values"]), areas, optional=True)
    _check_ends(t["first_map"], len(t["integrals/map"]))
    _need(_within(t["integrals/hw"], 0, header.integrals.size_px if header.integrals else 0), "sizes of integrals")
    _need(_within(t["integrals/map"], 0, maps - 1), "integrals")
    frames = np.repeat(t["integrals/hw"], np.diff(t["first_map"]), axis=0)
    _check_ends(t["integrals/offset"], len(data["integrals/values"]), _areas(t["integrals/box_xyxy"], frames))


def _areas(boxes_xyxy: np.ndarray, frames_hw: np.ndarray) -> np.ndarray:
    """Pixels in each box (n, 4), which lies in its frame (n, 2)."""
    x0, y0, x1, y1 = boxes_xyxy.astype(np.int64).T
    _need(((x0 >= 0) & (x0 < x1) & (x1 <= frames_hw[:, 1])).all(), "boxes")
    _need(((y0 >= 0) & (y0 < y1) & (y1 <= frames_hw[:, 0])).all(), "boxes")
    return (x1 - x0) * (y1 - y0)


def _check_ends(ends: np.ndarray, last: int, lengths: np.ndarray | None = None, optional: bool = False) -> None:
    """Offsets (n + 1,) run from 0 to `last`, by the `lengths` (n,); or, if optional, by these or 0."""
    steps = np.diff(ends)
    fit = steps >= 0 if lengths is None else (steps == lengths) | (optional & (steps == 0))
    _need(ends[0] == 0 and ends[-1] == last and fit.all(), "offsets")


def _within(values: np.ndarray, low: int, high: int) -> bool:
    return bool(((values >= low) & (values <= high)).all())


def _need(condition: object, what: str) -> None:
    if not condition:
        raise ValueError(f"{what}: not what the header or another table allows")

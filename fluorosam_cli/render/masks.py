"""Which masks a view carries, and their form in `views.jsonl`: COCO run-length codes, boxes, what cuts them off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fluorosam_cli.anatomy.structures import groups
from fluorosam_cli.contracts import Case, Rle, StructureMask
from fluorosam_cli.render.projector import Projection


@dataclass(frozen=True)
class MaskOutput:
    """One mask per view: a structure of the case, or a group of them, made of these labels."""

    name: str
    kind: Literal["structure", "group"]
    label_ids: tuple[int, ...]
    cut_by_scan: bool  # some of it lies beyond the scan's border


def mask_outputs(case: Case) -> list[MaskOutput]:
    """Every structure of the case in order of its label, then every group with a member among them.

    Where a group and a structure share a name (`tibia`: the side not known, or both sides), there is one output with
    the labels of both.
    """
    present = {structure.name: structure for structure in sorted(case.structures, key=lambda s: s.label_id)}
    parts = {name: [structure] for name, structure in present.items()}
    for group, names in groups().items():
        members = [present[name] for name in names if name in present]
        if members:
            parts[group] = parts.get(group, []) + members
    return [
        MaskOutput(
            name=name,
            kind="structure" if name in present else "group",
            label_ids=tuple(structure.label_id for structure in structures),
            cut_by_scan=any(structure.cut_by for structure in structures),
        )
        for name, structures in parts.items()
    ]


def structure_masks(projection: Projection, outputs: Sequence[MaskOutput]) -> list[StructureMask]:
    """The masks that have at least one pixel, in the order of `outputs`, which the projection was made for."""
    from pycocotools import mask as coco

    columns = np.ascontiguousarray(projection.bits.transpose(2, 1, 0))  # (words, W, H): run-length codes go by columns
    border = np.bitwise_or.reduce(
        np.concatenate(
            [projection.bits[[0, -1]].reshape(-1, len(columns)), projection.bits[:, [0, -1]].reshape(-1, len(columns))]
        )
    )
    masks = []
    for number in projection.seen():
        word, bit = number // 32, np.uint32(number % 32)
        mask = (columns[word] >> bit & np.uint32(1)).astype(np.uint8)
        code = coco.encode(mask.T)  # Fortran order, as it wants
        x, y, width, height = (int(value) for value in coco.toBbox(code))
        cut: list[Literal["detector", "scan"]] = []
        if border[word] >> bit & np.uint32(1):
            cut.append("detector")
        if outputs[number].cut_by_scan:
            cut.append("scan")
        counts = code["counts"].decode("ascii")  # pyright: ignore[reportAttributeAccessIssue] - its stubs say str
        masks.append(
            StructureMask(
                name=outputs[number].name,
                kind=outputs[number].kind,
                rle=Rle(size=mask.shape[::-1], counts=counts),
                box_xyxy=(x, y, x + width, y + height),
                area_px=int(coco.area(code)),
                truncated=cut,
            )
        )
    return masks


def decode(rle: Rle) -> np.ndarray:
    """The mask of a run-length code, (H, W) bool."""
    from pycocotools import mask as coco

    code = {"size": list(rle.size), "counts": rle.counts.encode("ascii")}
    return coco.decode(code).astype(bool)  # pyright: ignore[reportArgumentType]

"""Which masks a view carries, and their form in `views.jsonl`: COCO run-length codes, boxes, what cuts them off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fluorosam_cli.anatomy.structures import groups, outlines
from fluorosam_cli.contracts import Case, Rle, StructureMask
from fluorosam_cli.render.projector import Projection
from fluorosam_cli.tools.placement import PlacedTool

Kind = Literal["structure", "group", "outline", "tool"]


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


def structure_masks(
    projection: Projection, outputs: Sequence[MaskOutput], inside: np.ndarray | None = None
) -> list[StructureMask]:
    """The masks that have at least one pixel, in the order of `outputs`, which the projection was made for.

    They end where the collimated field does: `inside` (H, W) says where it is.
    """
    outside = None if inside is None else ~inside.T
    masks = []
    for word in range(projection.bits.shape[-1]):  # one at a time: together they are some MB
        bits = np.ascontiguousarray(projection.bits[..., word].T)  # (W, H): run-length codes go by columns
        cut = np.bitwise_or.reduce(np.concatenate([bits[0], bits[-1], bits[:, 0], bits[:, -1]]))
        if outside is not None:
            cut |= np.bitwise_or.reduce(bits[outside])
            bits[outside] = 0
        seen = np.bitwise_or.reduce(bits, axis=None)
        for bit, output in enumerate(outputs[32 * word : 32 * (word + 1)]):
            if seen >> np.uint32(bit) & 1:
                mask = (bits >> np.uint32(bit) & np.uint32(1)).astype(np.uint8)
                is_cut = bool(cut >> np.uint32(bit) & 1)
                masks.append(_record(output.name, output.kind, mask, is_cut, output.cut_by_scan))
    return masks


def outline_masks(
    found: Mapping[str, np.ndarray], outputs: Sequence[MaskOutput], inside: np.ndarray | None = None
) -> list[StructureMask]:
    """Radiographic outlines, name -> (H, W) bool; one is cut by the scan when anything that it is drawn from is."""
    cut = {output.name: output.cut_by_scan for output in outputs}
    sources = outlines()
    masks = (
        _of_mask(name, "outline", mask, any(cut.get(source, False) for source in sources[name]), inside)
        for name, mask in found.items()
    )
    return [mask for mask in masks if mask]


def tool_masks(
    placed: Sequence[PlacedTool], masks: np.ndarray, inside: np.ndarray | None = None
) -> list[StructureMask]:
    """The masks (tools, H, W) bool of the tools placed that are seen, then of each design and family among them.

    A size is what a catalogue asks for, a design or a family what people do: "the K-wire", "all screws".
    """
    together: dict[str, np.ndarray] = {}
    words = [tool.name for tool in placed], [tool.tool.design for tool in placed], [tool.family for tool in placed]
    for names in words:
        for name, mask in zip(names, masks, strict=True):
            together[name] = together[name] | mask if name in together else mask
    found = (_of_mask(name, "tool", mask, False, inside) for name, mask in together.items())
    return [mask for mask in found if mask]


def _of_mask(
    name: str, kind: Kind, mask: np.ndarray, cut_by_scan: bool, inside: np.ndarray | None
) -> StructureMask | None:
    cut = any(side.any() for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    if inside is not None:
        cut |= bool((mask & ~inside).any())
        mask = mask & inside
    columns = np.ascontiguousarray(mask.T).astype(np.uint8)
    return _record(name, kind, columns, cut, cut_by_scan) if columns.any() else None


def _record(name: str, kind: Kind, columns: np.ndarray, cut_by_detector: bool, cut_by_scan: bool) -> StructureMask:
    """The record of a mask given by its columns, (W, H) uint8."""
    from pycocotools import mask as coco

    code = coco.encode(columns.T)  # Fortran order, as it wants
    x, y, width, height = (int(value) for value in coco.toBbox(code))
    cut: list[Literal["detector", "scan"]] = []
    if cut_by_detector:
        cut.append("detector")
    if cut_by_scan:
        cut.append("scan")
    counts = code["counts"].decode("ascii")  # pyright: ignore[reportAttributeAccessIssue] - its stubs say str
    return StructureMask(
        name=name,
        kind=kind,
        rle=Rle(size=columns.shape[::-1], counts=counts),
        box_xyxy=(x, y, x + width, y + height),
        area_px=int(coco.area(code)),
        truncated=cut,
    )


def decode(rle: Rle) -> np.ndarray:
    """The mask of a run-length code, (H, W) bool."""
    from pycocotools import mask as coco

    code = {"size": list(rle.size), "counts": rle.counts.encode("ascii")}
    return coco.decode(code).astype(bool)  # pyright: ignore[reportArgumentType]

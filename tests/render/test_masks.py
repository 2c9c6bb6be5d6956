"""Which masks a view carries, and their run-length codes."""

import numpy as np

from fluorosam_cli.anatomy.structures import structure
from fluorosam_cli.artefacts import read_header
from fluorosam_cli.contracts import Case, CaseStructure
from fluorosam_cli.render.masks import MaskOutput, decode, mask_outputs, structure_masks
from fluorosam_cli.render.projector import Projection


def test_groups_are_there_when_a_member_is(cases):
    case = read_header(cases / "one" / "case.json", Case)
    outputs = {output.name: output for output in mask_outputs(case)}
    assert set(outputs["lung_left"].label_ids) == {10, 11}
    assert set(outputs["lungs"].label_ids) == {10, 11, 12, 14}
    assert outputs["spine"].kind == outputs["thoracic_spine"].kind == "group"
    assert outputs["heart"].kind == "structure"
    assert not {"ribs", "pelvis", "liver"} & outputs.keys()


def test_a_group_that_is_also_a_structure_comes_once_with_all_its_labels(cases):
    case = read_header(cases / "one" / "case.json", Case)

    def with_structures(*names: str) -> list:
        known = [
            CaseStructure(label_id=structure(name).label_id, name=name, snomed_ct=None, volume_ml=1, cut_by=[])
            for name in names
        ]
        return [
            (output.name, output.kind, set(output.label_ids))
            for output in mask_outputs(case.model_copy(update={"structures": known}))
            if output.name.startswith("tibia")
        ]

    left, right, unsided = (structure(name).label_id for name in ("tibia_left", "tibia_right", "tibia"))
    assert with_structures("tibia") == [("tibia", "structure", {unsided})]
    assert with_structures("tibia_left", "tibia_right") == [
        ("tibia_left", "structure", {left}),
        ("tibia_right", "structure", {right}),
        ("tibia", "group", {left, right}),
    ]
    assert with_structures("tibia_left", "tibia")[1] == ("tibia", "structure", {left, unsided})


def test_run_length_codes_bring_back_every_mask(cases):
    outputs = mask_outputs(read_header(cases / "one" / "case.json", Case))
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (23, 31, 1), dtype=np.uint32)
    bits[..., 0] &= ~np.uint32(1 << 2)  # nothing of number 2
    projection = Projection(np.zeros((1, 23, 31), np.float32), bits, tuple(output.name for output in outputs))
    masks = {mask.name: decode(mask.rle) for mask in structure_masks(projection, outputs)}
    assert outputs[2].name not in masks
    assert len(masks) == len(outputs) - 1
    for i, output in enumerate(outputs):
        if i != 2:
            assert np.array_equal(masks[output.name], projection.mask(i))


def test_masks_end_where_the_collimated_field_does():
    bits = np.full((20, 30, 1), 0b11, np.uint32)
    bits[:, 12:] = 0b10
    inside = np.zeros((20, 30), bool)
    inside[5:15, 6:24] = True
    outputs = [MaskOutput(name, "structure", (1,), False) for name in ("left", "all")]
    found = structure_masks(Projection(np.zeros((1, 20, 30), np.float32), bits, ("left", "all")), outputs, inside)
    assert [(mask.name, mask.box_xyxy, mask.truncated) for mask in found] == [
        ("left", (6, 5, 12, 15), ["detector"]),
        ("all", (6, 5, 24, 15), ["detector"]),
    ]

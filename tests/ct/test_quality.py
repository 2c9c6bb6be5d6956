"""What is flagged in a case and what is not: phantoms as they are, mirrored, shifted, with tables and metal."""

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure, structures
from fluorosam_cli.ct.body import AIR_HU, set_table_aside
from fluorosam_cli.ct.cases import describe_structures
from fluorosam_cli.ct.quality import assess, measure, summary_table, volume_ranges_ml
from fluorosam_cli.ct.volume import Volume


def findings(ct: Volume, labels: Volume, gate: str) -> list[str]:
    quality = assess(ct, labels, describe_structures(labels), 0.0)
    assert quality.suspicious == bool(quality.findings)
    return [finding.text for finding in quality.findings if finding.gate == gate]


def mirrored_in_x(volume: Volume) -> Volume:
    return Volume(np.ascontiguousarray(volume.array[..., ::-1]), volume.world_from_voxel)


# --- gates ------------------------------------------------------------------------------------------------------------


def test_a_body_as_it_should_be_has_its_organs_in_place(torso):
    for gate in ("structures", "side", "order", "fit"):
        assert findings(*torso, gate) == []


def test_a_mirrored_scan_is_caught(torso):
    ct, labels = (mirrored_in_x(volume) for volume in torso)
    (text,) = findings(ct, labels, "side")
    assert text.startswith("left and right look exchanged: ")
    assert findings(ct, labels, "order") == []


def test_organs_on_the_wrong_side_are_caught_even_when_pairs_are_named_rightly(torso):
    """A mirrored scan labelled afresh: kidneys and ribs get the names of the sides they are seen on."""
    ct, labels = (mirrored_in_x(volume) for volume in torso)
    swap = np.arange(256, dtype=np.uint8)
    for entry in structures():
        other = {"left": "right", "right": "left"}.get(entry.side or "")
        if other and (name := entry.name.replace(entry.side or "", other)) in {s.name for s in structures()}:
            swap[entry.label_id] = structure(name).label_id
    (text,) = findings(ct, Volume(swap[labels.array], labels.world_from_voxel), "side")
    assert text.startswith("left and right look exchanged: ")


def test_one_pair_exchanged_is_named(torso):
    ct, labels = torso
    array = labels.array.copy()
    left, right = (labels.array == structure(f"kidney_{side}").label_id for side in ("left", "right"))
    array[left], array[right] = structure("kidney_right").label_id, structure("kidney_left").label_id
    assert findings(ct, Volume(array, labels.world_from_voxel), "side") == [
        "kidney_left is not to the left of kidney_right"
    ]


def test_a_scan_upside_down_is_caught(torso):
    ct, labels = (Volume(volume.array[::-1], volume.world_from_voxel) for volume in torso)
    assert "lungs is not above liver" in findings(ct, labels, "order")
    ct, labels = (Volume(volume.array[:, ::-1], volume.world_from_voxel) for volume in torso)
    assert "sternum is not in front of spine" in findings(ct, labels, "order")


def test_labels_that_do_not_lie_on_the_anatomy_are_caught(torso):
    ct, labels = torso
    shifted = Volume(np.roll(labels.array, 30, axis=2), labels.world_from_voxel)
    texts = findings(ct, shifted, "fit")
    assert any(text.startswith("lung_") for text in texts)
    assert len(texts) > 5


def test_sizes_that_cannot_be_are_caught_and_cut_structures_may_be_small(torso):
    ct, labels = torso
    array = np.zeros_like(labels.array)
    array[40:42, 30:32, 30:32] = structure("liver").label_id
    inside = Volume(array, labels.world_from_voxel)
    assert findings(ct, inside, "volume") == ["liver has 1 ml, 600 to 3500 is plausible"]
    array[0, 30, 30] = structure("liver").label_id
    assert findings(ct, inside, "volume") == []
    array[:, 20:60, 20:60] = structure("spleen").label_id
    assert [text.split()[0] for text in findings(ct, inside, "volume")] == ["spleen"]


def test_a_case_without_structures_is_suspicious(torso):
    ct, labels = torso
    assert findings(ct, Volume(np.zeros_like(labels.array), ct.world_from_voxel), "structures") == [
        "no structure was found"
    ]


def test_every_structure_but_those_without_a_usual_size_has_a_range():
    ranges = volume_ranges_ml()
    without = {entry.name for entry in structures() if entry.label_id < 149 and entry.name not in ranges}
    assert without == {"kidney_cyst_left", "kidney_cyst_right", "skin"}
    assert all(0 < low < high for low, high in ranges.values())
    assert all(ranges[name] == ranges[name.replace("_left", "_right")] for name in ("femur_left", "kidney_left"))


def test_an_adult_has_every_volume_in_its_range(shared_data):
    import json

    volumes = json.loads((shared_data / "whole_body_phantom" / "class_volumes_ml.json").read_text())
    ranges = volume_ranges_ml()
    odd = {name for name, ml in volumes.items() if name in ranges and not ranges[name][0] <= ml <= ranges[name][1]}
    assert odd == {"pulmonary_vein", "spinal_cord"}  # its meshes have only the vein's ends and the cord's canal


def test_measures_are_exact_where_the_grid_is_coarse():
    array = np.zeros((12, 10, 11), np.uint8)
    array[2:5, 3:8, 4:6] = 7
    matrix = np.array([[3.0, 0, 0, 10], [0, 4, 0, -20], [0, 0, 5, 30], [0, 0, 0, 1]])
    hu = np.where(array, 50, -900).astype(np.int16)
    measured = measure(Volume(hu, matrix), Volume(array, matrix))
    assert measured.counts[7] == 30
    np.testing.assert_allclose(measured.centres[7], [10 + 3 * 4.5, -20 + 4 * 5, 30 + 5 * 3])
    assert measured.mean_hu[7] == 50


def test_metal_is_measured(torso):
    ct, labels = torso
    array = ct.array.copy()
    array[20:24, 30:34, 30:34] = 3071
    quality = assess(Volume(array, ct.world_from_voxel), labels, describe_structures(labels), 0.0)
    assert quality.metal_ml == pytest.approx(64 * ct.voxel_volume_ml)


def test_the_summary_shows_only_the_suspicious_of_many():
    row = {"structures": "3", "cut": "", "table_ml": "1", "metal_ml": "0", "body_ml": "9"}
    rows = [{**row, "case": f"c{n}", "findings": "odd" if n == 50 else ""} for n in range(99)]
    assert summary_table(rows[:2], "quality.csv")[1:] == [
        "c0    3           -    1         0         -",
        "c1    3           -    1         0         -",
    ]
    many = summary_table(rows, "quality-1-of-2.csv")
    assert [line.split()[0] for line in many] == ["case", "c50", "98"]
    assert many[-1] == "98 more in quality-1-of-2.csv"


# --- table and air ----------------------------------------------------------------------------------------------------


def with_table(ct: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The scan on a curved table, two 5 mm shells 30 mm apart with foam between, 20 mm below the back; and where."""
    array = ct.array.copy()
    y = np.nonzero((array > -400).any(axis=(0, 2)))[0].max() + 1 + round(20 / ct.spacing_xyz_mm[1])
    table = np.zeros(array.shape, bool)
    table[:, y : y + 1] = table[:, y + 7 : y + 8] = True
    array[:, y : y + 8] = -900
    array[table] = 60
    return array, table


def room_below(volume: Volume, fill: int) -> Volume:
    return Volume(np.pad(volume.array, ((0, 0), (0, 20), (0, 0)), constant_values=fill), volume.world_from_voxel)


def test_a_table_becomes_air_and_the_body_stays(torso):
    ct, labels = room_below(torso[0], AIR_HU), room_below(torso[1], 0)
    array, table = with_table(ct)
    scan = Volume(array.copy(), ct.world_from_voxel)
    removed_ml = set_table_aside(scan, labels)
    assert removed_ml == pytest.approx(table.sum() * ct.voxel_volume_ml, rel=0.02)
    assert (scan.array[table] == AIR_HU).all()
    body = torso[0].array > -400
    padded = np.pad(body, ((0, 0), (0, 20), (0, 0)))
    np.testing.assert_array_equal(scan.array[padded], ct.array[padded])


def test_air_inside_the_body_stays_as_it_is(torso):
    ct, labels = torso
    scan = Volume(ct.array.copy(), ct.world_from_voxel)
    set_table_aside(scan, labels)
    lungs = np.isin(labels.array, [10, 11, 12, 13, 14])
    np.testing.assert_array_equal(scan.array[lungs], ct.array[lungs])


def cylinder(shape, centre_yx, radius) -> np.ndarray:
    y, x = np.indices(shape[1:])
    return np.broadcast_to((y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 <= radius**2, shape)


def test_arms_and_a_second_leg_stay_though_nothing_connects_them():
    """Three parts of fat and bone without labels, one of plastic: the plastic goes."""
    shape, matrix = (20, 60, 120), np.diag([4.0, 4, 4, 1])
    array = np.full(shape, -1000, np.int16)
    limbs = [cylinder(shape, (25, x), radius) for x, radius in ((25, 14), (60, 15), (95, 8))]
    for limb, x in zip(limbs, (25, 60, 95), strict=True):
        array[limb] = -80
        array[cylinder(shape, (25, x), 3)] = 700
    plastic = np.zeros(shape, bool)
    plastic[:, 50:55, 10:110] = True
    array[plastic] = 40
    scan = Volume(array.copy(), matrix)
    set_table_aside(scan, Volume(np.zeros(shape, np.uint8), matrix))
    for limb in limbs:
        np.testing.assert_array_equal(scan.array[limb], array[limb])
    assert (scan.array[plastic] == AIR_HU).all()


def test_a_scan_of_nothing_is_left_alone():
    scan = Volume(np.full((12, 12, 12), -1000, np.int16), np.eye(4))
    assert set_table_aside(scan, Volume(np.zeros((12, 12, 12), np.uint8), np.eye(4))) == 0.0

"""Imported labels: where they are found, how they come onto the scan's grid, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure, structures
from fluorosam_cli.ct.labels import LabelSource, find_labels, read_labels
from fluorosam_cli.ct.scans import Scan
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.ct.volume import Volume
from fluorosam_cli.errors import FluoroError
from tests.ct.label_volumes import AFFINE, SHAPE, imported, save


def scan_called(name: str, file: Path = Path("ct.nii.gz")) -> Scan:
    return Scan(name, str(file), (Source(file),))


def found(folder, case: str, single: bool) -> LabelSource:
    return find_labels(folder, scan_called(case, folder / "ct.nii.gz"), single)


def imported_masks(folder, ct: Volume) -> np.ndarray:
    """The masks in `folder/m` as one volume, (x, y, z) in the order they were saved in."""
    labels, _ = read_labels(found(folder / "m", "a", single=True), ct)
    return labels.array.T[::-1, ::-1]


# --- values and grids -------------------------------------------------------------------------------------------------


def test_labels_that_end_inside_the_scan_are_remarked_on(tmp_path, ct, ids):
    path = save(tmp_path / "seg.nii.gz", ids[:, :, :3])
    labels, notes = read_labels(LabelSource((path,), "label volume"), ct)
    assert notes == [f"{path}: ends inside the scan; what its border cuts counts as whole"]
    inner = np.zeros_like(ids)[:, :, :3]
    inner[1:3, 1:4, 1] = 1
    labels, notes = read_labels(LabelSource((save(path, inner),), "label volume"), ct)
    assert notes == []
    assert np.count_nonzero(labels.array) == 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint16])
def test_whole_numbers_of_any_type_are_labels(tmp_path, ct, ids, dtype):
    np.testing.assert_array_equal(imported(save(tmp_path / "seg.nii.gz", ids.astype(dtype)), ct), ids)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "holds 0.5, labels"), (-1, "holds -1, labels"), (7e4, "holds 70000, labels"), (np.nan, "holds nan, labels")],
)
def test_what_is_no_label_is_refused(tmp_path, ct, ids, value, words):
    array = ids.astype(np.float32)
    array[1, 2, 3] = value
    with pytest.raises(FluoroError, match=words):
        imported(save(tmp_path / "seg.nii.gz", array), ct)


def test_labels_of_part_of_the_scan_are_put_in_their_place(tmp_path, ct, ids):
    affine = AFFINE.copy()
    affine[:3, 3] = [2, 0, 6]  # one voxel on in x, two in z
    part = ids[1:, :, 2:5]
    expected = np.zeros_like(ids)
    expected[1:, :, 2:5] = part
    source = LabelSource((save(tmp_path / "seg.nii.gz", part, affine),), "label volume")
    np.testing.assert_array_equal(read_labels(source, ct)[0].array.T[::-1, ::-1], expected)


def test_labels_on_flipped_and_permuted_axes_are_turned_back(tmp_path, ct, ids):
    flipped = AFFINE @ np.array([[0, -1, 0, 3], [0, 0, 1, 0], [-1, 0, 0, 5], [0, 0, 0, 1]])
    there = np.linalg.inv(flipped) @ AFFINE  # of a voxel of ids
    turned = np.zeros((6, 4, 5), np.uint8)
    for index in np.ndindex(*SHAPE):
        turned[tuple((there @ [*index, 1])[:3].round().astype(int))] = ids[index]
    np.testing.assert_array_equal(imported(save(tmp_path / "seg.nii.gz", turned, flipped), ct), ids)


def test_labels_on_a_finer_grid_are_resampled_aloud(tmp_path, ct, ids):
    fine = np.repeat(np.repeat(ids, 2, axis=0), 3, axis=2)
    affine = AFFINE @ np.diag([1 / 2, 1, 1 / 3, 1])
    affine[:3, 3] = [-0.5, 0, -1]  # the fine voxels fill the coarse ones
    path = save(tmp_path / "seg.nii.gz", fine, affine)
    labels, notes = read_labels(LabelSource((path,), "label volume"), ct)
    np.testing.assert_array_equal(labels.array.T[::-1, ::-1], ids)
    assert notes == [f"{path}: resampled from 8x5x18 to the scan's 4x5x6 voxels"]


def test_labels_on_a_coarser_grid_reach_to_its_border(tmp_path, ct, ids):
    """Half of a border voxel lies beyond its centre, and is labelled all the same."""
    affine = AFFINE @ np.diag([2, 1, 3, 1])
    affine[:3, 3] = [1, 0, 3]  # the coarse voxels fill two by three of the scan's
    path = save(tmp_path / "seg.nii.gz", ids[::2, :, ::3], affine)
    labels, _ = read_labels(LabelSource((path,), "label volume"), ct)
    expected = np.repeat(np.repeat(ids[::2, :, ::3], 2, axis=0), 3, axis=2)
    np.testing.assert_array_equal(labels.array.T[::-1, ::-1], expected)


def test_labels_beside_the_scan_are_refused(tmp_path, ct):
    affine = AFFINE.copy()
    affine[0, 3] = 4.0
    path = save(tmp_path / "seg.nii.gz", np.ones((4, 5, 4), np.uint8), affine)
    with pytest.raises(FluoroError, match=r"seg\.nii\.gz: only 50% of the labels lie inside the scan"):
        imported(path, ct)


@pytest.mark.parametrize(("shift_mm", "accepted"), [(0.9, True), (1.1, False)])
def test_a_shift_above_half_a_voxel_is_refused(tmp_path, ct, ids, shift_mm, accepted):
    affine = AFFINE.copy()
    affine[2, 3] += shift_mm
    path = save(tmp_path / "seg.nii.gz", ids, affine)
    if accepted:
        np.testing.assert_array_equal(imported(path, ct), ids)
    else:
        with pytest.raises(FluoroError, match=r"affine differs from the scan's by 1\.10 mm, at most 1\.00 mm"):
            imported(path, ct)


def test_a_mirrored_affine_is_refused(tmp_path, ct, ids):
    with pytest.raises(FluoroError, match="affine differs"):
        imported(save(tmp_path / "seg.nii.gz", ids, AFFINE @ np.diag([-1, 1, 1, 1])), ct)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_label_file_is_found_by_the_case_name(tmp_path, ct, ids):
    save(tmp_path / "b.nii.gz", ids)
    save(tmp_path / "c" / "labels.nii.gz", ids)
    save(tmp_path / "d" / "segmentations" / "spleen.nii.gz", ids)
    assert found(tmp_path, "b", single=False).files == (tmp_path / "b.nii.gz",)
    assert found(tmp_path, "c", single=False).files == (tmp_path / "c" / "labels.nii.gz",)
    assert found(tmp_path, "d", single=False).form == "structure masks"
    with pytest.raises(FluoroError, match="no labels for e"):
        found(tmp_path, "e", single=False)


def test_a_scan_is_not_its_own_labels(tmp_path, ct):
    with pytest.raises(FluoroError, match="no labels for ct"):
        found(tmp_path, "ct", single=True)


def test_masks_in_the_folder_itself_belong_to_a_single_scan_only(tmp_path, ct, ids):
    save(tmp_path / "spleen.nii.gz", ids)
    assert found(tmp_path, "a", single=True) == LabelSource((tmp_path / "spleen.nii.gz",), "structure masks")
    with pytest.raises(FluoroError, match="no labels for a"):
        found(tmp_path, "a", single=False)


def test_masks_become_one_volume_and_the_smaller_structure_wins(tmp_path, ct):
    large, small = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    large[1:4], small[2:3] = 1, 1
    save(tmp_path / "m" / "kidney_left.nii.gz", large)
    save(tmp_path / "m" / "kidney_cyst_left.nii.gz", small)
    save(tmp_path / "m" / "spleen.nii.gz", np.zeros(SHAPE, np.uint8))
    result = imported_masks(tmp_path, ct)
    np.testing.assert_array_equal(result == structure("kidney_cyst_left").label_id, small == 1)
    np.testing.assert_array_equal(result == structure("kidney_left").label_id, (large == 1) & (small == 0))
    assert set(np.unique(result)) == {0, structure("kidney_left").label_id, structure("kidney_cyst_left").label_id}


def test_masks_of_every_structure_give_the_label_volume(tmp_path, ct, ids):
    for entry in structures()[:3]:
        save(tmp_path / "m" / f"{entry.name}.nii.gz", (ids == entry.label_id).astype(np.uint8))
    result = imported_masks(tmp_path, ct)
    np.testing.assert_array_equal(result, ids)


def test_a_mask_with_a_name_we_do_not_know_is_refused(tmp_path, ct, ids):
    save(tmp_path / "m" / "spleen.nii.gz", (ids == 1).astype(np.uint8))
    save(tmp_path / "m" / "bodi.nii.gz", (ids == 2).astype(np.uint8))
    with pytest.raises(FluoroError, match="not known structures: bodi"):
        imported_masks(tmp_path, ct)


def test_masks_may_be_of_any_one_value(tmp_path, ct, ids):
    save(tmp_path / "m" / "liver.nii.gz", np.where(ids == 1, 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(imported_masks(tmp_path, ct) == structure("liver").label_id, ids == 1)


def test_a_mask_with_several_labels_is_refused(tmp_path, ct, ids):
    save(tmp_path / "m" / "spleen.nii.gz", ids)
    with pytest.raises(FluoroError, match=r"spleen\.nii\.gz: holds 3 labels"):
        imported_masks(tmp_path, ct)


# --- other tools' ways ------------------------------------------------------------------------------------------------


def test_an_nnunet_data_set(tmp_path, ct, ids):
    table = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2, "stomach": 3}}
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(table))
    image = save(tmp_path / "set" / "imagesTr" / "case_007_0000.nii.gz", np.full(SHAPE, -50, np.int16))
    path = save(tmp_path / "set" / "labelsTr" / "case_007.nii.gz", ids)
    source = find_labels(tmp_path / "set", scan_called("case_007_0000", image))
    assert source == LabelSource((path,), "label volume")
    np.testing.assert_array_equal(imported(path, ct) == structure("stomach").label_id, ids == 3)


def test_moose_files_are_merged(tmp_path, ct, ids):
    def entries(names):
        return {"organ_indices": {str(key): {"name": name, "SNOMED": {"ID": "1"}} for key, name in names.items()}}

    folder = tmp_path / "a" / "segmentations"
    organs = save(folder / "clin_CT_organs_segmentation_CT_a.nii.gz", (ids == 1) * np.uint8(8))
    bones = save(folder / "clin_CT_peripheral_bones_segmentation_CT_a.nii.gz", (ids >= 2).astype(np.uint8))
    fat = save(folder / "clin_CT_fat_segmentation_CT_a.nii.gz", (ids == 3).astype(np.uint8))
    (folder / "clin_CT_organs_organ_indices.json").write_text(json.dumps(entries({8: "liver"})))
    (folder / "clin_CT_peripheral_bones_organ_indices.json").write_text(json.dumps(entries({1: "clavicle_left"})))
    (folder / "clin_CT_fat_organ_indices.json").write_text(json.dumps(entries({1: "subcutaneous_fat"})))
    source = found(tmp_path, "a", single=False)
    assert set(source.files) == {organs, bones, fat}
    result = read_labels(source, ct)[0].array.T[::-1, ::-1]
    np.testing.assert_array_equal(result == structure("liver").label_id, ids == 1)
    np.testing.assert_array_equal(result == structure("clavicula_left").label_id, ids >= 2)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_labels_in_other_formats(tmp_path, ct, ids, suffix):
    import SimpleITK

    image = SimpleITK.ReadImage(str(save(tmp_path / "a.nii.gz", ids)))
    SimpleITK.WriteImage(image, str(tmp_path / f"seg{suffix}"))
    np.testing.assert_array_equal(imported(tmp_path / f"seg{suffix}", ct), ids)

"""Imported labels: which id means which structure, where they are found, and what is refused."""

import json

import nibabel
import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure, structures
from fluorosam_cli.ct.labels import Source, find_labels, read_labels, to_our_ids
from fluorosam_cli.ct.volume import Volume, read_nifti
from fluorosam_cli.errors import FluoroError

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (4, 5, 6)


def save(path, array, affine=AFFINE, table=None):
    image = nibabel.Nifti1Image(array, affine)
    if table:
        entries = "".join(f'<Label Key="{key}" Red="1"><![CDATA[{name}]]></Label>\n' for key, name in table.items())
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>'
            f"{entries}</LabelTable></VolumeInformation></CaretExtension>\n              "
        )
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


@pytest.fixture
def ct(tmp_path):
    return read_nifti(save(tmp_path / "ct.nii.gz", np.full(SHAPE, -50, np.int16)))


@pytest.fixture
def ids():
    """Ids 0, 1, 2, 3 in some pattern."""
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4).astype(np.uint8)


def imported(path, ct: Volume) -> np.ndarray:
    return read_labels(Source((path,), is_masks=False), ct, path.parent / "ct.nii.gz").array


def found(folder, case: str, single: bool) -> Source:
    return find_labels(folder, case, folder / "ct.nii.gz", single)


def imported_masks(folder, ct: Volume) -> np.ndarray:
    """The masks in `folder/m` as one volume."""
    source = find_labels(folder / "m", "a", folder / "ct.nii.gz", single=True)
    return read_labels(source, ct, folder / "ct.nii.gz").array


# --- names ------------------------------------------------------------------------------------------------------------


def test_without_a_table_the_ids_are_ours(tmp_path, ct, ids):
    np.testing.assert_array_equal(imported(save(tmp_path / "seg.nii.gz", ids), ct), ids.T)


def test_our_first_117_ids_are_totalsegmentators():
    assert [structure(name).label_id for name in ("spleen", "liver", "vertebrae_L5", "femur_left", "sternum")] == [
        1,
        5,
        27,
        75,
        116,
    ]


def test_a_table_in_the_header_names_the_ids(tmp_path, ct, ids):
    path = save(tmp_path / "seg.nii.gz", ids, table={1: "femur_left", 2: "Vertebrae L1", 3: "spleen", 9: "nonsense"})
    (tmp_path / "labels.json").write_text('{"1": "liver", "2": "liver", "3": "liver"}')
    result = imported(path, ct)
    for value, name in ((1, "femur_left"), (2, "vertebrae_L1"), (3, "spleen")):
        np.testing.assert_array_equal(result == structure(name).label_id, value == ids.T)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("under", ["", "present", "labels", "totalseg_labels (1-117 = ...)"])
def test_labels_json_beside_the_file_names_the_ids(tmp_path, ct, ids, under):
    table = {"1": "femur_left", "2": "liver", "3": "liver"}
    data = {"map": "mine", under: table} if under else table
    (tmp_path / "labels.json").write_text(json.dumps(data))
    result = imported(save(tmp_path / "seg.nii.gz", ids), ct)
    np.testing.assert_array_equal(result == structure("femur_left").label_id, ids.T == 1)
    np.testing.assert_array_equal(result == structure("liver").label_id, ids.T >= 2)


def test_unknown_names_are_listed_with_the_nearest():
    with pytest.raises(FluoroError) as caught:
        to_our_ids(np.array([0, 1, 2, 3]), {1: "spleeen", 2: "qqqq", 3: "liver"}, "seg.nii.gz")
    assert caught.value.problem == "seg.nii.gz: not known structures: qqqq, spleeen (nearest: spleen)"
    assert "fluoro info structures" in caught.value.hint


@pytest.mark.parametrize(
    ("word", "name"),
    [("Kidney Left", "kidney_left"), ("vertebrae-l1", "vertebrae_L1"), ("phalanges_foot_left", "phalanges_feet_left")],
)
def test_spelling_that_differs_slightly_is_understood(word, name):
    assert to_our_ids(np.array([0, 1]), {1: word}, "a").tolist() == [0, structure(name).label_id]


def test_names_of_absent_ids_do_not_matter():
    assert to_our_ids(np.array([0, 1]), {1: "spleen", 2: "qqqq"}, "a").tolist() == [0, 1]


def test_ids_without_a_name_are_listed(tmp_path, ct, ids):
    path = save(tmp_path / "seg.nii.gz", ids.astype(np.uint16) * 200)
    with pytest.raises(FluoroError, match=r"seg\.nii\.gz: labels without a name: 200, 400, 600") as caught:
        imported(path, ct)
    assert "labels.json" in caught.value.hint


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"labels": {"spleen": 1}}', '{"1": 5}'])
def test_labels_json_without_a_table_is_refused(tmp_path, ct, ids, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(FluoroError, match=r"labels\.json: (not valid JSON|holds no label table)"):
        imported(save(tmp_path / "seg.nii.gz", ids), ct)


def test_a_damaged_table_in_the_header_is_refused(tmp_path, ct, ids):
    image = nibabel.Nifti1Image(ids, AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, b"<LabelTable><Label></LabelTable>"))
    nibabel.save(image, tmp_path / "seg.nii.gz")
    with pytest.raises(FluoroError, match="label table in its header is damaged"):
        imported(tmp_path / "seg.nii.gz", ct)


# --- values and grids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint16])
def test_whole_numbers_of_any_type_are_labels(tmp_path, ct, ids, dtype):
    np.testing.assert_array_equal(imported(save(tmp_path / "seg.nii.gz", ids.astype(dtype)), ct), ids.T)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "holds 0.5, labels are whole numbers"), (-1, "run from -1"), (7e4, "to 70000"), (np.nan, "run from nan")],
)
def test_what_is_no_label_is_refused(tmp_path, ct, ids, value, words):
    array = ids.astype(np.float32)
    array[1, 2, 3] = value
    with pytest.raises(FluoroError, match=words):
        imported(save(tmp_path / "seg.nii.gz", array), ct)


def test_another_shape_is_refused(tmp_path, ct, ids):
    with pytest.raises(FluoroError, match=r"seg\.nii\.gz: shape is 4x5x5, ct\.nii\.gz is 4x5x6"):
        imported(save(tmp_path / "seg.nii.gz", ids[..., :5]), ct)


@pytest.mark.parametrize(("shift_mm", "accepted"), [(0.9, True), (1.1, False)])
def test_a_shift_above_half_a_voxel_is_refused(tmp_path, ct, ids, shift_mm, accepted):
    affine = AFFINE.copy()
    affine[2, 3] += shift_mm
    path = save(tmp_path / "seg.nii.gz", ids, affine)
    if accepted:
        np.testing.assert_array_equal(imported(path, ct), ids.T)
    else:
        with pytest.raises(FluoroError, match=r"affine differs from ct\.nii\.gz by 1\.10 mm, at most 1\.00 mm"):
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
    assert found(tmp_path, "c", single=False) == Source((tmp_path / "c" / "labels.nii.gz",), is_masks=False)
    assert found(tmp_path, "d", single=False).is_masks
    with pytest.raises(FluoroError, match="no labels for e"):
        found(tmp_path, "e", single=False)


def test_a_scan_is_not_its_own_labels(tmp_path, ct):
    with pytest.raises(FluoroError, match="no labels for ct"):
        found(tmp_path, "ct", single=True)


def test_masks_in_the_folder_itself_belong_to_a_single_scan_only(tmp_path, ct, ids):
    save(tmp_path / "spleen.nii.gz", ids)
    assert found(tmp_path, "a", single=True) == Source((tmp_path / "spleen.nii.gz",), is_masks=True)
    with pytest.raises(FluoroError, match="no labels for a"):
        found(tmp_path, "a", single=False)


def test_masks_become_one_volume_and_the_smaller_structure_wins(tmp_path, ct):
    large, small = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    large[1:4], small[2:3] = 1, 1
    save(tmp_path / "m" / "kidney_left.nii.gz", large)
    save(tmp_path / "m" / "kidney_cyst_left.nii.gz", small)
    save(tmp_path / "m" / "spleen.nii.gz", np.zeros(SHAPE, np.uint8))
    result = imported_masks(tmp_path, ct).T
    np.testing.assert_array_equal(result == structure("kidney_cyst_left").label_id, small == 1)
    np.testing.assert_array_equal(result == structure("kidney_left").label_id, (large == 1) & (small == 0))
    assert set(np.unique(result)) == {0, structure("kidney_left").label_id, structure("kidney_cyst_left").label_id}


def test_masks_of_every_structure_give_the_label_volume(tmp_path, ct, ids):
    for entry in structures()[:3]:
        save(tmp_path / "m" / f"{entry.name}.nii.gz", (ids == entry.label_id).astype(np.uint8))
    result = imported_masks(tmp_path, ct)
    np.testing.assert_array_equal(result, ids.T)


def test_a_mask_with_a_name_we_do_not_know_is_refused(tmp_path, ct, ids):
    save(tmp_path / "m" / "spleen.nii.gz", (ids == 1).astype(np.uint8))
    save(tmp_path / "m" / "bodi.nii.gz", (ids == 2).astype(np.uint8))
    with pytest.raises(FluoroError, match="not known structures: bodi"):
        imported_masks(tmp_path, ct)


def test_a_mask_with_several_labels_is_refused(tmp_path, ct, ids):
    save(tmp_path / "m" / "spleen.nii.gz", ids)
    with pytest.raises(FluoroError, match=r"spleen\.nii\.gz: holds labels up to 3"):
        imported_masks(tmp_path, ct)

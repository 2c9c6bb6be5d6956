"""Which id means which structure: names in headers, in tables beside a volume, in a map of the user's."""

import json

import nibabel
import numpy as np
import pytest

from fluorosam_cli.anatomy.structures import structure, structures
from fluorosam_cli.ct.label_names import label_id_of, read_labels_map, to_our_ids
from fluorosam_cli.ct.labels import LabelSource
from fluorosam_cli.errors import FluoroError
from tests.ct.label_volumes import AFFINE, imported, save


def test_without_a_table_the_ids_are_ours(tmp_path, ct, ids):
    np.testing.assert_array_equal(imported(save(tmp_path / "seg.nii.gz", ids), ct), ids)


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
        np.testing.assert_array_equal(result == structure(name).label_id, value == ids)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("under", ["", "present", "labels", "totalseg_labels (1-117 = ...)"])
def test_labels_json_beside_the_file_names_the_ids(tmp_path, ct, ids, under):
    table = {"1": "femur_left", "2": "liver", "3": "liver"}
    data = {"map": "mine", under: table} if under else table
    (tmp_path / "labels.json").write_text(json.dumps(data))
    result = imported(save(tmp_path / "seg.nii.gz", ids), ct)
    np.testing.assert_array_equal(result == structure("femur_left").label_id, ids == 1)
    np.testing.assert_array_equal(result == structure("liver").label_id, ids >= 2)


def test_unknown_names_are_listed_with_the_nearest():
    with pytest.raises(FluoroError) as caught:
        to_our_ids(np.array([0, 1, 2, 3]), {1: "spleeen", 2: "qqqq", 3: "liver"}, "seg.nii.gz")
    assert caught.value.problem == "seg.nii.gz: not known structures: qqqq, spleeen (nearest: spleen)"
    assert caught.value.hint.startswith("fluoro info structures lists all names; --labels-map FILE.toml")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("Kidney Left", "kidney_left"),
        ("vertebrae-l1", "vertebrae_L1"),
        ("phalanges_foot_left", "phalanges_feet_left"),
        ("left kidney", "kidney_left"),
        ("right_adrenal_gland", "adrenal_gland_right"),
        ("L4", "vertebrae_L4"),
        ("L4 vertebra", "vertebrae_L4"),
        ("vertebra_C1", "vertebrae_C1"),
        ("clavicle_left", "clavicula_left"),
        ("fingers_right", "phalanges_hand_right"),
        ("left fifth rib", "rib_left_5"),
        ("Bladder", "urinary_bladder"),
        ("heart_atrium_left", "heart"),
        ("thyroid_cartilage", "thyroid_cartilage"),
    ],
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


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"labels": {"spleen": [1, 2]}}', '{"1": 5}'])
def test_labels_json_without_a_table_is_refused(tmp_path, ct, ids, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(FluoroError, match=r"labels\.json: (not valid JSON|holds no label|its labels are regions)"):
        imported(save(tmp_path / "seg.nii.gz", ids), ct)


def test_other_json_beside_a_volume_is_no_table(tmp_path, ct, ids):
    (tmp_path / "seg.json").write_text('{"Modality": "CT", "EchoTime": 1}')  # as dcm2niix writes it
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}')
    result = imported(save(tmp_path / "seg.nii.gz", np.minimum(ids, 1)), ct)
    np.testing.assert_array_equal(result == structure("liver").label_id, ids > 0)


def test_a_corrected_table_makes_other_labels(tmp_path, ids):
    source = LabelSource((save(tmp_path / "seg.nii.gz", ids),), "label volume")
    digests = {source.sha256()}
    for name in ("liver", "spleen"):
        (tmp_path / "labels.json").write_text(json.dumps({"1": name}))
        digests.add(source.sha256())
    assert len(digests) == 3


def test_a_damaged_table_in_the_header_is_refused(tmp_path, ct, ids):
    image = nibabel.Nifti1Image(ids, AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, b"<LabelTable><Label></LabelTable>"))
    nibabel.save(image, tmp_path / "seg.nii.gz")
    with pytest.raises(FluoroError, match="label table in its header is damaged"):
        imported(tmp_path / "seg.nii.gz", ct)


def test_a_csv_beside_the_file_names_the_ids(tmp_path, ct, ids):
    (tmp_path / "seg.csv").write_text("id,name,colour\n1,Left Kidney,#f00\n2,liver,#0f0\n3,L1 vertebra,#00f\n")
    result = imported(save(tmp_path / "seg.nii.gz", ids), ct)
    for value, name in ((1, "kidney_left"), (2, "liver"), (3, "vertebrae_L1")):
        np.testing.assert_array_equal(result == structure(name).label_id, ids == value)


def test_slicers_segments_are_named_in_the_header(tmp_path, ct, ids):
    import SimpleITK

    image = SimpleITK.ReadImage(save(tmp_path / "plain.nii.gz", ids))
    SimpleITK.WriteImage(image, tmp_path / "plain.nrrd")
    head, pixels = (tmp_path / "plain.nrrd").read_bytes().split(b"\n\n", 1)
    names = ("Heart", "Liver", "Spleen")

    def write(layers=(0, 0, 0), values=(1, 2, 3)):
        lines = [f"Segment{n}_Name:={name}\nSegment{n}_Layer:={layers[n]}" for n, name in enumerate(names)]
        lines += [f"Segment{n}_LabelValue:={value}" for n, value in enumerate(values)]
        (tmp_path / "a.seg.nrrd").write_bytes(head + "\n".join(["", *lines]).encode() + b"\n\n" + pixels)
        return tmp_path / "a.seg.nrrd"

    result = imported(write(), ct)
    for value, name in enumerate(("heart", "liver", "spleen"), 1):
        np.testing.assert_array_equal(result == structure(name).label_id, ids == value)
    for wrong in ({"layers": (0, 0, 1)}, {"values": (1, 2)}, {"values": (1, 1, 2)}):
        with pytest.raises(FluoroError, match="segments overlap, or have no value"):
            imported(write(**wrong), ct)


def test_a_map_says_what_labels_mean(tmp_path, ct, ids):
    (tmp_path / "map.toml").write_text('1 = "spleen"\n3 = ""\n"My Organ" = "pancreas"\n')
    (tmp_path / "labels.json").write_text('{"1": "liver", "2": "my organ", "3": "tumour"}')
    result = imported(save(tmp_path / "seg.nii.gz", ids), ct, read_labels_map(tmp_path / "map.toml"))
    np.testing.assert_array_equal(result == structure("spleen").label_id, ids == 1)
    np.testing.assert_array_equal(result == structure("pancreas").label_id, ids == 2)
    assert set(np.unique(result)) == {0, structure("spleen").label_id, structure("pancreas").label_id}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('1 = "spleeen"', r"not known structures: spleeen \(nearest: spleen\)"),
        ('1 = "ribs"', r"not known structures: ribs \(a group: its parts are needed\)"),
        ("1 = 7", "1 = 7 is no name"),
        ("1 = ", "not valid TOML"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(tmp_path, text, words):
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(FluoroError, match=words):
        read_labels_map(tmp_path / "map.toml")


def test_every_name_and_every_display_name_is_understood():
    for entry in structures():
        assert label_id_of(entry.name) == entry.label_id
        assert label_id_of(entry.display_name) == entry.label_id, entry.display_name

"""Labels are found by the scan's own name, in whatever script and with whatever signs it is written."""

import numpy as np
import pytest
import SimpleITK

from fluorosam_cli.ct.labels import LabelSource, find_labels, read_labels
from fluorosam_cli.ct.layout import read_layout
from fluorosam_cli.ct.scans import case_name, find_scans
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.errors import FluoroError
from tests.ct.scan_files import phantom, write, zipped

ODD_NAMES = ["patient 1", "Müller (2)", "a[1] *.x", "患者一", "_0000_0000"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("form", ["{}.nii.gz", "labelsTr/{}.nii.gz", "{}/labels.nii.gz"])
def test_labels_are_found_by_the_name_that_the_scan_has(tmp_path, name, form):
    write(tmp_path / "scans" / f"{name}.nii.gz", phantom())
    labels = write(tmp_path / "labels" / form.format(name), phantom())
    (scan,), _ = find_scans([tmp_path / "scans"])
    assert find_labels(tmp_path / "labels", scan).files == (labels,)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_labels_are_found_by_the_case_that_the_scan_becomes(tmp_path, name):
    write(tmp_path / "scans" / f"{name}.nii.gz", phantom())
    (scan,), _ = find_scans([tmp_path / "scans"])
    labels = write(tmp_path / "labels" / f"{scan.name}.nii.gz", phantom())
    assert find_labels(tmp_path / "labels", scan).files == (labels,)


def test_nnunets_channel_does_not_belong_to_an_odd_name(tmp_path):
    write(tmp_path / "imagesTr" / "患者一_0000.nii.gz", phantom())
    labels = write(tmp_path / "labelsTr" / "患者一.nii.gz", phantom())
    (scan,), _ = find_scans([tmp_path / "imagesTr"])
    assert find_labels(tmp_path, scan).files == (labels,)


def test_the_name_itself_comes_before_one_that_is_only_like_it(tmp_path):
    write(tmp_path / "scans" / "patient 1.nii.gz", phantom())
    (scan,), _ = find_scans([tmp_path / "scans"])
    write(tmp_path / "labels" / "patient_1.nii.gz", phantom())
    exact = write(tmp_path / "labels" / "patient 1.nii.gz", phantom())
    assert find_labels(tmp_path / "labels", scan).files == (exact,)


def test_a_folder_in_an_archive_names_the_labels(tmp_path):
    write(tmp_path / "in" / "case 8" / "ct.nii.gz", phantom())
    (scan,), _ = find_scans([zipped(tmp_path / "all.zip", tmp_path / "in")])
    labels = write(tmp_path / "labels" / "case 8.nii.gz", phantom())
    assert find_labels(tmp_path / "labels", scan).files == (labels,)


def test_names_in_other_scripts_become_distinct_cases(tmp_path):
    for name in ("患者一", "患者二"):
        write(tmp_path / f"{name}.nii.gz", phantom())
    scans, _ = find_scans([tmp_path])
    assert len({scan.name for scan in scans}) == 2
    for scan in scans:
        assert scan.name == case_name(scan.sources[0])
        assert scan.name.isascii()


def test_labels_with_one_odd_value_are_said_to_hold_that(tmp_path):
    volume = phantom()
    volume.array[:] = np.arange(volume.array.size).reshape(volume.array.shape) % 6
    volume.array[0] = 0
    volume.array[0, 0, 0] = -1
    path = write(tmp_path / "seg.nii.gz", volume)
    with pytest.raises(FluoroError) as caught:
        read_labels(LabelSource((path,), "label volume"), volume)
    assert caught.value.problem == f"{path}: holds -1, labels are whole numbers from 0 to 65535"


def test_plain_labels_under_a_gzip_name_are_said_to_be_that(tmp_path):
    plain = write(tmp_path / "seg.nii", phantom())
    path = plain.rename(tmp_path / "seg.nii.gz")
    with pytest.raises(FluoroError, match=r"not a readable NIfTI.*\(not gzip-compressed, or damaged\)"):
        read_layout(Source(path), str(path))


def test_slicers_layers_are_refused_with_what_helps(tmp_path):
    image = SimpleITK.GetImageFromArray(np.zeros((2, 12, 14, 16), np.uint8))
    for layer, name in enumerate(("Liver", "Heart")):
        image.SetMetaData(f"Segment{layer}_Name", name)
        image.SetMetaData(f"Segment{layer}_LabelValue", "1")
        image.SetMetaData(f"Segment{layer}_Layer", str(layer))
    path = tmp_path / "a.seg.nrrd"
    SimpleITK.WriteImage(image, str(path))
    with pytest.raises(FluoroError) as caught:
        read_labels(LabelSource((path,), "label volume"), phantom())
    assert caught.value.problem == f"{path}: has 4 axes, a 3D volume is needed"
    assert caught.value.hint == "export one label map from Slicer"


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_header_may_name_its_voxels_in_any_script(tmp_path, suffix):
    path = write(tmp_path / f"患者 ü{suffix}", phantom())
    assert read_layout(Source(path), str(path)).source.path.is_file()

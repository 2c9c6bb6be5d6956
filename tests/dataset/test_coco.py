import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as oracle

from fluorosam_cli.dataset import coco

SHAPE = (13, 17)


@given(arrays(np.uint8, SHAPE, elements=st.integers(0, 1)))
@settings(max_examples=50, deadline=None)
def test_run_lengths_become_the_mask_they_were_made_from(mask):
    code = oracle.encode(np.asfortranarray(mask))
    runs = {"size": SHAPE, "counts": code["counts"].decode()}
    assert np.array_equal(coco.decode(runs, SHAPE), mask)
    assert np.array_equal(coco.decode({**runs, "counts": coco.decompressed(runs["counts"]).tolist()}, SHAPE), mask)


def test_long_runs_too():
    mask = np.zeros((3000, 2500), np.uint8)
    mask[:, 1200:1900] = 1
    code = oracle.encode(np.asfortranarray(mask))["counts"].decode()
    assert np.array_equal(coco.decode({"size": mask.shape, "counts": code}, mask.shape), mask)


def test_polygons_are_filled_together():
    square, other = [2, 2, 8, 2, 8, 6, 2, 6], [10.0, 8.0, 14.0, 8.0, 14.0, 12.0, 10.0, 12.0]
    expected = np.zeros(SHAPE, np.uint8)
    expected[2:6, 2:8] = expected[8:12, 10:14] = 1
    assert np.array_equal(coco.decode([square, other], SHAPE), expected)


@given(st.text(alphabet=[chr(i) for i in range(40, 120)], max_size=30))
@settings(max_examples=200, deadline=None)
def test_damaged_run_lengths_are_a_mask_or_an_error(counts):
    try:
        mask = coco.decode({"size": SHAPE, "counts": counts}, SHAPE)
    except ValueError:
        return
    assert mask.shape == SHAPE
    assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[1, 2, 3, 4]],
        [[1, 1, 5, 1, float("nan"), 5]],
        [[1, 1, 5, 1, 1e12, 5]],
        [["a"] * 6],
        "lung",
        None,
        {"counts": [10**12], "size": SHAPE},
        {"counts": [-1, 222], "size": SHAPE},
        {"counts": [True, 220], "size": SHAPE},
        {"counts": "", "size": SHAPE},
        {"counts": [221], "size": (17, 13)},
    ],
)
def test_what_is_no_segmentation_of_this_image_is_refused(segmentation):
    with pytest.raises(ValueError, match=r"\w"):
        coco.decode(segmentation, SHAPE)

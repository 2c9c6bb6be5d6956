import numpy as np
import pytest

from fluorosam_cli.text.letters import LENGTH, SIZE, letters


def test_rows_have_one_length_and_do_not_depend_on_each_other():
    phrases = ["left femur", "Th12", "5th rib", "", "?!"]
    vectors = letters(phrases)
    assert vectors.shape == (5, SIZE)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([LENGTH, LENGTH, LENGTH, 0, 0], abs=1e-5)
    np.testing.assert_array_equal(vectors[1], letters(["Th12"])[0])


def test_how_a_phrase_is_typed_and_its_word_order_change_nothing():
    one, *others = letters(["left femur", "LEFT  FEMUR", "the left femur", "femur, left", "L femur"])
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_a_structure_and_its_mirror_image_share_their_letters():
    left, *others = letters(["left femur", "right femur", "femur", "rihgt femur", "femur sinistrum"])
    for other in others:
        np.testing.assert_allclose(other, left, atol=1e-6)


def test_a_spelling_error_leaves_a_word_nearest_to_itself_and_numbers_are_whole():
    words = ["femur", "clavicle", "scapula", "bladder", "trachea"]
    wrong = ["femr", "clavicel", "scapulla", "bladdr", "tracjea"]
    likeness = letters(wrong) @ letters(words).T / LENGTH**2
    assert likeness.argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert likeness.diagonal().min() > 0.2 > (likeness - np.diag(likeness.diagonal())).max()
    eleven, twelve = letters(["11", "12"])
    assert abs(eleven @ twelve) < 1e-5

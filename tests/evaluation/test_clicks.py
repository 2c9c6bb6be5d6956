import numpy as np
import pytest
from skimage.measure import label

from fluorosam_cli.evaluation.clicks import Click, next_click

EMPTY = np.zeros((20, 30), bool)


def square(top, left, side):
    mask = EMPTY.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_first_click_is_the_middle_of_the_structure():
    assert next_click(EMPTY, square(4, 10, 7)) == Click(13, 7, 1)


def test_a_false_mask_is_clicked_away():
    assert next_click(square(4, 10, 7), EMPTY) == Click(13, 7, 0)


def test_a_perfect_mask_needs_no_click():
    assert next_click(square(4, 10, 7), square(4, 10, 7)) is None
    assert next_click(EMPTY, EMPTY) is None


def test_the_largest_error_wins():
    real, predicted = square(2, 2, 5) | square(10, 20, 3), square(10, 10, 7)
    assert next_click(predicted, real) == Click(13, 13, 0)
    assert next_click(predicted & False, real) == Click(4, 4, 1)


def test_missed_and_false_pixels_do_not_join():
    """A shifted mask has an error on each side: two components, though they touch at nothing but the overlap."""
    click = next_click(square(5, 5, 9), square(5, 8, 9))
    assert click is not None
    assert click.label == 1
    assert click.x == 15


def test_of_equal_errors_the_missed_one_comes_first():
    assert next_click(square(3, 3, 5), square(10, 20, 5)) == Click(22, 12, 1)


def test_the_border_is_an_edge():
    real = EMPTY.copy()
    real[:, :9] = True
    click = next_click(EMPTY, real)
    assert click is not None
    assert click.x == 4
    assert 4 <= click.y <= 15


def test_diagonal_neighbours_are_one_error():
    real = EMPTY.copy()
    for i in range(8):
        real[i, i] = True
    real[15:17, 20:23] = True  # 6 pixels, compact, but fewer than the diagonal's 8
    click = next_click(EMPTY, real)
    assert click is not None
    assert click.x < 8


def brute_force(predicted, real):
    """Largest component by flood fill; its pixel farthest from everything outside, by comparing all pairs."""
    best = None
    for kind, error in ((1, real & ~predicted), (0, predicted & ~real)):
        components = label(error, connectivity=2)
        for number in range(1, components.max() + 1):
            size = (components == number).sum()
            if best is None or size > best[0]:
                best = (size, kind, components == number)
    if best is None:
        return None
    _, kind, component = best
    outside = np.argwhere(~np.pad(component, 1)) - 1
    distances = {(y, x): ((outside - (y, x)) ** 2).sum(axis=1).min() for y, x in np.argwhere(component)}
    y, x = max(distances, key=lambda at: (distances[at], -at[0], -at[1]))
    return Click(int(x), int(y), kind)


@pytest.mark.parametrize("density", [0.1, 0.4, 0.6, 0.9])
def test_agrees_with_brute_force_on_random_masks(density):
    rng = np.random.default_rng(int(density * 10))
    for _ in range(15):
        predicted, real = rng.random((2, 9, 14)) < density
        assert next_click(predicted, real) == brute_force(predicted, real)

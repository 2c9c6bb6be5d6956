import numpy as np
import pytest

from fluorosam_cli.dataset import augment
from fluorosam_cli.dataset.augment import DAMAGE, TONES, appearance
from fluorosam_cli.dataset.fields import blurred, cloud
from fluorosam_cli.dataset.overlays import Sides, draw_marker
from fluorosam_cli.dataset.randomisation import FULL, OFF, WEAK, Randomisation

IMAGE = np.clip(0.5 + 0.15 * cloud(np.random.default_rng(0), 12, (96, 96)), 0, 1).astype(np.float32)


def only(**shares: float) -> Randomisation:
    return Randomisation(**{**vars(OFF), **shares})


@pytest.mark.parametrize("change", [*TONES, *DAMAGE], ids=lambda change: change.__name__)
def test_each_change_is_one_of_the_settings_and_follows_its_generator(change):
    assert hasattr(FULL, change.__name__)
    before = IMAGE.copy()
    for seed in range(5):
        a, b = (change(IMAGE, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(a, b)
        assert a.shape == IMAGE.shape
        assert a.dtype == np.float32
        assert np.isfinite(a).all()
        assert not np.array_equal(a, IMAGE)
    assert np.array_equal(IMAGE, before)


def test_off_changes_nothing_and_weak_less_than_full():
    assert np.array_equal(appearance(IMAGE, OFF, np.random.default_rng(0))[0], IMAGE)
    assert all(getattr(WEAK, name) <= share for name, share in vars(FULL).items())

    def change(r: Randomisation) -> float:
        return float(np.mean([np.abs(appearance(IMAGE, r, np.random.default_rng(s))[0] - IMAGE) for s in range(60)]))

    assert 0 < change(WEAK) < change(FULL)


def test_appearance_stays_in_range():
    for seed in range(100):
        image, field = appearance(IMAGE, FULL, np.random.default_rng(seed))
        assert image.min() >= 0
        assert image.max() <= 1
        assert field is None or (field.shape == IMAGE.shape and field.mean() > 0.3)


def test_one_picture_in_six_is_inverted():
    assert 0.15 <= FULL.invert <= 0.2
    dark = [appearance(IMAGE, only(invert=FULL.invert), np.random.default_rng(s))[0][0, 0] for s in range(600)]
    assert np.mean(np.isclose(dark, 1 - IMAGE[0, 0])) == pytest.approx(FULL.invert, abs=0.05)


def test_a_blur_keeps_the_mean_and_a_clouds_variance_is_that_of_its_cells():
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    spread = blurred(point, 2.0)
    offset = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread * offset**2).sum() == pytest.approx(4, rel=0.1)
    assert cloud(np.random.default_rng(1), 64, (64, 64)).std() == pytest.approx(1, abs=0.05)


def test_local_contrast_takes_a_slope_away_and_keeps_detail():
    slope = np.linspace(0, 0.8, 96, dtype=np.float32)[None].repeat(96, axis=0)
    detail = slope + 0.05 * (np.indices((96, 96)).sum(axis=0) % 2).astype(np.float32)
    after = augment.local_contrast(detail, np.random.default_rng(0))

    def shares(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=0)).mean() / (image[:, 80:90].mean() - image[:, 6:16].mean()))

    assert shares(after) > 1.2 * shares(detail)


@pytest.mark.parametrize(("left", "right"), [((0.65, 1), (0, 0.35)), ((0, 0.35), (0.65, 1))])
def test_side_letters_stand_on_the_side_they_name(left, right, monkeypatch):
    black = np.zeros((96, 96), np.float32)
    monkeypatch.setattr("fluorosam_cli.dataset.overlays.LETTER_SHARE", 1.0)
    for only_side, sides in ((left, Sides(left, None)), (right, Sides(None, right))):
        for seed in range(12):
            columns = np.flatnonzero(draw_marker(black, np.random.default_rng(seed), sides).any(axis=0))
            if len(columns):  # black on black shows nothing
                assert only_side[0] * 96 - 1 <= columns.mean() <= only_side[1] * 96 + 1


def test_sides_are_read_from_the_structures():
    boxes = np.array([[60, 0, 80, 10], [10, 0, 30, 10], [40, 0, 50, 10]])
    frontal = Sides.of(boxes, np.array([-1, 1, 0]), 90)  # patient's left on the right of the picture
    assert frontal == Sides((0.65, 1), (0, 0.35))
    assert Sides.of(boxes, np.array([1, -1, 0]), 90) == Sides((0, 0.35), (0.65, 1))
    assert Sides.of(boxes, np.array([-1, 0, 0]), 90) == Sides((0, 1), None)  # a left hand
    assert Sides.of(boxes, np.array([-1, 0, 0]), 90, flipped=True) == Sides(None, (0, 1))  # it is a right one now
    assert Sides.of(boxes, np.array([-1, 1, 0]), 90, flipped=True) == frontal
    assert Sides.of(boxes, np.array([0, 0, 0]), 90) == Sides()
    assert Sides.of(boxes[[0, 0]], np.array([-1, 1]), 90) == Sides()  # a lateral view

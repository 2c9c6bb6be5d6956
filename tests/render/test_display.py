import numpy as np
import pytest

from fluorosam_cli.render.display import STYLES, Look, Style, display_image, draw_look, equalised


def body() -> np.ndarray:
    """Attenuation from 0.7 to 5, left to right and more of it from top to bottom."""
    attenuation = np.linspace(0.7, 3.5, 64) + np.linspace(0, 1.5, 64)[:, None]
    return np.exp(-attenuation).astype(np.float32)


def test_more_bone_is_brighter():
    image = display_image(body())
    assert image.dtype == np.uint16
    assert image.shape == (64, 64)
    assert (np.diff(image.astype(int), axis=0) >= 0).all()
    assert (np.diff(image.astype(int), axis=1) >= 0).all()
    assert image.min() == 0
    assert image.max() == 65535
    assert np.median(np.diff(image.astype(int), axis=0)) > 100


def test_bone_dark_is_the_inverse():
    bright, dark = display_image(body()), display_image(body(), polarity="bone_dark")
    assert (bright.astype(int) + dark == 65535).all()


@pytest.mark.parametrize("style", ["plain", "clahe"])
def test_open_and_collimated_borders_do_not_change_the_patients_tone(style):
    alone = display_image(body(), Look(style))
    inside = np.pad(np.ones((64, 64), dtype=bool), 32)
    for value in (1.0, 0.02):  # direct exposure, scatter behind the leaves
        framed = display_image(np.pad(body(), 32, constant_values=value), Look(style, masked=False), inside)
        if style == "plain":
            assert (framed[32:-32, 32:-32] == alone).all()
        masked = display_image(np.pad(body(), 32, constant_values=value), Look(style), inside)
        assert (masked[inside] == framed[inside]).all()
        assert masked[~inside].max() == 0


def test_direct_exposure_is_black_and_outside_the_window():
    framed = display_image(np.pad(body(), 40, constant_values=1.0))
    assert (framed[40:-40, 40:-40] == display_image(body())).all()
    assert framed[0, 0] == 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_a_flat_image_is_no_error(value, style):
    image = display_image(np.full((20, 30), value, dtype=np.float32), Look(style))
    assert image.shape == (20, 30)
    assert np.ptp(image) < 655


def texture(style: Style, **look: float) -> float:
    """Contrast of a fine grating on a slope, per contrast of the slope."""
    x = np.linspace(0, 1, 256)
    grating = 0.05 * np.sin(2 * np.pi * 40 * x)[:, None]
    image = display_image(np.exp(-(1 + 2 * x + grating)).astype(np.float32), Look(style, **look)).astype(float)
    return float(image[64:192].std(axis=0).mean() / image[:, 20:-20].mean(axis=0).std())


def test_vendors_lift_details_and_even_out_the_rest():
    assert texture("vendor", detail=1.0, evening=0.0) > 1.4 * texture("plain")
    assert texture("vendor", detail=0.0, evening=0.4) > 1.2 * texture("plain")


def test_vendors_bring_the_patients_median_to_grey():
    for power in (0.6, 1.0, 1.5):
        intensity = np.exp(-(0.5 + 3 * np.linspace(0, 1, 128) ** power)).astype(np.float32)
        image = display_image(np.tile(intensity, (128, 1)), Look("vendor", grey=0.55, curve=0.0, evening=0.0))
        assert np.median(image) / 65535 == pytest.approx(0.55, abs=0.03)


def test_equalisation_spreads_a_narrow_range_and_keeps_the_order():
    ramp = np.tile(np.linspace(0.45, 0.55, 256, dtype=np.float32), (256, 1))
    result = equalised(ramp, np.ones(ramp.shape, dtype=bool))
    assert 0 <= result.min() <= result.max() <= 1
    columns = result[128]
    assert np.ptp(columns[112:144]) > 2 * np.ptp(ramp[128, 112:144])


def test_looks_are_drawn_from_the_generator_alone():
    looks = [draw_look(np.random.default_rng(seed)) for seed in range(200)]
    assert looks == [draw_look(np.random.default_rng(seed)) for seed in range(200)]
    assert {look.style for look in looks} == set(STYLES)
    fixed = [draw_look(np.random.default_rng(seed), "clahe") for seed in range(200)]
    assert {look.style for look in fixed} == {"clahe"}
    assert [look.detail for look in fixed] == [look.detail for look in looks]


def test_a_large_image_looks_like_a_small_one():
    y, x = np.mgrid[0:1:256j, 0:1:256j]
    small = np.exp(-(1 + 2 * np.exp(-8 * ((x - 0.5) ** 2 + (y - 0.4) ** 2)) + 0.3 * np.sin(30 * x))).astype(np.float32)
    large = np.kron(small, np.ones((4, 4), dtype=np.float32))
    for style in STYLES:
        difference = display_image(large, Look(style))[2::4, 2::4].astype(int) - display_image(small, Look(style))
        assert np.abs(difference).mean() < 0.03 * 65535, style


def test_a_trunk_beside_a_limb_is_let_go_white():
    alone = np.pad(body(), 64, constant_values=1.0)
    beside = alone.copy()
    beside[:, :32] = 1e-4
    limb = np.zeros(alone.shape, bool)
    limb[64:-64, 64:-64] = True
    shown = display_image(beside, window_share=0.5)
    assert (shown[limb] == display_image(alone)[limb]).all()
    assert (shown[:, :32] == 65535).all()
    assert np.ptp(display_image(beside)[limb]) < 0.7 * np.ptp(shown[limb])
    empty_middle = np.roll(alone, 96, axis=1)  # then all of it counts
    assert (display_image(empty_middle, window_share=0.3) == display_image(empty_middle)).all()

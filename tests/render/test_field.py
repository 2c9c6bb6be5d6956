import numpy as np
import pytest

from fluorosam_cli.render import physics
from fluorosam_cli.render.exposure import ANODE_SIDES, Collimation, Exposure
from fluorosam_cli.render.field import LEAF_TRANSMISSION, Geometry, aperture, exposed, shading

GEOMETRY = Geometry(pixel_spacing_mm=2.0, source_to_detector_mm=1000.0, source_to_isocenter_mm=700.0)
SHAPE = (101, 151)


def test_the_field_falls_off_with_the_cube_of_the_cosine():
    shade = shading(Exposure(80, 1), GEOMETRY, SHAPE)
    assert shade is not None
    y, x = 2 * (np.arange(101) - 50)[:, None], 2 * (np.arange(151) - 75)
    cosine = 1000 / np.sqrt(x**2 + y**2 + 1000**2)
    assert shade == pytest.approx(cosine**3, rel=1e-5)
    moved = shading(Exposure(80, 1), Geometry(2.0, 1000.0, 700.0, centre_px=(0.0, 0.0)), SHAPE)
    assert moved is not None
    assert moved[0, 0] == 1 == moved.max()
    assert shading(Exposure(80, 1), GEOMETRY, SHAPE, frozenset({"falloff"})) is None


@pytest.mark.parametrize("side", ANODE_SIDES)
def test_the_heel_weakens_the_anodes_side(side):
    shade = shading(Exposure(80, 1, anode_side=side), GEOMETRY, SHAPE, frozenset({"falloff"}))
    assert shade is not None
    assert shade[50, 75] == pytest.approx(1)
    ends = {"left": shade[50, 0], "right": shade[50, -1], "top": shade[0, 75], "bottom": shade[-1, 75]}
    assert min(ends, key=lambda end: ends[end]) == side
    assert max(ends.values()) > 1
    assert shading(Exposure(80, 1, anode_side=side), GEOMETRY, SHAPE, frozenset({"falloff", "heel"})) is None


def test_the_heel_is_that_of_the_table():
    angle = np.array([-9.0, -4.0, 0.0, 4.0, 9.0])
    assert physics.heel(80.0, angle) == pytest.approx([0.636, 0.910, 1, 1.050, 1.085], abs=0.002)
    assert (np.diff(physics.heel(100.0, np.linspace(-15, 11, 60))) >= 0).all()
    assert physics.heel(65.0, angle) == pytest.approx((physics.heel(50.0, angle) + physics.heel(80.0, angle)) / 2)


def test_a_rectangle_is_open_inside_and_shut_outside_with_the_penumbra_between():
    exposure = Exposure(80, 1, focal_spot_mm=1.0, collimation=Collimation("rectangle", (30.0, 20.0, 160.0, 80.0)))
    opened = aperture(exposure, GEOMETRY, SHAPE)
    assert opened is not None
    assert opened[50, 40:].min() == 1  # the right edge is beyond the image
    assert opened[50, 20] == pytest.approx(LEAF_TRANSMISSION)
    assert opened[50, 30] == pytest.approx(0.5, abs=0.001)
    assert (np.diff(opened[50]) >= 0).all()
    width = np.count_nonzero((opened[50] > 0.01) & (opened[50] < 0.99))
    assert width == pytest.approx(1.0 * (1000 / 250 - 1) / 2.0, abs=1)  # 3 mm in pixels of 2 mm
    inside = exposed(exposure, GEOMETRY, SHAPE)
    assert (opened[inside] == 1).all()
    assert (opened[~inside] < 1).all()


def test_a_circle_is_round():
    collimation = Collimation("circle", (25.0, 0.0, 125.0, 100.0))
    inside = exposed(Exposure(80, 1, focal_spot_mm=0.0, collimation=collimation), GEOMETRY, SHAPE)
    assert inside.sum() == pytest.approx(np.pi * 49.5**2, rel=0.01)
    assert (inside == inside[::-1]).all()
    opened = aperture(Exposure(80, 1, collimation=collimation), GEOMETRY, SHAPE)
    assert opened is not None
    assert opened[50, 75] == 1
    assert opened[0, 0] == pytest.approx(LEAF_TRANSMISSION)


def test_an_open_field_has_no_edges():
    assert aperture(Exposure(80, 1), GEOMETRY, SHAPE) is None
    assert exposed(Exposure(80, 1), GEOMETRY, SHAPE).all()

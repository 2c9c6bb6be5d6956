"""Joseph's image against fields that it interpolates exactly, and against Siddon's."""

import numpy as np
import pytest

from fluorosam_cli.render.projector import Projector
from tests.render.scenes import AIR, ONE, SOFT, carm, centred, project, rays, table


@pytest.mark.parametrize(("primary", "secondary"), [(180, 0), (90, 0), (0, 85), (33, -21), (-140, 40)])
def test_joseph_is_exact_where_the_density_is_linear(primary, secondary):
    """Between voxel centres a linear field is its own interpolation; the ray's sum is then the midpoint rule's."""
    n = 40
    ramp = np.arange(4096, dtype=np.float32)[:, None] / 1000
    z, y, x = np.mgrid[0:n, 0:n, 0:n]
    rows = (100 + 10 * x + 7 * y + 4 * z - 1024).astype(np.int16)
    projector = Projector(rows, None, centred(rows.shape), [], ramp, interpolation="joseph")
    view = carm(primary, secondary, size=16, spacing=1.0)
    found = project(projector, view, paths=False).mass_g_cm2[0]
    source, directions = rays(view)
    slope = np.array([10.0, 7.0, 4.0]) / 1000
    middle = 0.1 + slope @ np.full(3, (n - 1) / 2)
    half = np.full(3, n / 2)
    with np.errstate(divide="ignore"):
        sides = np.stack([(-half - source) / directions, (half - source) / directions])
    near, far = sides.min(axis=0).max(axis=-1), sides.max(axis=0).min(axis=-1)
    at = source + ((near + far) / 2)[..., None] * directions
    expected = (far - near) * (middle + at @ slope) / 10
    assert np.allclose(found, expected, rtol=0.03)  # half a voxel at either end
    assert found.mean() == pytest.approx(expected.mean(), rel=0.01)


@pytest.mark.parametrize(("primary", "secondary"), [(180, 0), (25, 85), (55, -30)])
def test_a_cube_weighs_the_same_wherever_it_lies_in_the_grid(primary, secondary):
    """Interpolation reaches half a voxel beyond what is dense, also where that is outside the cube's bricks."""
    view, found = carm(primary, secondary, size=64, spacing=0.5), {}
    for first in range(8, 16):
        rows = np.full((32, 32, 32), AIR, np.int16)
        rows[(slice(first, first + 8),) * 3] = SOFT
        world_from_voxel = np.eye(4)
        world_from_voxel[:3, 3] = -first - 3.5
        projector = Projector(rows, None, world_from_voxel, [], table(), interpolation="joseph")
        found[first] = project(projector, view, paths=False).mass_g_cm2[2]
        assert np.allclose(found[first], found[8], atol=1e-3)
    pixel_cm2 = (0.05 * 700 / 1000) ** 2  # where the cube is
    assert found[8].sum() * pixel_cm2 == pytest.approx(0.8**3, rel=0.01)


def test_joseph_agrees_with_siddon_on_a_smooth_body_and_leaves_the_masks_alone():
    z, y, x = np.mgrid[-24:24, -24:24, -24:24] + 0.5
    distance = np.sqrt(x**2 + y**2 + z**2)
    hu = np.clip(1500 - 80 * distance, -1000, 1000).astype(np.int16)
    labels = (distance < 12).astype(np.uint8)
    densities = np.maximum(np.arange(4096, dtype=np.float32) - 24, 0)[:, None] / 1000 * [1, 0, 0, 0, 0.5]
    view = carm(25, 15)
    siddon, joseph = (
        project(Projector(hu, labels, centred(hu.shape), ONE, densities, interpolation=kind), view)
        for kind in ("siddon", "joseph")
    )
    thick = siddon.mass_g_cm2 > 1
    assert np.allclose(joseph.mass_g_cm2[4], joseph.mass_g_cm2[0] / 2)
    assert np.abs(joseph.mass_g_cm2 / np.maximum(siddon.mass_g_cm2, 1e-6) - 1)[thick].mean() < 0.01
    assert not np.array_equal(joseph.mass_g_cm2, siddon.mass_g_cm2)
    assert np.array_equal(joseph.bits, siddon.bits)
    assert np.array_equal(joseph.path_mm, siddon.path_mm)

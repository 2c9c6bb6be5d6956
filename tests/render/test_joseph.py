"""Joseph's image against fields that it interpolates exactly, and against Siddon's."""

import numpy as np
import pytest

from fluorosam_cli.render.projector import Projector
from tests.render.scenes import (
    ONE,
    carm,
    centred,
    project,
    rays,
)


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

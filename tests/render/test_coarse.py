import numpy as np
import pytest

from fluorosam_cli.render.coarse import enlarged, reduced


@pytest.mark.parametrize(("shape", "factor"), [((64, 48), 8), ((65, 50), 8), ((7, 9), 20), ((5, 6), 1)])
def test_cells_are_means_and_planes_come_back(shape, factor):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    cells = reduced(image, factor)
    assert cells.shape == tuple(-(-size // factor) for size in shape)
    assert cells[0, 0] == pytest.approx(image[:factor, :factor].mean(), rel=1e-5)
    assert cells[-1, -1] == pytest.approx(
        image[(len(cells) - 1) * factor :, (cells.shape[1] - 1) * factor :].mean(), rel=1e-5
    )
    assert enlarged(np.full(cells.shape, 3, dtype=np.float32), factor, shape) == pytest.approx(np.full(shape, 3.0))
    plane = (2 * np.arange(shape[0])[:, None] + np.arange(shape[1])).astype(np.float32)
    back = enlarged(reduced(plane, factor), factor, shape)
    inner = tuple(slice(factor, -factor) for _ in shape)
    assert back[inner] == pytest.approx(plane[inner], rel=1e-4)

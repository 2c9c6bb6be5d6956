"""DeepDRR's side of `--projector deepdrr`: absent, what to install is said; present, it gives our picture."""

import importlib.util

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render import deepdrr, physics

PRESENT = importlib.util.find_spec("deepdrr") is not None


@pytest.mark.skipif(PRESENT, reason="deepdrr is installed")
def test_without_deepdrr_the_error_says_what_to_install():
    with pytest.raises(FluoroError, match="not installed") as raised:
        deepdrr.DeepDrr(np.zeros((2, 2, 2), np.int16), np.eye(4))
    assert "pip install" in raised.value.hint
    assert "[deepdrr]" in raised.value.hint


@pytest.mark.gpu
@pytest.mark.skipif(not PRESENT, reason="needs deepdrr (extra deepdrr) and a CUDA device")
def test_a_marked_block_of_water_lies_in_our_pixels_and_absorbs_as_it_should():
    volume = np.full((60, 60, 60), -1000, np.int16)
    volume[10:50, 10:50, 40:50] = 0  # only on the patient's left
    world_from_voxel = np.diag([2.0, 2, 2, 1])
    world_from_voxel[:3, 3] = -59
    spectrum = physics.tube_spectrum(90, 4.0, 0.0)
    for seen_from in ("source", "detector"):
        carm = CArm(1000, 700, 180, 0, 64, 64, 4.0, (0.0, 0.0, 0.0), seen_from)
        projector = deepdrr.DeepDrr(volume, world_from_voxel)
        image = projector.transmission(
            carm.intrinsic, carm.camera_from_world, 64, 64, 1000, spectrum.energy_kev, spectrum.fluence
        )
        projector.close()
        _, column = np.unravel_index(np.argmin(image), image.shape)
        assert (column > 32) == (seen_from == "source")
        assert image.max() == pytest.approx(1, abs=0.02)
        assert 0.1 < image.min() < 0.4, "8 cm of water"

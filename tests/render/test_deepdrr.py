"""DeepDRR's side of `--projector deepdrr`: absent, what to install is said; present, it gives our picture."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render import deepdrr, physics, render
from fluorosam_cli.render.settings import Aim, Physics, Settings
from tests.geometry.test_views import BODY

PRESENT = importlib.util.find_spec("deepdrr") is not None


@pytest.mark.skipif(PRESENT, reason="deepdrr is installed")
def test_without_deepdrr_the_error_says_what_to_install():
    with pytest.raises(FluoroError, match="not installed") as raised:
        deepdrr.DeepDrr(np.zeros((2, 2, 2), np.int16), np.eye(4))
    assert "pip install" in raised.value.hint
    assert "[deepdrr]" in raised.value.hint


def test_everything_happens_on_the_gpu_asked_for_whichever_the_thread(monkeypatch):
    """Stand-ins for CuPy and DeepDRR note on which GPU they are called; a thread that says nothing is on the first."""
    chosen, called = [0], []

    class Device:
        def __init__(self, number):
            self.number = number

        def __enter__(self):
            chosen.append(self.number)

        def __exit__(self, *_):
            chosen.pop()

    class Deepdrr:
        geo = SimpleNamespace(FrameTransform=np.asarray)

        def __getattr__(self, name):
            def call(*arguments, **_):
                called.append((name, chosen[-1]))
                return np.ones((4, 4)) if name == "project" else self

            return call

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Device=Device)))
    monkeypatch.setitem(sys.modules, "deepdrr", Deepdrr())
    monkeypatch.setitem(sys.modules, "deepdrr.load_dicom", Deepdrr())
    monkeypatch.setattr(deepdrr, "killeengeo_projection", lambda *_: SimpleNamespace(intrinsic=None))
    view, spectrum = CArm(1000, 700, 180, 0, 4, 4, 4.0), physics.tube_spectrum(90, 4.0, 0.0)
    projector = deepdrr.DeepDrr(np.zeros((2, 2, 2), np.int16), np.eye(4), "cuda:1")
    with ThreadPoolExecutor(1) as pool:
        camera = (view.intrinsic, view.camera_from_world, 4, 4, 1000, spectrum.energy_kev, spectrum.fluence)
        pool.submit(projector.transmission, *camera).result()
        pool.submit(projector.close).result()
    assert {name for name, _ in called} >= {"Volume", "Projector", "initialize", "project", "free"}
    assert {number for _, number in called} == {1}


def test_views_of_a_part_of_the_bodys_depth_are_not_among_those_drawn(monkeypatch):
    monkeypatch.setattr(render, "load_body", lambda *_: SimpleNamespace(scanned=BODY))
    drawn = {}
    for other in (False, True):
        settings = Settings(seed=0, aim=Aim(1, 32), physics=Physics(deepdrr=other))
        _, possible, _ = render._loaded(SimpleNamespace(case=SimpleNamespace(name="body")), 0, settings)
        drawn[other] = {view.name for view in possible}
    assert {"pelvis_ap", "hand_pa_left"} <= drawn[False]
    assert "pelvis_ap" in drawn[True]
    assert "hand_pa_left" not in drawn[True]


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

"""The projector's kernels on GPUs: that they compile for them, and that they agree with the CPU."""

import numpy as np
import pytest
from PIL import Image

from fluorosam_cli.render.masks import decode
from fluorosam_cli.render.projector import Projector, count_gpus
from fluorosam_cli.render.tools import project_tools
from tests.render.chest import views_of
from tests.render.scenes import assert_together_as_alone, carm, centred, project, random_body, table
from tests.render.test_tools import cylinder, placed, sphere, torus

OUTPUTS = [(str(label), (label,)) for label in range(1, 6)]


@pytest.fixture(scope="module")
def cuda() -> str:
    if not count_gpus():
        pytest.skip("no CUDA device")
    return "cuda:0"


@pytest.mark.parametrize("name", ["siddon", "joseph", "bricks", "meshes", "tools"])
def test_kernels_compile_for_gpus_without_one(tmp_path, name):
    import warp as wp
    from fluorosam_cli.kernels import bricks, joseph, mesh, siddon

    count_gpus()  # starts Warp
    kernels = {
        "siddon": lambda: siddon.projection_kernel(5, 32, wp.uint8, siddon.PACKET["cuda"]),
        "joseph": lambda: joseph.joseph_kernel(5),
        "bricks": lambda: bricks.brick_kernel(True, wp.uint16),
        "meshes": lambda: mesh.rasterise,
        "tools": lambda: mesh.collect_kernel(5),
    }
    files = wp.compile_aot_module(kernels[name]().module, arch=[80, 86, 90], module_dir=tmp_path, use_ptx=False)
    cubins = sorted(file.name for file in tmp_path.rglob("*.cubin"))
    assert len(files) == len(cubins) == 3
    assert all(arch in cubin for arch, cubin in zip(("sm80", "sm86", "sm90"), cubins, strict=True))
    assert all(file.stat().st_size > 5_000 for file in tmp_path.rglob("*.cubin"))


@pytest.mark.gpu
@pytest.mark.parametrize("interpolation", ["siddon", "joseph"])
def test_cuda_agrees_with_the_cpu(cuda, interpolation):
    hu, labels = random_body((40, 50, 60), seed=9)
    view = carm(28, -17, 96, 1.0)
    cpu, gpu = (
        project(
            Projector(hu, labels, centred(hu.shape), OUTPUTS, table(), interpolation=interpolation, device=device), view
        )
        for device in ("cpu", cuda)
    )
    assert cpu.mass_g_cm2.max() > 1
    assert np.allclose(cpu.mass_g_cm2, gpu.mass_g_cm2, atol=2e-4)
    assert np.allclose(cpu.path_mm, gpu.path_mm, atol=2e-3)
    assert (cpu.bits != gpu.bits).mean() < 1e-3


@pytest.mark.gpu
def test_views_of_one_launch_are_the_views_of_several(cuda):
    hu, labels = random_body((40, 50, 60), seed=9)
    projector = Projector(hu, labels, centred(hu.shape), OUTPUTS, table(), device=cuda)
    assert_together_as_alone(projector, [carm(primary, 10, 80, 1.0) for primary in range(0, 360, 45)])


@pytest.mark.gpu
def test_tools_on_cuda_agree_with_those_on_the_cpu(cuda):
    hu, labels = random_body((40, 50, 60), seed=9)
    view = carm(28, -17, 96, 1.0)
    tools = [
        placed(sphere(8.0), cylinder(2.0, (-20, 3, 0), (20, 3, 5)), name="ball"),
        placed(torus(12.0, 0.3), material="tungsten", name="wire"),
    ]
    cpu, gpu = (
        project_tools(
            tools,
            view.intrinsic,
            view.camera_from_world,
            96,
            96,
            Projector(hu, labels, centred(hu.shape), OUTPUTS, table(), device=device),
        )
        for device in ("cpu", cuda)
    )
    assert cpu.masks.any(axis=(1, 2)).all()
    assert np.allclose(cpu.mass_g_cm2, gpu.mass_g_cm2, atol=1e-3)
    assert np.allclose(cpu.displaced_g_cm2, gpu.displaced_g_cm2, atol=1e-3)
    assert (cpu.masks != gpu.masks).mean() < 1e-3


@pytest.mark.gpu
def test_a_render_on_cuda_is_that_on_the_cpu(cuda, cases, tmp_path, fluoro):
    words = ("--views", 6, "--size", 96, "--tools-per-view", "0-2", "--travel", "--without", "noise")
    for device in ("cpu", cuda):
        out = tmp_path / device.partition(":")[0]
        code, _, err = fluoro("render", cases, *words, "--device", device, "-o", out)
        assert code == 0, err
    on_cpu, on_gpu = views_of(tmp_path / "cpu"), views_of(tmp_path / "cuda")
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert one.model_copy(update={"structures": []}) == other.model_copy(update={"structures": []})
        images = [np.asarray(Image.open(tmp_path / name / one.image), np.float64) / 65535 for name in ("cpu", "cuda")]
        assert np.abs(images[0] - images[1]).mean() < 2e-3
        masks = [{mask.name: decode(mask.rle) for mask in view.structures} for view in (one, other)]
        for name in masks[0].keys() & masks[1].keys():
            assert (masks[0][name] != masks[1][name]).mean() < 2e-3
        assert all(
            each[name].sum() < 10 for each in masks for name in masks[0].keys() ^ masks[1].keys() if name in each
        )

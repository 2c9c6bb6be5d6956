"""The projector's kernels on GPUs: that they compile for them, and that one agrees with the CPU."""

import numpy as np
import pytest

from fluorosam_cli.render.projector import Projector, count_gpus
from tests.render.scenes import carm, centred, project, random_body, table


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
def test_cuda_agrees_with_the_cpu():
    if not count_gpus():
        pytest.skip("no CUDA device")
    hu, labels = random_body((40, 50, 60), seed=9)
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    view = carm(28, -17, 96, 1.0)
    cpu, gpu = (
        project(Projector(hu, labels, centred(hu.shape), outputs, table(), device=device), view)
        for device in ("cpu", "cuda:0")
    )
    assert np.allclose(cpu.mass_g_cm2, gpu.mass_g_cm2, atol=2e-4)
    assert np.allclose(cpu.path_mm, gpu.path_mm, atol=2e-3)
    assert (cpu.bits != gpu.bits).mean() < 1e-3

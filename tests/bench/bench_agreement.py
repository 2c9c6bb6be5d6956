"""How exactly the projector agrees with DiffDRR's Siddon, evaluated in double precision on a sample of pixels."""

import json
import sys
from pathlib import Path

import numpy as np

from tests.bench.bench import Bench, Failed, alone_in_python, say
from tests.bench.contenders import MM_PER_CM, THREADS
from tests.bench.rows import Row
from tests.bench.scene import LABELS, SCALES, Scale, each_label, one_material, rays_of

PEER = "diffdrr Siddon"
PIXEL_STEP = {"full": 4, "small": 2}  # every so many columns and rows: 82,000 rays at full scale
RAYS_AT_ONCE = 4096


def rows(bench: Bench) -> list[Row]:
    names = ("line integrals, mean relative error", "pixels with any mask different", "masks, share that is different")
    limits = (1e-5, 1e-4, 1e-4)
    say("comparing with DiffDRR's Siddon")
    try:
        found = alone_in_python("tests.bench.bench_agreement", bench.scene(), bench.scale_name)
    except Failed as failed:
        values, note = (None, None, None), str(failed)
    else:
        values = found["integral_error"], found["pixels_different"], found["masks_different"]
        note = f"{found['rays']} rays, {LABELS} labels, DiffDRR in double precision, one material"
    return [
        Row(name, value, "of 1", PEER, value_at_most=limit, note=note if name == names[0] else "")
        for name, value, limit in zip(names, values, limits, strict=True)
    ]


def compare(folder: Path, scale: Scale, step: int) -> dict[str, float]:
    """The worst view's errors: of line integrals over their mean, of pixels, and of masks over pixels and labels."""
    from fluorosam_cli.render.projector import MIN_PATH_MM, Projector

    rows, labels = np.load(folder / "rows.npy"), np.load(folder / "labels.npy")
    projector = Projector(rows, labels, scale.world_from_voxel, each_label(), one_material(), threads=THREADS)
    trace = diffdrr_tracer(np.load(folder / "density.npy"), labels, scale)
    errors, pixels, masks, rays = [], [], [], 0
    size = scale.detector_px
    sampled = np.arange(step // 2, size, step)
    for view in scale.views:
        seen = projector.project(view.intrinsic, view.camera_from_world, size, size)
        ours = seen.mass_g_cm2[0][np.ix_(sampled, sampled)].ravel() * MM_PER_CM
        found = np.stack([seen.mask(i)[np.ix_(sampled, sampled)].ravel() for i in range(LABELS)])
        geometry = rays_of(view)
        integrals, paths = trace(geometry.source, geometry.targets(size, sampled)[:, sampled].reshape(-1, 3))
        errors.append(np.abs(ours - integrals).mean() / integrals.mean())
        different = found != (paths >= MIN_PATH_MM)
        pixels.append(different.any(axis=0).mean())
        masks.append(different.mean())
        rays += ours.size
    return {
        "integral_error": float(max(errors)),
        "pixels_different": float(max(pixels)),
        "masks_different": float(max(masks)),
        "rays": rays,
    }


def diffdrr_tracer(density: np.ndarray, labels: np.ndarray, scale: Scale):
    """A function from a source (3,) and targets (N, 3) to line integrals (N,) and paths by label (128, N), in mm."""
    import torch
    from diffdrr.renderers import Siddon

    torch.set_num_threads(THREADS)
    siddon = Siddon()
    voxels = torch.from_numpy(density).double().permute(2, 1, 0)
    ones = torch.ones(1, dtype=torch.float64).expand(voxels.shape)
    label_of = torch.from_numpy(labels).double().permute(2, 1, 0)
    voxel_from_world = np.linalg.inv(scale.world_from_voxel)

    def in_voxels(points: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(points @ voxel_from_world[:3, :3].T + voxel_from_world[:3, 3])[None]

    def trace(source: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        integrals, paths = [], []
        with torch.no_grad():
            for first in range(0, len(targets), RAYS_AT_ONCE):
                some = targets[first : first + RAYS_AT_ONCE]
                start, end = in_voxels(source[None]), in_voxels(some)
                length = torch.from_numpy(np.linalg.norm(some - source, axis=-1))[None, None]
                integrals.append(siddon(voxels, start, end, length)[0, 0].numpy())
                paths.append(siddon(ones, start, end, length, mask=label_of)[0, 1:].numpy())
        return np.concatenate(integrals), np.concatenate(paths, axis=1)

    return trace


if __name__ == "__main__":
    where, scale_name = sys.argv[1:]
    sys.stdout.write(json.dumps(compare(Path(where), SCALES[scale_name], PIXEL_STEP[scale_name])) + "\n")

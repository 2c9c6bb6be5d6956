"""The projectors that are timed against each other, each in a process of its own.

Every one of them draws line integrals of density, in g/cm3 times mm, along the rays that `scene.rays_of` gives; those
with masks also find which labels each ray meets. `python -m tests.bench.contenders NAME FOLDER SCALE` loads the scene
and then answers lines on stdin: a view's number gets the seconds it took, and leaves the picture in the folder.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal

import numpy as np

from tests.bench.scene import LABELS, SCALES, Scale, each_label, rays_of

THREADS = min(2, len(os.sched_getaffinity(0)))
ENVIRONMENT = {  # an idle thread that spins would slow the next contender
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(THREADS),
}
NANODRR_ROWS = 16  # in one call: with more, its arrays of samples leave the caches and it is slower
MM_PER_CM = 10

Shot = tuple[float, np.ndarray]  # seconds, picture (H, W)


# --- in the contender's process ---------------------------------------------------------------------------------------


def _timed(draw: Callable[[int], np.ndarray]) -> Callable[[int], Shot]:
    def shoot(view: int) -> Shot:
        start = time.perf_counter()
        picture = draw(view)
        return time.perf_counter() - start, picture

    return shoot


def fluoro(
    folder: Path, scale: Scale, masks: bool, interpolation: Literal["siddon", "joseph"]
) -> Callable[[int], Shot]:
    from fluorosam_cli.render.materials import material_table
    from fluorosam_cli.render.projector import Projector

    projector = Projector(
        np.load(folder / "rows.npy"),
        np.load(folder / "labels.npy") if masks else None,
        scale.world_from_voxel,
        each_label() if masks else [],
        material_table(),
        interpolation=interpolation,
        threads=THREADS,
    )
    views, size = scale.views, scale.detector_px

    def shoot(view: int) -> Shot:
        start = time.perf_counter()
        seen = projector.project(views[view].intrinsic, views[view].camera_from_world, size, size)
        return time.perf_counter() - start, seen.mass_g_cm2.sum(axis=0) * MM_PER_CM

    return shoot


def nanodrr(folder: Path, scale: Scale) -> Callable[[int], Shot]:
    """Its ray marching with 500 samples per ray, its default, and a channel per label."""
    import torch
    from nanodrr.data import Subject
    from nanodrr.drr.renderer import render

    torch.set_num_threads(THREADS)
    density = torch.from_numpy(np.load(folder / "density.npy"))[None, None]
    labels = torch.from_numpy(np.load(folder / "labels.npy")).float()[None, None]
    world_from_voxel = torch.tensor(scale.world_from_voxel)
    grid_from_voxel = torch.eye(4, dtype=torch.float64)
    for axis, size in enumerate(scale.shape_xyz):
        grid_from_voxel[axis, axis], grid_from_voxel[axis, 3] = 2 / size, 1 / size - 1
    subject = Subject(
        density,
        labels,
        world_from_voxel.float(),
        torch.inverse(world_from_voxel).float(),
        grid_from_voxel.float(),
        torch.zeros(3),
        max_label=LABELS,
        convert_to_mu=False,
    )
    views = scale.views

    def draw(view: int) -> np.ndarray:
        carm = views[view]
        rays, width, height = rays_of(carm), carm.detector_width_px, carm.detector_height_px
        source = torch.tensor(rays.source).float().reshape(1, 1, 3)
        channels = []
        for first in range(0, height, NANODRR_ROWS):
            rows = np.arange(first, min(first + NANODRR_ROWS, height))
            targets = torch.from_numpy(rays.targets(width, rows)).float().reshape(1, -1, 3)
            still = torch.eye(4)[None]
            sdd = torch.tensor([carm.source_to_detector_mm])
            channels.append(render(subject, still[:, :3, :3], still, sdd, len(rows), width, src=source, tgt=targets))
        return torch.cat(channels, dim=2)[0].numpy()

    def shoot(view: int) -> Shot:
        start = time.perf_counter()
        with torch.no_grad():
            channels = draw(view)
        return time.perf_counter() - start, channels.sum(axis=0)

    return shoot


def itk_rtk(folder: Path, scale: Scale) -> Callable[[int], Shot]:
    import itk
    from itk import RTK

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(THREADS)
    floats = itk.Image[itk.F, 3]
    array = np.load(folder / "density.npy")
    volume = itk.image_view_from_array(array)
    volume.SetSpacing(scale.spacing_xyz_mm.tolist())
    volume.SetOrigin(scale.world_from_voxel[:3, 3].tolist())
    views = scale.views

    def draw(view: int) -> np.ndarray:
        carm = views[view]
        rays, pixel = rays_of(carm), carm.pixel_spacing_mm
        width, height = carm.detector_width_px, carm.detector_height_px
        centre = rays.corner + rays.per_column * (width - 1) / 2 + rays.per_row * (height - 1) / 2
        geometry = RTK.ThreeDCircularProjectionGeometry.New()
        geometry.AddProjection(
            rays.source.tolist(), centre.tolist(), (rays.per_column / pixel).tolist(), (rays.per_row / pixel).tolist()
        )
        detector = RTK.ConstantImageSource[floats].New()
        detector.SetOrigin([-pixel * (width - 1) / 2, -pixel * (height - 1) / 2, 0.0])
        detector.SetSpacing([pixel, pixel, 1.0])
        detector.SetSize([width, height, 1])
        projector = RTK.JosephForwardProjectionImageFilter[floats, floats].New()
        projector.SetGeometry(geometry)
        projector.SetInput(0, detector.GetOutput())
        projector.SetInput(1, volume)
        projector.Update()
        return itk.array_from_image(projector.GetOutput())[0]

    draw.keeps = array  # the volume only views it
    return _timed(draw)


def plastimatch(folder: Path, scale: Scale) -> Callable[[int], Shot]:
    """A program that reads its volume at every start; the time is its own, of drawing alone."""
    from importlib.metadata import distribution

    program = next(file for file in distribution("plastimatch").files or () if file.name == "plastimatch").locate()
    _write_mha(folder / "density.mha", np.load(folder / "density.npy"), scale)
    views = scale.views

    def shoot(view: int) -> Shot:
        carm = views[view]
        rays, size = rays_of(carm), carm.detector_width_px
        normal = " ".join(f"{-x:.9f}" for x in carm.beam_lps)
        up = " ".join(f"{-x:.9f}" for x in rays.per_row / carm.pixel_spacing_mm)
        field = f"{size * carm.pixel_spacing_mm:g}"
        command = [program, "drr", "-A", "cpu", "-i", "exact", "-P", "none", "-t", "pfm", "-n", normal, "--vup", up]
        command += ["-r", f"{size} {size}", "-z", f"{field} {field}", "-o", "0 0 0"]
        command += ["--sad", f"{carm.source_to_isocenter_mm:g}", "--sid", f"{carm.source_to_detector_mm:g}"]
        command += ["-I", folder / "density.mha", "-O", folder / "plastimatch-"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        total, writing = (re.search(rf"{name} time: ([0-9.e+-]+)", out) for name in ("Total", "I/O"))
        if total is None or writing is None:
            raise RuntimeError(f"plastimatch drr says no time: {out!r}")
        picture = _read_pfm(folder / "plastimatch-0000.pfm") * MM_PER_CM
        return float(total[1]) - float(writing[1]), picture

    return shoot


def _write_mha(path: Path, array: np.ndarray, scale: Scale) -> None:
    def words(values: np.ndarray | tuple) -> str:
        return " ".join(f"{value:.9g}" for value in values)

    header = (
        f"ObjectType = Image\nNDims = 3\nDimSize = {words(scale.shape_xyz)}\n"
        f"ElementSpacing = {words(scale.spacing_xyz_mm)}\nOffset = {words(scale.world_from_voxel[:3, 3])}\n"
        "ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    with path.open("wb") as file:
        file.write(header.encode())
        array.tofile(file)


def _read_pfm(path: Path) -> np.ndarray:
    kind, size, order, data = path.read_bytes().split(b"\n", 3)
    width, height = (int(word) for word in size.split())
    if kind != b"Pf":
        raise RuntimeError(f"{path}: not a grey PFM image")
    return np.frombuffer(data, "<f4" if float(order) < 0 else ">f4").reshape(height, width)


CONTENDERS: dict[str, Callable[[Path, Scale], Callable[[int], Shot]]] = {
    "siddon": lambda folder, scale: fluoro(folder, scale, False, "siddon"),
    "joseph": lambda folder, scale: fluoro(folder, scale, False, "joseph"),
    "siddon + masks": lambda folder, scale: fluoro(folder, scale, True, "siddon"),
    "joseph + masks": lambda folder, scale: fluoro(folder, scale, True, "joseph"),
    "nanodrr + labels": nanodrr,
    "itk-rtk Joseph": itk_rtk,
    "plastimatch": plastimatch,
}


def answer(name: str, folder: Path, scale: Scale, questions: IO[str], answers: IO[str]) -> None:
    shoot = CONTENDERS[name](folder, scale)
    shoot(0)  # compiles, fills caches, starts threads
    answers.write("ready\n")
    for line in questions:
        seconds, picture = shoot(int(line))
        np.save(folder / f"{name}-{int(line)}.npy", picture)
        answers.write(f"{seconds}\n")


# --- in the runner's process ------------------------------------------------------------------------------------------


class Contender:
    """A contender's process. `failure` says why it is out, and None as long as it is not."""

    def __init__(self, name: str, folder: Path, scale: str) -> None:
        self.name, self.folder = name, folder
        self.failure: str | None = None
        self.errors = (folder / f"{name}.stderr").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.contenders", name, str(folder), scale],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            bufsize=1,
            env={**os.environ, **ENVIRONMENT},
        )

    def wait_until_ready(self) -> None:
        self._line()

    def seconds(self, view: int) -> float | None:
        """How long this view took; None once the contender is out."""
        if self.failure is None and self.process.stdin:
            self.process.stdin.write(f"{view}\n")
            line = self._line()
            return float(line) if line else None
        return None

    def picture(self, view: int) -> np.ndarray:
        return np.load(self.folder / f"{self.name}-{view}.npy")

    def close(self) -> None:
        if self.process.stdin and self.process.stdout:
            self.process.stdin.close()
            self.process.stdout.close()
        self.process.wait()
        self.errors.close()

    def _line(self) -> str:
        line = self.process.stdout.readline().strip() if self.process.stdout else ""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()
            self.failure = said[-1] if said else f"exit code {self.process.returncode}"
        return line


def main() -> None:
    name, folder, scale = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print is no answer
    answer(name, Path(folder), SCALES[scale], sys.stdin, answers)


if __name__ == "__main__":
    main()

"""The same views with DeepDRR 1.2 (`--projector deepdrr`), for comparison. Not yet run on a GPU.

DeepDRR needs a CUDA device, CuPy and numpy < 2, so it lives in an environment of its own (extra `deepdrr`). It makes
the image alone, with its own densities, three materials and attenuation tables; the masks come from our projector, in
the same geometry (`geometry/peers.py`).
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np

from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.geometry.peers import killeengeo_projection, unmirrored
from fluorosam_cli.geometry.poses import Camera
from fluorosam_cli.geometry.views import standard_views

MATERIALS = ("air", "soft tissue", "bone")  # that its thresholds tell apart
STEP_MM = 0.1  # along the rays; DeepDRR's own default
INSTALL = 'in an environment of its own: pip install "fluorosam-cli[deepdrr]" (needs a CUDA device and its toolkit)'


def require_deepdrr() -> Any:
    """The module `deepdrr`. Raises FluoroError, with what to install, when it cannot be imported."""
    try:
        return import_module("deepdrr")
    except ImportError as error:
        missing = "CuPy" if "cupy" in str(error).lower() else error.name or "deepdrr"
        raise FluoroError(f"--projector deepdrr: {missing} is not installed", INSTALL) from error


def check_depths(names: Iterable[str], cameras: Iterable[Camera]) -> None:
    """Raises UsageError for views of a part of the body's depth, which DeepDRR cannot leave the rest out of."""
    whole = {view.name: view.whole_body for view in standard_views()}
    limited = [name for name in names if not whole.get(name, True)]
    limited += [camera.subject for camera in cameras if not camera.whole_body]
    if limited:
        raise UsageError(f"--projector deepdrr shows the body at every depth, unlike {limited[0]}", "leave it out")


class DeepDrr:
    """Holds one CT for DeepDRR and projects views of it. `close` frees the GPU's memory.

    `volume_hu` (z, y, x) int16 and `world_from_voxel` (4, 4) are as for `projector.Projector`. `device` is cuda:N; the
    first GPU where our own projector's is cpu.
    """

    def __init__(self, volume_hu: np.ndarray, world_from_voxel: np.ndarray, device: str = "cuda:0") -> None:
        deepdrr = require_deepdrr()
        load_dicom = import_module("deepdrr.load_dicom")
        volume = volume_hu.transpose(2, 1, 0)  # DeepDRR indexes (x, y, z)
        self._deepdrr = deepdrr
        self._gpu = import_module("cupy").cuda.Device(int(device.partition(":")[2] or 0))
        with self._gpu:  # CuPy's current device belongs to the thread, so each method chooses it
            self._volume = deepdrr.Volume(
                data=load_dicom.conv_hu_to_density(volume.astype(np.float32)),
                materials=load_dicom.conv_hu_to_materials_thresholding(volume),
                anatomical_from_IJK=deepdrr.geo.FrameTransform(np.asarray(world_from_voxel, np.float64)),
                anatomical_coordinate_system="LPS",
            )
        self._opened: tuple[object, Any] | None = None

    def transmission(
        self,
        intrinsic: np.ndarray,
        camera_from_world: np.ndarray,
        width: int,
        height: int,
        source_to_detector_mm: float,
        energy_kev: np.ndarray,
        fluence: np.ndarray,
    ) -> np.ndarray:
        """The energy that reaches each pixel, as a share of the unattenuated beam's: (H, W) float32, without noise.

        `energy_kev` and `fluence` (N,) are the spectrum, as `physics.tube_spectrum` gives it. A new spectrum costs a
        new set-up of the GPU, so views of one exposure should follow each other.
        """
        straight, mirrored = unmirrored(intrinsic, width)  # its mesh renderer wants positive focal lengths
        projection = killeengeo_projection(straight, camera_from_world, width, height)
        key = (width, height, source_to_detector_mm, energy_kev.tobytes(), fluence.tobytes())
        with self._gpu:
            if self._opened is None or self._opened[0] != key:
                self.close()
                projector = self._deepdrr.Projector(
                    self._volume,
                    camera_intrinsics=projection.intrinsic,
                    step=STEP_MM,
                    spectrum=np.stack([energy_kev * 1000.0, fluence], axis=1),  # eV
                    neglog=False,
                    source_to_detector_distance=source_to_detector_mm,
                )
                projector.initialize()
                self._opened = key, projector
            kev_per_photon = np.asarray(self._opened[1].project(projection))
        image = kev_per_photon / np.average(energy_kev, weights=fluence)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image, dtype=np.float32)

    def close(self) -> None:
        if self._opened is not None:
            with self._gpu:
                self._opened[1].free()
            self._opened = None

"""Segmenting a CT with TotalSegmentator, the only module that knows it.

Its weights are looked for before it is called, because its own download has no timeout; it runs with a settings folder
of its own in which usage statistics are off, so the user's is left as it is; and its `sys.exit` becomes an error.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fluorosam_cli.errors import FluoroError

if TYPE_CHECKING:
    from fluorosam_cli.ct.volume import Volume

Mode = Literal["total", "fast", "fastest"]

WEIGHTS: dict[Mode, tuple[str, ...]] = {  # folder names, the same from TotalSegmentator 2.0.5 to 2.18
    "total": (
        "Dataset291_TotalSegmentator_part1_organs_1559subj",
        "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
        "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
        "Dataset294_TotalSegmentator_part4_muscles_1559subj",
        "Dataset295_TotalSegmentator_part5_ribs_1559subj",
    ),
    "fast": ("Dataset297_TotalSegmentator_total_3mm_1559subj",),
    "fastest": ("Dataset298_TotalSegmentator_total_6mm_1559subj",),
}
DOWNLOAD: dict[Mode, str] = {
    "total": "totalseg_download_weights -t total",
    "fast": "totalseg_download_weights -t total_fast",
    "fastest": "totalseg_download_weights -t total_fast",
}
INSTALL = "pip install 'fluorosam-cli[totalseg]'"
CONFIG = "config.json"


def home_folder() -> Path:
    """TotalSegmentator's own folder, found by its own rule."""
    if "TOTALSEG_HOME_DIR" in os.environ:
        return Path(os.environ["TOTALSEG_HOME_DIR"])
    home = Path.home()
    return (Path("/tmp") if str(home) == "/" else home) / ".totalsegmentator"


def weights_folder() -> Path:
    """Where TotalSegmentator looks for its weights."""
    if "TOTALSEG_WEIGHTS_PATH" in os.environ:
        return Path(os.environ["TOTALSEG_WEIGHTS_PATH"])
    return home_folder() / "nnunet" / "results"


def missing_weights(mode: Mode) -> list[str]:
    """The weight folders that `mode` needs and that hold no finished checkpoint."""
    folder = weights_folder()
    return [name for name in WEIGHTS[mode] if not any((folder / name).glob("*/fold_0/checkpoint_final.pth"))]


def installed_version() -> str | None:
    """TotalSegmentator's version, or None when the extra is not installed."""
    try:
        return version("TotalSegmentator")
    except PackageNotFoundError:
        return None


def check_ready(mode: Mode, device: str) -> None:
    """Raise FluoroError unless TotalSegmentator is installed, has the weights for `mode`, and the device exists."""
    if installed_version() is None:
        raise FluoroError("TotalSegmentator is not installed; without --labels it is needed", INSTALL)
    missing = missing_weights(mode)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FluoroError(
            f"{weights_folder()}: TotalSegmentator's weights {missing[0]}{more} not found", DOWNLOAD[mode]
        )
    _totalsegmentator_device(device)


def segment(ct: "Volume", mode: Mode, device: str) -> "Volume":
    """Segment a CT (int16 HU) with TotalSegmentator's task `total`.

    `mode` is its resolution (1.5, 3 or 6 mm); `device` is auto, cpu, cuda or cuda:N. Returns a label volume
    with our ids on the scan's grid. Raises FluoroError when it is not ready (`check_ready`) or fails.
    """
    import nibabel
    import numpy as np

    from fluorosam_cli.ct.labels import to_our_ids
    from fluorosam_cli.ct.volume import LPS_FROM_RAS, Volume

    check_ready(mode, device)
    image = nibabel.Nifti1Image(ct.array.T, LPS_FROM_RAS @ ct.world_from_voxel)
    with _own_settings(), contextlib.redirect_stdout(sys.stderr):
        try:
            from totalsegmentator.map_to_binary import class_map  # pyright: ignore[reportMissingImports] - an extra
            from totalsegmentator.python_api import totalsegmentator  # pyright: ignore[reportMissingImports]

            result = totalsegmentator(
                image,
                None,
                ml=True,
                task="total",
                fast=mode == "fast",
                fastest=mode == "fastest",
                device=_totalsegmentator_device(device),
                nr_thr_resamp=1,
                nr_thr_saving=1,
                quiet=True,
            )
        except ImportError as error:
            raise FluoroError(f"TotalSegmentator cannot be imported ({error})", INSTALL) from error
        except SystemExit as error:
            raise FluoroError(f"TotalSegmentator stopped (exit code {error.code})", "see its messages above") from error
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            detail = (str(error).splitlines() or [type(error).__name__])[0]
            raise FluoroError(f"TotalSegmentator failed ({detail})", "repeat with --verbose, or try --fast") from error
    array = np.ascontiguousarray(np.asanyarray(result.dataobj).T)
    if array.shape != ct.array.shape:
        raise FluoroError(f"TotalSegmentator returned shape {array.shape}, the scan's is {ct.array.shape}", INSTALL)
    names = {int(label_id): str(name) for label_id, name in class_map["total"].items()}
    return Volume(to_our_ids(array.astype(np.uint16), names, "TotalSegmentator"), ct.world_from_voxel)


def _totalsegmentator_device(device: str) -> str:
    """Our word for a device -> TotalSegmentator's, which would otherwise fall back to the CPU without saying so."""
    if device == "cpu":
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "gpu" if count else "cpu"
    index = int(device.removeprefix("cuda").removeprefix(":") or 0)
    if not count:
        raise FluoroError(f"no CUDA device; --device {device} was requested", "use --device cpu, or check nvidia-smi")
    if index >= count:
        raise FluoroError(f"no CUDA device {index}; there are {count}", "use --device cuda")
    return f"gpu:{index}"


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Point TotalSegmentator to a temporary copy of the user's settings with usage statistics off."""
    before = {name: os.environ.get(name) for name in ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH")}
    weights = weights_folder().absolute()
    settings = {"totalseg_id": "", "prediction_counter": 0}
    with contextlib.suppress(OSError, ValueError):  # none yet, or damaged: the licence key in it is not needed here
        settings |= json.loads((home_folder() / CONFIG).read_text())
    settings |= {"send_usage_stats": False, "statistics_disclaimer_shown": True}
    folder = Path(tempfile.mkdtemp(prefix="fluoro-totalseg-"))
    try:
        (folder / CONFIG).write_text(json.dumps(settings))
        os.environ |= {"TOTALSEG_HOME_DIR": str(folder), "TOTALSEG_WEIGHTS_PATH": str(weights)}
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)

"""Segmenting CTs with TotalSegmentator, the only module that knows it.

Weights are looked for before it is called, and it is never let near a download, which has no timeout. It runs with a
settings folder of its own in which usage statistics are off, so the user's is left as it is; its `sys.exit` becomes an
error; and its networks stay loaded from one scan to the next, which its interface has no word for.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fluorosam_cli.anatomy.structures import label_ids, structures
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from fluorosam_cli.ct.volume import Volume

Mode = Literal["total", "fast", "fastest"]

INSTALL = "pip install 'fluorosam-cli[totalseg]'"
CONFIG = "config.json"
LICENCE_LENGTH = 18  # TotalSegmentator's own test of a licence number without asking its server
LIMBS = "appendicular_bones"
DOWNLOAD_WORDS = {"total --fast": "total_fast", "total --fastest": "total_fast"}  # for totalseg_download_weights -t


@dataclass(frozen=True)
class Task:
    """A network, or several, of TotalSegmentator 2.18; folder names as in its table of weights."""

    weights: tuple[str, ...]
    rough: str | None = None  # the task whose network finds where this one has to look
    licensed: bool = False


TASKS: dict[str, Task] = {  # those whose structures, or some of them, are in our table
    "total": Task(
        (
            "Dataset291_TotalSegmentator_part1_organs_1559subj",
            "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
            "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
            "Dataset294_TotalSegmentator_part4_muscles_1559subj",
            "Dataset295_TotalSegmentator_part5_ribs_1559subj",
        )
    ),
    "total --fast": Task(("Dataset297_TotalSegmentator_total_3mm_1559subj",)),
    "total --fastest": Task(("Dataset298_TotalSegmentator_total_6mm_1559subj",)),
    LIMBS: Task(("Dataset304_appendicular_bones_ext_1559subj",), licensed=True),
    "craniofacial_structures": Task(("Dataset115_mandible",), rough="total --fastest"),
    "headneck_bones_vessels": Task(("Dataset776_headneck_bones_vessels_492subj",), rough="total --fastest"),
    "heartchambers_highres": Task(("Dataset301_heart_highres_1559subj",), rough="total --fast", licensed=True),
    "kidney_cysts": Task(("Dataset789_kidney_cyst_501subj",), rough="total --fastest"),
    "vertebrae_body": Task(("Dataset305_vertebrae_discs_1559subj",)),
}
EXTRA_TASKS = tuple(name for name in TASKS if not name.startswith("total"))


@dataclass(frozen=True)
class Run:
    """One call of TotalSegmentator; `only` holds the names it is asked for, none means all."""

    task: str  # a key of TASKS
    only: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The weight folders it reads."""
        task = TASKS[self.task]
        rough = task.rough or ("total --fastest" if self.only else None)
        return task.weights + (TASKS[rough].weights if rough else ())


def plan_runs(mode: Mode, tasks: Sequence[str] = (), only: Sequence[str] = ()) -> tuple[tuple[Run, ...], list[str]]:
    """What to run for one scan, in order of precedence (a later one wins where two overlap), and what is left out.

    `total` comes first, then the limb bones if their task is licensed and its weights are there, then `tasks` as
    given. `only` names structures or groups, for which the scan is cropped; a task that has none of them is left out.
    Raises UsageError for a task that is not known.
    """
    unknown = [task for task in tasks if task not in EXTRA_TASKS]
    if unknown:
        raise UsageError(f"--task {unknown[0]}: not known here", f"one of {', '.join(EXTRA_TASKS)}")
    wanted = {label_id for name in only for label_id in label_ids(name)}
    of_total = tuple(entry.name for entry in structures() if entry.label_id in wanted and entry.label_id <= 117)
    runs, left_out = [], []
    if of_total or not only:
        runs.append(Run("total" if mode == "total" else f"total --{mode}", of_total))
    limb_ids = {
        label_id for entry in structures() if 149 <= entry.label_id <= 159 for label_id in label_ids(entry.name)
    }
    if LIMBS not in tasks and (not only or wanted & limb_ids):
        if mode != "total":
            left_out.append(f"limb bones left out with --{mode}; --task {LIMBS} runs them all the same")
        elif not has_licence():
            left_out.append(
                f"limb bones left out: {LIMBS} needs a TotalSegmentator licence (totalseg_set_license -l NUMBER)"
            )
        elif missing_weights((Run(LIMBS),)):
            left_out.append(f"limb bones left out: no weights ({_download(LIMBS)})")
        else:
            runs.append(Run(LIMBS))
    runs += [Run(task) for task in dict.fromkeys(tasks)]
    if not runs:
        raise UsageError(f"--only {', '.join(only)}: no task that runs has it", "add the --task that has it")
    return tuple(runs), left_out


def describe_runs(runs: Sequence[Run]) -> str:
    """The runs in words, as they stand in a case's header."""
    return ", ".join(run.task + (f" ({len(run.only)} structures)" if run.only else "") for run in runs)


# --- what has to be there ---------------------------------------------------------------------------------------------


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


def missing_weights(runs: Sequence[Run]) -> list[str]:
    """The weight folders that `runs` need and that hold no finished checkpoint."""
    folder = weights_folder()
    names = dict.fromkeys(name for run in runs for name in run.needs)
    return [name for name in names if not any((folder / name).glob("*/fold_*/checkpoint_final.pth"))]


def has_licence() -> bool:
    """Whether the user's TotalSegmentator settings hold a licence number; the server is not asked."""
    return len(str(_settings().get("license_number", ""))) == LICENCE_LENGTH


def installed_version() -> str | None:
    """TotalSegmentator's version, or None when the extra is not installed."""
    try:
        return version("TotalSegmentator")
    except PackageNotFoundError:
        return None


def check_ready(runs: Sequence[Run]) -> None:
    """Raise FluoroError unless TotalSegmentator is installed and has the licences and the weights that `runs` need."""
    if installed_version() is None:
        raise FluoroError("TotalSegmentator is not installed; without --labels it is needed", INSTALL)
    for run in runs:
        if TASKS[run.task].licensed and not has_licence():
            raise FluoroError(
                f"{run.task}: needs a TotalSegmentator licence, {home_folder() / CONFIG} holds none",
                "totalseg_set_license -l NUMBER (free for non-commercial use from TotalSegmentator's site)",
            )
    missing = missing_weights(runs)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        tasks = [name for name, task in TASKS.items() if set(task.weights) & set(missing)]
        commands = " && ".join(dict.fromkeys(_download(task) for task in tasks))
        raise FluoroError(
            f"{weights_folder()}: TotalSegmentator's weights {missing[0]}{more} not found",
            f"{commands}; without a network, run it elsewhere and copy {', '.join(missing)} into {weights_folder()}",
        )


def unknown_classes(runs: Sequence[Run]) -> list[str]:
    """Remarks on the classes of `runs` that are not in our structure table, so that their labels are left out."""
    from totalsegmentator.map_to_binary import class_map  # pyright: ignore[reportMissingImports] - an extra

    from fluorosam_cli.ct.label_names import LabelsMap, ids_of

    remarks = []
    for run in runs:
        ours = ids_of(class_map[run.task.partition(" --")[0]].values(), run.task, LabelsMap(), leave_out_unknown=True)
        unknown = [name for name, label_id in ours.items() if not label_id]
        if unknown:
            remarks.append(f"{run.task}: left out, as they are no structures here: {', '.join(unknown)}")
    return remarks


def _download(task: str) -> str:
    return f"totalseg_download_weights -t {DOWNLOAD_WORDS.get(task, task)}"


def _settings() -> dict[str, Any]:
    """The user's TotalSegmentator settings; empty when there are none yet, or they are damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((home_folder() / CONFIG).read_text())
        return found if isinstance(found, dict) else {}
    return {}


# --- running it -------------------------------------------------------------------------------------------------------


def segment(ct: "Volume", runs: Sequence[Run], device: str) -> "Volume":
    """Segment a CT (int16 HU) with `runs`; where two give a voxel a label, the later one wins.

    `device` is cpu or cuda:N. Returns a label volume with our ids on the scan's grid. Classes that are
    not in our structure table are left out. Raises FluoroError when it is not ready (`check_ready`) or fails.
    """
    import numpy as np

    from fluorosam_cli.ct.volume import Volume

    check_ready(runs)
    labels = np.zeros(ct.array.shape, dtype=np.uint8)
    for run in runs:
        found = _call(ct, run, device.replace("cuda", "gpu"))
        labels = labels.astype(np.promote_types(labels.dtype, found.dtype), copy=False)
        np.copyto(labels, found, where=found > 0)
    return Volume(labels, ct.world_from_voxel)


def _call(ct: "Volume", run: Run, device: str) -> "np.ndarray":
    """The labels of one run, our ids."""
    import nibabel
    import numpy as np

    from fluorosam_cli.ct.labels import to_our_ids
    from fluorosam_cli.ct.volume import LPS_FROM_RAS

    task, _, mode = run.task.partition(" --")
    image = nibabel.Nifti1Image(ct.array.T, LPS_FROM_RAS @ ct.world_from_voxel)
    with _own_settings(), contextlib.redirect_stdout(sys.stderr):
        try:
            class_map, totalsegmentator = _load()
            result = totalsegmentator(
                image,
                None,
                ml=True,
                task=task,
                fast=mode == "fast",
                fastest=mode == "fastest",
                roi_subset=list(run.only) or None,
                device=device,
                nr_thr_resamp=1,
                nr_thr_saving=1,
                quiet=True,
            )
        except ImportError as error:
            raise FluoroError(f"TotalSegmentator cannot be imported ({error})", INSTALL) from error
        except SystemExit as error:
            raise FluoroError(
                f"TotalSegmentator stopped at {run.task} (exit code {error.code})", "see its messages above"
            ) from error
        except (RuntimeError, ValueError, IndexError, KeyError, OSError) as error:
            detail = (str(error).splitlines() or [type(error).__name__])[0]
            raise FluoroError(
                f"TotalSegmentator failed at {run.task} ({detail})", "repeat with --verbose, or try --fast"
            ) from error
    array = np.ascontiguousarray(np.asanyarray(result.dataobj).T)
    if array.shape != ct.array.shape:
        raise FluoroError(f"TotalSegmentator returned shape {array.shape}, the scan's is {ct.array.shape}", INSTALL)
    names = {int(label_id): str(name) for label_id, name in class_map[task].items()}
    return to_our_ids(array.astype(np.uint16), names, "TotalSegmentator", leave_out_unknown=True)


def _load() -> tuple[dict[str, dict[int, str]], Any]:
    """TotalSegmentator's class table and its function, with networks kept and downloads refused."""
    from totalsegmentator.config import setup_nnunet  # pyright: ignore[reportMissingImports] - an extra
    from totalsegmentator.map_to_binary import class_map  # pyright: ignore[reportMissingImports]

    setup_nnunet()  # nnU-Net reads its folders from the environment when it is imported
    from totalsegmentator import nnunet, python_api  # pyright: ignore[reportMissingImports]

    if not hasattr(nnunet.nnUNetPredictor, "kept"):
        nnunet.nnUNetPredictor = _keeping(nnunet.nnUNetPredictor)
    python_api.download_pretrained_weights = _refuse_download
    return class_map, python_api.totalsegmentator


def _keeping(predictor: type) -> type:
    """nnU-Net's predictor, with each network read from disk once and no processes of its own.

    It is made anew for every image; what reading the weights sets on it is kept here and set again.
    """

    class KeepingPredictor(predictor):
        kept: dict[tuple[str, str], dict[str, Any]] = {}  # noqa: RUF012 - shared on purpose

        def initialize_from_trained_model_folder(self, *words: Any, **named: Any) -> None:
            key = (str(words), str(sorted(named.items())))
            if key not in self.kept:
                before = dict(vars(self))
                super().initialize_from_trained_model_folder(*words, **named)
                self.kept[key] = {name: value for name, value in vars(self).items() if before.get(name) is not value}
            self.__dict__.update(self.kept[key])

        def predict_from_files(
            self,
            source: str,
            target: str,
            save_probabilities: bool = False,
            overwrite: bool = True,
            folder_with_segs_from_prev_stage: str | None = None,
            **_: Any,  # numbers of processes
        ) -> Any:
            channels: dict[str, list[str]] = {}
            for file in sorted(Path(source).glob(f"*_{'[0-9]' * 4}.nii.gz")):
                channels.setdefault(file.name[: -len("_0000.nii.gz")], []).append(str(file))
            return self.predict_from_files_sequential(
                list(channels.values()),
                [str(Path(target) / case) for case in channels],
                save_probabilities,
                overwrite,
                folder_with_segs_from_prev_stage,
            )

    return KeepingPredictor


def _refuse_download(task_id: object) -> None:
    """Stands in for TotalSegmentator's download. Raises FluoroError when weights of `task_id` are not there."""
    if isinstance(task_id, int) and any(weights_folder().glob(f"Dataset{task_id:03d}_*/*/fold_*/checkpoint_final.pth")):
        return
    raise FluoroError(f"{weights_folder()}: TotalSegmentator's weights for {task_id} not found", _download("all"))


def count_gpus() -> int:
    """The CUDA devices that torch finds."""
    import torch

    return torch.cuda.device_count()


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Point TotalSegmentator to a temporary copy of the user's settings with usage statistics off."""
    before = {name: os.environ.get(name) for name in ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH")}
    weights = weights_folder().absolute()
    settings = {"totalseg_id": "", "prediction_counter": 0} | _settings()
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

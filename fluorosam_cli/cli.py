"""The `fluoro` command: registers the subcommands, sets up logging, turns errors into exit codes."""

import logging
import os
import sys
from typing import Any

import typer

from fluorosam_cli import __version__
from fluorosam_cli.errors import FluoroError

# Typer keeps its usage-error classes private; this is the base of BadParameter, MissingParameter, NoSuchOption, ...
UsageException: type[Exception] = typer.BadParameter.__mro__[2]

# NumPy reads this when it is imported. Our threads share the cores already, and BLAS's own wait by spinning: with
# them `render` took 1.4 times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="fluoro",
    help="Language-promptable X-ray segmentation, from CTs to a mask. A research tool, not a medical device.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FLUORO"},
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"fluoro {__version__}\n")
        raise typer.Exit


@app.callback()
def _fluoro(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    pass


def _register() -> None:
    from fluorosam_cli.commands import (  # each is thin: heavy imports happen inside the command
        describe,
        eval,
        export,
        info,
        pack,
        phantom,
        predict,
        render,
        segment_ct,
        serve,
        train,
        words,
    )

    for module in (segment_ct, render, describe, words, pack, train, eval, predict, serve, export, phantom, info):
        module.register(app)


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment, so that tests and redirections see it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def _set_up_logging(verbose: bool) -> None:
    logger = logging.getLogger("fluoro")
    logger.handlers[:] = [_ToStderr()]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def run(argv: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit code: 0, 1, 2 or 130."""
    for name in ("FLUORO_VERSION", "FLUORO_HELP"):  # usual in containers, and no options of ours
        os.environ.pop(name, None)
    if not app.registered_commands:
        _register()
    group: Any = typer.main.get_command(app)
    options = _options(group, argv)
    verbose = bool(options.get("verbose"))
    _set_up_logging(verbose)
    try:
        code = group(argv, prog_name="fluoro", standalone_mode=False) or 0
        # Typer turns Ctrl-C inside a command into this code
        return _interrupted(options) if code == INTERRUPTED else code
    except FluoroError as error:
        return _fail(error.problem, error.hint, error.exit_code, error if verbose else None)
    except UsageException as error:
        message = getattr(error, "format_message", error.__str__)().strip()
        if not message or "\n" in message:  # `fluoro` alone: its help has been the message
            sys.stderr.write(message + "\n" * bool(message))
            return 2
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "fluoro"
        dashed = next((word for word in argv if word.startswith("-") and os.path.exists(word)), None)
        hint = f"{path} --help" if dashed is None else f"if the file is meant: ./{dashed}"
        return _fail(message[0].lower() + message[1:].rstrip("."), hint, 2)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(options)
    except MemoryError as error:
        return _fail(
            "not enough memory", "use smaller volumes or images, or close other programs", 1, error if verbose else None
        )
    except BrokenPipeError:  # whoever read stdout has seen enough, as in `fluoro info structures | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        problem = f"{subject}{(error.strerror or str(error)).lower()}"
        return _fail(problem, "check the path, its permissions and the free space", 1, error if verbose else None)
    except Exception as error:  # the one place where a bug becomes a message
        problem = f"unexpected {type(error).__name__}: {error}"
        return _fail(problem, "repeat with --verbose and report the traceback", 1, error if verbose else None)


def _options(group: Any, argv: list[str]) -> dict[str, Any]:
    """The options of the command that is named, be they from the command line, the environment or a file."""
    name = next((word for word in argv if not word.startswith("-")), "")
    if name not in group.commands:
        return {}
    parent = group.make_context("fluoro", [], resilient_parsing=True)
    words = argv[argv.index(name) + 1 :]
    return {"command": name} | group.commands[name].make_context(name, words, parent, resilient_parsing=True).params


def _interrupted(options: dict[str, Any]) -> int:
    goes_on = "resume" in options and (options["command"] != "predict" or options["out"])  # else a fresh folder
    return _fail("interrupted", "run the same command with --resume to continue" if goes_on else "", INTERRUPTED)


def _fail(problem: str, hint: str, code: int, traceback_of: BaseException | None = None) -> int:
    if traceback_of is not None:
        import traceback

        traceback.print_exception(traceback_of, file=sys.stderr)
    sys.stderr.write(f"error: {problem}\n" + (f"hint: {hint}\n" if hint else ""))
    return code


def main() -> None:
    sys.exit(run(sys.argv[1:]))

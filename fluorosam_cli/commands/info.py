"""`fluoro info`: what this installation knows and has found. Instant: imports neither torch nor warp."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    @app.command("info")
    def info(
        topic: Annotated[str, typer.Argument(help="structures, formats, devices or weights.")] = "",
    ) -> None:
        """Say what this installation knows and has found."""

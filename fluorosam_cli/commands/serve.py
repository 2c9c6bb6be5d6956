"""`fluoro serve`: the page on which images are segmented by hand."""

import logging
import signal
import socket
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from fluorosam_cli.errors import FluoroError, UsageError

log = logging.getLogger("fluoro")

TOKEN_MIN = 16  # letters of a token that nobody guesses


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    model: Annotated[
        str, typer.Option(help="Checkpoint or run folder; `builtin` is the one that is shipped.")
    ] = "builtin",
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own needs the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
    token: Annotated[
        str | None, typer.Option(help="What the page's address must contain.", show_default="made up where needed")
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", envvar="FLUORO_SERVE_OPEN", help="Open the page in a browser.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threshold: Annotated[float, typer.Option(help="A pixel is in the mask above this probability.")] = 0.5,
    verbose: Annotated[bool, typer.Option("--verbose", help="Debug messages and tracebacks.")] = False,
) -> None:
    """Serve a page to segment images by hand, to this machine only unless --host says otherwise. Ctrl-C ends it."""
    if token is not None and (len(token) < TOKEN_MIN or not token.isascii() or not token.isalnum()):
        raise UsageError("--token: letters and digits, 16 or more, are needed", "leave it out and one is made up")
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise FluoroError("the page needs FastAPI and uvicorn", "pip install 'fluorosam-cli[serve]'")
    import secrets
    import threading

    import uvicorn

    from fluorosam_cli.prediction.page.guard import is_loopback
    from fluorosam_cli.prediction.page.phrases import complete
    from fluorosam_cli.prediction.page.server import Page, create_app
    from fluorosam_cli.prediction.predictor import Predictor
    from fluorosam_cli.text.encoder import encoder_of

    listening = _listening(host, port)
    if token is None and not is_loopback(host):
        token = secrets.token_hex(16)
    predictor = Predictor.from_checkpoint(model, device, threshold)
    encoder_of(predictor.checkpoint.text_encoder)  # what is wrong with it shows before the page does
    threading.Thread(target=complete, args=("L3", ()), daemon=True).start()  # reads the lexicon, which takes seconds
    options = [*(["--model", model] * (model != "builtin")), *(["--threshold", str(threshold)] * (threshold != 0.5))]
    app = create_app(predictor, Page(token, (host,), tuple(options)))
    config = uvicorn.Config(app, log_level="critical", server_header=False, timeout_graceful_shutdown=5)
    address = _address(host, listening.getsockname()[1], token)
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    log.info("open this address in a browser; Ctrl-C ends the page and deletes the images it was given")
    if not is_loopback(host):
        log.warning("warning: others in the network can reach this page; only those with the whole address can use it")
    if open_browser:
        import webbrowser

        webbrowser.open(address)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # which uvicorn ends tidily on
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        log.info("the page is closed")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # a browser that comes before the server is ready waits
    except OSError as error:
        raise FluoroError(
            f"{host}:{port}: cannot listen there ({(error.strerror or str(error)).lower()})",
            "choose another --port, or 0 for any that is free",
        ) from error
    return listening


def _address(host: str, port: int, token: str | None) -> str:
    """What to type into a browser. The token stands behind #, so that no log and no other site ever sees it."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/" + (f"#token={token}" if token else "")

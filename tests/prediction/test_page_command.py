"""`fluoro serve` itself: what it refuses, what it tells the page, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fluorosam_cli.prediction.page import server
from tests.prediction.test_page import png


@pytest.fixture
def on_hangup():
    """The terminal's signal as it was."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_serve_refuses_what_cannot_work(fluoro, tiny_checkpoint, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = fluoro("serve", "--model", tiny_checkpoint, "--port", taken.getsockname()[1])
        assert code == 1
        assert "cannot listen" in err
    assert fluoro("serve", "--model", tmp_path)[0] == 1
    assert fluoro("serve", "--model", tiny_checkpoint, "--token", "short")[0] == 2
    assert fluoro("serve", "--model", tiny_checkpoint, "--host", "no.such.host.invalid")[0] == 1


def test_the_command_shown_has_the_threshold_as_given(fluoro, tiny_checkpoint, monkeypatch, on_hangup):
    pages = []
    monkeypatch.setattr(server, "create_app", lambda predictor, page: pages.append(page))
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    code, _, err = fluoro("serve", "--model", tiny_checkpoint, "--port", 0, "--threshold", "0.99999999")
    assert code == 0, err
    assert pages[0].command[-2:] == ("--threshold", "0.99999999")


def test_a_closed_terminal_leaves_no_image_behind(tiny_checkpoint, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "fluorosam_cli", "serve", "--model", str(tiny_checkpoint), "--port", "0"],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            urlopen(f"{process.stdout.readline().strip()}api/images", png()).close()
            assert list(tmp_path.glob("*/*/pixels"))
        finally:
            process.send_signal(signal.SIGHUP)
    assert not list(tmp_path.iterdir())


def test_what_nohup_started_goes_on_without_a_terminal(fluoro, tiny_checkpoint, monkeypatch, on_hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    assert fluoro("serve", "--model", tiny_checkpoint, "--port", 0)[0] == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

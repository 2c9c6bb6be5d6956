"""The render stage when it is killed, when one of its processes is, and when it could take more memory than it may."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluorosam_cli import cli
from fluorosam_cli.render import render
from fluorosam_cli.render.view import develop, project
from tests.render.chest import contents


def die_before(file: str) -> None:
    """Run the command line of this process, which is killed before it renames something to `file`."""

    def replace(source, target):
        if Path(target).name == file:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    rename, os.replace = os.replace, replace
    cli.run(sys.argv[1:])


def test_killed_at_any_moment_and_resumed_it_gives_the_same_bytes(cases, tmp_path, fluoro):
    words = ["render", str(cases), "--views", "12", "--size", "96"]
    assert fluoro(*words, "-o", tmp_path / "unbroken")[0] == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "fluorosam_cli", *words, "-o", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for lines in (1, 15):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        part = out / "views.jsonl.part"
        while process.poll() is None and not (part.is_file() and part.read_bytes().count(b"\n") >= lines):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it finished before it could be killed"
        assert not (out / "views.json").exists()
        command.append("--resume")
    whole = [line for line in part.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    part.write_bytes(b"".join(reversed(whole)))  # as if several processes had written it, so that it has to be sorted
    for file in ("views.jsonl.part", "views.jsonl", "views.json"):  # sorted, complete, finished
        command[1:3] = "-c", f"from tests.render.test_processes import die_before; die_before({file!r})"
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
        assert not (out / "views.json").exists()
    code, _, _ = fluoro(*words, "-o", out, "--resume", "--threads", 1)
    assert code == 0
    assert contents(out) == contents(tmp_path / "unbroken")
    run = json.loads((out / "run.json").read_text())
    assert run["skipped"] >= 15
    assert run["done"] + run["skipped"] == 24
    assert fluoro(*words, "-o", out, "--resume")[0] == 0, "resuming a finished folder is fine"
    assert contents(out) == contents(tmp_path / "unbroken")


def dies_within_a_record(pipe, *_):
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half a record")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_while_it_writes_a_record_ends_the_run(cases, tmp_path, fluoro, monkeypatch):
    monkeypatch.setattr(render, "_work", dies_within_a_record)
    words = ("--views", 1, "--gpus", 2, "--device", "cpu", "-o", tmp_path / "views")
    code, _, err = fluoro("render", cases, *words)
    assert code == 1
    assert "a render process ended with exit code -9\nhint: continue with --resume on fewer --gpus" in err


@pytest.mark.parametrize("views", [0, 1, 3])
def test_views_wait_to_be_written_in_bounded_memory(cases, tmp_path, fluoro, monkeypatch, views):
    alive, most = set(), []

    def counted(body, shots):
        size = body.projector.view_bytes(*shots[0].size_px, paths=bool(body.projector.paths))
        monkeypatch.setattr(render, "WAITING_BYTES", views * size)
        alive.update(shot.index for shot in shots)
        most.append(len(alive))
        return project(body, shots)

    def slow(out, body, shot, *rest):
        time.sleep(0.02)
        record = develop(out, body, shot, *rest)
        alive.remove(shot.index)
        return record

    monkeypatch.setattr(render, "project", counted)
    monkeypatch.setattr(render, "develop", slow)
    words = ("--views", 9, "--size", 32, "--threads", 8, "-o", tmp_path / "views")
    assert fluoro("render", cases / "one", *words)[0] == 0
    assert len(most) == 9
    assert max(most) <= max(1, views)

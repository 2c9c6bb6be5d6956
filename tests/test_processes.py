"""A process ends with the one that started it, also where that was killed and Ctrl-C is ignored."""

import os
import signal
import subprocess
import sys

from tests.groups import has_ended

PARENT = """
import multiprocessing, signal, time
from fluorosam_cli.processes import end_with_parent

def work():
    end_with_parent()
    print("ready", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""


def test_it_ends_with_its_parent(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert has_ended(process.pid)

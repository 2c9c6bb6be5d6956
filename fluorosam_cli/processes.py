"""Processes that end with the one that started them, even if that was killed."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def end_with_parent() -> None:
    """To be called by a process that `multiprocessing` started: SIGTERM comes when its parent is gone.

    Else it would work on alone, in a folder that a resumed run takes for its own.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for, args=(parent,), daemon=True).start()


def _wait_for(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)

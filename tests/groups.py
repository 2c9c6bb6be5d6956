"""Groups of processes: those that a command started in a session of its own."""

import os
import time


def has_ended(group: int, patience_s: float = 30) -> bool:
    """Whether no process of the group is left, at once or within some patience."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False

"""The stored values of slices; those that GDCM decodes come from a process of its own.

GDCM is C++ that a damaged code stream can crash or stop for good, and that writes to stderr what it thinks of it. In
its own process, bounded in memory and time, it takes nothing else down. Arrays come back as `.npy`, never as pickles.
"""

import contextlib
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from fluorosam_cli.ct.dicom import CODE_STREAMS, Refused, Slice, decode, silenced
from fluorosam_cli.ct.sources import Source

SECONDS_PER_FRAME = 60
MEMORY_BYTES = 2**33  # of address space
DAMAGED = "its compressed pixels are damaged"


def stored_planes(slices: list[Slice]) -> Iterator[np.ndarray]:
    """The stored values, (rows, columns), of slices of one file, frames ascending. See `stored_frames`."""
    yield from stored_frames(slices[0].source, slices[0].syntax, [one.frame for one in slices])


def stored_frames(source: Source, syntax: str, frames: list[int]) -> Iterator[np.ndarray]:
    """The stored values of some frames of a file, ascending from 0, in its transfer syntax, as `decode` gives them.

    Raises Refused, or whatever pydicom makes of a damaged file. Call it inside `silenced`.
    """
    yield from _decode_apart(source, frames) if syntax in CODE_STREAMS else decode(source, frames)


def pixel_digest(one: Slice) -> bytes:
    """Of the stored values, the same for compressed and plain pixels; of the whole file when these cannot be read."""
    plane = _plane(one)
    if plane is None:
        return one.source.sha256().encode()
    return hashlib.sha256(plane.astype("<i4").tobytes()).digest()


def is_readable(one: Slice) -> bool:
    return _plane(one) is not None


def _plane(one: Slice) -> np.ndarray | None:
    try:
        with silenced():
            return next(stored_planes([one]))
    except Exception:  # what is wrong with it is said when the series is read
        return None


_asking = threading.Lock()  # requests and frames of two threads would mix


def _decode_apart(source: Source, frames: list[int]) -> Iterator[np.ndarray]:
    with _asking:
        yield from _asked(source, frames)


def _asked(source: Source, frames: list[int]) -> Iterator[np.ndarray]:
    if not frames:
        return
    process = _process(os.getpid())
    assert process.stdin is not None
    assert process.stdout is not None
    left = len(frames)
    try:
        request = {"path": str(source.path.absolute()), "member": source.member, "frames": frames}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        while left:
            refusal, data = _receive(process.stdout)
            if refusal:
                left = 0
                raise Refused(data.decode())
            left -= 1
            yield np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise Refused(DAMAGED) from error
    finally:
        if left:  # it died, or not all frames were wanted: the next one gets a fresh process
            process.kill()
            process.communicate()
            _process.cache_clear()


@cache
def _process(parent: int) -> subprocess.Popen:
    """The decoding process of the process `parent`: a fork's copy of another's pipes would be of no use."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "fluorosam_cli.ct.decoder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _send(file: IO[bytes], refusal: bool, data: bytes) -> None:
    file.write(struct.pack("<?Q", refusal, len(data)) + data)
    file.flush()


def _receive(file: IO[bytes]) -> tuple[bool, bytes]:
    refusal, length = struct.unpack("<?Q", _exactly(file, struct.calcsize("<?Q")))
    if length > MEMORY_BYTES:
        raise EOFError
    return refusal, _exactly(file, length)


def _exactly(file: IO[bytes], length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _serve() -> None:
    """Answer each line of stdin, a request as JSON, with its frames or one refusal."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if hard == -1 else min(MEMORY_BYTES, hard), hard))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what a C library prints
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.alarm(SECONDS_PER_FRAME)  # ends the process when it goes off
        try:
            with silenced():
                for plane in decode(Source(Path(request["path"]), request["member"]), request["frames"]):
                    signal.alarm(SECONDS_PER_FRAME)
                    array = io.BytesIO()
                    np.save(array, plane, allow_pickle=False)
                    _send(answers, False, array.getvalue())
        except Refused as refused:
            _send(answers, True, str(refused).encode())
        except Exception as error:  # pydicom and GDCM raise whatever a damaged file makes them trip over
            _send(answers, True, f"{DAMAGED} ({type(error).__name__})".encode())
        finally:
            signal.alarm(0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _serve()

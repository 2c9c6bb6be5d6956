"""Opened images: each in a folder and with a lock of its own, few at a time, gone when idle."""

import copy
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fluorosam_cli.dataset.image_files import SUFFIXES
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.images import frames_of
from fluorosam_cli.prediction.predictor import Predictor
from fluorosam_cli.prediction.radiograph import Radiograph

SESSIONS_MAX = 16
IDLE_MAX_S = 3600
PIXELS_MAX = 40_000_000  # 80 MB a session on disk; the largest mammograms have 28 million
NAME_MAX = 120
PIXELS = "pixels"


class Gone(FluoroError):
    """The session has expired, or never was."""


@dataclass(frozen=True)
class Shown:
    """What of a session's file is segmented and shown, and how its pixels mean the stored values."""

    width: int
    height: int
    frame: int  # from 1
    frames: int
    bone_bright: bool
    polarity_from: str
    slope: float  # stored value = slope * pixel + intercept
    intercept: float
    window: tuple[float, float]  # stored values that are black and white at first
    pixel_mm2: float | None
    remarks: tuple[str, ...]  # as of `Radiograph`


@dataclass(eq=False)
class Session:
    """One opened file. The embedding of what is shown lies in `predictor`, its pixels on disk."""

    id: str
    name: str  # as the user's file is called, for display only
    path: Path  # the file as it was sent, under a name of ours, in a folder of its own
    predictor: Predictor
    shown: Shown
    invert: bool | None = None  # as of `read_frames`
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pixels(self) -> Path:
        """(H, W) uint16, little-endian, row by row."""
        return self.path.with_name(PIXELS)

    def show(self, frame: int, invert: bool | None) -> None:
        """Encode another frame, or the same with its polarity told (see `images.read_frames`)."""
        self.shown = _shown(self.predictor, self.path, frame, invert)
        self.invert = invert

    def radiograph(self) -> Radiograph:
        """What is shown, read again: nothing of it is kept in memory."""
        return next(frames_of(self.path, [self.shown.frame], self.invert))


class Sessions:
    """The sessions of one server; `folder` is theirs alone. One file is opened at a time."""

    def __init__(self, predictor: Predictor, folder: Path, most: int = SESSIONS_MAX, idle_s: float = IDLE_MAX_S):
        self.folder = folder
        self._predictor = predictor
        self._most = most
        self._idle_s = idle_s
        self._open: OrderedDict[str, tuple[Session, float]] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def new_folder(self) -> Path:
        """An empty folder for an upload; its name is the session's id."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def open(self, path: Path, name: str) -> Session:
        """Read and encode the image that was put into a `new_folder`. Raises FluoroError, and removes the folder."""
        try:
            with self._opening:
                own = copy.copy(self._predictor)  # weights and words are shared; what set_image replaces is not
                session = Session(path.parent.name, name, path, own, _shown(own, path))
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        with self._lock:
            self._open[session.id] = session, time.monotonic()
            surplus = [key for key, _ in zip(self._open, range(len(self._open) - self._most), strict=False)]
        for key in surplus:
            self.close(key)
        return session

    @contextmanager
    def using(self, key: str) -> Iterator[Session]:
        """The session of that id, locked. Raises Gone."""
        self.expire()
        with self._lock:
            session, _ = self._open.get(key, (None, 0.0))
        if session is None:
            raise Gone("this image is no longer open here", "open it again")
        with session.lock:
            with self._lock:
                if key not in self._open:  # closed while this waited
                    raise Gone("this image is no longer open here", "open it again")
                self._open[key] = session, time.monotonic()
                self._open.move_to_end(key)
            yield session

    def close(self, key: str) -> None:
        """Forget a session and delete its files, if it is there."""
        with self._lock:
            session, _ = self._open.pop(key, (None, 0.0))
        if session is not None:
            with session.lock:
                shutil.rmtree(session.path.parent, ignore_errors=True)

    def expire(self) -> None:
        """Close what has been idle for too long."""
        limit = time.monotonic() - self._idle_s
        with self._lock:
            idle = [key for key, (_, used) in self._open.items() if used < limit]
        for key in idle:
            self.close(key)


def plain_name(name: str) -> str:
    """A file name as it may be shown: without folders and control characters, of bounded length."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[:NAME_MAX].strip() or "image"


def stored_name(name: str) -> str:
    """The name of the file on disk: nothing but an ending that readers know is taken from what the user sent."""
    return "image" + max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")


def _shown(predictor: Predictor, path: Path, frame: int = 1, invert: bool | None = None) -> Shown:
    radiograph = next(frames_of(path, [frame], invert))
    image = radiograph.pixels
    height, width = image.shape
    if height * width > PIXELS_MAX:
        raise FluoroError(
            f"{path}: has {height * width / 1e6:.0f} million pixels, {PIXELS_MAX / 1e6:.0f} are the limit", "scale it"
        )
    predictor.set_image(radiograph.for_network)
    low, high = (float(value) for value in np.percentile(image[:: max(1, height // 1000)], (0.5, 99.5)))
    pixels, slope, intercept = as_uint16(image)
    path.with_name(PIXELS).write_bytes(pixels.astype("<u2").tobytes())
    window = (low, max(high, low + slope))
    told = (radiograph.bone_bright, radiograph.polarity_from)
    mm2 = radiograph.spacing.area_mm2 if radiograph.spacing else None
    frames = (radiograph.frame, radiograph.frames)
    return Shown(width, height, *frames, *told, slope, intercept, window, mm2, radiograph.remarks)


def as_uint16(image: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Grey numbers of any type -> uint16, slope and intercept; what fits into 16 bits is not changed."""
    if image.dtype.kind in "ub" and image.dtype.itemsize <= 2:
        return image.astype(np.uint16), 1.0, 0.0
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind in "iu" and high - low < 1 << 16:
        return (image.astype(np.int64) - int(low)).astype(np.uint16), 1.0, low
    slope = (high - low) / 65535 or 1.0
    return np.rint((image - low) / slope).astype(np.uint16), slope, low

"""A scan's bytes: a file, or a member of a zip archive, which is read in place and never unpacked to disk."""

import hashlib
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from fluorosam_cli.errors import FluoroError

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
MAX_MEMBERS = 200_000
MAX_RATIO = 200  # CTs shrink 2 to 20 times; deflate can reach 1032
SMALL_BYTES = 2**28  # an archive that unpacks to less is let through, whatever its ratio


@dataclass(frozen=True, order=True, slots=True)
class Source:
    path: Path
    member: str = ""  # of the zip archive at `path`

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name or self.path.name

    @property
    def size(self) -> int:
        return _archive_of(self.path).getinfo(self.member).file_size if self.member else self.path.stat().st_size

    def open(self) -> IO[bytes]:
        return _archive_of(self.path).open(self.member) if self.member else open(self.path, "rb")

    def beside(self, name: str) -> "Source":
        """The file of that plain name in the same folder. Raises FluoroError for a path, and when it is not there."""
        plain = name not in ("", ".", "..") and not any(character in name for character in '/\\\0:"')
        member = str(PurePosixPath(self.member).with_name(name)) if plain and self.member else ""
        found = Source(self.path, member) if self.member else Source(self.path.with_name(name) if plain else self.path)
        there = member in _archive_of(self.path).namelist() if self.member else found.path.is_file()
        if not plain or not there:
            raise FluoroError(
                f"{self}: its voxels' file is not in the same folder", "put header and voxels into one folder"
            )
        return found

    def sha256(self) -> str:
        with self.open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def members(path: Path) -> list[Source]:
    """The files in a zip archive, sorted.

    Raises FluoroError for an archive that is damaged, encrypted, names files outside itself or unpacks beyond measure.
    """
    infos = [info for info in _archive_of(path).infolist() if not info.is_dir()]
    if len(infos) > MAX_MEMBERS:
        raise FluoroError(f"{path}: holds {len(infos)} files, at most {MAX_MEMBERS} are read", "split the archive")
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise FluoroError(f"{path}: names files outside of itself", "do not trust this archive")
        if info.flag_bits & 0x1:
            raise FluoroError(f"{path}: is encrypted", "unpack it yourself and give the folder")
    packed = path.stat().st_size
    unpacked = sum(info.file_size for info in infos)
    if sum(info.compress_size for info in infos) > packed or unpacked > max(SMALL_BYTES, MAX_RATIO * packed):
        raise FluoroError(f"{path}: {packed} bytes would unpack to {unpacked}", "do not trust this archive")
    return sorted(Source(path, info.filename) for info in infos)


def digest_of(sources: Iterable[Source]) -> str:
    """The file's sha256; of several files, that of their digests in order."""
    digests = [source.sha256() for source in sources]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _archive_of(path: Path) -> zipfile.ZipFile:
    state = os.stat(path)
    return _archive(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _archive(path: Path, mtime_ns: int, size: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FluoroError(f"{path}: not a readable zip archive", "check the file, or fetch it again") from error

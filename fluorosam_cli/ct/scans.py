"""Which CT scans lie at a path, what each is called, and reading one as HU on the standard grid.

Scans are DICOM series, NIfTI, NRRD and MetaImage files, in folders of any depth or in zip archives. A volume file
gives its case its own name; a DICOM series is called after its pixels, and neither its header's values nor the names of
its files and folders get into a name or a message.

Peak memory of reading 512 x 512 x 1000 voxels, 0.5 GB as int16: 0.6 GB where the stored grid is the standard one
already, as DICOM usually is, and 1.1 GB where it is flipped, tilted or in one multi-frame file.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fluorosam_cli.anatomy.wording import without_accents
from fluorosam_cli.artefacts import Track, silent
from fluorosam_cli.ct.dicom import NO_SERIES, NoCT, SeriesId, Slice, read_slices
from fluorosam_cli.ct.layout import VOLUME_SUFFIXES, read_hu, read_layout, stem_of
from fluorosam_cli.ct.series import Series, assemble, grid_of, is_axial, name_of, read_series, without_damaged_copies
from fluorosam_cli.ct.sources import DICOM_SUFFIXES, Source, digest_of, members
from fluorosam_cli.ct.volume import HU_MIN, Volume, standard_grid, standardise
from fluorosam_cli.errors import FluoroError, UsageError

ZIP_SUFFIX = ".zip"
SCAN_STEMS = ("ct", "image", "imaging", "img", "scan", "volume")  # a scan so called is known by its folder
MIN_SLICES = 10  # fewer are a localiser, a bolus-tracking position or a sample
WANTED = "DICOM, NIfTI (.nii, .nii.gz), NRRD, MHA/MHD or zip"


@dataclass(frozen=True)
class Scan:
    name: str  # of the case it becomes: safe in a path, and nobody's unless the user named the file so
    subject: str  # what messages call it
    sources: tuple[Source, ...]
    series: Series | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(source.path for source in self.sources))

    @property
    def size_bytes(self) -> int:
        return sum(source.size for source in self.sources)

    def sha256(self) -> str:
        """Of the file, or of its slices' digests in order."""
        return digest_of(self.sources)


@dataclass(frozen=True)
class Skipped:
    """Something among the scans that is no CT volume, which is usual: localisers, dose sheets, masks.

    What is `damaged` may have been one, or part of one, and is a failure of the batch.
    """

    subject: str
    reason: str
    files: tuple[Path, ...]
    damaged: bool = False


def find_scans(
    paths: Sequence[Path], series: str | None = None, exclude: Sequence[Path] = (), track: Track = silent
) -> tuple[list[Scan], list[Skipped]]:
    """The CT scans at `paths`, sorted by name, and what lies beside them and is none.

    A path is a file, a folder or a glob. By default every axial CT series of at least `MIN_SLICES` slices is
    taken; `series` takes those of that number, case name, ending of the UID or part of the description. In a folder
    with a file called `ct` or the like, that is the scan and nothing else in or below it. What lies at `exclude`
    is no scan, unless `paths` lie there too. Of a damaged and a whole copy of a slice the whole one is taken.
    Raises FluoroError when there is no scan, UsageError when two would get one name.
    """
    given = {Source(path) for path in paths}
    skipped: list[Skipped] = []
    sources = _sources_at(paths, exclude, skipped)
    scans: dict[str, Scan] = {}
    slices: list[Slice] = []
    others: dict[tuple[str, str, bool], list[Source]] = defaultdict(list)
    for source in track(sources, "looking for scans", len(sources), "files"):
        if source.name.lower().endswith(VOLUME_SUFFIXES):
            _add_volume(source, scans, skipped)
            continue
        found = read_slices(source)
        if found is None and (source in given or source.name.lower().endswith(DICOM_SUFFIXES)):
            damaged = source.name.lower().endswith(DICOM_SUFFIXES)
            found = NoCT(source, NO_SERIES, f"cannot be read as a scan, {WANTED} is needed", damaged)
        if isinstance(found, NoCT):
            subject = str(source) if source in given else found.series.subject
            others[(subject, found.reason, found.damaged)].append(source)
        else:
            slices += found or []
    slices, copies = without_damaged_copies(slices)
    for source, one in {one.source: one for one in copies}.items():
        others[(one.series.subject, "damaged copy of what is there whole", True)].append(source)
    for (subject, reason, damaged), files in others.items():
        skipped.append(Skipped(subject, f"{reason} ({_count(files, 'file')})", _paths(files), damaged))
    _add_series(assemble(slices), series, scans, skipped)
    if not scans or (series is not None and slices and not any(scan.series for scan in scans.values())):
        _raise_for_none(paths, series, slices, skipped)
    return [scans[name] for name in sorted(scans)], skipped


def scan_grid(scan: Scan) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape (z, y, x) and world_from_voxel that `read_scan` will give, from the headers alone. Raises FluoroError."""
    if scan.series is not None:
        shape, matrix = grid_of(scan.series, scan.subject)
    else:
        layout = read_layout(scan.sources[0], scan.subject)
        shape, matrix = layout.shape_xyz[::-1], layout.world_from_voxel
    return standard_grid(shape, matrix, scan.subject)


def read_scan(scan: Scan) -> Volume:
    """The scan as int16 HU on the standard grid: axes along left, posterior and superior, a tilted gantry straightened.

    Raises FluoroError for what is damaged, unevenly spaced, implausible or not in HU.
    """
    scan_grid(scan)
    try:
        if scan.series is not None:
            volume = read_series(scan.series, scan.subject)
        else:
            volume = read_hu(read_layout(scan.sources[0], scan.subject), scan.subject)
        return standardise(volume, fill=HU_MIN, subject=scan.subject)
    except MemoryError as error:
        raise FluoroError(f"{scan.subject}: not enough memory to read it", "crop it, or resample it") from error


def case_name(source: Source) -> str:
    """The scan's name in plain letters, digits, `.`, `_`, `-`; with a hash of it where it has other letters."""
    name = original_name(source)
    latin = without_accents(name)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", latin).lstrip("._-") or "case"
    return safe if latin.isascii() else f"{safe}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def original_name(source: Source) -> str:
    """The file's name without its suffix, or its folder's name when it is just called `ct` or the like."""
    stem = stem_of(source.name)
    if stem.lower() not in SCAN_STEMS:
        return stem
    parent = Path(source.member).parent.name
    return parent or (source.path.stem if source.member else source.path.resolve().parent.name)


# --- files ------------------------------------------------------------------------------------------------------------


def _files_at(path: Path, skipped: list[Skipped]) -> Iterator[Path]:
    if path.is_dir():
        yield from _walk(path, set(), skipped)
    elif path.is_file():
        yield path
    elif any(character in str(path) for character in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        for match in sorted(anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path))):
            yield from _files_at(match, skipped)
    else:
        raise FluoroError(f"{path}: no such file or folder", "check the path")


def _walk(folder: Path, visited: set[Path], skipped: list[Skipped]) -> Iterator[Path]:
    """The regular files in and below a folder, or only its scan where one is called so; hidden ones are left out."""
    real = folder.resolve()
    if real in visited:  # a link to a folder above
        return
    visited.add(real)
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    except OSError as error:
        skipped.append(Skipped(str(folder), (error.strerror or "cannot be read").lower(), (folder,), damaged=True))
        return
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            skipped.append(Skipped(str(entry), "is a link to nothing", (entry,), damaged=True))
    files = [entry for entry in entries if entry.is_file()]
    for file in files:
        if file.name.lower().endswith(VOLUME_SUFFIXES) and stem_of(file.name).lower() in SCAN_STEMS:
            yield file
            return
    yield from files
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, visited, skipped)


def _sources_at(paths: Sequence[Path], exclude: Sequence[Path], skipped: list[Skipped]) -> list[Source]:
    """The files at `paths`, each once, archives opened, sorted."""
    sources: set[Source] = set()
    seen: set[Path] = set()
    for path in paths:
        for found in _files_at(path, skipped):
            real = found.resolve()
            if real not in seen and not any(_is_excluded(real, place, paths) for place in exclude):
                seen.add(real)
                sources.update(_unpacked(found, skipped))
    return sorted(sources)


def _unpacked(path: Path, skipped: list[Skipped]) -> list[Source]:
    if path.suffix.lower() != ZIP_SUFFIX:
        return [Source(path)]
    try:
        return [
            source
            for source in members(path)
            if not any(part.startswith((".", "__MACOSX")) for part in Path(source.member).parts)
        ]
    except FluoroError as error:
        skipped.append(Skipped(str(path), error.problem.removeprefix(f"{path}: "), (path,), damaged=True))
        return []


def _is_excluded(file: Path, exclude: Path, paths: Sequence[Path]) -> bool:
    if [path.resolve() for path in paths] == [file]:
        return False
    exclude = exclude.resolve()
    holds_scans = any(exclude in (path.resolve(), *path.resolve().parents) for path in paths)
    return file == exclude or (exclude in file.parents and not holds_scans)


# --- scans ------------------------------------------------------------------------------------------------------------


def _add_volume(source: Source, scans: dict[str, Scan], skipped: list[Skipped]) -> None:
    subject = str(source)
    if reason := _no_ct(source, subject):
        skipped.append(Skipped(subject, reason, (source.path,)))
        return
    scan = Scan(case_name(source), subject, (source,))
    if scan.name in scans:
        raise UsageError(
            f"{scans[scan.name].subject} and {subject} would both be called {scan.name}",
            "rename one, or give each its own output folder",
        )
    scans[scan.name] = scan


def _no_ct(source: Source, subject: str) -> str | None:
    """Why a volume file is no CT, as its header tells; what is wrong with a damaged one is said when it is read."""
    try:
        layout = read_layout(source, subject)
        slices = standard_grid(layout.shape_xyz[::-1], layout.world_from_voxel, subject)[0][0]
    except FluoroError:
        return None
    if layout.cannot_be_hu:
        return "its voxel type has no values below 0, a CT in HU has some"
    return f"{_count(range(slices), 'slice')}, at least {MIN_SLICES} are needed" if slices < MIN_SLICES else None


def _add_series(found: Iterable[Series], wanted: str | None, scans: dict[str, Scan], skipped: list[Skipped]) -> None:
    for series in found:
        sources = tuple(dict.fromkeys(one.source for one in series.slices))
        count = _count(series.slices, "slice")
        if len(series.slices) < MIN_SLICES:
            reason = f"{count}, at least {MIN_SLICES} are needed"
        elif wanted is None and not is_axial(series):
            reason = f"{count}, not axial; --series takes it"
        else:
            name = name_of(series)
            if wanted is not None and not _is_wanted(series.id, name, wanted):
                reason = f"{count}, not asked for by --series"
            elif name in scans:
                reason = f"{count}, the same as {name}"
            else:
                scans[name] = Scan(name, f"{name} ({series.id.subject})", sources, series)
                continue
        skipped.append(Skipped(series.id.subject, reason, _paths(sources)))


def _is_wanted(series: SeriesId, name: str, wanted: str) -> bool:
    if wanted.isdecimal() and len(wanted) <= 12:  # longer ones are no DICOM integer, so part of a UID
        return series.number == int(wanted)
    return (
        name.startswith(wanted)
        or series.uid == wanted
        or series.uid.endswith("." + wanted.lstrip("."))
        or wanted.lower() in series.description.lower()
    )


def _raise_for_none(paths: Sequence[Path], series: str | None, slices: list[Slice], skipped: list[Skipped]) -> None:
    if series is not None and slices:
        numbers = ", ".join(map(str, sorted({one.series.number for one in slices if one.series.number is not None})))
        raise FluoroError(
            f"--series {series}: no such CT series; there are the numbers {numbers or 'of none'}", "give one of these"
        )
    if len(skipped) == 1:
        raise FluoroError(f"{skipped[0].subject}: {skipped[0].reason}", f"give a CT: {WANTED}")
    more = f"; {len(skipped)} skipped, the first: {skipped[0].subject}: {skipped[0].reason}" if skipped else ""
    raise FluoroError(f"{', '.join(map(str, paths))}: no CT scan{more}", f"give CTs or their folder: {WANTED}")


def _count(items: Sequence, noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _paths(sources: Iterable[Source]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(source.path for source in sources))

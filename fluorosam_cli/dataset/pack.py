"""The `pack` stage: rendered views, users' own images and descriptions become shards, split by case."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fluorosam_cli.artefacts import Track, read_header, read_lines, sha256_of, silent
from fluorosam_cli.contracts import Description, Descriptions, IntegralsHeader, Shard, Shards, ShardsPhrase, Split
from fluorosam_cli.dataset.pictures import Source, merged_integrals, packed
from fluorosam_cli.dataset.shard_writer import PackedImage, filters, write_shard
from fluorosam_cli.dataset.shards import count_masks
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.output import Output

IMAGES_PER_SHARD = 500
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Held = float | Collection[str]  # a share of the cases, or their names


class Planned(NamedTuple):
    source: Source
    number: int  # of the picture in it
    case: str


@dataclass(frozen=True)
class PackPlan:
    """Validated inputs: which images go where."""

    pictures: list[Planned]
    phrases: list[ShardsPhrase]
    structures: list[str]
    cases: dict[str, Split]
    integrals: IntegralsHeader | None
    size_px: int
    codec: str


def plan_pack(
    sources: Sequence[Source], descriptions: Sequence[Path], size_px: int, val: Held, test: Held, seed: int, codec: str
) -> PackPlan:
    """Merge the sources and split their cases.

    Cases of one name are one case, wherever they lie, and so are cases that share a sha256: none is in two splits. Held
    cases may be listed by any of their names.
    Raises FluoroError when an input is missing or unfinished or a structure has no words, UsageError when no case is
    left for training.
    """
    filters(codec)  # raises where it is not installed
    known_as = _cases_by_name(sources)
    pictures = [
        Planned(source, number, known_as[case]) for source in sources for number, case in enumerate(source.cases)
    ]
    val, test = (
        [known_as.get(name, name) for name in held] if isinstance(held, Collection) else held for held in (val, test)
    )
    structures = sorted({name for source in sources for name in source.names})
    phrases = _phrases(descriptions, set(structures))
    wordless = set(structures) - {p.structure for p in phrases if p.split == "train"}
    if wordless:
        raise FluoroError(
            f"no training phrase for {', '.join(sorted(wordless)[:5])}" + (" ..." if len(wordless) > 5 else ""),
            "describe them: fluoro describe -o descriptions/ --overwrite",
        )
    return PackPlan(
        pictures=pictures,
        phrases=phrases,
        structures=structures,
        cases=split_cases(list(dict.fromkeys(p.case for p in pictures)), val, test, seed),
        integrals=merged_integrals([source.integrals for source in sources], size_px),
        size_px=size_px,
        codec=codec,
    )


def _cases_by_name(sources: Sequence[Source]) -> dict[str, str]:
    """The one name of each case for every name it has: names of one sha256 are joined, and sha256s of one name."""
    joined: dict[str, str] = {}  # name or sha256 -> another of the same case, the one name -> itself

    def one_name(key: str) -> str:
        while joined.setdefault(key, key) != key:
            key = joined[key]
        return key

    for source in sources:
        for case in dict.fromkeys(source.cases):
            for digest in source.case_sha256.get(case, ()):
                if digest in joined:
                    joined[one_name(case)] = one_name(digest)
                else:
                    joined[digest] = one_name(case)
    return {name: one_name(name) for source in sources for name in source.cases}


def _phrases(folders: Sequence[Path], structures: set[str]) -> list[ShardsPhrase]:
    """The phrases of all folders, each once; one that any of them holds out for testing is held out."""
    found: dict[tuple[str, str], ShardsPhrase] = {}
    for folder in folders:
        header = read_header(folder / "descriptions.json", Descriptions)
        for d in read_lines(folder / header.descriptions, Description):
            key = d.name, d.text.casefold()
            if d.name in structures and (key not in found or found[key].split == "train"):
                found[key] = ShardsPhrase(structure=d.name, text=d.text, split=d.split)
    return list(found.values())


def split_cases(names: Sequence[str], val: Held, test: Held, seed: int) -> dict[str, Split]:
    """Assign whole cases to train, val and test, by name or by share of all.

    A share above 0 gets at least one case, the test's first, while another is left for training; a test share of 1
    beside 0 gets all. The order is by hash of seed and name, so that adding a case moves few others.
    """
    split: dict[str, Split] = {}
    if (val, test) == (0, 1):
        return dict.fromkeys(names, "test")
    both: list[tuple[Split, Held]] = [("test", test), ("val", val)]
    for held, value in both:
        if isinstance(value, Collection):
            unknown = sorted(set(value) - set(names))
            if unknown:
                raise UsageError(f"--{held}: no case is called {', '.join(unknown[:3])}", "correct the list")
            twice = sorted(name for name in value if split.get(name, held) != held)
            if twice:
                raise UsageError(f"{twice[0]}: is listed for test and for val", "list it once")
            split |= dict.fromkeys(value, held)
    shares = [0.0 if isinstance(value, Collection) else value for _, value in both]
    if not all(0 <= share < 1 for share in shares) or sum(shares) >= 1:
        raise UsageError(
            f"--val {val} and --test {test} leave nothing to train on",
            "give shares that sum to below 1, or --val 0 --test 1 to test on all",
        )
    order = sorted(
        (name for name in names if name not in split),
        key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest(),
    )
    if not order:
        raise UsageError("--val and --test list every case: nothing is left to train on", "list fewer")
    left = len(order) - 1  # one case is always for training
    for (held, _), share in zip(both, shares, strict=True):
        count = min(left, max(1, round(share * len(names)))) if share > 0 else 0
        split |= dict.fromkeys(order[:count], held)
        order, left = order[count:], left - count
    return {name: split.get(name, "train") for name in names}


def pack(plan: PackPlan, output: Output, track: Track = silent) -> Shards:
    """Write the shards, an image at a time, then `shards.json`. Those that a killed run finished are kept."""
    groups: dict[Split, list[Planned]] = {
        split: [p for p in plan.pictures if plan.cases[p.case] == split] for split in SPLITS
    }
    tracked = iter(track([p for group in groups.values() for p in group], "pack", len(plan.pictures), "images"))
    shards: list[Shard] = []
    for split, group in groups.items():
        for start in range(0, len(group), IMAGES_PER_SHARD):
            count = min(IMAGES_PER_SHARD, len(group) - start)
            path = output.path / f"{split}-{start // IMAGES_PER_SHARD:05d}.h5"
            masks = _write(plan, output, path, islice(tracked, count), count)
            shards.append(Shard(file=path.name, split=split, images=count, masks=masks, sha256=sha256_of(path)))
    header = Shards(
        size_px=plan.size_px,
        polarity="bone_bright",
        structures=plan.structures,
        cases=plan.cases,
        phrases=plan.phrases,
        integrals=plan.integrals,
        shards=shards,
    )
    output.finish(header)
    return header


def _write(plan: PackPlan, output: Output, path: Path, pictures: Iterator[Planned], count: int) -> int:
    """Write one shard unless it is there; the number of masks in it. A shard is there whole or not at all."""
    there = count_masks(path, count) if path.is_file() else None
    if there is not None:
        output.skipped += sum(1 for _ in pictures)
        return there
    numbers = {name: number for number, name in enumerate(plan.structures)}
    cases = {name: number for number, name in enumerate(plan.cases)}

    def images() -> Iterator[PackedImage]:
        for planned in pictures:
            picture = planned.source.read(planned.number)
            invert = not planned.source.bone_bright
            yield packed(picture, cases[planned.case], numbers, plan.size_px, plan.integrals, invert)
            output.done += 1

    return write_shard(path, images(), list(plan.cases), plan.codec)

"""Which code of the text quantiser each phrase falls on: the map in the report, and structures that share a code."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fluorosam_cli.evaluation.segmenter import Segmenter
from fluorosam_cli.evaluation.sources import Words
from fluorosam_cli.prediction.predictor import Predictor

STRUCTURES_MAX, PHRASES_MAX = 100, 4  # rows that can still be read, and phrases of each


@dataclass(frozen=True)
class CodeMap:
    structures: list[str]
    shares: np.ndarray  # (structures, codes in use) share of a structure's phrases on each code
    phrases: int
    codes: int  # in the codebook
    shared: list[list[str]]  # structures on one code


def code_map(segmenter: Segmenter, words: Words, structures: Sequence[str]) -> CodeMap | None:
    """The map of the structures asked for most often, by a model with a quantiser; None for others.

    `structures` has one for each mask that was asked for.
    """
    often = sorted(name for name, _ in Counter(structures).most_common(STRUCTURES_MAX))
    asked = {name: words[name][:PHRASES_MAX] for name in often if words.get(name)}
    if not isinstance(segmenter, Predictor) or not asked:
        return None
    texts = [text for phrases in asked.values() for text in phrases]
    found = segmenter.text_codes(texts)
    if found is None:
        return None
    owners = [row for row, phrases in enumerate(asked.values()) for _ in phrases]
    return _map(list(asked), owners, found, segmenter.checkpoint.model.codebook_size)


def _map(structures: list[str], owners: Sequence[int], codes: Sequence[int], size: int) -> CodeMap:
    used = list(dict.fromkeys(codes))
    column = {code: i for i, code in enumerate(used)}
    counts = np.zeros((len(structures), len(used)))
    users: dict[int, list[str]] = defaultdict(list)
    for row, code in zip(owners, codes, strict=True):
        counts[row, column[code]] += 1
        if structures[row] not in users[code]:
            users[code].append(structures[row])
    shared = sorted({tuple(names) for names in users.values() if len(names) > 1})
    return CodeMap(structures, counts / counts.sum(axis=1, keepdims=True), len(codes), size, [list(s) for s in shared])

"""What the word stage is shown: phrases as they are, misspelt ones, and phrases that name nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fluorosam_cli.anatomy import marks
from fluorosam_cli.anatomy.lexicon import Phrase, lexicon
from fluorosam_cli.artefacts import read_header, read_lines
from fluorosam_cli.contracts import Description, Descriptions, ShardsPhrase
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.text.encoder import SURFACE, TextEncoder
from fluorosam_cli.text.grammar import requests
from fluorosam_cli.text.phrases import has_one_size, names, phrases_of
from fluorosam_cli.text.strangers import Strangers
from fluorosam_cli.text.typos import misspelt

PLAIN, MISSPELT, STRANGE = 128, 160, 64  # phrases of a batch, the last two new in each, without their sentences
WITH_SENTENCE = 32  # misspelt ones, and as many strange ones, out of `EMBEDDED`
EMBEDDED = 1500
FEATURE_DROPOUT, SENTENCE_DROPOUT = 0.3, 0.5  # the latter takes all but letters and marks away
ASKED_FOR = 3  # phrases of each structure that get a request
OF_ONE_SIZE = {"train": 4, "test": 1}  # phrases of each tool of one size, which are many and alike


def all_phrases(seed: int) -> list[ShardsPhrase]:
    """The lexicon's phrases of every name, and requests around the first ones of anatomy."""
    found: list[ShardsPhrase] = []
    for name in names():
        phrases = list(_some(name))
        found += [ShardsPhrase(structure=name, text=phrase.text, split=phrase.split) for phrase in phrases]
        train = [phrase for phrase in phrases if phrase.split == "train"]
        for phrase in train[: ASKED_FOR if name in lexicon() else 0]:
            text = requests(phrase.text, phrase.kind, 1, seed)[0]
            found.append(ShardsPhrase(structure=name, text=text, split="train"))
    return found


def described_phrases(folder: Path) -> list[ShardsPhrase]:
    """The phrases in a folder that `fluoro describe` wrote. Raises FluoroError when there is none, or none to learn."""
    header = read_header(folder / "descriptions.json", Descriptions)
    phrases = [
        ShardsPhrase(structure=line.name, text=line.text, split=line.split)
        for line in read_lines(folder / header.descriptions, Description)
    ]
    wordless = {phrase.structure for phrase in phrases} - {p.structure for p in phrases if p.split == "train"}
    if wordless or not phrases:
        raise FluoroError(
            f"{folder}: no phrase to learn" + (f" for {min(wordless)}" if wordless else ""),
            "fluoro describe writes them",
        )
    return phrases


def _some(name: str) -> Iterator[Phrase]:
    """The phrases of a name, but of a tool of one size only the first few of each split."""
    left = dict(OF_ONE_SIZE)
    for phrase in phrases_of(name):
        if not has_one_size(name):
            yield phrase
        elif left[phrase.split]:
            left[phrase.split] -= 1
            yield phrase


class Lessons:
    """Batches of phrases as they are, misspelt, without their sentence embedding, and phrases that name nothing.

    Sentence embeddings take time: only `EMBEDDED` misspelt and strange phrases have theirs.
    """

    def __init__(
        self, phrases: Sequence[ShardsPhrase], features: Tensor, structure: Tensor, encoder: TextEncoder, seed: int
    ) -> None:
        texts = [phrase.text for phrase in phrases]
        self.texts, self.features, self.structure = texts, features, structure
        self._encoder = encoder
        self._random = np.random.default_rng(np.random.SeedSequence([seed, len(texts)]))
        self._torch = torch.Generator().manual_seed(seed)
        self._strangers = Strangers(texts)
        is_anatomy = np.array([phrase.structure in lexicon() for phrase in phrases])
        self._parts = [part for part in (np.flatnonzero(is_anatomy), np.flatnonzero(~is_anatomy)) if len(part)]
        self._chosen = self._rows(min(EMBEDDED, len(texts)))
        self._misspelt = self._encoded([self._wrong(i) for i in self._chosen], True)
        self._strange = self._encoded(self._strangers.draw(len(self._chosen), self._random), True)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Features (n, text_dim) and structures (n,), -1 for what names nothing."""
        plain, fresh = self._rows(PLAIN), self._rows(MISSPELT)
        embedded, strange = self._random.integers(len(self._chosen), size=(2, WITH_SENTENCE))
        features = torch.cat([
            self.features[plain],
            self._encoded([self._wrong(i) for i in fresh], False),
            self._misspelt[embedded],
            self._encoded(self._strangers.draw(STRANGE, self._random), False),
            self._strange[strange],
        ])  # fmt: skip
        named = self.structure[np.concatenate([plain, fresh, self._chosen[embedded]])]
        target = torch.cat([named, torch.full((STRANGE + WITH_SENTENCE,), -1)])
        keep = (torch.rand(features.shape, generator=self._torch) >= FEATURE_DROPOUT) / (1 - FEATURE_DROPOUT)
        without = torch.rand(len(features), generator=self._torch) < SENTENCE_DROPOUT
        keep[without, :-SURFACE] = 0
        keep[:, -marks.SIZE :] = 1  # a side that goes unheard would be another structure's
        return features * keep, target

    def _rows(self, count: int) -> np.ndarray:
        """Phrases drawn at random, half of them of anatomy where there are tools too."""
        share = [count // len(self._parts)] * (len(self._parts) - 1)
        counts = [*share, count - sum(share)]
        return np.concatenate([self._random.choice(part, n) for part, n in zip(self._parts, counts, strict=True)])

    def _wrong(self, row: int) -> str:
        return misspelt(self.texts[row], self._random) or self.texts[row]

    def _encoded(self, texts: list[str], sentences: bool) -> Tensor:
        return torch.from_numpy(self._encoder.encode(texts, sentences))

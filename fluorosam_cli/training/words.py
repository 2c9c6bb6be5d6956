"""The word stage: teach the text head which phrases mean the same structure, before any image is seen.

Each name gets a prototype token; phrases, some misspelt, are drawn to their own and away from the others'. The
prototypes become the quantiser's codes, so that from then on a phrase of a structure falls on that structure's code.
Phrases that name nothing teach what is unknown (outlier exposure, Hendrycks et al. 2019). The head is frozen while the
masks are learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.artefacts import Track, read_header, silent, write_json
from fluorosam_cli.contracts import ModelConfig, ShardsPhrase, TextEncoderConfig, WordsHeader
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.checkpoint import read_weights, write_weights
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.text.encoder import TextEncoder
from fluorosam_cli.training.lessons import PLAIN, Lessons
from fluorosam_cli.training.prototypes import Prototypes

HEADER = "words.json"
WEIGHTS = "words.safetensors"
AT_ONCE = 1024  # phrases, sorted by length inside the encoder
EPOCHS, FEWEST_STEPS, MOST_STEPS = 9, 150, 1500
LEARNING_RATE = 4e-3
SHARPNESS = 8.0  # of the choice between prototypes
STRANGE_WEIGHT = 4.0  # of a phrase that names nothing: those to come are stranger than these
PULL = 0.1  # weight of the distance to the own prototype
COPY_NOISE = 0.01  # spare codes are copies of the prototypes, this far off


@dataclass(frozen=True)
class Words:
    """A text head that has learnt its words."""

    encoder: TextEncoderConfig
    head: dict[str, Tensor]  # state of model.quantiser.TextHead
    names: list[str]  # code i belongs to names[i % len(names)]
    scores: dict[str, float]  # for a checkpoint's metrics: words_train_accuracy, words_held_out_accuracy


def phrase_features(encoder: TextEncoder, phrases: Sequence[ShardsPhrase], track: Track = silent) -> Tensor:
    """(n_phrases, text_dim) float32, in the order of the phrases."""
    texts = [phrase.text for phrase in phrases]
    parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
    found = [encoder.encode(part) for part in track(parts, "read", len(parts), "parts")]
    return torch.from_numpy(np.concatenate(found) if found else encoder.encode([]))


def learn_words(
    phrases: Sequence[ShardsPhrase],
    features: Tensor,
    config: ModelConfig,
    encoder: TextEncoder,
    seed: int = 0,
    track: Track = silent,
) -> Words:
    """Teach a text head of `config`'s shape the train phrases; `features` are their `phrase_features`.

    Raises FluoroError when the quantiser has fewer codes than there are names.
    """
    names = sorted({phrase.structure for phrase in phrases})
    if config.codebook_size and config.codebook_size < len(names):
        raise FluoroError(f"codebook: {config.codebook_size} codes for {len(names)} names", "choose a larger preset")
    number = {name: i for i, name in enumerate(names)}
    structure = torch.tensor([number[phrase.structure] for phrase in phrases])
    held_out = torch.tensor([phrase.split == "test" for phrase in phrases])
    known = torch.nonzero(~held_out)[:, 0]
    torch.manual_seed(seed)
    head = TextHead(config)
    lessons = Lessons([phrases[i] for i in known.tolist()], features[known], structure[known], encoder, seed)
    prototypes = Prototypes(names, head.dim)
    _fit(head, prototypes, lessons, track)
    with torch.no_grad():
        codes = prototypes()
        if head.codebook is not None:
            owner = torch.arange(head.codebook.num_embeddings) % len(names)
            spare = (torch.arange(len(owner)) >= len(names))[:, None]
            head.codebook.weight.copy_(codes[owner] + torch.randn(len(owner), head.dim) * COPY_NOISE * spare)
        right = (nearest(head.mlp(features), codes) == structure).float()
    scores = {"words_train_accuracy": float(right[~held_out].mean())}
    if held_out.any():
        scores["words_held_out_accuracy"] = float(right[held_out].mean())
    config_of = TextEncoderConfig(name=encoder.name, revision=encoder.revision, dim=encoder.dim)
    return Words(config_of, head.state_dict(), names, scores)


def _fit(head: TextHead, prototypes: Prototypes, lessons: Lessons, track: Track) -> None:
    parameters = [*head.mlp.parameters(), *head.familiar.parameters(), *prototypes.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    steps = min(MOST_STEPS, max(FEWEST_STEPS, EPOCHS * len(lessons.texts) // PLAIN))
    for step in track(range(steps), "words", steps, "steps"):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        features, target = lessons.draw()
        named = target >= 0
        hidden = head.hidden(features)
        weight = torch.where(named, 1.0, STRANGE_WEIGHT)
        familiar = F.binary_cross_entropy_with_logits(head.familiar(hidden)[:, 0], named.float(), weight)
        distance = squared_distances(head.mlp[2](hidden[named]), prototypes()) / head.dim
        own = distance.gather(1, target[named, None]).mean()
        loss = F.cross_entropy(-SHARPNESS * distance, target[named]) + PULL * own + familiar
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def squared_distances(token: Tensor, prototypes: Tensor) -> Tensor:
    """Squared distances (n, n_prototypes)."""
    return token.square().sum(1)[:, None] + prototypes.square().sum(1) - 2 * token @ prototypes.T


def nearest(token: Tensor, prototypes: Tensor) -> Tensor:
    """Position of the nearest prototype (n,)."""
    return torch.cat([squared_distances(part, prototypes).argmin(1) for part in token.split(4096)])


def save_words(folder: Path, words: Words) -> WordsHeader:
    """Write the weights, then `words.json`."""
    header = WordsHeader(
        text_encoder=words.encoder,
        weights=WEIGHTS,
        weights_sha256=write_weights(folder / WEIGHTS, words.head),
        names=words.names,
        scores=words.scores,
    )
    write_json(folder / HEADER, header)
    return header


def load_words(folder: Path) -> Words:
    """Read a folder of `save_words`. Raises FluoroError when it is absent, unfinished or damaged."""
    header = read_header(folder / HEADER, WordsHeader)
    head = read_weights(folder, HEADER, header.weights, header.weights_sha256)
    return Words(header.text_encoder, head, header.names, header.scores)


def check_words(words: Words, config: ModelConfig, encoder: TextEncoder, structures: Sequence[str]) -> None:
    """Raises FluoroError unless these words fit the network, the text encoder and the structures it learns."""
    if (words.encoder.name, words.encoder.revision) != (encoder.name, encoder.revision):
        raise FluoroError(
            f"words: learnt from {words.encoder.name} {words.encoder.revision}, not {encoder.name} {encoder.revision}",
            f"add --text-encoder {words.encoder.name}, or write them again with fluoro words",
        )
    expected = {key: tensor.shape for key, tensor in TextHead(config).state_dict().items()}
    if expected != {key: tensor.shape for key, tensor in words.head.items()}:
        raise FluoroError(
            f"words: their text head is not that of the preset {config.preset}",
            f"write them for it: fluoro words --preset {config.preset}",
        )
    unknown = sorted(set(structures) - set(words.names))
    if unknown:
        raise FluoroError(
            f"words: know no {unknown[0]}" + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""),
            "give fluoro words the descriptions that the shards were packed with",
        )

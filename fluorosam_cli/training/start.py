"""What a run starts from: a preset with random, foreign or pretrained weights, or a checkpoint to fine-tune.

The words are learnt (or taken from a folder or the checkpoint) once, by the first process.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fluorosam_cli.artefacts import Track, read_header, silent
from fluorosam_cli.contracts import Checkpoint, ModelConfig, ShardsPhrase, TextEncoderConfig
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.errors import UsageError
from fluorosam_cli.model.adapters import is_adapter
from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
from fluorosam_cli.model.checkpoint import find_checkpoint, load_checkpoint, read_weights
from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.model.foreign import Loaded, find_backbone, load_backbone, load_foreign, read_tensors
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.text.encoder import TextEncoder, encoder_of, load_text_encoder
from fluorosam_cli.training.words import HEADER as WORDS
from fluorosam_cli.training.words import check_words, learn_words, load_words, phrase_features, save_words

log = logging.getLogger("fluoro")

PHRASES_PER_NAME = 8  # to ask for masks with: the text head is fixed by then, and takes other words for these


@dataclass(frozen=True)
class Origin:
    """Where the weights come from. With `checkpoint`, the size, the encoder and the text head are that one's."""

    preset: str = "small"
    text_encoder: str = "minilm"
    quantise: bool = True
    checkpoint: Path | None = None  # fine-tuned
    words: Path | None = None  # a folder of `fluoro words`
    init: Path | None = None  # a .pth of SAM, MedSAM or SAM-Med2D, or the .safetensors of a checkpoint
    backbone_weights: str | None = None  # timm tag or file
    freeze_encoder: bool = False  # what came from a file or a checkpoint stays as it is
    adapters: bool = False
    travel: bool = False  # the decoder learns path lengths too

    @property
    def files(self) -> list[Path]:
        """What decides the weights: headers of artefacts, which have the sha256 of theirs, and files of weights."""
        headers = [self.checkpoint and self.checkpoint / CHECKPOINT, self.words and self.words / WORDS]
        backbone = Path(self.backbone_weights) if self.backbone_weights else None
        return [path for path in (*headers, self.init, backbone) if path is not None and path.is_file()]


@dataclass(frozen=True)
class Start:
    """What every process needs besides files."""

    config: ModelConfig
    phrases: list[ShardsPhrase]  # with which masks are asked for
    tokens: Tensor  # (n_phrases, dim), of these
    codes: Tensor | None  # (n_phrases,) the quantiser's, where there is one
    encoder: TextEncoderConfig
    head: dict[str, Tensor]
    scores: dict[str, float]
    structures: list[str]  # what the network has learnt to find once it is trained


def find_origin(
    *, preset: str | None, text_encoder: str | None, checkpoint: str | None, init: Path | None, **others: Any
) -> Origin:
    """The origin that the command line describes. What a checkpoint decides cannot be asked for as well."""
    others["init"] = _weights_in(init) if init is not None and init.is_dir() else init
    if checkpoint is None:
        return Origin(preset=preset or "small", text_encoder=text_encoder or "minilm", **others)
    folder = find_checkpoint(checkpoint)
    header = read_header(folder / CHECKPOINT, Checkpoint)
    for option, given, has in (
        ("--preset", preset, header.model.preset),
        ("--text-encoder", text_encoder, header.text_encoder.name),
    ):
        if given is not None and given != has:
            raise UsageError(f"{option} {given}: the checkpoint of --from has {has}", f"leave {option} out")
    if not others["quantise"] and header.model.codebook_size:
        raise UsageError("--no-vq: the checkpoint of --from has a quantiser", "leave --no-vq out")
    return Origin(
        checkpoint=folder, **{**others, "quantise": header.model.codebook_size > 0}, preset=header.model.preset,
        text_encoder=header.text_encoder.name,
    )  # fmt: skip


def _weights_in(folder: Path) -> Path:
    """The weights of a checkpoint or run folder."""
    found = find_checkpoint(folder)
    return found / Path(read_header(found / CHECKPOINT, Checkpoint).weights).name


def check_origin(origin: Origin) -> None:
    """Raises FluoroError for parts that do not fit each other."""
    if origin.freeze_encoder and not (origin.checkpoint or origin.init or origin.backbone_weights):
        raise UsageError(
            "--freeze-encoder: a random encoder cannot stay as it is", "add --from, --init or --backbone-weights"
        )
    if origin.checkpoint is not None:
        given = {"--words": origin.words, "--init": origin.init, "--backbone-weights": origin.backbone_weights}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option}: the weights come from --from already", "leave one of them out")
        checkpoint = load_checkpoint(origin.checkpoint)[1]
        encoder_of(checkpoint.text_encoder)
        return
    encoder = load_text_encoder(origin.text_encoder)
    config = _config(origin, encoder)
    if origin.words is not None:
        check_words(load_words(origin.words), config, encoder, [])
    if origin.init is not None:
        with torch.device("meta"):  # shapes alone
            model = FluoroSAM(config)
        load_foreign(model, origin.init)
    if origin.backbone_weights is not None:
        file = find_backbone(config, origin.backbone_weights)
        if file is not None:
            read_tensors(file)


def config_of(origin: Origin) -> ModelConfig:
    """The network's configuration. Raises UsageError for an unknown preset."""
    if origin.checkpoint is not None:
        return _extended(read_header(origin.checkpoint / CHECKPOINT, Checkpoint).model, origin)
    return _config(origin, load_text_encoder(origin.text_encoder))


def prepare(
    reader: ShardReader, origin: Origin, exclude: tuple[str, ...], seed: int, kept: Path, track: Track = silent
) -> Start:
    """Learn the words of the structures that are not excluded, and encode the phrases that masks are asked for with.

    The words are kept in the folder `kept`; a resumed run finds them there.
    """
    phrases = reader.header.phrases
    few = few_phrases(phrases, seed)
    structures = set(reader.header.structures) - set(exclude)
    config = config_of(origin)
    if origin.checkpoint is not None:
        model, checkpoint = load_checkpoint(origin.checkpoint)
        features = phrase_features(encoder_of(checkpoint.text_encoder), few, track)
        known = set(checkpoint.structures) - set(exclude)
        new = len(structures - known)
        log.info("from step %d of %s: %d structures are new", checkpoint.step, origin.checkpoint.name, new)
        head = model.text_head
        told = _told(head, features)
        return Start(config, few, *told, checkpoint.text_encoder, head.state_dict(), {}, sorted(structures | known))
    encoder = load_text_encoder(origin.text_encoder)
    given = kept if (kept / WORDS).is_file() else origin.words
    if given is not None:
        words = load_words(given)
        # Those that were learnt here know every name that had a phrase.
        needed = [] if given == kept else sorted(structures)
        check_words(words, config, encoder, needed)
    else:
        learnt = [phrase for phrase in phrases if phrase.structure not in exclude]
        words = learn_words(learnt, phrase_features(encoder, learnt, track), config, encoder, seed, track)
        log.info("words: %s", ", ".join(f"{name} {value:.3f}" for name, value in words.scores.items()))
    if given != kept:
        save_words(kept, words)
    head = TextHead(config)
    head.load_state_dict(words.head)
    told = _told(head, phrase_features(encoder, few, track))
    return Start(config, few, *told, words.encoder, words.head, words.scores, sorted(structures))


@torch.no_grad()
def _told(head: TextHead, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """The tokens of phrases, and the quantiser's codes."""
    return head(features), None if head.codebook is None else head.codes(head.mlp(features))


def few_phrases(phrases: list[ShardsPhrase], seed: int) -> list[ShardsPhrase]:
    """Of each name the first train phrase, which the lexicon makes the name itself, and others drawn with the seed."""
    rows: dict[str, list[int]] = {}
    for row, phrase in enumerate(phrases):
        if phrase.split == "train":
            rows.setdefault(phrase.structure, []).append(row)
    rng = np.random.default_rng([seed, 3])
    chosen = [[first, *rng.permutation(others)[: PHRASES_PER_NAME - 1]] for first, *others in rows.values()]
    return [phrases[row] for row in sorted(int(row) for drawn in chosen for row in drawn)]


def build(start: Start, origin: Origin, seed: int, report: bool) -> FluoroSAM:
    """The network before the first step, the same in every process; what files gave is listed where `report`."""
    torch.manual_seed(seed)
    model = FluoroSAM(start.config)
    given: set[str] = set()
    if origin.checkpoint is not None:
        header = read_header(origin.checkpoint / CHECKPOINT, Checkpoint)
        state = read_weights(origin.checkpoint, CHECKPOINT, header.weights, header.weights_sha256)
        model.load_state_dict(state, strict=False)  # adapters and the travel head may be new
        given |= state.keys()
    sources = {origin.init: load_foreign, origin.backbone_weights: load_backbone}
    for source, load in sources.items():
        if source is not None:
            found = load(model, source)
            given |= set(found.loaded)
            if report:
                _list(str(source), model, found)
    model.image_encoder.to(memory_format=torch.channels_last)  # pyright: ignore - a tenth faster on CPUs
    model.text_head.load_state_dict(start.head)
    model.text_head.requires_grad_(False)
    if origin.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not (_of_encoder(name) and name in given))
    return model


def _of_encoder(name: str) -> bool:
    return name.startswith("image_encoder.") and not is_adapter(name)


def _list(source: str, model: FluoroSAM, found: Loaded) -> None:
    """Log what a file gave each part of the network, and what of it found no place."""
    parts = Counter(name.partition(".")[0] for name in model.state_dict())
    taken = Counter(name.partition(".")[0] for name in found.loaded)
    log.info("%s: loaded %s", Path(source).name, ", ".join(f"{taken[p]} of {n} of {p}" for p, n in parts.items()))
    for name, reason in found.skipped:
        log.info("%s: not loaded: %s (%s)", Path(source).name, name, reason)


def name_tokens(reader: ShardReader, tokens: Tensor, exclude: tuple[str, ...]) -> Tensor:
    """Of one training phrase per structure (its first: the lexicon puts the name first), (n_structures, dim).

    NaN for structures that are excluded or have no training phrase.
    """
    names = reader.header.structures
    found = torch.full((len(names), tokens.shape[1]), float("nan"))
    number = {name: i for i, name in enumerate(names) if name not in exclude}
    for row, phrase in reversed(list(enumerate(reader.header.phrases))):
        if phrase.split == "train" and phrase.structure in number:
            found[number[phrase.structure]] = tokens[row]
    return found


def _config(origin: Origin, encoder: TextEncoder) -> ModelConfig:
    config = preset(origin.preset, encoder.dim)
    return _extended(config if origin.quantise else config.model_copy(update={"codebook_size": 0}), origin)


def _extended(config: ModelConfig, origin: Origin) -> ModelConfig:
    return config.model_copy(
        update={"adapters": config.adapters or origin.adapters, "travel": config.travel or origin.travel}
    )

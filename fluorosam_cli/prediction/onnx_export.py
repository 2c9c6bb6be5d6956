"""The network as two ONNX files, encoder and decoder, that answer as `Predictor` does; docs/onnx.md is for their users.

What cannot be in them is the sentence encoder: what it and the text head make of the phrases of every structure that
the checkpoint knows is exported as a table of tokens instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fluorosam_cli.artefacts import Track, atomic_path, sha256_of, silent, write_bytes
from fluorosam_cli.contracts import Checkpoint, Onnx, OnnxNetwork, OnnxPhrase, OnnxTensor
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model import preprocess
from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
from fluorosam_cli.model.checkpoint import find_checkpoint, load_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM, ImageFeatures, Prompts
from fluorosam_cli.text.encoder import TextEncoder, encoder_of
from fluorosam_cli.text.phrases import has_one_size, is_name, phrases_of

HEADER = "onnx.json"
OPSET = 18
TOKENS = "tokens.f32"
OF_ONE_SIZE = 4  # phrases of each tool of one size, of which there are many and alike
AT_ONCE = 256  # phrases that are encoded together


class Encoder(nn.Module):
    """A fitted image (1, S, S) of any range -> `model.fluorosam.ImageFeatures`, without what the network has not."""

    def __init__(self, model: FluoroSAM) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        embedding, details, words = self.model.encode_image(preprocess.channels(image))
        return (embedding, *details) if words is None else (embedding, *details, words)


class Decoder(nn.Module):
    """One prompt of K points on the encoder's outputs -> mask logits, predicted IoU and presence."""

    def __init__(self, model: FluoroSAM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        points_xy: Tensor,
        point_labels: Tensor,
        text: Tensor,
        has_text: Tensor,
        mask_logits: Tensor,
        has_mask: Tensor,
        embedding: Tensor,
        *more: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        prompts = Prompts(
            image_index=torch.zeros(1, dtype=torch.long),
            text=text,
            has_text=has_text,
            points_xy=points_xy,
            point_labels=point_labels,
            mask_logits=mask_logits,
            has_mask=has_mask,
        )
        details, words = (more[:-1], more[-1]) if self.model.text_map is not None else (more, None)
        decoded = self.model.decode(ImageFeatures(embedding, details, words), prompts)
        return decoded.masks, decoded.iou, decoded.presence.sigmoid()


@dataclass(frozen=True)
class Exportable:
    """A checkpoint with everything its export needs, so that nothing can go wrong once files are written."""

    folder: Path
    model: FluoroSAM
    header: Checkpoint
    phrases: list[tuple[str, str]]  # text, structure
    encoder: TextEncoder


def load_exportable(checkpoint: Path | str) -> Exportable:
    """Raises FluoroError without onnx, for a damaged checkpoint, and for one of another text encoder."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise FluoroError("export --onnx: needs onnx", 'pip install "fluorosam-cli[onnx]"') from error
    found = find_checkpoint(checkpoint)
    model, header = load_checkpoint(found)
    phrases = [
        (phrase.text, name)
        for name in header.structures
        if is_name(name)
        for phrase in islice(phrases_of(name), OF_ONE_SIZE if has_one_size(name) else None)
    ]
    return Exportable(found, model, header, phrases, encoder_of(header.text_encoder))


def export_onnx(exportable: Exportable, folder: Path, track: Track = silent) -> Onnx:
    """Write both networks and the table of tokens; return the header to write."""
    model = exportable.model
    c = model.config
    image = torch.rand(1, c.image_size_px, c.image_size_px)
    encoder = Encoder(model).eval()
    with torch.inference_mode():
        encoded = encoder(image)
    side = model.prompt_encoder.mask_input_px
    points = torch.rand(1, 3, 2) * c.image_size_px
    prompt = (points, torch.tensor([[1, 0, -1]]), torch.randn(1, c.embedding_dim), torch.tensor([True]))
    mask = (torch.randn(1, 1, side, side), torch.tensor([False]))
    finer = 0 if model.detail_path is None else c.upscale_stages + (c.finest_dim > 0)
    outputs = ["embedding", *(f"detail_{number + 1}" for number in range(finer)), "words"][: len(encoded)]
    inputs = ["points_xy", "point_labels", "text", "has_text", "mask_logits", "has_mask", *outputs]
    networks = [
        _exported(folder / "encoder.onnx", encoder, (image,), ["image"], outputs),
        _exported(
            folder / "decoder.onnx",
            Decoder(model).eval(),
            (*prompt, *mask, *(each.clone() for each in encoded)),
            inputs,
            ["logits", "ious", "presence"],
            {"points_xy": {1: "points"}, "point_labels": {1: "points"}},
        ),
    ]
    tokens, rows = np.unique(_tokens(exportable, track), axis=0, return_inverse=True)
    write_bytes(folder / TOKENS, tokens.astype("<f4").tobytes())
    return Onnx(
        checkpoint_sha256=sha256_of(exportable.folder / CHECKPOINT),
        image_size_px=c.image_size_px,
        mask_input_px=side,
        logits_px=c.logits_px,
        text_encoder=exportable.header.text_encoder,
        tokens=TOKENS,
        token_dim=c.embedding_dim,
        phrases=[
            OnnxPhrase(text=text, structure=structure, row=int(row))
            for (text, structure), row in zip(exportable.phrases, rows.flat, strict=True)
        ],
        encoder=networks[0],
        decoder=networks[1],
    )


def _tokens(exportable: Exportable, track: Track) -> np.ndarray:
    """What the network takes for each phrase, (phrases, embedding_dim) float32."""
    texts = [text for text, _ in exportable.phrases]
    parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
    with torch.inference_mode():
        found = [
            exportable.model.text_head(torch.from_numpy(exportable.encoder.encode(part))).numpy()
            for part in track(parts, "read", len(parts), "parts")
        ]
    return np.concatenate([np.zeros((0, exportable.model.config.embedding_dim), np.float32), *found])


def _exported(
    path: Path,
    network: nn.Module,
    arguments: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    lengths: dict[str, dict[int, str]] | None = None,
) -> OnnxNetwork:
    import warnings

    import onnx

    with warnings.catch_warnings(), torch.no_grad(), atomic_path(path) as temporary:
        warnings.simplefilter("ignore")
        torch.onnx.export(  # not torch's newer exporter: it is ten times slower, and no graph here needs it
            network,
            arguments,
            str(temporary),
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=lengths,
            opset_version=OPSET,
        )
    graph = onnx.load(str(path)).graph
    return OnnxNetwork(
        file=path.name,
        sha256=sha256_of(path),
        inputs=[_tensor(value) for value in graph.input],
        outputs=[_tensor(value) for value in graph.output],
    )


def _tensor(value: Any) -> OnnxTensor:
    import onnx

    kind = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return OnnxTensor(name=value.name, type=onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape=shape)

"""The network as two ONNX files, encoder and decoder, that answer as `Predictor` does; docs/onnx.md is for their users.

What cannot be in them is the sentence encoder: the features of the phrases of every structure that the checkpoint knows
are exported as a table instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fluorosam_cli.artefacts import atomic_path, sha256_of, write_bytes
from fluorosam_cli.contracts import Checkpoint, Onnx, OnnxNetwork, OnnxPhrase, OnnxTensor
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model import preprocess
from fluorosam_cli.model.checkpoint import HEADER as CHECKPOINT
from fluorosam_cli.model.checkpoint import find_checkpoint, load_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM, Prompts
from fluorosam_cli.text.encoder import encoder_of
from fluorosam_cli.text.phrases import is_name, phrases_of

HEADER = "onnx.json"
OPSET = 18
FEATURES = "phrases.f32"


class Encoder(nn.Module):
    """A fitted image (1, S, S) of any range -> embedding, and word pixels where the network has a text map."""

    def __init__(self, model: FluoroSAM) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        embedding = self.model.encode_image(preprocess.channels(image))
        pixels = self.model.word_pixels(embedding)
        return (embedding,) if pixels is None else (embedding, pixels)


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
        word_pixels: Tensor | None = None,
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
        decoded = self.model.decode(embedding, prompts, word_pixels)
        return decoded.masks, decoded.iou, decoded.presence.sigmoid()


@dataclass(frozen=True)
class Exportable:
    """A checkpoint with everything its export needs, so that nothing can go wrong once files are written."""

    folder: Path
    model: FluoroSAM
    header: Checkpoint
    phrases: list[OnnxPhrase]
    features: np.ndarray  # (phrases, text_dim)


def load_exportable(checkpoint: Path | str) -> Exportable:
    """Raises FluoroError without onnx, for a damaged checkpoint, and for one of another text encoder."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise FluoroError("export --onnx: needs onnx", 'pip install "fluorosam-cli[onnx]"') from error
    found = find_checkpoint(checkpoint)
    model, header = load_checkpoint(found)
    phrases = [
        OnnxPhrase(text=phrase.text, structure=name)
        for name in header.structures
        if is_name(name)
        for phrase in phrases_of(name)
    ]
    features = encoder_of(header.text_encoder).encode([phrase.text for phrase in phrases])
    return Exportable(found, model, header, phrases, features)


def export_onnx(exportable: Exportable, folder: Path) -> Onnx:
    """Write both networks and the table of phrases; return the header to write."""
    model = exportable.model
    c = model.config
    image = torch.rand(1, c.image_size_px, c.image_size_px)
    encoder = Encoder(model).eval()
    with torch.inference_mode():
        encoded = encoder(image)
    side = model.prompt_encoder.mask_input_px
    points = torch.rand(1, 3, 2) * c.image_size_px
    prompt = (points, torch.tensor([[1, 0, -1]]), torch.randn(1, c.text_dim), torch.tensor([True]))
    mask = (torch.randn(1, 1, side, side), torch.tensor([False]))
    outputs = ["embedding", "word_pixels"][: len(encoded)]
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
    write_bytes(folder / FEATURES, exportable.features.astype("<f4").tobytes())
    return Onnx(
        checkpoint_sha256=sha256_of(exportable.folder / CHECKPOINT),
        image_size_px=c.image_size_px,
        mask_input_px=side,
        logits_px=c.grid_px * 2**c.upscale_stages,
        text_encoder=exportable.header.text_encoder,
        text_features=FEATURES,
        phrases=exportable.phrases,
        encoder=networks[0],
        decoder=networks[1],
    )


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

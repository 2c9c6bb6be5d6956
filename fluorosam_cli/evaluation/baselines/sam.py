"""SAM, MedSAM and SAM-Med2D from their published `.pth` files, on the network of the segment-anything package.

The file's tensors decide the network's size. What differs between the three:

- SAM (Kirillov et al. 2023): the longest side is scaled to 1024, the rest padded. Points, box, earlier logits. As its
  authors advise, the best of three masks for a single point, else the one mask.
- MedSAM (Ma et al. 2024): stretched to 1024 x 1024, values from 0 to 1. A box only, one mask.
- SAM-Med2D (Cheng et al. 2023): stretched to 256 x 256. Points, box, earlier logits; the best of three masks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation.segmenter import DrawnMasks, Takes
from fluorosam_cli.prediction.images import to_grey
from fluorosam_cli.prediction.overlay import to_display
from fluorosam_cli.prediction.predictor import ImagePrompt

Family = Literal["sam", "medsam", "sam-med2d"]
PATCH = 16
WINDOW = 14  # of the attention in most blocks
DIMENSIONS = {"vit_b": 768, "vit_l": 1024, "vit_h": 1280}
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SamSegmenter:
    def __init__(self, path: Path, family: Family, size: str, device: str) -> None:
        state = _read_weights(path)
        try:
            self._model = _network(state, family).eval().to(device)
        except (KeyError, RuntimeError, IndexError, ZeroDivisionError, AttributeError) as error:
            detail = str(error).strip().splitlines()[0][:120]
            raise FluoroError(
                f"{path}: not weights of {family} ({detail})", "give the file its authors publish"
            ) from error
        dimension = state["image_encoder.pos_embed"].shape[-1]
        if size and DIMENSIONS.get(size) != dimension:
            raise FluoroError(f"{path}: its width is {dimension}, not that of {size}", f"leave {size} out: it is told")
        self.family: Family = family
        self.sha256 = sha256_of(path)
        self.name = f"{family} {next((name for name, d in DIMENSIONS.items() if d == dimension), f'width {dimension}')}"
        self.takes: list[Takes] = ["box"] if family == "medsam" else ["points", "box", "mask"]
        self._device = torch.device(device)

    def set_image(self, image: np.ndarray) -> None:
        """Encode an image, shown as 8 bits with the 0.5 to 99.5 percentiles spread over black to white."""
        shown = torch.from_numpy(to_display(to_grey(image))).to(self._device, torch.float32)
        self._hw = (shown.shape[0], shown.shape[1])
        side = self._model.image_encoder.img_size
        longest = max(self._hw)
        inner = [round(n * side / longest) for n in self._hw] if self.family == "sam" else [side, side]
        self._inner = (max(1, inner[0]), max(1, inner[1]))
        square = F.interpolate(
            shown[None, None], self._inner, mode="bilinear", align_corners=False, antialias=self.family != "sam-med2d"
        ).expand(1, 3, -1, -1)
        if self.family == "medsam":
            square = (square - square.min()) / (square.max() - square.min()).clamp(min=1e-8)
        else:
            mean, deviation = (torch.tensor(v, device=self._device)[:, None, None] for v in (MEAN, DEVIATION))
            square = (square - mean) / deviation
        padded = F.pad(square, (0, side - self._inner[1], 0, side - self._inner[0]))
        with torch.inference_mode():
            self._embedding = self._model.image_encoder(padded)

    def predict_batch(self, prompts: Sequence[ImagePrompt]) -> list[DrawnMasks]:
        """Prompts of one shape (as many points, with or without box and mask) go through the decoder together."""
        shapes = [(len(p.points_xy), p.box_xyxy is not None, p.mask_input is not None) for p in prompts]
        found: dict[int, DrawnMasks] = {}
        for shape in dict.fromkeys(shapes):
            members = [i for i, other in enumerate(shapes) if other == shape]
            with torch.inference_mode():
                found |= dict(zip(members, self._decode([prompts[i] for i in members]), strict=True))
        return [found[i] for i in range(len(prompts))]

    def _decode(self, prompts: list[ImagePrompt]) -> Iterator[DrawnMasks]:
        first = prompts[0]
        points, boxes, masks = None, None, None
        if len(first.points_xy):
            labels = torch.tensor(np.stack([np.asarray(p.point_labels) for p in prompts]), device=self._device)
            points = (self._scaled(np.stack([np.asarray(p.points_xy, float) for p in prompts])), labels)
        if first.box_xyxy is not None:
            corners = np.stack([np.asarray(p.box_xyxy, float).reshape(2, 2) for p in prompts])
            boxes = self._scaled(corners - 0.5).flatten(1)
        if first.mask_input is not None:
            masks = torch.from_numpy(np.stack([np.asarray(p.mask_input) for p in prompts])).to(self._device)[:, None]
        model = self._model
        sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=masks)
        logits, ious = model.mask_decoder.predict_masks(
            image_embeddings=self._embedding,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        ambiguous = self.family == "sam-med2d" or (self.family == "sam" and len(first.points_xy) == 1 and boxes is None)
        alternatives = ious[:, 1:] if ambiguous else ious[:, :1]
        best = alternatives.argmax(dim=1).cpu().numpy() + int(ambiguous)
        for i in range(len(prompts)):
            kept = logits[i] if self.family != "medsam" else logits[i, :1]
            predicted = ious[i, : len(kept)].float().cpu().numpy()
            yield DrawnMasks(self._at_image(kept), predicted, float("nan"), int(best[i]), kept.float().cpu().numpy())

    def _scaled(self, points_xy: np.ndarray) -> Tensor:
        """Pixels with centres at integers -> SAM's input, which it shifts by half a pixel itself."""
        scale = np.array([self._inner[1] / self._hw[1], self._inner[0] / self._hw[0]])
        return torch.tensor((points_xy + 0.5) * scale - 0.5, dtype=torch.float32, device=self._device)

    def _at_image(self, logits: Tensor) -> np.ndarray:
        side = self._model.image_encoder.img_size
        square = F.interpolate(logits[None].float(), (side, side), mode="bilinear", align_corners=False)
        inner = square[..., : self._inner[0], : self._inner[1]]
        return (F.interpolate(inner, self._hw, mode="bilinear", align_corners=False)[0] > 0).cpu().numpy()


class ParallelAdapter(nn.Module):
    """SAM-Med2D's: beside a block's MLP, a gate on the channels and a strided convolution and back."""

    def __init__(self, mlp: nn.Module, dimension: int, hidden: int) -> None:
        super().__init__()
        self.mlp = mlp
        self.channel = nn.Sequential(
            nn.Linear(dimension, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, dimension, bias=False), nn.Sigmoid()
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(dimension, dimension, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(dimension, dimension, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(dimension)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        planes = x.permute(0, 3, 1, 2)
        gate = self.channel(planes.mean(dim=(2, 3)))[:, :, None, None]
        adapted = planes + self.spatial(gate * planes)
        return self.mlp(x) + self.norm(adapted.permute(0, 2, 3, 1))


class _Inert:
    """Stands for an optimiser that was saved with the weights: it takes the state and does nothing with it."""


def _plain_dict(*_: object) -> dict:
    return {}


# SAM-Med2D's training saves its optimiser as an object beside the weights; weights-only loading has to be told what to
# make of each such name, and makes nothing of any other.
HARMLESS: list[Any] = [
    *((_Inert, f"torch.optim.{name}") for name in ("adam.Adam", "adamw.AdamW", "sgd.SGD")),
    (_plain_dict, "collections.defaultdict"),
    dict,
]


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file, SAM-Med2D's from under its key `model`; no code in it is run."""
    import pickle
    import zipfile

    try:
        with torch.serialization.safe_globals(HARMLESS):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        detail = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0][:120]
        what = f" ({detail})" if detail else ""
        raise FluoroError(f"{path}: cannot be read as plain weights{what}", "nothing in it was run") from error
    state = state.get("model", state) if isinstance(state, dict) else {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if "image_encoder.pos_embed" not in tensors:
        raise FluoroError(
            f"{path}: holds no weights of segment-anything's network", "give the file its authors publish"
        )
    return tensors


def _network(state: dict[str, Tensor], family: Family) -> Any:
    """The network whose shapes the weights have, with the weights in it."""
    try:
        from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    except ImportError as error:
        raise FluoroError(
            "segment-anything: not installed, its network is needed", "pip install 'fluorosam-cli[sam]'"
        ) from error
    grid, dimension = state["image_encoder.pos_embed"].shape[1], state["image_encoder.pos_embed"].shape[3]
    extents = {name: t.shape for name, t in state.items() if name.endswith("attn.rel_pos_h")}
    depth = len(extents)
    everywhere = [i for i in range(depth) if extents[f"image_encoder.blocks.{i}.attn.rel_pos_h"][0] == 2 * grid - 1]
    if grid < WINDOW:  # the window's table is then the longer one
        everywhere = [i for i in everywhere if extents[f"image_encoder.blocks.{i}.attn.rel_pos_h"][0] != 2 * WINDOW - 1]
    channels = state["prompt_encoder.no_mask_embed.weight"].shape[1]
    encoder = ImageEncoderViT(
        img_size=grid * PATCH,
        patch_size=PATCH,
        embed_dim=dimension,
        depth=depth,
        num_heads=dimension // extents["image_encoder.blocks.0.attn.rel_pos_h"][1],
        mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / dimension,
        out_chans=channels,
        norm_layer=lambda n: nn.LayerNorm(n, eps=1e-6),  # pyright: ignore[reportArgumentType]
        use_rel_pos=True,
        window_size=WINDOW,
        global_attn_indexes=tuple(everywhere),
    )
    if family == "sam-med2d":
        hidden = state["image_encoder.blocks.0.Adapter.channel.0.weight"].shape[0]
        for block in encoder.blocks:
            block.mlp = ParallelAdapter(block.mlp, dimension, hidden)  # pyright: ignore
        state = {_renamed(name): tensor for name, tensor in state.items()}
    prompts = PromptEncoder(channels, (grid, grid), (grid * PATCH, grid * PATCH), mask_in_chans=16)
    mlp_dim = state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0]
    transformer = TwoWayTransformer(depth=2, embedding_dim=channels, num_heads=8, mlp_dim=mlp_dim)
    decoder = MaskDecoder(transformer_dim=channels, transformer=transformer, num_multimask_outputs=3)
    model = Sam(encoder, prompts, decoder)
    missing, extra = model.load_state_dict(state, strict=False)
    wrong = [*(n for n in missing if not n.startswith("pixel_")), *extra]
    if wrong:
        raise KeyError(f"{len(wrong)} tensors missing or unknown, such as {wrong[0]}")
    return model


def _renamed(name: str) -> str:
    """SAM-Med2D's name of a tensor -> that in the network above, whose adapter wraps the MLP it stands beside."""
    if not name.startswith("image_encoder.blocks."):
        return name
    return name.replace(".mlp.", ".mlp.mlp.").replace(".Adapter.", ".mlp.")

"""Mask decoder: segment-anything's two-way transformer, batched over images and prompts, with a text token.

Token order: predicted-IoU token, four mask tokens, text, points, box corners (FluoroSAM). State-dict names are
segment-anything's; the presence and travel heads are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import MLP, Attention, LayerNorm2d, Mixing, PatchConv2d, PatchUpscale2d

LOG_TRAVEL_MAX = 7.0  # log(1 + mm): over a metre, longer than any path through a body
MASKS = 4  # output 0 is the single mask, 1-3 are the alternatives of an ambiguous prompt


class MLPBlock(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first  # the first block's self-attention replaces its input and adds no position
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, mlp_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample=2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens, keep)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens, keep)
        tokens = self.norm1(tokens)
        key = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, key, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(key, tokens + token_pe, tokens, keep))
        return tokens, image


class TwoWayTransformer(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """image (N, H W, dim), image_pe (1, H W, dim), tokens (N, T, dim) -> both, transformed."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, keep)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image


class FinestMasks(nn.Module):
    """Masks at twice the side: doubled smoothly, and corrected by one more product of tokens and pixels.

    The correction begins as nothing, so that a network trained without it goes on where it was.
    """

    doubling: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, width = config.embedding_dim, config.finest_dim
        self.context = PatchConv2d(dim // 2 ** (1 + config.upscale_stages), width, 1)
        self.hypernetworks = nn.ModuleList(MLP(dim, dim, width, 3) for _ in range(MASKS))
        for mlp in self.hypernetworks:
            last = cast(MLP, mlp).layers[-1]
            nn.init.zeros_(last.get_parameter("weight"))
            nn.init.zeros_(last.get_parameter("bias"))
        # Linear interpolation as a matrix: on a CPU, in bfloat16, several times as fast as `F.interpolate`.
        rows = F.interpolate(torch.eye(config.detail_px)[None], scale_factor=2, mode="linear", align_corners=False)
        self.register_buffer("doubling", rows[0], persistent=False)

    def forward(self, masks: Tensor, pixels: Tensor, details: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, 4, h, w), pixels (N, C, h, w), details (N, width, 2 h, 2 w), tokens (N, 4, dim) -> logits."""
        doubled = self.doubling.T @ (torch.cat([masks, self.context(pixels)], dim=1) @ self.doubling)
        masks, context = doubled.split([MASKS, details.shape[1]], dim=1)
        weights = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(self.hypernetworks)], dim=1)
        correction = weights @ F.relu(context + details).flatten(2)
        return masks + correction.unflatten(2, details.shape[2:])


@dataclass(frozen=True)
class Decoded:
    """What the decoder says about N prompts."""

    masks: Tensor  # (N, 4, logits_px, logits_px) logits
    iou: Tensor  # (N, 4) predicted
    presence: Tensor  # (N,) logit of "the structure is in this image"
    travel: Tensor | None = None  # (N, h, w) mm that a ray passes inside the structure, if the network predicts it


class MaskDecoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.transformer = TwoWayTransformer(dim, config.decoder_depth, config.decoder_heads, config.decoder_mlp_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(MASKS, dim)
        # Twice: x2 up with a norm after the first (segment-anything, x4); a third time for FluoroSAM's x8.
        widths = [dim, dim // 4, dim // 8, dim // 16][: config.upscale_stages + 1]
        layers: list[nn.Module] = []
        for stage, (wide, narrow) in enumerate(pairwise(widths)):
            layers.append(PatchUpscale2d(wide, narrow))
            if stage < config.upscale_stages - 1:
                layers.append(LayerNorm2d(narrow))
            layers.append(nn.GELU())
        self.output_upscaling = nn.Sequential(*layers)
        # Not in segment-anything, where a cell of the image sees tokens alone: a click learns sooner to move a border.
        self.mixing = nn.ModuleList(Mixing(width, widths[1]) for width in widths[:-1] if config.detail_dim)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, widths[-1], 3) for _ in range(MASKS))
        self.finest = FinestMasks(config) if config.finest_dim else None
        self.iou_prediction_head = MLP(dim, 256, MASKS, 3)
        self.presence_head = MLP(dim, 256, 1, 3)
        self.travel_head = MLP(dim, dim, widths[-1], 3) if config.travel else None

    def forward(
        self,
        image: Tensor,
        image_pe: Tensor,
        dense: Tensor,
        prompts: Tensor,
        keep: Tensor | None,
        details: Sequence[Tensor] = (),
        start: Tensor | None = None,
    ) -> Decoded:
        """image and dense (N, dim, grid, grid), image_pe (1, dim, grid, grid), prompts (N, T, dim), keep (N, T).

        `details` are added after each doubling: (N, dim / 4, 2 grid, 2 grid), (N, dim / 8, 4 grid, 4 grid), ...; with
        `finest_dim` the last are (N, finest_dim, logits_px, logits_px). The masks correct `start` (N, 1, h, w), whose
        side is that of the upscaled features.
        """
        count = prompts.shape[0]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])[None].expand(count, -1, -1)
        tokens = torch.cat([own, prompts], dim=1)
        if keep is not None:
            keep = torch.cat([keep.new_ones(count, own.shape[1]), keep], dim=1)
        source = image + dense
        height, width = source.shape[-2:]
        flat_pe = image_pe.flatten(2).transpose(1, 2)
        tokens, flat = self.transformer(source.flatten(2).transpose(1, 2), flat_pe, tokens, keep)
        upscaled = flat.transpose(1, 2).unflatten(2, (height, width))
        beside = zip(self.mixing, details[: len(self.mixing)], strict=True)
        for layer in self.output_upscaling:
            if details and isinstance(layer, PatchUpscale2d):
                mixing, finer = next(beside)
                upscaled = layer(mixing(upscaled)) + finer
            else:
                upscaled = layer(upscaled)
        weights = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )  # (N, 4, narrow)
        side = upscaled.shape[-2:]
        pixels = upscaled.permute(0, 2, 3, 1).flatten(1, 2)  # (N, h w, narrow), as they lie in memory
        masks = (pixels @ weights.transpose(-2, -1)).transpose(-2, -1).contiguous().unflatten(2, side)
        travel = None
        if self.travel_head is not None:
            travel = (pixels @ self.travel_head(tokens[:, 1])[..., None])[..., 0].unflatten(1, side)
            travel = torch.expm1(LOG_TRAVEL_MAX * travel.float().sigmoid())
        if start is not None:
            masks = masks + start
        if self.finest is not None:
            masks = self.finest(masks, upscaled, details[-1], tokens[:, 1 : 1 + MASKS])
        own = tokens[:, 0]
        return Decoded(masks, self.iou_prediction_head(own), self.presence_head(own)[:, 0], travel)

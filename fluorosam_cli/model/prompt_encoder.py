"""Prompt encoder: points, boxes and a previous mask become tokens and a dense map, as in segment-anything."""

import math

import torch
from torch import Tensor, nn

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import LayerNorm2d

NOT_A_POINT, NEGATIVE, POSITIVE, BOX_MIN, BOX_MAX = -1, 0, 1, 2, 3  # point labels; a box is two points


class RandomPositionEncoding(nn.Module):
    """Random Fourier features of positions in [0, 1] (Tancik et al. 2020), with the frequencies kept as a buffer."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, position: Tensor) -> Tensor:
        """(..., 2) in [0, 1] -> (..., dim)."""
        turns = (2 * position - 1)[..., None] * self.positional_encoding_gaussian_matrix
        angle = 2 * math.pi * turns.sum(-2)  # a product of matrices would be bfloat16 in training: half a pixel off
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PromptEncoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.image_size = config.image_size_px
        self.grid = config.grid_px
        # Segment-anything's mask prompts have four times the grid's side; a detail path takes the logits as they are.
        self.mask_input_px = config.logits_px if config.detail_dim else 4 * config.grid_px
        self.pe_layer = RandomPositionEncoding(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def dense_position(self, side: int | None = None) -> Tensor:
        """(1, dim, side, side): the encoding of every cell's centre; the side is the grid's unless given."""
        side = side or self.grid
        centre = (torch.arange(side, device=self.no_mask_embed.weight.device) + 0.5) / side
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]

    def points(self, points_xy: Tensor, point_labels: Tensor) -> Tensor:
        """points_xy (N, K, 2) in input pixels (centres at integers), labels (N, K) -> tokens (N, K, dim)."""
        tokens = self.pe_layer((points_xy + 0.5) / self.image_size)
        known = (point_labels != NOT_A_POINT)[..., None]
        tokens = torch.where(known, tokens, self.not_a_point_embed.weight)
        kinds = torch.cat([e.get_parameter("weight") for e in self.point_embeddings])  # (4, dim)
        return tokens + known * kinds[point_labels.clamp(min=0)]

    def dense(self, mask_logits: Tensor, has_mask: Tensor) -> Tensor:
        """Previous logits (N, 1, 4 grid, 4 grid), has_mask (N,) bool -> (N, dim, grid, grid)."""
        none = self.no_mask_embed.weight[0][None, :, None, None]
        return torch.where(has_mask[:, None, None, None], self.mask_downscaling(mask_logits), none)

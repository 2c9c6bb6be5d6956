"""Detail path: what the small presets give the decoder beside segment-anything's tokens and coarse grid.

Finer image features join the mask on its way up (as in SAM 2, arXiv 2408.00714), and clicks, box and previous mask
are drawn as pictures (as in RITM, arXiv 2102.06583). Point tokens alone have to learn what a position means, which
takes longer than a small budget allows; a drawn click is where it is from the first step on.
"""

import torch
from torch import Tensor, nn

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import LayerNorm2d, PatchConv2d
from fluorosam_cli.model.prompt_encoder import BOX_MAX, BOX_MIN, NEGATIVE, POSITIVE

CLICK_SIGMA = 1.5  # cells of the drawing, which has 4 grid cells a side
PICTURES = 4  # previous mask, positive clicks, negative clicks, box


class DetailPath(nn.Module):
    """From features and drawings of side 4 grid to the decoder's grid and the two sizes above it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, detail = config.embedding_dim, config.detail_dim
        self.size = config.image_size_px
        self.image_grid = nn.Sequential(PatchConv2d(detail, dim, 4), LayerNorm2d(dim))
        self.image_half = PatchConv2d(detail, dim // 4, 2)
        self.image_full = PatchConv2d(detail, dim // 8, 1)
        self.prompt_full = PatchConv2d(PICTURES, dim // 8, 1)
        self.prompt_half = nn.Sequential(PatchConv2d(PICTURES, dim // 4, 2), LayerNorm2d(dim // 4))
        self.prompt_grid = nn.Sequential(nn.GELU(), PatchConv2d(dim // 4, dim, 2), LayerNorm2d(dim))

    def image(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, detail_dim, 4 grid, 4 grid) -> features for the grid, for twice and for four times its side."""
        return self.image_grid(embedding), self.image_half(embedding), self.image_full(embedding)

    def prompt(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 4, 4 grid, 4 grid) of `draw` -> the same three sizes."""
        half = self.prompt_half(pictures)
        return self.prompt_grid(half), half, self.prompt_full(pictures)


@torch.no_grad()
def draw(logits: Tensor, known: Tensor, points_xy: Tensor, point_labels: Tensor, image_size: int) -> Tensor:
    """A previous mask (N, 1, s, s), known (N,) bool, points (N, K, 2) in input pixels, labels (N, K) -> (N, 4, s, s).

    The mask lies in [-1, 1], 0 where it is not known; clicks are bells of height 1; the box is filled.
    """
    side = logits.shape[-1]
    axis = torch.arange(side, device=logits.device, dtype=logits.dtype)
    xy = (points_xy + 0.5) * side / image_size - 0.5
    x, y = torch.exp(-0.5 * ((axis - xy[..., None]) / CLICK_SIGMA) ** 2).unbind(2)  # (N, K, s)
    clicks = [
        torch.einsum("nk,nky,nkx->nyx", (point_labels == label).to(x), y, x).clamp(max=1)
        for label in (POSITIVE, NEGATIVE)
    ]
    low, high = ((xy * (point_labels == corner)[..., None]).sum(1)[..., None] for corner in (BOX_MIN, BOX_MAX))
    x, y = ((axis + 0.5 > low) & (axis - 0.5 < high)).to(logits).unbind(1)  # (N, s)
    box = y[:, :, None] * x[:, None, :] * (point_labels == BOX_MIN).any(1)[:, None, None]
    return torch.stack([torch.tanh(logits[:, 0] / 2) * known[:, None, None], *clicks, box], dim=1)

"""Detail path: what the small presets give the decoder beside segment-anything's tokens and coarse grid.

Finer image features join the mask on its way up (as in SAM 2, arXiv 2408.00714), and clicks, box and previous mask
are drawn as pictures (as in RITM, arXiv 2102.06583). Point tokens alone have to learn what a position means, which
takes longer than a small budget allows; a drawn click is where it is from the first step on. The finest features see
the image itself: wires and needles are thinner than a cell of any other.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import LayerNorm2d, PatchConv2d
from fluorosam_cli.model.prompt_encoder import BOX_MAX, BOX_MIN, NEGATIVE, POSITIVE

CLICK_SIGMA_PX = 6.0  # of the network's input
PICTURES = 4  # previous mask, positive clicks, negative clicks, box


class DetailPath(nn.Module):
    """From features and drawings of side `detail_px` to the decoder's grid and to every size above it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, detail, stages = config.embedding_dim, config.detail_dim, config.upscale_stages
        widths = [dim, *(dim // 2 ** (2 + stage) for stage in range(stages))]  # as the decoder's upscaling
        self.image_grid = nn.Sequential(PatchConv2d(detail, dim, 2**stages), LayerNorm2d(dim))
        self.image_finer = nn.ModuleList(
            PatchConv2d(detail, width, 2 ** (stages - 1 - stage)) for stage, width in enumerate(widths[1:])
        )
        self.image_finest = FinestImage(detail, config.finest_dim) if config.finest_dim else None
        self.prompt_finest = PatchConv2d(PICTURES, widths[-1], 1)
        inputs = [PICTURES, *widths[-2:0:-1]]
        self.prompt_coarser = nn.ModuleList(
            nn.Sequential(PatchConv2d(wide, narrow, 2), LayerNorm2d(narrow))
            for wide, narrow in zip(inputs, widths[-2::-1], strict=True)
        )

    def image(self, image: Tensor, embedding: Tensor) -> list[Tensor]:
        """(B, 3, S, S), (B, detail_dim, detail_px, detail_px) -> features for the grid and every doubling of it."""
        found = [self.image_grid(embedding), *(finer(embedding) for finer in self.image_finer)]
        return found if self.image_finest is None else [*found, self.image_finest(image, embedding)]

    def prompt(self, pictures: Tensor) -> list[Tensor]:
        """(N, 4, detail_px, detail_px) of `draw` -> the same sizes up to that one."""
        found, x = [self.prompt_finest(pictures)], pictures
        for coarser in self.prompt_coarser:
            x = coarser(x)
            found.append(x)
            x = F.gelu(x)
        return found[::-1]


class FinestImage(nn.Module):
    """The image at half of its side, told by the embedding where it is: (B, 3, S, S) -> (B, width, S / 2, S / 2)."""

    def __init__(self, detail: int, width: int) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.context = nn.Conv2d(detail, width, 1)
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, image: Tensor, embedding: Tensor) -> Tensor:
        x = self.image(image) + F.interpolate(self.context(embedding), scale_factor=2, mode="nearest")
        return self.conv(F.relu(self.norm(x))).contiguous()


@torch.no_grad()
def draw(logits: Tensor, known: Tensor, points_xy: Tensor, point_labels: Tensor, image_size: int) -> Tensor:
    """A previous mask (N, 1, s, s), known (N,) bool, points (N, K, 2) in input pixels, labels (N, K) -> (N, 4, s, s).

    The mask lies in [-1, 1], 0 where it is not known; clicks are bells of height 1; the box is filled.
    """
    side = logits.shape[-1]
    sigma = CLICK_SIGMA_PX * side / image_size
    axis = torch.arange(side, device=logits.device, dtype=logits.dtype)
    xy = (points_xy + 0.5) * side / image_size - 0.5
    x, y = torch.exp(-0.5 * ((axis - xy[..., None]) / sigma) ** 2).unbind(2)  # (N, K, s)
    clicks = [
        torch.einsum("nk,nky,nkx->nyx", (point_labels == label).to(x), y, x).clamp(max=1)
        for label in (POSITIVE, NEGATIVE)
    ]
    low, high = ((xy * (point_labels == corner)[..., None]).sum(1)[..., None] for corner in (BOX_MIN, BOX_MAX))
    x, y = ((axis + 0.5 > low) & (axis - 0.5 < high)).to(logits).unbind(1)  # (N, s)
    box = y[:, :, None] * x[:, None, :] * (point_labels == BOX_MIN).any(1)[:, None, None]
    return torch.stack([torch.tanh(logits[:, 0] / 2) * known[:, None, None], *clicks, box], dim=1)

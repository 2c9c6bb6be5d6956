"""Top-down path: what the small presets have instead of the paper's neck.

Coarse features know which vertebra it is, fine ones where its edge lies: they are added level by level, up to a quarter
of the image's side, with a residual block at each (feature pyramids, arXiv 1612.03144).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.model.layers import LayerNorm2d, ResidualBlock


class TopDown(nn.Module):
    """Feature maps from fine to coarse, each of half the former's side -> (B, width, h, w) of the finest's side."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in channels[1:])
        self.norm = LayerNorm2d(width)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        *finer, merged = (lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True))
        for block, stage in zip(self.blocks, reversed(finer), strict=True):
            merged = block(F.interpolate(merged, scale_factor=2, mode="nearest") + stage)
        return self.norm(merged)

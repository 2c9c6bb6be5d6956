"""Image encoder: a timm backbone and the neck that merges its four stages into one embedding."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import LayerNorm2d


class ResidualBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm1 = LayerNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = LayerNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.norm1(self.conv1(x)))
        return F.gelu(x + self.norm2(self.conv2(y)))


class ImageEncoder(nn.Module):
    """(B, 3, S, S) channels from `preprocess.channels` -> (B, embedding_dim, grid, grid).

    As in FluoroSAM (arXiv 2403.08059): every stage is projected by a 1x1 convolution, resized to one grid and summed;
    three residual blocks and a 1x1 convolution follow. The norm at the end is segment-anything's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # timm still uses torch.jit
            import timm

        options: dict[str, Any] = {}
        if config.backbone.startswith("swin"):
            options["img_size"] = config.image_size_px
        if config.backbone.startswith("edgenext"):
            options["ls_init_value"] = 1.0  # timm's 1e-6 leaves the blocks idle at first: meant for long schedules
        self.backbone = timm.create_model(config.backbone, features_only=True, out_indices=(0, 1, 2, 3), **options)
        channels: list[int] = self.backbone.feature_info.channels()  # pyright: ignore
        self.channels_last = config.backbone.startswith("swin")  # timm's Swin returns (B, H, W, C)
        self.grid = config.grid_px
        self.laterals = nn.ModuleList(nn.Conv2d(c, config.neck_dim, 1) for c in channels)
        self.blocks = nn.Sequential(*(ResidualBlock(config.neck_dim) for _ in range(3)))
        self.output = nn.Conv2d(config.neck_dim, config.embedding_dim, 1)
        self.norm = LayerNorm2d(config.embedding_dim)

    def forward(self, image: Tensor) -> Tensor:
        stages = self.backbone(image)
        if self.channels_last:
            stages = [stage.permute(0, 3, 1, 2) for stage in stages]
        size = (self.grid, self.grid)
        merged = torch.zeros((), device=image.device)
        for lateral, stage in zip(self.laterals, stages, strict=True):
            merged = merged + _resize(lateral(stage), size)
        return self.norm(self.output(self.blocks(merged)))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    if x.shape[-1] > size[1] and x.shape[-1] % size[1] == 0:
        return F.avg_pool2d(x, x.shape[-1] // size[1])
    return F.interpolate(x, size, mode="bilinear", align_corners=False)

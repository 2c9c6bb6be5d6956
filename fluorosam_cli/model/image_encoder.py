"""Image encoder: a backbone, mostly timm's, and the neck that merges its stages into one embedding."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.adapters import add_adapters
from fluorosam_cli.model.layers import LayerNorm2d
from fluorosam_cli.model.resnet import WIDTHS, HalfResNet10t, group_norm

SMALL = "resnet10t_half"  # the one backbone that is not timm's


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
    residual blocks and a 1x1 convolution follow. The norm at the end is segment-anything's. With `detail_dim` the
    output is (B, detail_dim, 4 grid, 4 grid). Segment-anything's own ViT brings its neck and needs none of this.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.plain = config.backbone.startswith("samvit")
        self.backbone = backbone(config)
        self.stages_channels_last = config.backbone.startswith("swin")  # timm's Swin returns (B, H, W, C)
        if config.adapters:
            add_adapters(self.backbone, channels_last=self.plain or self.stages_channels_last)
        if self.plain:
            return
        side, dim = (4, config.detail_dim) if config.detail_dim else (1, config.embedding_dim)
        self.grid = side * config.grid_px
        small = config.backbone == SMALL
        channels: Sequence[int] = WIDTHS if small else self.backbone.feature_info.channels()  # pyright: ignore
        self.laterals = nn.ModuleList(nn.Conv2d(c, config.neck_dim, 1) for c in channels)
        self.blocks = nn.Sequential(*(ResidualBlock(config.neck_dim) for _ in range(config.neck_blocks)))
        self.output = nn.Conv2d(config.neck_dim, dim, 1)
        self.norm = LayerNorm2d(dim)

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)  # layer norm over channels then copies nothing
        stages = self.backbone(image)
        if self.plain:
            return stages
        if self.stages_channels_last:
            stages = [stage.permute(0, 3, 1, 2) for stage in stages]
        size = (self.grid, self.grid)
        merged = torch.zeros((), device=image.device)
        for lateral, stage in zip(self.laterals, stages, strict=True):
            merged = merged + _resize(lateral(stage), size)
        return self.norm(self.output(self.blocks(merged)))


def backbone(config: ModelConfig, **pretrained: Any) -> nn.Module:
    """The backbone of a configuration, without batch statistics; `pretrained` goes to `timm.create_model`."""
    if config.backbone == SMALL:
        if pretrained:
            raise ValueError("nobody has published weights of its width")
        return HalfResNet10t()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # timm still uses torch.jit
        import timm

    tag = pretrained.pop("tag", "")
    name = config.backbone + (tag and f".{tag}")
    options: dict[str, Any] = {}
    if name.startswith(("swin", "samvit")):
        options["img_size"] = config.image_size_px
    if name.startswith("samvit"):
        return timm.create_model(name, num_classes=0, global_pool="", **options, **pretrained)
    if name.startswith("resnet"):
        options["out_indices"] = (1, 2, 3, 4)  # strides 4 to 32, as the others'
    return _without_batch_statistics(timm.create_model(name, features_only=True, **options, **pretrained))


def _without_batch_statistics(module: nn.Module) -> nn.Module:
    """Replace batch norms by group norms."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm: nn.Module = group_norm(child.num_features)
            if hasattr(child, "act"):  # timm's norm with its activation
                norm = nn.Sequential(norm, child.drop, child.act)  # pyright: ignore
            setattr(module, name, norm)
        else:
            _without_batch_statistics(child)
    return module


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    if x.shape[-1] > size[1] and x.shape[-1] % size[1] == 0:
        return F.avg_pool2d(x, x.shape[-1] // size[1])
    return F.interpolate(x, size, mode="bilinear", align_corners=False)

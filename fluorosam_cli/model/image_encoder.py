"""Image encoder: a backbone, mostly timm's, and the neck that merges its stages into one embedding."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.adapters import add_adapters
from fluorosam_cli.model.layers import LayerNorm2d, ResidualBlock
from fluorosam_cli.model.resnet import WIDTHS, HalfResNet18t
from fluorosam_cli.model.top_down import TopDown

SMALL = "resnet18t_half"  # the one backbone that is not timm's


class ImageEncoder(nn.Module):
    """(B, 3, S, S) channels from `preprocess.channels` -> (B, embedding_dim, grid, grid).

    As in FluoroSAM (arXiv 2403.08059): every stage is projected by a 1x1 convolution, resized to one grid and summed;
    residual blocks and a 1x1 convolution follow. The norm at the end is segment-anything's, whose ViT brings its neck.
    With `detail_dim` a top-down path takes their place: (B, detail_dim, logits_px, logits_px).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.plain = config.backbone.startswith("samvit")
        self.backbone = backbone(config)
        self.stages_channels_last = config.backbone.startswith("swin")  # timm's Swin returns (B, H, W, C)
        if config.adapters:
            add_adapters(self.backbone, channels_last=self.plain or self.stages_channels_last)
        self.top_down = None
        if self.plain:
            return
        small = config.backbone == SMALL
        channels: Sequence[int] = WIDTHS if small else self.backbone.feature_info.channels()  # pyright: ignore
        if config.detail_dim:
            self.top_down = TopDown(channels, config.detail_dim)
            return
        self.grid, dim = config.grid_px, config.embedding_dim
        self.laterals = nn.ModuleList(nn.Conv2d(c, config.neck_dim, 1) for c in channels)
        self.blocks = nn.Sequential(*(ResidualBlock(config.neck_dim) for _ in range(config.neck_blocks)))
        self.output = nn.Conv2d(config.neck_dim, dim, 1)
        self.norm = LayerNorm2d(dim)

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)  # layer norm over channels then copies nothing
        stages = self.backbone(image)
        if self.plain:
            return stages
        if self.top_down is not None:
            return self.top_down(stages)
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
        return HalfResNet18t()
    known = config.backbone.startswith(("swin", "samvit"))  # neither has batch norms
    if not (known and config.backbone.isidentifier()):  # timm would look "hf-hub:..." up on the network
        raise FluoroError(f"{config.backbone}: no name of a Swin or ViT", "such as swin_tiny_patch4_window7_224")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # timm still uses torch.jit
        import timm

    tag = pretrained.pop("tag", "")
    name = config.backbone + (tag and f".{tag}")
    options = {"img_size": config.image_size_px, **pretrained}
    if name.startswith("samvit"):
        return timm.create_model(name, num_classes=0, global_pool="", **options)
    # no drop path: as of all else here, a network's answer is no matter of chance
    return timm.create_model(name, features_only=True, drop_path_rate=0.0, **options)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    if x.shape[-1] > size[1] and x.shape[-1] % size[1] == 0:
        return F.avg_pool2d(x, x.shape[-1] // size[1])
    return F.interpolate(x, size, mode="bilinear", align_corners=False)

"""Adapters: small trainable layers behind every block of a frozen backbone (SAM-Med2D, arXiv 2308.16184).

As there: a gate over the channels, then a convolution at half the resolution. Unlike there both act in a quarter of the
channels, so that wide backbones stay affordable, and the last layer starts at zero, so that adding adapters changes
nothing before training does.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class Adapter(nn.Module):
    def __init__(self, dim: int, channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last
        inner = dim // 4
        self.down = nn.Conv2d(dim, inner, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, inner, 1), nn.Sigmoid())
        self.spatial = nn.Conv2d(inner, inner, 3, stride=2, padding=1)
        self.up = nn.Conv2d(inner, dim, 1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)  # pyright: ignore

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (B, H, W, C) where the backbone's blocks return that -> the same, to be added."""
        x = x.permute(0, 3, 1, 2) if self.channels_last else x
        y = F.relu(self.down(x))
        y = y * self.gate(y)
        y = y + F.interpolate(F.relu(self.spatial(y)), y.shape[-2:])
        y = self.up(y)
        return y.permute(0, 2, 3, 1) if self.channels_last else y


def add_adapters(backbone: nn.Module, channels_last: bool) -> None:
    """Give every block of the backbone a child `adapter`, whose output is added to the block's."""
    for block in list(backbone.modules()):
        if _is_block(block) and not any(_is_block(inner) for inner in block.modules() if inner is not block):
            block.adapter = Adapter(_width(block), channels_last)
            block.register_forward_hook(_adapt)


def is_adapter(parameter: str) -> bool:
    """Whether a parameter's name is that of an adapter."""
    return ".adapter." in parameter


def _is_block(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Block")


def _width(block: nn.Module) -> int:
    """Channels of a block's output, which are those of its last norm."""
    norms = [m for m in block.modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm)]
    return norms[-1].weight.shape[0]


def _adapt(block: nn.Module, _: object, output: Tensor) -> Tensor:
    return output + block.adapter(output)  # pyright: ignore

"""Small layers shared by the parts of the network. Parameter names follow segment-anything, so its weights load."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W), with segment-anything's epsilon."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


class Mixing(nn.Module):
    """A residual block that begins as the identity; every cell sees those up to two away."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, width, 3, padding=1)
        self.norm1 = LayerNorm2d(width)
        self.conv2 = nn.Conv2d(width, dim, 3, padding=1)
        self.norm2 = LayerNorm2d(dim)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(F.gelu(self.norm1(self.conv1(x)))))


class PatchConv2d(nn.Conv2d):
    """A convolution whose patches do not overlap, as one matrix product: on a CPU several times as fast."""

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        super().__init__(inputs, outputs, patch, stride=patch)

    def forward(self, input: Tensor) -> Tensor:
        patch = self.kernel_size[0]
        x = input.permute(0, 2, 3, 1).unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).transpose(2, 3)
        sides = x.shape[:3]  # x: (B, h, w, patch, patch, inputs), whose channels lie together in memory
        x = F.linear(x.flatten(0, 2).flatten(1), self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return x.unflatten(0, sides).permute(0, 3, 1, 2)


class PatchUpscale2d(nn.ConvTranspose2d):
    """A transposed convolution that doubles the sides, as one matrix product."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert self.bias is not None
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * outputs, inputs)
        x = F.linear(input.permute(0, 2, 3, 1), weight, self.bias.repeat(4))
        x = x.unflatten(3, (2, 2, -1)).permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
        return x.permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Linear layers with ReLU between them, applied to the last axis."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, depth: int) -> None:
        super().__init__()
        sizes = [input_dim] + [hidden_dim] * (depth - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Attention(nn.Module):
    """Multi-head attention whose inner width is `dim / downsample`."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        """q (N, Q, dim), k and v (N, K, dim); `keep` (N, K) is True where a key may be attended to.

        Written out: one side is always a dozen tokens, for which PyTorch's fused kernel is slower on a CPU.
        """
        q, k, v = (self._split(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        weight = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)
        if keep is not None:
            weight = weight.masked_fill(~keep[:, None, None, :], -torch.inf)
        out = weight.softmax(-1) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

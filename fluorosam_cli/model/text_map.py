"""Text map: a first mask from words by one dot product per pixel, fed to the decoder as its mask prompt.

Not in the paper. The two-way decoder costs a transformer per prompt, so a small budget shows it few structures per
image; here one feature map serves every phrase, and training can ask for dozens of structures at once.
"""

import torch
from torch import Tensor, nn

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import MLP, LayerNorm2d, PatchConv2d

PRIOR_LOGIT = -2.0  # most pixels belong to no given structure
SUREST = 16  # pixels that say whether a structure is there at all


class TextMap(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, width = config.embedding_dim, config.embedding_dim // 4
        self.position = PatchConv2d(dim, config.detail_dim, 1)
        self.features = nn.Sequential(PatchConv2d(config.detail_dim, width, 1), LayerNorm2d(width), nn.ReLU())
        self.query = MLP(dim, dim, width, 2)
        self.norm = nn.LayerNorm(width)
        self.offset = nn.Parameter(torch.tensor(PRIOR_LOGIT))
        self.presence_scale = nn.Parameter(torch.tensor(1.0))
        self.presence_offset = nn.Parameter(torch.tensor(0.0))

    def pixels(self, embedding: Tensor, position: Tensor) -> Tensor:
        """Embedding (B, detail_dim, h, w), its positions (1, dim, h, w) -> (B, dim / 4, h, w).

        Positions matter: where a structure usually lies is the first thing words can mean.
        """
        return self.features(embedding + self.position(position))

    def forward(self, pixels: Tensor, token: Tensor) -> Tensor:
        """Features (N, dim / 4, h, w) and K tokens for each (N, K, dim) -> logits (N, K, h, w)."""
        query = self.norm(self.query(token))
        return torch.einsum("nkc,nchw->nkhw", query, pixels) / query.shape[-1] ** 0.5 + self.offset

    def presence(self, logits: Tensor) -> Tensor:
        """Logits (N, K, h, w) of `forward` -> logits (N, K) of "what the words name is in the image"."""
        surest = logits.flatten(2).topk(SUREST, dim=2).values.mean(2)
        return self.presence_scale * surest + self.presence_offset

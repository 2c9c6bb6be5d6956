"""Text map: a first mask from words by one dot product per pixel, fed to the decoder as its mask prompt.

Not in the paper. The two-way decoder costs a transformer per prompt, so a small budget shows it few structures per
image; here one upscaled feature map serves every phrase, and training can ask for dozens of structures at once.
"""

import torch
from torch import Tensor, nn

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import MLP, LayerNorm2d


class TextMap(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            LayerNorm2d(dim // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 2, 2, stride=2),
            LayerNorm2d(dim // 2),
            nn.GELU(),
        )
        self.query = MLP(dim, dim, dim // 2 + 1, 3)  # a direction and an offset

    def forward(self, embedding: Tensor, token: Tensor) -> Tensor:
        """Embedding (B, dim, grid, grid), K tokens for each image (B, K, dim) -> logits (B, K, 4 grid, 4 grid)."""
        query = self.query(token)
        maps = torch.einsum("bkc,bchw->bkhw", query[..., 1:], self.upscaling(embedding))
        return maps / query.shape[-1] ** 0.5 + query[..., :1, None]

"""Text map: a first mask from words by one dot product per pixel, fed to the decoder as its mask prompt.

Not in the paper. The two-way decoder costs a transformer per prompt, so a small budget shows it few structures per
image; here one feature map serves every phrase, and training can ask for dozens of structures at once.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.model.layers import MLP

PRIOR_LOGIT = -2.0  # most pixels belong to no given structure
SUREST = 16  # pixels that say whether a structure is there at all


class TextMap(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, width = config.embedding_dim, config.embedding_dim // 2
        self.position = nn.Conv2d(dim, config.detail_dim, 1)
        self.features = nn.Conv2d(config.detail_dim, width, 1)
        self.query = MLP(dim, dim, width, 2)
        self.norm = nn.LayerNorm(width)
        self.offset = nn.Parameter(torch.tensor(PRIOR_LOGIT))
        self.presence_scale = nn.Parameter(torch.tensor(1.0))
        self.presence_offset = nn.Parameter(torch.tensor(0.0))

    def pixels(self, embedding: Tensor, position: Tensor) -> Tensor:
        """Embedding (B, detail_dim, h, w), its positions (1, dim, h, w) -> (B, dim / 2, h, w).

        Positions matter: where a structure usually lies is the first thing words can mean.
        """
        return F.relu(self.features(embedding + self.position(position)))

    def forward(self, pixels: Tensor, token: Tensor) -> Tensor:
        """Features (B, dim / 2, h, w) and K tokens for each (B, K, dim) -> logits (B, K, h, w)."""
        return torch.einsum("bkc,bchw->bkhw", self._query(token), pixels) + self.offset

    def of_prompts(self, pixels: Tensor, token: Tensor, of_prompts: Tensor) -> Tensor:
        """Features (B, dim / 2, h, w) and tokens (N, dim), one for each row of zeros and ones (N, B) -> (N, h, w)."""
        spread = (of_prompts[:, :, None] * self._query(token)[:, None]).flatten(1)  # copies no image for a prompt
        return (spread @ pixels.flatten(0, 1).flatten(1)).unflatten(1, pixels.shape[2:]) + self.offset

    def _query(self, token: Tensor) -> Tensor:
        query = self.norm(self.query(token))
        return query / query.shape[-1] ** 0.5

    def presence(self, logits: Tensor) -> Tensor:
        """Logits (..., h, w) -> logits (...) of "what the words name is in the image"."""
        surest = logits.flatten(-2).topk(SUREST).values.mean(-1)
        return self.presence_scale * surest + self.presence_offset

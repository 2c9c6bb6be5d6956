"""Text token: a frozen sentence feature through an MLP and one vector quantiser (van den Oord et al. 2017).

FluoroSAM's idea: a phrase becomes one of finitely many codes, so that paraphrases of a structure give the same prompt.
As every phrase gets some code, "left banana" too, the head also says how far it knows the words.
"""

import torch
from torch import Tensor, nn

from fluorosam_cli.contracts import ModelConfig


class TextHead(nn.Module):
    """(N, text_dim) sentence features -> (N, embedding_dim) tokens.

    It learns its words before any mask (`training.words`) and stays as it is from then on.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dim = config.embedding_dim
        self.mlp = nn.Sequential(
            nn.Linear(config.text_dim, config.text_hidden_dim),
            nn.GELU(),
            nn.Linear(config.text_hidden_dim, config.embedding_dim),
        )
        self.familiar = nn.Linear(config.text_hidden_dim, 1)
        self.codebook = nn.Embedding(config.codebook_size, config.embedding_dim) if config.codebook_size else None

    def forward(self, features: Tensor) -> Tensor:
        token = self.mlp(features)
        return token if self.codebook is None else self.codebook(self.codes(token))

    def known(self, features: Tensor) -> Tensor:
        """How surely each phrase (N, text_dim) names something this head was taught, (N,) from 0 to 1."""
        return self.familiar(self.hidden(features))[:, 0].sigmoid()

    def hidden(self, features: Tensor) -> Tensor:
        """(N, text_dim) -> (N, text_hidden_dim), from which both the token and `known` are read."""
        return self.mlp[1](self.mlp[0](features))

    def codes(self, token: Tensor) -> Tensor:
        """Index of the nearest code (Euclidean) of each token (N, dim) -> (N,)."""
        assert self.codebook is not None
        return torch.cdist(token.float(), self.codebook.weight.float()).argmin(dim=1)

"""The word stage: teach the text head which phrases mean the same structure, before any image is seen.

Each structure gets a prototype token; phrases are drawn to their own and away from the others'. The prototypes become
the quantiser's codes, so that from then on a phrase of a structure falls on that structure's code. The head is frozen
while the masks are learnt.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.quantiser import TextHead

BATCH = 512
FEATURE_DROPOUT = 0.1
PULL = 0.1  # weight of the distance to the own prototype
COPY_NOISE = 0.01  # spare codes are copies of the prototypes, this far off


@dataclass(frozen=True)
class WordScores:
    """Share of phrases that fall on a code of their own structure."""

    train: float
    held_out: float | None


def train_words(
    head: TextHead, features: Tensor, structure: Tensor, held_out: Tensor, *, steps: int = 300, seed: int = 0
) -> WordScores:
    """Fit `head` to phrases (N, text_dim) of structures (N,) int; rows where held_out (N,) bool only measure."""
    count = int(structure.max()) + 1
    dim = head.dim
    if head.codebook is not None and head.codebook.num_embeddings < count:
        raise FluoroError(
            f"codebook: {head.codebook.num_embeddings} codes for {count} structures", "choose a preset with more codes"
        )
    random = torch.Generator().manual_seed(seed)
    prototypes = torch.nn.Parameter(torch.randn(count, dim, generator=random))
    optimiser = torch.optim.AdamW([*head.mlp.parameters(), prototypes], lr=2e-3, weight_decay=0.01)
    known, target = features[~held_out], structure[~held_out]
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        rows = torch.randint(len(known), (min(BATCH, len(known)),), generator=random)
        keep = (torch.rand(len(rows), known.shape[1], generator=random) >= FEATURE_DROPOUT).float()
        token = head.mlp(known[rows] * keep / (1 - FEATURE_DROPOUT))
        distance = torch.cdist(token, prototypes) ** 2 / dim
        own = distance.gather(1, target[rows, None]).mean()
        loss = F.cross_entropy(-8 * distance, target[rows]) + PULL * own
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad()  # or the stale gradients would count when the mask stage clips its own
    with torch.no_grad():
        if head.codebook is not None:
            codes = torch.arange(head.codebook.num_embeddings) % count
            noise = torch.randn(len(codes), dim, generator=random) * COPY_NOISE
            head.codebook.weight.copy_(prototypes[codes] + noise * (torch.arange(len(codes)) >= count)[:, None])
        nearest = torch.cdist(head.mlp(features), prototypes).argmin(dim=1)
    right = (nearest == structure).float()
    return WordScores(float(right[~held_out].mean()), float(right[held_out].mean()) if held_out.any() else None)

"""The optimiser, its schedule, and the average of the weights that is kept as the result."""

import math

import torch
from torch import nn

WARM_UP_SHARE = 0.05
WEIGHT_DECAY = 0.05
EMA_DECAY = 0.999


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimiser(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW over what is to be trained; norms and biases do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=WEIGHT_DECAY, fused=True)


class WeightAverage:
    """Keeps `model` at the exponential moving average of `source`; the decay grows towards EMA_DECAY."""

    def __init__(self, model: nn.Module, source: nn.Module) -> None:
        self.model = model
        pairs = list(zip(model.state_dict().values(), source.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].dtype.is_floating_point]
        self._others = [pair for pair in pairs if not pair[0].dtype.is_floating_point]

    @torch.no_grad()
    def update(self, step: int) -> None:
        means, values = [mean for mean, _ in self._floats], [value for _, value in self._floats]
        torch._foreach_lerp_(means, values, 1 - min(EMA_DECAY, (1 + step) / (10 + step)))  # pyright: ignore
        for mean, value in self._others:
            mean.copy_(value)

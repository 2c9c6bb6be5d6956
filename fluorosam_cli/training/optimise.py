"""The optimiser, its schedule, and the average of the weights that is kept as the result."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fluorosam_cli.training.devices import ALONE, Process
from fluorosam_cli.training.exchange import add_up
from fluorosam_cli.training.recipe import Recipe

WARM_UP_SHARE = 0.05
WEIGHT_DECAY = 0.05
EMA_DECAY = 0.999
MUON_MOMENTUM, MUON_DECAY = 0.95, 0.01
MUON_TO_ADAMW = 0.1  # the rate of what Muon does not train, against its own
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: five steps bring singular values into [.7, 1.2]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class Optimiser:
    """AdamW; if the recipe says so, Muon for the matrices of convolutions and linear layers, and AdamW for the rest.

    Norms, biases and embeddings do not decay. The processes of a run share Muon's work out between them.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, process: Process = ALONE) -> None:
        layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        of_layers = {id(m.weight) for m in model.modules() if isinstance(m, layers)}
        trained = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in trained if id(p) in of_layers]
        others = [p for p in trained if id(p) not in of_layers]
        groups = [{"params": others, "weight_decay": 0.0}]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        share = 1.0
        if recipe.optimiser == "muon":
            self._parts.append((Muon(matrices, process), 1.0))
            share = MUON_TO_ADAMW
        else:
            groups.append({"params": matrices, "weight_decay": WEIGHT_DECAY})
        self._parts.append((torch.optim.AdamW(groups, fused=True), share))

    def step(self, rate: float) -> None:
        """One step along the gradients, which are then gone."""
        for part, share in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * share
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {type(part).__name__: part.state_dict() for part, _ in self._parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, _ in self._parts:
            part.load_state_dict(state[type(part).__name__])


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal (Jordan et al. 2024, "Muon"): every direction of a layer's matrix moves as far.

    After as many steps on a small network it is well ahead of AdamW (RESULTS.md). PyTorch's own takes matrices alone; a
    convolution is one here, with a row for each output (each input, if it is transposed).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], process: Process = ALONE, rate: float = 0.02) -> None:
        super().__init__(parameters, {"lr": rate})
        self.process = process

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Every process works out the updates of its own matrices; their sum brings it the others'."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            of_all = moved[0].new_zeros(sum(p.numel() for p in moved))
            updates = of_all.split([p.numel() for p in moved])
            owners = fair_shares([_cost(p.flatten(1)) for p in moved], self.process.world)
            for p, update, owner in zip(moved, updates, owners, strict=True):
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"].lerp_(p.grad, 1 - MUON_MOMENTUM)
                if owner == self.process.rank:
                    update.copy_(orthogonal(p.grad.lerp(momentum, MUON_MOMENTUM).flatten(1)).flatten())
            add_up(of_all, self.process)
            for p, update in zip(moved, updates, strict=True):
                rows, columns = p.flatten(1).shape
                p.mul_(1 - group["lr"] * MUON_DECAY * self.state[p]["momentum"].any())  # what nothing has needed stays
                p.add_(update.view_as(p), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def fair_shares(costs: Sequence[float], workers: int) -> list[int]:
    """Who of the workers does which task, so that all take about as long: the dearest first, each to the idlest."""
    load, owners = [0.0] * workers, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = load.index(min(load))
        load[owners[task]] += costs[task]
    return owners


def _cost(matrix: Tensor) -> float:
    """Of `orthogonal`, in products of numbers."""
    short, long = sorted(matrix.shape)
    return 2 * short**2 * long + 14 * short**3


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply matrices of float32 as they are, without rounding them to TF32 first."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@full_precision()
def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values near 1, by five Newton-Schulz steps.

    A step multiplies X by a polynomial in X X'; these polynomials are what is multiplied here, as layers' matrices are
    many times longer than wide. TF32 would turn small eigenvalues of X X' negative, which the polynomials amplify.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    square = x @ x.T
    one = torch.eye(len(x), dtype=x.dtype, device=x.device)
    product = factor = a * one + b * square + c * square @ square
    for _ in range(4):
        square = factor @ square @ factor
        factor = a * one + b * square + c * square @ square
        product = factor @ product
    x = product @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


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

"""What the processes of a run tell each other."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fluorosam_cli.training.devices import Process


def from_first(value: Any, process: Process) -> Any:
    """The first process's value, in every process."""
    if process.world == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=process.device)
    return box[0]


def from_all(values: list[Any], process: Process) -> list[Any]:
    """The lists of all processes, one after the other, in every process."""
    if process.world == 1:
        return values
    found: list[Any] = [None] * process.world
    dist.all_gather_object(found, values)
    return [value for part in found for value in part]


def add_up(values: Tensor, process: Process) -> None:
    """Replace the values by their sum over the processes, the same bits in every process."""
    if process.world > 1:
        dist.all_reduce(values)


def average(parameters: list[nn.Parameter], figures: Tensor, process: Process) -> Tensor:
    """Replace every gradient by its mean over the processes, in one message; -> the figures' mean.

    A parameter that nothing in the batch needed has a gradient of 0, however many processes there are: the optimiser
    treats none and 0 differently.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if process.world == 1:
        return figures
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), figures])
    add_up(flat, process)
    flat /= process.world
    *means, figures = flat.split([*(gradient.numel() for gradient in gradients), len(figures)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))  # in place: fused optimisers want the parameter's memory layout
    return figures

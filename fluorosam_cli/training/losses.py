"""Losses per prompt, so that their sum over a fixed number of prompts does not depend on how a batch is split."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

FOCAL_WEIGHT = 20.0  # segment-anything's (arXiv 2304.02643); gamma is RetinaNet's 2, written out below
CACHED_PROMPTS = 4  # their masks are worked on at a time


def mask_loss(logits: Tensor, target: Tensor, focal_alpha: float) -> Tensor:
    """20 x focal + Dice loss of logits (N, M, h, w) against soft targets (N, h, w) -> (N, M)."""
    return _MaskLoss.apply(logits, target, focal_alpha)  # pyright: ignore[reportReturnType]


class _MaskLoss(torch.autograd.Function):
    """The loss with its derivative worked out beside it, part by part in a CPU's cache: a third of the time there."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, focal_alpha: float) -> Tensor:
        slope = torch.empty_like(logits)
        at_once = CACHED_PROMPTS if logits.device.type == "cpu" else max(1, len(logits))
        parts = zip(*(each.split(at_once) for each in (logits, target, slope)), strict=True)
        losses = [_loss_and_slope(x.flatten(2), t.flatten(1)[:, None], focal_alpha, d.flatten(2)) for x, t, d in parts]
        ctx.save_for_backward(slope)
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * upstream[0][..., None, None], None, None


def _loss_and_slope(x: Tensor, t: Tensor, focal_alpha: float, slope: Tensor) -> Tensor:
    """Logits (n, M, cells), targets (n, 1, cells) -> (n, M); its derivative by the logits is written to `slope`."""
    p = x.sigmoid()
    turned = 1 - 2 * t
    wrong = torch.addcmul(t, p, turned)  # 1 - agreement; squared below: gamma is 2
    weighed = wrong * ((2 * focal_alpha - 1) * t + (1 - focal_alpha))
    # softplus(x) - x t; PyTorch's own softplus alone would take nearly as long as all this on a CPU
    entropy = x.clamp(min=0).sub_(torch.maximum(p, 1 - p).log_()).addcmul_(x, t, value=-1)
    focal = (weighed * wrong).mul_(entropy).mean(2)
    by_p = p * (1 - p)
    overlap = 2 * (p @ t.transpose(1, 2)) + 1  # (n, M, 1)
    extent = p.sum(2, keepdim=True) + t.sum(2, keepdim=True) + 1
    of_focal = entropy.mul_(by_p).mul_(2 * turned).addcmul_(wrong, p - t).mul_(weighed)
    of_dice = torch.addcmul(overlap / extent**2, t, -2 / extent).mul_(by_p)
    torch.add(of_dice, of_focal, alpha=FOCAL_WEIGHT / x.shape[2], out=slope)
    return FOCAL_WEIGHT * focal + 1 - (overlap / extent)[..., 0]


def map_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy + Dice of logits (N, h, w) against soft targets (N, h, w) -> (N,); no Dice for empty targets."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))
    probability = logits.sigmoid()
    total = target.sum(dim=(1, 2))
    dice = 1 - (2 * (probability * target).sum(dim=(1, 2)) + 1) / (probability.sum(dim=(1, 2)) + total + 1)
    return entropy + dice * (total > 0)


def hard_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded logits (N, M, h, w) with targets (N, h, w) -> (N, M); 1 when both are empty."""
    predicted, real = (logits > 0).float().flatten(2), (target >= 0.5).float().flatten(1)[..., None]
    both = (predicted @ real)[..., 0]
    union = predicted.sum(2) + real.sum(1) - both
    return torch.where(union > 0, both / union.clamp(min=1), 1.0)


def best_of(losses: Tensor) -> Tensor:
    """Of losses (N, 4): the single mask's plus the smallest of the three alternatives' -> (N,)."""
    return losses[:, 0] + losses[:, 1:].amin(dim=1)


def travel_loss(travel: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 between log(1 + mm) of path lengths (N, h, w) -> (N,); inside and outside count alike."""
    error = F.smooth_l1_loss(travel.log1p(), target.log1p(), reduction="none")
    inside = (target > 0).to(error)
    means = [(error * part).sum(dim=(1, 2)) / part.sum(dim=(1, 2)).clamp(min=1) for part in (inside, 1 - inside)]
    return (means[0] + means[1]) / 2

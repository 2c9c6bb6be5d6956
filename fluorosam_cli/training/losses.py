"""Losses per prompt, so that their sum over a fixed number of prompts does not depend on how a batch is split."""

import torch
from torch import Tensor
from torch.nn import functional as F

FOCAL_WEIGHT, FOCAL_GAMMA = 20.0, 2.0  # segment-anything (arXiv 2304.02643) and RetinaNet


def mask_loss(logits: Tensor, target: Tensor, focal_alpha: float) -> Tensor:
    """20 x focal + Dice loss of logits (N, M, h, w) against soft targets (N, h, w) -> (N, M)."""
    target = target[:, None].expand_as(logits)
    probability = logits.sigmoid()
    agreement = probability * target + (1 - probability) * (1 - target)
    alpha = focal_alpha * target + (1 - focal_alpha) * (1 - target)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (alpha * (1 - agreement) ** FOCAL_GAMMA * entropy).mean(dim=(2, 3))
    overlap = 2 * (probability * target).sum(dim=(2, 3)) + 1
    dice = 1 - overlap / (probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3)) + 1)
    return FOCAL_WEIGHT * focal + dice


def map_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy + Dice of logits (N, h, w) against soft targets (N, h, w) -> (N,); no Dice for empty targets."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))
    probability = logits.sigmoid()
    total = target.sum(dim=(1, 2))
    dice = 1 - (2 * (probability * target).sum(dim=(1, 2)) + 1) / (probability.sum(dim=(1, 2)) + total + 1)
    return entropy + dice * (total > 0)


def hard_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded logits (N, M, h, w) with targets (N, h, w) -> (N, M); 1 when both are empty."""
    predicted, real = logits > 0, (target >= 0.5)[:, None]
    union = (predicted | real).sum(dim=(2, 3))
    return torch.where(union > 0, (predicted & real).sum(dim=(2, 3)) / union.clamp(min=1), 1.0)


def best_of(losses: Tensor) -> Tensor:
    """Of losses (N, 4): the single mask's plus the smallest of the three alternatives' -> (N,)."""
    return losses[:, 0] + losses[:, 1:].amin(dim=1)


def travel_loss(travel: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 between log(1 + mm) of path lengths (N, h, w) -> (N,); inside and outside count alike."""
    error = F.smooth_l1_loss(travel.log1p(), target.log1p(), reduction="none")
    inside = (target > 0).to(error)
    means = [(error * part).sum(dim=(1, 2)) / part.sum(dim=(1, 2)).clamp(min=1) for part in (inside, 1 - inside)]
    return (means[0] + means[1]) / 2

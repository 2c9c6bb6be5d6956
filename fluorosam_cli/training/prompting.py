"""Simulated prompts: what a user gives first, and the clicks that follow from the errors.

Every draw comes from uniform numbers that belong to the sample, never from a global generator.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.model.fluorosam import Prompts
from fluorosam_cli.model.prompt_encoder import BOX_MAX, BOX_MIN, NEGATIVE, POSITIVE

# How a prompt begins. Text alone most often: it is what users type first, and what clicks cannot replace.
TEXT, TEXT_POINT, POINT, BOX, TEXT_BOX = range(5)
SHARES = torch.tensor([0.5, 0.15, 0.15, 0.1, 0.1])
BOX_JITTER, BOX_JITTER_MAX_PX = 0.1, 20.0  # N(0, 0.1 x side), clipped (FluoroSAM)
FIRST_DRAWS = 6  # uniform numbers used before the first round; one more for each later click
POINT_SLOTS = 3  # two box corners and the first click; one more slot for each later click


def first_prompts(empty: Prompts, text: Tensor, masks: Tensor, present: Tensor, uniform: Tensor) -> Prompts:
    """Initial prompts for masks (N, S, S) in {0, 1}; a prompt for an absent structure is text alone.

    `empty` has POINT_SLOTS or more point slots; text (N, dim); present (N,); uniform (N, FIRST_DRAWS or more).
    """
    shares = SHARES.to(uniform.device).cumsum(0)
    kind = torch.bucketize(uniform[:, 0].contiguous(), shares[:-1], right=True)
    filled = masks.flatten(1).any(dim=1)
    kind = torch.where((present > 0) & filled, kind, TEXT)
    with_text = (kind == TEXT) | (kind == TEXT_POINT) | (kind == TEXT_BOX)
    with_point = (kind == TEXT_POINT) | (kind == POINT)
    with_box = (kind == BOX) | (kind == TEXT_BOX)
    points, labels = empty.points_xy.clone(), empty.point_labels.clone()
    corners = jittered_box(masks, uniform[:, 1:5])
    points[:, 0], points[:, 1] = corners[:, :2], corners[:, 2:]
    labels[:, 0] = torch.where(with_box, BOX_MIN, -1)
    labels[:, 1] = torch.where(with_box, BOX_MAX, -1)
    points[:, 2] = pick(masks, uniform[:, 5], masks.shape[-1])
    labels[:, 2] = torch.where(with_point, POSITIVE, -1)
    return replace(empty, text=text * with_text[:, None], has_text=with_text, points_xy=points, point_labels=labels)


def next_click(
    prompts: Prompts, logits: Tensor, mask_input: Tensor, masks: Tensor, uniform: Tensor, slot: int
) -> Prompts:
    """Add a click from the error of the chosen logits (N, h, w), and the logits themselves as a mask prompt.

    The click is uniform over the wrong pixels: positive on missed, negative on false ones, none if all are right.
    """
    target = shrink(masks, logits.shape[-1]) >= 0.5
    wrong = (logits > 0) != target
    spot = pick(wrong.float(), uniform, masks.shape[-1])
    cell = (spot + 0.5) * logits.shape[-1] / masks.shape[-1] - 0.5
    x, y = cell.round().long().unbind(1)
    positive = target[torch.arange(len(target), device=target.device), y, x]
    points, labels = prompts.points_xy.clone(), prompts.point_labels.clone()
    points[:, slot] = spot
    labels[:, slot] = torch.where(wrong.flatten(1).any(dim=1), torch.where(positive, POSITIVE, NEGATIVE), -1)
    return replace(
        prompts,
        points_xy=points,
        point_labels=labels,
        mask_logits=mask_input,
        has_mask=torch.ones_like(prompts.has_mask),
    )


def pick(weights: Tensor, uniform: Tensor, size: int) -> Tensor:
    """One cell of each map (N, h, w), drawn by weight, as (N, 2) xy in pixels of a square of `size`."""
    side = weights.shape[-1]
    total = weights.flatten(1).cumsum(dim=1)
    index = torch.searchsorted(total, (uniform[:, None] * total[:, -1:]).contiguous(), right=True)[:, 0]
    index = index.clamp(max=side * side - 1)
    cell = torch.stack([index % side, index // side], dim=1).float()
    return (cell + 0.5) * size / side - 0.5


def jittered_box(masks: Tensor, uniform: Tensor) -> Tensor:
    """Corner points (N, 4) xyxy of boxes around masks (N, S, S), each side moved by clipped normal noise.

    Zeros for empty masks.
    """
    size = masks.shape[-1]
    position = torch.arange(size, device=masks.device, dtype=torch.float32)
    edges = []
    for axis in (1, 2):  # rows collapse to x extents, columns to y extents
        covered = masks.amax(dim=axis) > 0
        low = torch.where(covered, position, size).amin(dim=1)
        high = torch.where(covered, position, -1).amax(dim=1) + 1
        edges.append((low, high))
    (x0, x1), (y0, y1) = edges
    box = torch.stack([x0, y0, x1, y1], dim=1)
    side = torch.stack([x1 - x0, y1 - y0] * 2, dim=1).clamp(min=0)
    normal = torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4))
    jitter = (normal * BOX_JITTER * side).clamp(-BOX_JITTER_MAX_PX, BOX_JITTER_MAX_PX)
    edge = box + jitter - 0.5  # pixel centres are at integers, so a box's edges lie half a pixel before
    return torch.where(side > 0, edge, torch.zeros_like(box))


def shrink(masks: Tensor, side: int) -> Tensor:
    """Masks (N, S, S) -> the share of each of side x side cells that is inside."""
    return F.interpolate(masks[:, None], (side, side), mode="area")[:, 0]

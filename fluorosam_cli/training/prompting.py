"""Simulated prompts: what a user gives first, and the clicks that follow from the errors.

Every draw comes from uniform numbers that belong to the sample, never from a global generator: `Recipe.draws` of them
for each prompt.
"""

from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.model.fluorosam import Prompts
from fluorosam_cli.model.prompt_encoder import BOX_MAX, BOX_MIN, NEGATIVE, NOT_A_POINT, POSITIVE
from fluorosam_cli.training.recipe import KINDS, SECTION, Recipe

KIND, BOX, COUNT, COARSE, MASK_ROUND = 0, slice(1, 5), 5, 6, 7  # columns of the uniform numbers
CROWD_SIDE = 9  # cells of the logits among which wrong ones are counted
COARSE_SIDE = 16  # cells along a side of a mask that somebody drew in a hurry
SURE_LOGIT = 6.0  # of a mask that is given as a prompt


def first_prompts(
    empty: Prompts, text: Tensor, masks: Tensor, present: Tensor, size: int, uniform: Tensor, recipe: Recipe
) -> Prompts:
    """Initial prompts for masks (N, M, M) in {0, 1}, in pixels of an image of side `size`.

    Two slots for a box, then max(recipe.first_points) for points. `empty` has no points; tokens `text` (N, dim);
    present (N,); uniform (N, recipe.draws). A prompt for an absent structure, or for one that lies outside of the
    image, is text alone.
    """
    kind = sum((uniform[:, KIND] >= edge).long() for edge in accumulate(recipe.shares[:-1]))
    begins = {name: kind == number for number, name in enumerate(KINDS)}
    shown = (present > 0) & masks.flatten(1).any(dim=1)
    with_text = begins["text"] | begins["text_points"] | begins["text_box"] | ~shown
    with_points = (begins["text_points"] | begins["points"]) & shown
    with_box = (begins["box"] | begins["text_box"]) & shown
    with_mask = begins["mask"] & shown
    corners = noisy_box(masks, size, uniform[:, BOX], recipe).unflatten(1, (2, 2))
    corner_labels = [torch.where(with_box, label, NOT_A_POINT)[:, None] for label in (BOX_MIN, BOX_MAX)]
    slots = max(recipe.first_points)
    spots = pick(masks, uniform[:, SECTION : SECTION + slots], size)
    used = _numbered(uniform[:, COUNT], recipe.first_points, slots) & with_points[:, None]
    return replace(
        empty,
        text=text * with_text[:, None],
        has_text=with_text,
        points_xy=torch.cat([corners, spots], dim=1),
        point_labels=torch.cat([*corner_labels, torch.where(used, POSITIVE, NOT_A_POINT)], dim=1),
        mask_logits=coarse_mask(masks, uniform[:, COARSE], empty.mask_logits.shape[-1]) * _over(with_mask),
        has_mask=with_mask,
    )


def next_clicks(
    prompts: Prompts, logits: Tensor, mask_input: Tensor, target: Tensor, size: int, uniform: Tensor, recipe: Recipe
) -> Prompts:
    """Add clicks from the error of the chosen logits (N, h, w), and the logits themselves as a mask prompt.

    target (N, h, w) is the share of each cell that is inside; `size` is the image's side, in which clicks are given;
    uniform (N, 1 + max(recipe.clicks)) is this round's. Clicks fall on wrong pixels, by the recipe's `crowding`:
    positive on missed, negative on false ones, none if all are right.
    """
    inside = target >= 0.5
    wrong = (logits > 0) != inside
    cells = torch.arange(wrong.shape[-1], device=wrong.device)
    near = ((cells[:, None] - cells).abs() <= CROWD_SIDE // 2).float() / CROWD_SIDE
    crowd = near @ wrong.float() @ near  # a moving average
    spots = pick(wrong * crowd**recipe.crowding, uniform[:, 1:], size)  # (N, K, 2)
    x, y = ((spots + 0.5) * logits.shape[-1] / size - 0.5).round().long().unbind(2)
    positive = inside[torch.arange(len(inside), device=inside.device)[:, None], y, x]
    used = _numbered(uniform[:, 0], recipe.clicks, spots.shape[1]) & wrong.flatten(1).any(dim=1)[:, None]
    labels = torch.where(used, torch.where(positive, POSITIVE, NEGATIVE), NOT_A_POINT)
    return replace(
        prompts,
        points_xy=torch.cat([prompts.points_xy, spots], dim=1),
        point_labels=torch.cat([prompts.point_labels, labels], dim=1),
        mask_logits=mask_input,
        has_mask=torch.ones_like(prompts.has_mask),
    )


def mask_alone(prompts: Prompts, uniform: Tensor, round_number: int, rounds: int) -> Prompts:
    """Hide points and boxes in the last round, and in one of those between, which the prompt's own number draws."""
    between = rounds - 2
    drawn = 1 + (uniform[:, MASK_ROUND] * between).long().clamp(max=max(0, between - 1))
    hidden = (drawn == round_number) & (between > 0) | (round_number == rounds - 1)
    return replace(prompts, point_labels=torch.where(hidden[:, None], NOT_A_POINT, prompts.point_labels))


def pick(weights: Tensor, uniform: Tensor, size: int) -> Tensor:
    """K cells of each map (N, h, w), drawn by weight from uniform (N, K), as (N, K, 2) xy in a square of `size`."""
    side = weights.shape[-1]
    total = weights.flatten(1).cumsum(dim=1)
    index = torch.searchsorted(total, (uniform * total[:, -1:]).contiguous(), right=True)
    index = index.clamp(max=side * side - 1)
    cell = torch.stack([index % side, index // side], dim=2).float()
    return (cell + 0.5) * size / side - 0.5


def noisy_box(masks: Tensor, size: int, uniform: Tensor, recipe: Recipe) -> Tensor:
    """Corner points (N, 4) xyxy of boxes around masks (N, M, M), each side moved by the recipe's noise.

    In pixels of an image of side `size`; zeros for empty masks.
    """
    cell = size / masks.shape[-1]
    position = torch.arange(masks.shape[-1], device=masks.device, dtype=torch.float32) * cell
    edges = []
    for axis in (1, 2):  # rows collapse to x extents, columns to y extents
        covered = masks.amax(dim=axis) > 0
        low = torch.where(covered, position, size).amin(dim=1)
        high = torch.where(covered, position, -cell).amax(dim=1) + cell
        edges.append((low, high))
    (x0, x1), (y0, y1) = edges
    box = torch.stack([x0, y0, x1, y1], dim=1)
    side = torch.stack([x1 - x0, y1 - y0] * 2, dim=1).clamp(min=0)
    if recipe.box_noise == "normal":
        noise = torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)) * recipe.box_sigma * side
    else:
        noise = (2 * uniform - 1) * recipe.box_max_px
    edge = box + noise.clamp(-recipe.box_max_px, recipe.box_max_px)
    edge = edge - 0.5  # pixel centres are at integers, so a box's edges lie half a pixel before
    return torch.where(side > 0, edge, torch.zeros_like(box))


def coarse_mask(masks: Tensor, uniform: Tensor, side: int) -> Tensor:
    """Masks (N, M, M) as somebody's first attempt: coarse, grown or shrunk -> logits (N, 1, side, side)."""
    coarse = F.interpolate(masks[:, None], (COARSE_SIDE, COARSE_SIDE), mode="area")
    smooth = F.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)
    threshold = 0.2 + 0.6 * uniform[:, None, None, None]
    return torch.where(smooth > threshold, SURE_LOGIT, -SURE_LOGIT)


def shrink(masks: Tensor, side: int) -> Tensor:
    """Masks (N, M, M) -> the share of each of side x side cells that is inside."""
    if masks.shape[-1] % side == 0:  # the same, several times as fast on a CPU
        return F.avg_pool2d(masks, masks.shape[-1] // side)
    return F.interpolate(masks[:, None], (side, side), mode="area")[:, 0]


def _numbered(uniform: Tensor, numbers: tuple[int, ...], slots: int) -> Tensor:
    """Which of the slots are used when uniform (N,) draws one of the numbers: (N, slots) bool."""
    drawn = (uniform * len(numbers)).long().clamp(max=len(numbers) - 1)
    count = torch.zeros_like(drawn)
    for position, number in enumerate(numbers):  # not indexed: a table would have to be sent to the device
        count = torch.where(drawn == position, number, count)
    return torch.arange(slots, device=uniform.device) < count[:, None]


def _over(flags: Tensor) -> Tensor:
    return flags[:, None, None, None]

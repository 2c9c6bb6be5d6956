"""IoU on the validation cases, from text alone and from clicks alone: what chooses the best checkpoint.

The full protocol, with confidence intervals, is `fluoro eval`; this is a cheap look at it.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.dataset.loader import usable
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.evaluation.clicks import next_click
from fluorosam_cli.evaluation.sources import choose_images
from fluorosam_cli.model.fluorosam import FluoroSAM, ImageFeatures, Prompts, best_mask
from fluorosam_cli.model.preprocess import channels

PROMPTS_PER_IMAGE = 16
CLICKED_PER_IMAGE = 4  # of those: each costs three decoder rounds
CLICKS = 3


@torch.no_grad()
def validate(model: FluoroSAM, reader: ShardReader, name_tokens: Tensor, limit: int) -> dict[str, float]:
    """Means over structures of `text_iou`, `clicks_1_iou` and `clicks_3_iou`, on at most `limit` images of the split.

    name_tokens (n_structures, dim): one phrase per structure; a row of NaN is not asked for. The mask is chosen
    by predicted IoU; clicks go to the centre of the largest error, as in `fluoro eval`.
    """
    device = next(model.parameters()).device
    size = model.config.image_size_px
    asked_for = ~name_tokens.isnan().any(dim=1).cpu().numpy()
    scores: dict[str, dict[int, list[float]]] = {}
    training = model.training
    model.eval()
    for index in choose_images(len(reader), limit):
        sample = reader[index]
        rows = usable(sample)
        rows = rows[asked_for[sample.structures[rows]]]
        if not len(rows):
            continue
        # Every image asks for other structures: a stride through its masks that starts at the image's number.
        rows = np.roll(rows, -index * PROMPTS_PER_IMAGE)[:PROMPTS_PER_IMAGE]
        real = np.stack([sample.mask(int(row)) for row in rows])
        image = torch.from_numpy(sample.image.astype(np.float32) / 65535).to(device)
        if image.shape[0] != size:
            image = F.interpolate(image[None, None], (size, size), mode="bilinear", antialias=True)[0, 0]
        features = model.encode_image(channels(image[None]))
        structures = sample.structures[rows]

        def score(kind: str, predicted: np.ndarray, real: np.ndarray, structures: np.ndarray = structures) -> None:
            iou = (predicted & real).sum((1, 2)) / (predicted | real).sum((1, 2))
            for structure, value in zip(structures, iou, strict=False):
                scores.setdefault(kind, {}).setdefault(int(structure), []).append(float(value))

        prompts = model.empty_prompts(len(rows), 1, device)
        text = replace(prompts, text=name_tokens[structures], has_text=torch.ones_like(prompts.has_text))
        score("text_iou", _answer(model, features, text, real.shape[1])[0], real)
        for number, predicted in enumerate(_clicked(model, features, real[:CLICKED_PER_IMAGE]), 1):
            score(f"clicks_{number}_iou", predicted, real[:CLICKED_PER_IMAGE])
    model.train(training)
    means = {kind: float(np.mean([np.mean(v) for v in found.values()])) for kind, found in scores.items()}
    means.pop("clicks_2_iou", None)
    return means


def _clicked(model: FluoroSAM, features: ImageFeatures, real: np.ndarray) -> list[np.ndarray]:
    """The masks after 1 ... CLICKS clicks without words, each boolean like `real` (N, S, S)."""
    size, device = model.config.image_size_px, features.embedding.device
    prompts = model.empty_prompts(len(real), CLICKS, device)
    predicted = np.zeros_like(real)
    answers = []
    for number in range(CLICKS):
        for i, (one, target) in enumerate(zip(predicted, real, strict=True)):
            click = next_click(one, target)
            if click is not None:
                at = (torch.tensor([click.x, click.y], device=device) + 0.5) * size / real.shape[1] - 0.5
                prompts.points_xy[i, number] = at
                prompts.point_labels[i, number] = click.label
        predicted, logits = _answer(model, features, prompts, real.shape[1])
        answers.append(predicted)
        fed_back = model.as_mask_input(logits)
        prompts = replace(prompts, mask_logits=fed_back, has_mask=torch.ones_like(prompts.has_mask))
    return answers


def _answer(model: FluoroSAM, features: ImageFeatures, prompts: Prompts, size: int) -> tuple[np.ndarray, Tensor]:
    logits = best_mask(model.decode(features, prompts)).float()
    full = F.interpolate(logits[:, None], (size, size), mode="bilinear")[:, 0] > 0
    return full.cpu().numpy(), logits


def selection(scores: dict[str, float], with_text: bool) -> float:
    """What the best checkpoint has most of: the mean of text IoU and IoU after 3 clicks; clicks alone without text."""
    clicks = scores["clicks_3_iou"]
    return (scores["text_iou"] + clicks) / 2 if with_text else clicks

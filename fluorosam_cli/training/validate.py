"""Text-only IoU on the validation cases: what chooses the best checkpoint."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.dataset.loader import usable
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.model.fluorosam import FluoroSAM, best_mask
from fluorosam_cli.model.preprocess import channels

PROMPTS_PER_IMAGE = 16


@torch.no_grad()
def text_iou(model: FluoroSAM, reader: ShardReader, name_features: Tensor, limit: int) -> float:
    """Mean over structures of the text-only IoU, on at most `limit` images spread over the split, 16 masks of each.

    name_features (n_structures, text_dim): one phrase per structure. The mask is chosen by predicted IoU.
    """
    device = next(model.parameters()).device
    size = model.config.image_size_px
    scores: dict[int, list[float]] = {}
    model.eval()
    for index in np.unique(np.linspace(0, len(reader) - 1, min(limit, len(reader))).astype(int)):
        sample = reader[int(index)]
        image = torch.from_numpy(sample.image.astype(np.float32) / 65535).to(device)
        if image.shape[0] != size:
            image = F.interpolate(image[None, None], (size, size), mode="bilinear", antialias=True)[0, 0]
        embedding = model.encode_image(channels(image[None]))
        rows = usable(sample)
        if not len(rows):
            continue
        # Every image asks for other structures: a stride through its masks that starts at the image's number.
        rows = np.roll(rows, -int(index) * PROMPTS_PER_IMAGE)[:PROMPTS_PER_IMAGE]
        prompts = model.empty_prompts(len(rows), 1, device)
        prompts.text.copy_(name_features[sample.structures[rows]])
        prompts.has_text.fill_(True)
        logits = best_mask(model.decode(embedding, prompts))
        full = F.interpolate(logits[:, None], sample.image.shape, mode="bilinear")[:, 0] > 0
        for row, predicted in zip(rows, full.cpu().numpy(), strict=True):
            real = sample.mask(int(row))
            iou = (predicted & real).sum() / (predicted | real).sum()
            scores.setdefault(int(sample.structures[row]), []).append(float(iou))
    model.train()
    return float(np.mean([np.mean(values) for values in scores.values()])) if scores else 0.0

"""From a grey image of any size and polarity to the network's three channels, and the way back for coordinates.

Channels, as in FluoroSAM: the min-max image and two intensity windows around the darker and the brighter of two
clusters of pixel values. The clusters come from a deterministic two-means on a histogram.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fluorosam_cli.geometry.frame import Frame

BINS = 256
WINDOW_SIGMAS = 2.0


def fit(image: Tensor, size: int) -> tuple[Tensor, Frame]:
    """A float image (H, W) -> (size, size) with its longest side scaled to `size`, and its Frame."""
    frame = Frame(image.shape[0], image.shape[1], size)
    scaled = F.interpolate(image[None, None], frame.inner, mode="bilinear", align_corners=False, antialias=True)[0, 0]
    low = scaled.min()
    padded = F.pad(scaled - low, (0, size - scaled.shape[1], 0, size - scaled.shape[0]))
    return padded, frame


def to_image(logits: Tensor, frame: Frame) -> Tensor:
    """Square logits (N, h, w) over the input -> (N, height, width) at the image's own size.

    Bilinear where each pixel's centre lies, also where the image ends within a cell of the logits.
    """
    cells = logits.shape[-1]
    down, across = (
        _linear(pixels, inner * cells / frame.size, cells).to(logits)
        for pixels, inner in zip((frame.height, frame.width), frame.inner, strict=True)
    )
    return down @ logits @ across.T


def _linear(pixels: int, covered: float, cells: int) -> Tensor:
    """Linear interpolation at the centres of so many pixels, which cover that many of the cells: (pixels, cells)."""
    place = (torch.arange(pixels, dtype=torch.float64) + 0.5) * covered / pixels - 0.5
    place = place.clamp(0, max(0.0, covered - 1))
    low = place.long().clamp(max=cells - 2)
    share = (place - low)[:, None]
    weights = torch.zeros(pixels, cells, dtype=torch.float64)
    return weights.scatter_(1, low[:, None], 1 - share).scatter_(1, low[:, None] + 1, share)


def channels(image: Tensor) -> Tensor:
    """Grey images (B, S, S), any range -> (B, 3, S, S) in about [-1, 1]."""
    low = image.amin(dim=(1, 2), keepdim=True)
    high = image.amax(dim=(1, 2), keepdim=True)
    unit = (image - low) / (high - low).clamp(min=1e-6)
    centre, spread = _two_means(unit)
    windows = [
        ((unit - (c - WINDOW_SIGMAS * s)[:, None, None]) / (2 * WINDOW_SIGMAS * s)[:, None, None]).clamp(0, 1)
        for c, s in zip(centre.unbind(1), spread.unbind(1), strict=True)
    ]
    return torch.stack([unit, *windows], dim=1) * 2 - 1


def _two_means(unit: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and standard deviations (B, 2), darker first, of two clusters of values in [0, 1].

    The split that minimises the within-cluster variance (Otsu 1979) is what two-means converges to in one dimension.
    """
    flat = (unit.flatten(1) * (BINS - 1)).round().long()
    counts = torch.zeros(flat.shape[0], BINS, device=unit.device).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=torch.float32)
    )
    values = torch.linspace(0, 1, BINS, device=unit.device)
    count, first, second = counts.cumsum(1), (counts * values).cumsum(1), (counts * values**2).cumsum(1)

    def moments(n: Tensor, s: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        mean = s / n.clamp(min=1)
        return mean, (q / n.clamp(min=1) - mean**2).clamp(min=0)

    dark_mean, dark_var = moments(count, first, second)
    bright = count[:, -1:] - count
    bright_mean, bright_var = moments(bright, first[:, -1:] - first, second[:, -1:] - second)
    within = count * dark_var + bright * bright_var
    split = within[:, :-1].argmin(dim=1, keepdim=True)
    centre = torch.cat([dark_mean.gather(1, split), bright_mean.gather(1, split)], dim=1)
    spread = torch.cat([dark_var.gather(1, split), bright_var.gather(1, split)], dim=1).sqrt()
    return centre, spread.clamp(min=0.02)

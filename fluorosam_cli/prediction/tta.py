"""Test-time augmentation: other looks at the same image, whose answers are averaged.

No look is mirrored, because sides are the patient's. Each is drawn in the network's own square, so that points, masks
and logits go there and back by one zoom about the middle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Look:
    gamma: float = 1.0
    zoom: float = 1.0  # below 1 the image is drawn smaller

    def image(self, square: Tensor) -> Tensor:
        """A fitted image (S, S), its least value 0 -> the same, seen this way."""
        high = square.max().clamp(min=1e-6)
        toned = square if self.gamma == 1 else (square / high) ** self.gamma * high
        return _zoomed(toned[None, None], self.zoom)[0, 0]

    def points(self, points_xy: Tensor, size: int) -> Tensor:
        """Pixels of the square of that size, centres at integers -> those of the look."""
        middle = (size - 1) / 2
        return (points_xy - middle) * self.zoom + middle

    def mask_input(self, logits: Tensor) -> Tensor:
        """Logits (N, 1, h, w) over the square -> over the look."""
        return _zoomed(logits, self.zoom)

    def undone(self, logits: Tensor) -> Tensor:
        """Logits (N, K, h, w) over the look -> over the square."""
        return _zoomed(logits, 1 / self.zoom)


PLAIN = (Look(),)
LOOKS = (Look(), Look(gamma=0.75), Look(gamma=1.33), Look(zoom=0.85), Look(gamma=0.85, zoom=0.92))


def _zoomed(square: Tensor, zoom: float) -> Tensor:
    if zoom == 1:
        return square
    matrix = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]], dtype=square.dtype, device=square.device)
    grid = F.affine_grid(matrix[None].expand(len(square), -1, -1), list(square.shape), align_corners=False)
    return F.grid_sample(square, grid, mode="bilinear", padding_mode="border", align_corners=False)

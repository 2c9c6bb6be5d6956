"""The network: one image embedding, any number of prompts."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.errors import UsageError
from fluorosam_cli.model.detail_path import DetailPath, draw
from fluorosam_cli.model.image_encoder import ImageEncoder
from fluorosam_cli.model.mask_decoder import Decoded, MaskDecoder
from fluorosam_cli.model.prompt_encoder import PromptEncoder
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.model.text_map import TextMap

LOGIT_MAX = 10.0  # a previous mask never becomes too certain to be corrected

# The paper's decoder (arXiv 2403.08059), and what the small presets have instead of it.
PAPER = {
    "image_size_px": 448,
    "grid_px": 64,
    "embedding_dim": 256,
    "neck_dim": 128,
    "upscale_stages": 3,
    "decoder_depth": 2,
    "decoder_heads": 8,
    "decoder_mlp_dim": 2048,
    "text_hidden_dim": 512,
    "codebook_size": 8192,
    "text_map": False,
}
SMALL = PAPER | {
    "backbone": "resnet18t_half",
    "embedding_dim": 128,
    "detail_dim": 64,
    "finest_dim": 8,
    "upscale_stages": 2,
    "decoder_depth": 1,
    "decoder_heads": 4,
    "decoder_mlp_dim": 512,
    "codebook_size": 2048,
    "text_map": True,
}
PRESETS = {
    "swin-l-448": PAPER | {"backbone": "swin_large_patch4_window7_224"},
    "swin-b-448": PAPER | {"backbone": "swin_base_patch4_window7_224"},
    "swin-t-448": PAPER | {"backbone": "swin_tiny_patch4_window7_224"},
    # SAM-Med2D's network with a text token: what checkpoints of the SAM family fill
    "vit-b-256": PAPER
    | {"backbone": "samvit_base_patch16", "image_size_px": 256, "grid_px": 16, "neck_dim": 256, "upscale_stages": 2},
    # train on two CPU cores
    "small": SMALL | {"image_size_px": 192, "grid_px": 12},
    "tiny": SMALL | {"image_size_px": 128, "grid_px": 8},
}


def preset(name: str, text_dim: int) -> ModelConfig:
    """The configuration of a named size. Raises UsageError for an unknown name."""
    if name not in PRESETS:
        raise UsageError(f"{name}: not a model preset", f"choose one of {', '.join(PRESETS)}")
    return ModelConfig.model_validate({"preset": name, "text_dim": text_dim, **PRESETS[name]})


@dataclass(frozen=True)
class Prompts:
    """N prompts, each on one image of the batch. What a prompt lacks is masked out, so padding never matters."""

    image_index: Tensor  # (N,) which image of the batch
    text: Tensor  # (N, dim) what `text_head` makes of a phrase; anything where has_text is False
    has_text: Tensor  # (N,) bool
    points_xy: Tensor  # (N, K, 2) in input pixels
    point_labels: Tensor  # (N, K) 1 positive, 0 negative, 2 and 3 box corners, -1 none
    mask_logits: Tensor  # (N, 1, mask_input_px, mask_input_px) of an earlier round
    has_mask: Tensor  # (N,) bool


class ImageFeatures(NamedTuple):
    """B images as the network sees them; only the presets with a detail path have more than the embedding."""

    embedding: Tensor  # (B, dim, grid, grid)
    details: tuple[Tensor, ...] = ()  # (B, dim / 4, 2 grid, 2 grid), (B, dim / 8, 4 grid, 4 grid), ...
    words: Tensor | None = None  # (B, dim / 2, detail_px, detail_px), what the text map compares with words

    def detach(self) -> "ImageFeatures":
        words = None if self.words is None else self.words.detach()
        return ImageFeatures(self.embedding.detach(), tuple(each.detach() for each in self.details), words)


class FluoroSAM(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.text_head = TextHead(config)
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)
        self.text_map = TextMap(config) if config.text_map else None
        self.detail_path = DetailPath(config) if config.detail_dim else None

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """(B, 3, S, S) -> all that any prompt on these images needs."""
        embedding = self.image_encoder(image)
        if self.detail_path is None:
            return ImageFeatures(embedding)
        words = None
        if self.text_map is not None:
            words = self.text_map.pixels(embedding, self.prompt_encoder.dense_position(self.config.detail_px))
        grid, *details = self.detail_path.image(image, embedding)
        return ImageFeatures(grid, tuple(details), words)

    def decode(self, features: ImageFeatures, prompts: Prompts) -> Decoded:
        """Masks for every prompt, from what `encode_image` returned for the images."""
        token = prompts.text
        points = self.prompt_encoder.points(prompts.points_xy, prompts.point_labels)
        tokens = torch.cat([token[:, None], points], dim=1)
        keep = torch.cat([prompts.has_text[:, None], prompts.point_labels >= 0], dim=1)
        position = self.prompt_encoder.dense_position()
        of_prompts = F.one_hot(prompts.image_index, len(features.embedding)).to(features.embedding)  # (N, B)
        grid = of_images(features.embedding, of_prompts)
        has_mask = prompts.has_mask
        if self.detail_path is None:
            dense = self.prompt_encoder.dense(prompts.mask_logits, has_mask)
            return self.mask_decoder(grid, position, dense, tokens, keep)
        previous, known = prompts.mask_logits.clamp(-LOGIT_MAX, LOGIT_MAX) * _column(has_mask), has_mask
        start = presence = torch.zeros((), device=tokens.device)
        if self.text_map is not None:  # words have drawn a first mask before the decoder starts
            assert features.words is not None
            first = self.text_map.of_prompts(features.words, token, of_prompts)
            start = first[:, None] * _column(prompts.has_text & ~has_mask)
            known = has_mask | prompts.has_text
            presence = self.text_map.presence(first) * prompts.has_text
        shown = start + (F.avg_pool2d(previous, 2) if self.config.finest_dim else previous)
        pictures = draw(shown, known, prompts.points_xy, prompts.point_labels, self.config.image_size_px)
        dense, *drawn = self.detail_path.prompt(pictures)
        details = [of_images(each, of_prompts) for each in features.details]
        details = [a + b for a, b in zip(details, drawn, strict=False)] + details[len(drawn) :]  # at the finest, none
        # The decoder corrects what is there.
        decoded = self.mask_decoder(grid, position, dense, tokens, keep, details, start)
        return replace(decoded, masks=decoded.masks + previous, presence=decoded.presence + presence)

    def as_mask_input(self, logits: Tensor) -> Tensor:
        """Chosen logits (N, h, w) -> (N, 1, mask_input_px, mask_input_px), to be fed back as a prompt."""
        size = self.prompt_encoder.mask_input_px
        return F.interpolate(logits[:, None], (size, size), mode="bilinear", align_corners=False)

    def empty_prompts(self, count: int, points: int, device: torch.device) -> Prompts:
        """`count` prompts on image 0 with nothing in them and room for `points` points."""
        size = self.prompt_encoder.mask_input_px
        return Prompts(
            image_index=torch.zeros(count, dtype=torch.long, device=device),
            text=torch.zeros(count, self.config.embedding_dim, device=device),
            has_text=torch.zeros(count, dtype=torch.bool, device=device),
            points_xy=torch.zeros(count, points, 2, device=device),
            point_labels=torch.full((count, points), -1, dtype=torch.long, device=device),
            mask_logits=torch.zeros(count, 1, size, size, device=device),
            has_mask=torch.zeros(count, dtype=torch.bool, device=device),
        )


def of_images(features: Tensor, of_prompts: Tensor) -> Tensor:
    """What belongs to each prompt's image: features (B, C, h, w) and zeros and ones (N, B) -> (N, C, h, w).

    On a CPU the gradient of indexing takes ten times as long as this product. Channels that lie last stay last.
    """
    if features.is_contiguous():
        return (of_prompts @ features.flatten(1)).unflatten(1, features.shape[1:])
    last = features.permute(0, 2, 3, 1)
    return (of_prompts @ last.flatten(1)).unflatten(1, last.shape[1:]).permute(0, 3, 1, 2)


def _column(x: Tensor) -> Tensor:
    return x[:, None, None, None]


def best_mask(decoded: Decoded) -> Tensor:
    """The logits (N, h, w) whose predicted IoU is highest."""
    index = decoded.iou.argmax(dim=1)
    return decoded.masks[torch.arange(len(index), device=index.device), index]

"""The network: one image embedding, any number of prompts."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.errors import UsageError
from fluorosam_cli.model.image_encoder import ImageEncoder
from fluorosam_cli.model.mask_decoder import Decoded, MaskDecoder
from fluorosam_cli.model.prompt_encoder import PromptEncoder
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.model.text_map import TextMap

# name: backbone, input, grid, embedding, neck, upscaling, heads, decoder MLP, text hidden, codebook, text map
PRESETS = {
    # the paper's network and its smaller sisters (arXiv 2403.08059)
    "swin-l-448": ("swin_large_patch4_window7_224", 448, 64, 256, 128, 3, 8, 2048, 512, 8192, False),
    "swin-b-448": ("swin_base_patch4_window7_224", 448, 64, 256, 128, 3, 8, 2048, 512, 8192, False),
    "swin-t-448": ("swin_tiny_patch4_window7_224", 448, 64, 256, 128, 3, 8, 2048, 512, 8192, False),
    # train on two CPU cores; layer norm only, so that results do not depend on how a batch is split
    "small": ("edgenext_xx_small", 192, 24, 128, 96, 2, 4, 512, 512, 1024, True),
    "tiny": ("edgenext_xx_small", 128, 16, 128, 96, 2, 4, 512, 512, 1024, True),
}


def preset(name: str, text_dim: int) -> ModelConfig:
    """The configuration of a named size. Raises UsageError for an unknown name."""
    if name not in PRESETS:
        raise UsageError(f"{name}: not a model preset", f"choose one of {', '.join(PRESETS)}")
    backbone, size, grid, dim, neck, stages, heads, mlp, hidden, codes, text_map = PRESETS[name]
    return ModelConfig(
        preset=name,
        backbone=backbone,
        image_size_px=size,
        grid_px=grid,
        embedding_dim=dim,
        neck_dim=neck,
        upscale_stages=stages,
        decoder_depth=2,
        decoder_heads=heads,
        decoder_mlp_dim=mlp,
        text_dim=text_dim,
        text_hidden_dim=hidden,
        codebook_size=codes,
        text_map=text_map,
    )


@dataclass(frozen=True)
class Prompts:
    """N prompts, each on one image of the batch. What a prompt lacks is masked out, so padding never matters."""

    image_index: Tensor  # (N,) which image of the batch
    text: Tensor  # (N, text_dim) sentence features; zeros where has_text is False
    has_text: Tensor  # (N,) bool
    points_xy: Tensor  # (N, K, 2) in input pixels
    point_labels: Tensor  # (N, K) 1 positive, 0 negative, 2 and 3 box corners, -1 none
    mask_logits: Tensor  # (N, 1, mask_input_px, mask_input_px) of an earlier round
    has_mask: Tensor  # (N,) bool


class FluoroSAM(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.text_head = TextHead(config)
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)
        self.text_map = TextMap(config) if config.text_map else None

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, dim, grid, grid)."""
        return self.image_encoder(image)

    def word_pixels(self, embedding: Tensor) -> Tensor | None:
        """What the text map compares with words, (B, dim / 4, 4 grid, 4 grid); None where there is no text map."""
        if self.text_map is None:
            return None
        return self.text_map.pixels(embedding, self.prompt_encoder.dense_position())

    def decode(self, embedding: Tensor, prompts: Prompts, word_pixels: Tensor | None = None) -> Decoded:
        """Masks for every prompt, from the images' embeddings (B, dim, grid, grid).

        `word_pixels` saves computing them again for further prompts on the same images.
        """
        token, _ = self.text_head(prompts.text)
        points = self.prompt_encoder.points(prompts.points_xy, prompts.point_labels)
        tokens = torch.cat([token[:, None], points], dim=1)
        keep = torch.cat([prompts.has_text[:, None], prompts.point_labels >= 0], dim=1)
        position = self.prompt_encoder.dense_position()
        mask_logits, has_mask, by_words = prompts.mask_logits, prompts.has_mask, None
        if self.text_map is not None:
            pixels = self.word_pixels(embedding) if word_pixels is None else word_pixels
            assert pixels is not None
            first = self.text_map(pixels[prompts.image_index], token[:, None])
            by_words = prompts.has_text & ~has_mask
            mask_logits = torch.where(by_words[:, None, None, None], first, mask_logits)
            has_mask = has_mask | by_words
        dense = self.prompt_encoder.dense(mask_logits, has_mask)
        decoded = self.mask_decoder(embedding[prompts.image_index], position, dense, tokens, keep)
        if by_words is None:
            return decoded
        correction = decoded.masks  # the decoder corrects what the words alone have drawn
        first = F.interpolate(mask_logits, correction.shape[-2:], mode="bilinear", align_corners=False)
        return replace(decoded, masks=correction + first * by_words[:, None, None, None])

    def as_mask_input(self, logits: Tensor) -> Tensor:
        """Chosen logits (N, h, w) -> (N, 1, mask_input_px, mask_input_px), to be fed back as a prompt."""
        size = self.prompt_encoder.mask_input_px
        return F.interpolate(logits[:, None], (size, size), mode="bilinear", align_corners=False)

    def empty_prompts(self, count: int, points: int, device: torch.device) -> Prompts:
        """`count` prompts on image 0 with nothing in them and room for `points` points."""
        size = self.prompt_encoder.mask_input_px
        return Prompts(
            image_index=torch.zeros(count, dtype=torch.long, device=device),
            text=torch.zeros(count, self.config.text_dim, device=device),
            has_text=torch.zeros(count, dtype=torch.bool, device=device),
            points_xy=torch.zeros(count, points, 2, device=device),
            point_labels=torch.full((count, points), -1, dtype=torch.long, device=device),
            mask_logits=torch.zeros(count, 1, size, size, device=device),
            has_mask=torch.zeros(count, dtype=torch.bool, device=device),
        )


def best_mask(decoded: Decoded) -> Tensor:
    """The logits (N, h, w) whose predicted IoU is highest."""
    index = decoded.iou.argmax(dim=1)
    return decoded.masks[torch.arange(len(index), device=index.device), index]

"""What training minimises: one image encoding, then several decoder rounds that add clicks where the mask is wrong."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.model.fluorosam import FluoroSAM, best_mask
from fluorosam_cli.model.preprocess import channels
from fluorosam_cli.training.losses import best_of, hard_iou, map_loss, mask_loss
from fluorosam_cli.training.prompting import FIRST_DRAWS, POINT_SLOTS, first_prompts, next_click, shrink

MAP_WEIGHT = 5.0  # against a mask loss that focal's 20 makes large; set by hand, not tuned


@dataclass(frozen=True)
class Losses:
    total: Tensor
    mask: Tensor
    iou: Tensor
    presence: Tensor
    text_iou: Tensor  # IoU of the first round's chosen masks, to watch


class Objective(nn.Module):
    """`rounds` is 1 + the simulated clicks; the first `prompts` structures of each image go to the decoder, all of
    them to the text map. Sums run over all prompts and are divided by their fixed number.
    """

    phrase_features: Tensor

    def __init__(self, model: FluoroSAM, phrase_features: Tensor, prompts: int, rounds: int) -> None:
        super().__init__()
        self.model = model
        self.prompts = prompts
        self.rounds = rounds
        self.register_buffer("phrase_features", phrase_features, persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> Losses:
        """batch: image (B, S, S), masks (B, P, S, S), phrase, present, usable (B, P), uniform (B, P, draws)."""
        embedding = self.model.encode_image(channels(batch["image"]))
        pixels = self.model.word_pixels(embedding)
        map_loss_mean = self._map_loss(pixels, batch)
        batch = {name: value if name == "image" else value[:, : self.prompts] for name, value in batch.items()}
        images, prompts = batch["phrase"].shape
        masks, uniform = batch["masks"].flatten(0, 1), batch["uniform"].flatten(0, 1)
        present, usable = batch["present"].flatten(), batch["usable"].flatten().float()
        counted = present * usable  # prompts whose mask is worth learning
        text = self.phrase_features[batch["phrase"].flatten()]
        empty = self.model.empty_prompts(images * prompts, POINT_SLOTS + self.rounds - 1, masks.device)
        empty.image_index.copy_(torch.arange(images, device=masks.device).repeat_interleave(prompts))
        asked = first_prompts(empty, text, masks, present, uniform[:, :FIRST_DRAWS])
        mask_sum = iou_sum = presence_sum = embedding.new_zeros(())
        first_iou = embedding.new_zeros(())
        for number in range(self.rounds):
            decoded = self.model.decode(embedding, asked, pixels)
            logits = decoded.masks.float()
            target = shrink(masks, logits.shape[-1])
            actual = hard_iou(logits.detach(), target)
            mask_sum = mask_sum + (best_of(mask_loss(logits, target)) * counted).mean()
            iou_sum = iou_sum + (F.mse_loss(decoded.iou.float(), actual, reduction="none").mean(1) * counted).mean()
            presence = F.binary_cross_entropy_with_logits(decoded.presence.float(), present, reduction="none")
            # Points and boxes are only ever put on something that is there: presence is learnt from words.
            presence_sum = presence_sum + (presence * usable * asked.has_text).mean()
            if number == 0:
                chosen = actual.gather(1, decoded.iou.argmax(1, keepdim=True))[:, 0]
                first_iou = (chosen * counted).sum() / counted.sum().clamp(min=1)
            if number + 1 < self.rounds:
                best = best_mask(decoded).detach().float()
                asked = next_click(
                    asked,
                    best,
                    self.model.as_mask_input(best),
                    masks,
                    uniform[:, FIRST_DRAWS + number],
                    POINT_SLOTS + number,
                )
        total = (mask_sum + iou_sum + presence_sum) / self.rounds + MAP_WEIGHT * map_loss_mean
        return Losses(total, mask_sum.detach(), iou_sum.detach(), presence_sum.detach(), first_iou)

    def _map_loss(self, pixels: Tensor | None, batch: dict[str, Tensor]) -> Tensor:
        """Loss of the text map over every structure of the batch, absent ones included."""
        if self.model.text_map is None or pixels is None:
            return batch["image"].new_zeros(())
        token, _ = self.model.text_head(self.phrase_features[batch["phrase"].flatten()])
        logits = self.model.text_map(pixels, token.unflatten(0, batch["phrase"].shape)).flatten(0, 1).float()
        target = shrink(batch["masks"].flatten(0, 1), logits.shape[-1])
        return (map_loss(logits, target) * batch["usable"].flatten()).mean()


def draws_per_prompt(rounds: int) -> int:
    return FIRST_DRAWS + rounds - 1

"""What training minimises: one image encoding, then several decoder rounds that add clicks where the mask is wrong."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.model.fluorosam import FluoroSAM, best_mask
from fluorosam_cli.model.preprocess import channels
from fluorosam_cli.training.losses import best_of, hard_iou, map_loss, mask_loss, travel_loss
from fluorosam_cli.training.prompting import first_prompts, mask_alone, next_clicks, shrink
from fluorosam_cli.training.recipe import SECTION, Recipe

TRAVEL_WEIGHT = 1.0  # set by hand, not tuned
MAP_WEIGHT = 5.0  # against a mask loss that focal's 20 makes large; set by hand, not tuned


@dataclass(frozen=True)
class Losses:
    """Means over the batch; `per_image` (B,) is there to find an image that breaks them."""

    total: Tensor
    mask: Tensor
    iou: Tensor
    presence: Tensor
    travel: Tensor  # 0 where the network does not predict it
    first_iou: Tensor  # IoU of the first round's chosen masks, to watch: over the prompts of this part that count
    per_image: Tensor


class Objective(nn.Module):
    """The first `prompts` structures of each image go to the decoder, all of them to the text map, where there is one.

    Sums run over all prompts and are divided by their fixed number, so they do not depend on how a batch is split. With
    `bf16` the network alone multiplies in bfloat16: in it, IoUs, losses and draws over thousands of pixels go astray.
    """

    phrase_tokens: Tensor

    def __init__(
        self, model: FluoroSAM, phrase_tokens: Tensor, prompts: int, recipe: Recipe, bf16: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.prompts = prompts
        self.recipe = recipe
        self.bf16 = bf16
        self.register_buffer("phrase_tokens", phrase_tokens, persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> Losses:
        """batch: image (B, S, S), masks (B, P, M, M), phrase, present, usable (B, P), uniform (B, P, draws).

        To learn path lengths: also travel (B, P, M, M) in mm and travel_known (B, P), P at least `prompts`.
        """
        recipe, rounds = self.recipe, self.recipe.rounds
        with self._network_precision():
            features = self.model.encode_image(channels(batch["image"]))
        by_map = self._map_loss(features.words, batch)
        if not self.prompts:
            none = by_map.new_zeros(())
            return Losses(by_map.mean(), none, none, none, none, none, by_map.detach())
        batch = {name: value if name == "image" else value[:, : self.prompts] for name, value in batch.items()}
        (images, prompts), size = batch["phrase"].shape, batch["image"].shape[-1]
        masks, uniform = batch["masks"].flatten(0, 1), batch["uniform"].flatten(0, 1)
        present, usable = batch["present"].flatten(), batch["usable"].flatten().float()
        counted = present * usable  # prompts whose mask is worth learning
        text = self.phrase_tokens[batch["phrase"].flatten()]
        empty = self.model.empty_prompts(images * prompts, 0, masks.device)
        empty.image_index.copy_(torch.arange(images, device=masks.device).repeat_interleave(prompts))
        asked = first_prompts(empty, text, masks, present, size, uniform, recipe)
        later = uniform[:, SECTION + max(recipe.first_points) :].unflatten(1, (rounds - 1, -1)) if rounds > 1 else None
        target: Tensor | None = None
        path_mm: Tensor | None = None
        zero = torch.zeros(len(masks), device=masks.device)
        mask_sum, iou_sum, presence_sum, travel_sum, first_iou = zero, zero, zero, zero, zero.mean()
        for number in range(rounds):
            shown = mask_alone(asked, uniform, number, rounds) if number and recipe.mask_rounds else asked
            with self._network_precision():
                decoded = self.model.decode(features, shown)
            logits = decoded.masks.float()
            if target is None:
                target = shrink(masks, logits.shape[-1])
            actual = hard_iou(logits.detach(), target)
            mask_sum = mask_sum + best_of(mask_loss(logits, target, recipe.focal_alpha)) * counted
            iou_sum = iou_sum + F.mse_loss(decoded.iou.float(), actual, reduction="none").mean(1) * counted
            presence = F.binary_cross_entropy_with_logits(decoded.presence.float(), present, reduction="none")
            # Points and boxes are only ever put on something that is there: presence is learnt from words.
            presence_sum = presence_sum + presence * usable * shown.has_text
            if decoded.travel is not None and "travel" in batch:
                if path_mm is None:
                    path_mm = shrink(batch["travel"].flatten(0, 1), decoded.travel.shape[-1])
                known = counted * batch["travel_known"].flatten()
                travel_sum = travel_sum + travel_loss(decoded.travel.float(), path_mm) * known
            if number == 0:
                chosen = actual.gather(1, decoded.iou.argmax(1, keepdim=True))[:, 0]
                first_iou = (chosen * counted).sum() / counted.sum().clamp(min=1)
                if recipe.first_round_only:
                    features = features.detach()
            if later is not None and number + 1 < rounds:
                best = best_mask(decoded).detach().float()
                fed_back = self.model.as_mask_input(best)
                asked = next_clicks(asked, best, fed_back, target, size, later[:, number], recipe)
        per_prompt = (mask_sum + iou_sum + presence_sum + TRAVEL_WEIGHT * travel_sum) / rounds
        per_image = per_prompt.unflatten(0, (images, prompts)).mean(1) + by_map
        mask, iou, presence, travel = (
            value.detach().mean() / rounds for value in (mask_sum, iou_sum, presence_sum, travel_sum)
        )
        return Losses(per_image.mean(), mask, iou, presence, travel, first_iou, per_image.detach())

    def _network_precision(self) -> torch.autocast:
        return torch.autocast(self.phrase_tokens.device.type, torch.bfloat16, enabled=self.bf16)

    def _map_loss(self, pixels: Tensor | None, batch: dict[str, Tensor]) -> Tensor:
        """Losses of the text map, its masks and presence, over every structure of each image, absent ones too, (B,)."""
        if self.model.text_map is None or pixels is None:
            return batch["image"].new_zeros(len(batch["image"]))
        shape = batch["phrase"].shape
        with self._network_precision():
            logits = self.model.text_map(pixels, self.phrase_tokens[batch["phrase"]]).float()
        presence = self.model.text_map.presence(logits)
        missed = F.binary_cross_entropy_with_logits(presence, batch["present"], reduction="none")
        logits = logits.flatten(0, 1)
        target = shrink(batch["masks"].flatten(0, 1), logits.shape[-1])
        wrong = map_loss(logits, target).unflatten(0, shape)
        return ((MAP_WEIGHT * wrong + missed) * batch["usable"]).mean(1)

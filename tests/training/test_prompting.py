from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fluorosam_cli.errors import UsageError
from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.model.prompt_encoder import BOX_MIN, NEGATIVE, POSITIVE
from fluorosam_cli.training.losses import best_of, hard_iou, mask_loss
from fluorosam_cli.training.prompting import first_prompts, mask_alone, next_clicks, noisy_box, pick
from fluorosam_cli.training.recipe import FLUORO, FLUOROSAM, KINDS, RECIPES, SAM_MED2D, find_recipe

CPU = torch.device("cpu")
SIZE = 128


def square(x0, y0, x1, y1):
    mask = torch.zeros(SIZE, SIZE)
    mask[y0:y1, x0:x1] = 1
    return mask


def draws(count, recipe, seed=0):
    return torch.rand(count, recipe.draws, generator=torch.Generator().manual_seed(seed))


def ask(masks, present, uniform, recipe):
    model = FluoroSAM(preset("tiny", 4))
    empty = model.empty_prompts(len(masks), 0, CPU)
    return first_prompts(empty, torch.ones(len(masks), 128), masks, present, SIZE, uniform, recipe)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_first_prompts_lie_on_the_structure_in_the_recipes_shares(recipe):
    masks = square(30, 40, 60, 90).expand(1000, -1, -1)
    asked = ask(masks, torch.ones(1000), draws(1000, recipe), recipe)
    points = asked.point_labels[:, 2:] == POSITIVE
    x, y = asked.points_xy[:, 2:][points].unbind(1)
    assert ((x >= 30) & (x < 60) & (y >= 40) & (y < 90)).all()
    assert {int(n) for n in points.sum(1) if n} == set(recipe.first_points)
    scale = SIZE // asked.mask_logits.shape[-1]
    assert (
        not recipe.mask or (asked.mask_logits[asked.has_mask][:, 0, 65 // scale, 45 // scale] > 0).float().mean() > 0.9
    )
    traits = torch.stack(
        [asked.has_text, points.any(1), asked.point_labels[:, 0] == BOX_MIN, asked.has_mask], dim=1
    ).int()
    kinds = [(1, 0, 0, 0), (1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 1, 0), (0, 0, 0, 1)]
    assert sum(recipe.shares) == pytest.approx(1)
    for name, share, kind in zip(KINDS, recipe.shares, kinds, strict=True):
        found = (traits == torch.tensor(kind)).all(1).float().mean()
        assert found == pytest.approx(share, abs=0.05), name


def test_an_absent_structure_is_asked_for_by_words_alone():
    for recipe in RECIPES.values():
        asked = ask(torch.zeros(50, SIZE, SIZE), torch.zeros(50), draws(50, recipe), recipe)
        assert asked.has_text.all()
        assert (asked.point_labels == -1).all()
        assert not asked.has_mask.any()


def test_pick_is_uniform_over_the_mask():
    mask = square(10, 20, 12, 24)[None].expand(2000, -1, -1)
    spots = pick(mask, torch.rand(2000, 2, generator=torch.Generator().manual_seed(1)), SIZE).flatten(0, 1)
    assert mask[0][spots[:, 1].long(), spots[:, 0].long()].all()
    counts = torch.unique(spots, dim=0, return_counts=True)[1]
    assert len(counts) == 8
    assert counts.min() > 400


def test_boxes_move_as_the_recipes_say():
    masks = square(20, 30, 60, 110).expand(2000, -1, -1)
    uniform = torch.rand(2000, 4, generator=torch.Generator().manual_seed(2))
    true = torch.tensor([19.5, 29.5, 59.5, 109.5])
    normal = noisy_box(masks, SIZE, uniform, FLUOROSAM)
    torch.testing.assert_close(normal.mean(0), true, atol=0.6, rtol=0)
    torch.testing.assert_close(normal.std(0), torch.tensor([4.0, 8.0, 4.0, 8.0]), atol=0.5, rtol=0)
    shift = noisy_box(masks, SIZE, uniform, SAM_MED2D) - true
    assert 4.9 < shift.abs().max() <= 5
    torch.testing.assert_close(shift.std(0), torch.full((4,), 10 / 12**0.5), atol=0.2, rtol=0)
    assert (noisy_box(torch.zeros(1, SIZE, SIZE), SIZE, uniform[:1], FLUORO) == 0).all()


def test_the_next_clicks_fall_on_errors_with_their_sign():
    target = square(40, 40, 80, 80)
    prompts = ask(target[None].expand(3, -1, -1), torch.ones(3), draws(3, FLUORO), FLUORO)
    predicted = torch.stack([square(40, 40, 80, 60), square(40, 40, 100, 80), target]) * 2 - 1
    halve = torch.nn.functional.avg_pool2d
    logits, wanted = halve(predicted, 2), halve(target[None].expand(3, -1, -1), 2)
    recipe = replace(FLUORO, clicks=(1, 4))
    uniform = torch.rand(3, 5)
    uniform[:, 0] = 0.9  # the second number: four clicks
    asked = next_clicks(prompts, logits, torch.zeros(3, 1, 64, 64), wanted, SIZE, uniform, recipe)
    assert asked.point_labels[:, -4:].tolist() == [[POSITIVE] * 4, [NEGATIVE] * 4, [-1] * 4]
    assert ((asked.points_xy[0, -4:, 1] >= 60) & (asked.points_xy[0, -4:, 1] < 80)).all()
    assert ((asked.points_xy[1, -4:, 0] >= 80) & (asked.points_xy[1, -4:, 0] < 100)).all()
    assert asked.has_mask.all()
    uniform[:, 0] = 0.1
    asked = next_clicks(prompts, logits, torch.zeros(3, 1, 64, 64), wanted, SIZE, uniform, recipe)
    assert (asked.point_labels[0, -4:] == POSITIVE).tolist() == [True, False, False, False]


def test_clicks_crowd_in_large_errors_where_the_recipe_says_so():
    target = square(20, 20, 60, 60) + square(70, 0, 72, SIZE) + square(80, 0, 82, SIZE) + square(90, 0, 92, SIZE)
    count = 500
    logits, wanted = -torch.ones(count, 64, 64), torch.nn.functional.avg_pool2d(target[None], 2).expand(count, -1, -1)
    shares = {}
    for recipe in (FLUOROSAM, FLUORO):
        prompts = ask(target[None].expand(count, -1, -1), torch.ones(count), draws(count, recipe), recipe)
        uniform = draws(count, recipe)[:, : 1 + max(recipe.clicks)]
        asked = next_clicks(prompts, logits, torch.zeros(count, 1, 64, 64), wanted, SIZE, uniform, recipe)
        slot = -max(recipe.clicks)  # the first of this round, which every prompt has
        shares[recipe.name] = (asked.points_xy[:, slot, 0] < 60).float().mean()
    assert shares["fluorosam"] == pytest.approx(1600 / (1600 + 768), abs=0.07)  # pixels of the square, of them all
    assert shares["fluoro"] > 0.97


def test_mask_rounds_are_the_last_and_one_between():
    masks = square(30, 40, 60, 90).expand(300, -1, -1)
    uniform = draws(300, SAM_MED2D)
    asked = ask(masks, torch.ones(300), uniform, SAM_MED2D)
    hidden = torch.stack(
        [(mask_alone(asked, uniform, number, 9).point_labels == -1).all(1) for number in range(1, 9)], dim=1
    )
    assert hidden[:, -1].all()
    assert (hidden[:, :-1].sum(1) == 1).all()
    assert (hidden.sum(0) > 20).all()


def test_recipes_are_found_by_name():
    assert find_recipe("sam-med2d") is SAM_MED2D
    with pytest.raises(UsageError, match="--recipe sam"):
        find_recipe("sam")


def test_the_mask_losss_own_derivative_is_that_of_its_terms():
    random = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(6, 3, 8, 8, generator=random, dtype=torch.double)).requires_grad_()
    target = torch.rand(6, 8, 8, generator=random, dtype=torch.double)
    p, t = logits.sigmoid(), target[:, None].expand_as(logits)
    agreement = p * t + (1 - p) * (1 - t)
    entropy = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    focal = ((0.7 * t + 0.3 * (1 - t)) * (1 - agreement) ** 2 * entropy).mean((2, 3))
    dice = 1 - (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
    torch.testing.assert_close(mask_loss(logits, target, 0.7), 20 * focal + dice)
    assert torch.autograd.gradcheck(lambda x: mask_loss(x, target, 0.7), logits)


def test_losses_by_hand():
    target = square(0, 0, 64, 128)[None]
    right, wrong = (target * 2 - 1) * 30, (1 - target * 2) * 30
    losses = mask_loss(torch.stack([right[0], wrong[0], right[0], wrong[0]])[None], target, 0.75)
    assert losses[0, 0] < 1e-3
    assert losses[0, 1] > 10  # 20 x focal of a confident error + Dice 1
    assert best_of(losses)[0] == losses[0, 0] + losses[0, 2]
    half = square(0, 0, 32, 128)[None] * 2 - 1
    iou = hard_iou(torch.stack([right[0], wrong[0], half[0], -right[0] * 0 - 1])[None], target)
    assert iou[0].tolist() == [1, 0, 0.5, 0]

import torch

from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.model.prompt_encoder import BOX_MIN, NEGATIVE, POSITIVE
from fluorosam_cli.training.losses import best_of, hard_iou, mask_loss
from fluorosam_cli.training.prompting import FIRST_DRAWS, first_prompts, jittered_box, next_click, pick

CPU = torch.device("cpu")
SIZE = 128


def square(x0, y0, x1, y1):
    mask = torch.zeros(SIZE, SIZE)
    mask[y0:y1, x0:x1] = 1
    return mask


def ask(masks, present, uniform):
    model = FluoroSAM(preset("tiny", 4))
    empty = model.empty_prompts(len(masks), 4, CPU)
    return first_prompts(empty, torch.ones(len(masks), 4), masks, present, uniform)


def test_first_prompts_lie_on_the_structure_and_every_kind_occurs():
    masks = square(30, 40, 60, 90).expand(400, -1, -1)
    uniform = torch.rand(400, FIRST_DRAWS, generator=torch.Generator().manual_seed(0))
    asked = ask(masks, torch.ones(400), uniform)
    clicked = asked.point_labels[:, 2] == POSITIVE
    x, y = asked.points_xy[clicked, 2].unbind(1)
    assert ((x >= 30) & (x < 60) & (y >= 40) & (y < 90)).all()
    boxed = asked.point_labels[:, 0] == BOX_MIN
    kinds = {(bool(t), bool(p), bool(b)) for t, p, b in zip(asked.has_text, clicked, boxed, strict=True)}
    assert kinds == {(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)}
    assert 0.4 < (asked.has_text & ~clicked & ~boxed).float().mean() < 0.6


def test_an_absent_structure_is_asked_for_by_words_alone():
    masks = torch.zeros(50, SIZE, SIZE)
    asked = ask(masks, torch.zeros(50), torch.rand(50, FIRST_DRAWS))
    assert asked.has_text.all()
    assert (asked.point_labels == -1).all()


def test_pick_is_uniform_over_the_mask():
    mask = square(10, 20, 12, 24)[None].expand(4000, -1, -1)
    spots = pick(mask, torch.rand(4000, generator=torch.Generator().manual_seed(1)), SIZE)
    assert mask[0][spots[:, 1].long(), spots[:, 0].long()].all()
    counts = torch.unique(spots, dim=0, return_counts=True)[1]
    assert len(counts) == 8
    assert counts.min() > 400


def test_box_jitter_is_about_a_tenth_of_the_side():
    masks = square(20, 30, 60, 110).expand(2000, -1, -1)
    box = jittered_box(masks, torch.rand(2000, 4, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(box.mean(0), torch.tensor([19.5, 29.5, 59.5, 109.5]), atol=0.6, rtol=0)
    torch.testing.assert_close(box.std(0), torch.tensor([4.0, 8.0, 4.0, 8.0]), atol=0.5, rtol=0)
    assert (jittered_box(torch.zeros(1, SIZE, SIZE), torch.rand(1, 4)) == 0).all()


def test_the_next_click_falls_on_an_error_with_its_sign():
    target = square(40, 40, 80, 80)
    prompts = ask(target[None].expand(3, -1, -1), torch.ones(3), torch.full((3, FIRST_DRAWS), 0.1))
    predicted = torch.stack([square(40, 40, 80, 60), square(40, 40, 100, 80), target]) * 2 - 1
    logits = torch.nn.functional.interpolate(predicted[:, None], (64, 64), mode="area")[:, 0]
    asked = next_click(prompts, logits, torch.zeros(3, 1, 64, 64), target[None].expand(3, -1, -1), torch.rand(3), 3)
    assert asked.point_labels[:, 3].tolist() == [POSITIVE, NEGATIVE, -1]
    assert 60 <= asked.points_xy[0, 3, 1] < 80
    assert 80 <= asked.points_xy[1, 3, 0] < 100
    assert asked.has_mask.all()


def test_losses_by_hand():
    target = square(0, 0, 64, 128)[None]
    right, wrong = (target * 2 - 1) * 30, (1 - target * 2) * 30
    losses = mask_loss(torch.stack([right[0], wrong[0], right[0], wrong[0]])[None], target)
    assert losses[0, 0] < 1e-3
    assert losses[0, 1] > 10  # 20 x focal of a confident error + Dice 1
    assert best_of(losses)[0] == losses[0, 0] + losses[0, 2]
    half = square(0, 0, 32, 128)[None] * 2 - 1
    iou = hard_iou(torch.stack([right[0], wrong[0], half[0], -right[0] * 0 - 1])[None], target)
    assert iou[0].tolist() == [1, 0, 0.5, 0]

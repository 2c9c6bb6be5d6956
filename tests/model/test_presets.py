import pytest
import torch
from torch import nn

from fluorosam_cli.model.fluorosam import PRESETS, FluoroSAM, preset
from fluorosam_cli.model.layers import Mixing

# preset: parameters in millions (whole network, 512-d text), image embedding, side of the mask logits
SIZES = {
    "swin-l-448": (203.0, (256, 64, 64), 512),
    "swin-b-448": (94.6, (256, 64, 64), 512),
    "swin-t-448": (35.3, (256, 64, 64), 512),
    "vit-b-256": (93.4, (256, 16, 16), 64),
    "small": (3.87, (128, 12, 12), 96),
    "tiny": (3.87, (128, 8, 8), 64),
}


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_and_parameter_counts(name):
    with torch.device("meta"):  # shapes alone: no memory, no arithmetic
        model = FluoroSAM(preset(name, 512))
        size = model.config.image_size_px
        features = model.encode_image(torch.empty(2, 3, size, size))
        decoded = model.decode(features, model.empty_prompts(3, 2, torch.device("meta")))
    millions, image, side = SIZES[name]
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert features.embedding.shape == (2, *image)
    if model.config.detail_dim:
        assert [each.shape[-1] for each in features.details] == [side // 4, side // 2, side]
        assert features.words.shape[-1] == side // 2
    assert decoded.masks.shape == (3, 4, side, side)
    assert decoded.iou.shape == (3, 4)
    assert decoded.presence.shape == (3,)


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_in_it_is_left_to_chance(name):
    """What drops at random would neither resume bit for bit nor be the same in one process and in two."""
    with torch.device("meta"):
        model = FluoroSAM(preset(name, 8))
    rates = [getattr(module, "drop_prob", getattr(module, "p", 0)) or 0 for module in model.modules()]
    assert max(rates) == 0


@pytest.mark.parametrize("name", PRESETS)
def test_no_batch_statistics(name):
    with torch.device("meta"):
        model = FluoroSAM(preset(name, 8))
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    assert not [name for name, _ in model.named_buffers() if "running" in name]


def test_training_mode_treats_every_image_alone():
    torch.manual_seed(0)
    model = FluoroSAM(preset("tiny", 8)).train()
    images = torch.rand(3, 3, 128, 128)
    together = model.image_encoder(images)
    for image, row in zip(images, together, strict=True):
        torch.testing.assert_close(model.image_encoder(image[None])[0], row, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_papers_network_runs():
    torch.manual_seed(0)
    model = FluoroSAM(preset("swin-t-448", 8)).eval()
    size = model.config.image_size_px
    features = model.encode_image(torch.rand(1, 3, size, size))
    assert model.decode(features, model.empty_prompts(1, 1, torch.device("cpu"))).masks.isfinite().all()


def test_travel_is_millimetres_and_costs_nothing_where_it_is_not_asked_for():
    from fluorosam_cli.training.losses import travel_loss

    torch.manual_seed(0)
    config = preset("tiny", 8)
    model = FluoroSAM(config)
    assert model.decode(model.encode_image(torch.rand(1, 3, 128, 128)), _one(model)).travel is None
    model = FluoroSAM(config.model_copy(update={"travel": True}))
    target = torch.zeros(1, 32, 32)
    target[:, 8:20, 4:24] = 40.0
    travel = None
    image = (
        (torch.rand(1, 32, 32) + (target > 0))
        .repeat_interleave(4, 1)
        .repeat_interleave(4, 2)[None]
        .expand(1, 3, 128, 128)
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        travel = model.decode(model.encode_image(image), _one(model)).travel
        assert travel is not None
        loss = travel_loss(travel, target).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert travel is not None
    assert travel.shape == target.shape
    assert 20 < travel[target > 0].median() < 80
    assert travel[target == 0].median() < 5
    assert travel_loss(target, target).item() == 0


def _one(model):
    asked = model.empty_prompts(1, 1, torch.device("cpu"))
    asked.points_xy[:] = 40.0
    asked.point_labels[:] = 1
    return asked


def test_mixing_begins_as_the_identity_and_sees_two_cells_around():
    torch.manual_seed(0)
    mixing, x = Mixing(8, 4), torch.randn(1, 8, 12, 12, requires_grad=True)
    torch.testing.assert_close(mixing(x), x)
    torch.nn.init.ones_(mixing.norm2.weight)
    mixing(x)[0, :, 6, 6].square().sum().backward()
    assert x.grad is not None
    rows, columns = x.grad[0].abs().sum(0).nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 8, 4, 8)

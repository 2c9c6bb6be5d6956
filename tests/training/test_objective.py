"""In bfloat16 the network alone is computed, and what comes out is nearly the same."""

import pytest
import torch

from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.training import objective as module
from fluorosam_cli.training.objective import Objective
from fluorosam_cli.training.recipe import FLUORO

IMAGES, PROMPTS, ASKED = 2, 2, 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FluoroSAM(preset("tiny", 384))


def batch(model):
    made = torch.Generator().manual_seed(1)
    side = model.config.image_size_px
    masks = torch.zeros(IMAGES, ASKED, side, side)
    masks[:, :, side // 4 : side // 2, side // 3 : side // 2] = 1
    return {
        "image": torch.rand(IMAGES, side, side, generator=made),
        "masks": masks,
        "phrase": torch.arange(ASKED).expand(IMAGES, -1),
        "present": torch.ones(IMAGES, ASKED),
        "usable": torch.ones(IMAGES, ASKED, dtype=torch.bool),
        "uniform": torch.rand(IMAGES, ASKED, FLUORO.draws, generator=made),
    }


def test_bfloat16_is_the_networks_alone(model, monkeypatch):
    met = {}

    def watched(owner, name):
        function = getattr(owner, name)

        def watch(*given, **named):
            met.setdefault(name, set()).add(torch.is_autocast_enabled("cpu"))
            return function(*given, **named)

        monkeypatch.setattr(owner, name, watch)

    for name in ("first_prompts", "next_clicks", "hard_iou", "mask_loss", "map_loss"):
        watched(module, name)
    for name in ("encode_image", "decode"):
        watched(model, name)
    tokens = torch.randn(ASKED, model.config.embedding_dim, generator=torch.Generator().manual_seed(2))
    single, half = (Objective(model, tokens, PROMPTS, FLUORO, bf16)(batch(model)) for bf16 in (False, True))
    torch.testing.assert_close(half.per_image, single.per_image, rtol=0.02, atol=0)
    torch.testing.assert_close(half.iou, single.iou, rtol=0.02, atol=0)
    assert {name: met.pop(name) for name in ("encode_image", "decode")} == {
        "encode_image": {False, True},
        "decode": {False, True},
    }
    assert len(met) == 5
    assert set().union(*met.values()) == {False}


def test_positions_stay_exact_in_bfloat16(model):
    points = torch.tensor([[[10.25, 30.5], [100.75, 90.0]]])
    exact = model.prompt_encoder.pe_layer(points / 128)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.prompt_encoder.pe_layer(points / 128), exact)

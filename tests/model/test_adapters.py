import pytest
import torch

from fluorosam_cli.contracts import TextEncoderConfig
from fluorosam_cli.model.adapters import is_adapter
from fluorosam_cli.model.checkpoint import load_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.training.start import Origin, Start, build
from tests.model.test_fluorosam import CPU, TEXT_DIM, save


def small_copy(name):
    """A preset's configuration, at a small input unless it has one."""
    config = preset(name, TEXT_DIM)
    return config if name == "tiny" else config.model_copy(update={"image_size_px": 224, "grid_px": 16})


@pytest.mark.parametrize("name", ["tiny", "swin-t-448"])
def test_adapters_change_nothing_until_trained_and_take_all_of_the_encoders_gradient(name, tmp_path):
    torch.manual_seed(0)
    model = FluoroSAM(small_copy(name)).eval()
    save(model, tmp_path / "plain")
    config = model.config.model_copy(update={"adapters": True})
    encoder = TextEncoderConfig(name="minilm", revision="x", dim=TEXT_DIM)
    head = model.text_head.state_dict()
    start = Start(config, [], torch.zeros(0, config.embedding_dim), None, encoder, head, {}, [])
    adapted = build(start, Origin(checkpoint=tmp_path / "plain", freeze_encoder=True, adapters=True), 0, False).eval()
    image = torch.rand(1, 3, model.config.image_size_px, model.config.image_size_px)
    with torch.no_grad():
        torch.testing.assert_close(adapted.image_encoder(image), model.image_encoder(image), atol=1e-4, rtol=1e-4)
    asked = adapted.empty_prompts(1, 1, CPU)
    asked.point_labels.fill_(1)
    asked.has_text.fill_(True)
    optimiser = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    before = {name: value.clone() for name, value in adapted.image_encoder.state_dict().items()}
    for _ in range(2):  # the zero layers first, then what lies behind them
        optimiser.zero_grad()
        adapted.decode(adapted.encode_image(image), asked).masks.square().mean().backward()
        optimiser.step()
    changed = {
        name for name, value in adapted.image_encoder.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(is_adapter(name) for name in changed)
    blocks = {name.split(".adapter.")[0] for name in before if is_adapter(name)}
    assert len(blocks) == len({name.split(".adapter.")[0] for name in changed})
    assert any(p.grad is not None and p.grad.any() for p in adapted.mask_decoder.parameters())
    save(adapted, tmp_path / "trained")
    loaded, header = load_checkpoint(tmp_path / "trained")
    assert header.model.adapters
    with torch.no_grad():
        torch.testing.assert_close(loaded.image_encoder(image), adapted.eval().image_encoder(image))

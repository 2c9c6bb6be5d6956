"""The small backbone against timm's `resnet10t` of half the width and twice the depth."""

import torch

from fluorosam_cli.model.resnet import BLOCKS, STEM, WIDTHS, HalfResNet18t, group_norm


@torch.no_grad()
def test_it_is_timms():
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(
        "resnet10t",
        layers=(BLOCKS,) * 4,
        channels=WIDTHS,
        stem_width=STEM[1],
        norm_layer=lambda channels, **_: group_norm(channels),
        zero_init_last=False,
        features_only=True,
        out_indices=(1, 2, 3, 4),
    )
    assert theirs.feature_info.channels() == list(WIDTHS)
    ours = HalfResNet18t()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 70, 96)
    for mine, other in zip(ours(image), theirs(image), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)

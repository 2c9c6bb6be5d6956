"""Checkpoints of the SAM family, written here with random weights in the layouts their projects publish."""

import os
import pickle

import pytest
import torch

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.fluorosam import FluoroSAM, preset
from fluorosam_cli.model.foreign import load_backbone, load_foreign, read_tensors

PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")


@pytest.fixture(scope="module")
def sam_state():
    registry = pytest.importorskip("segment_anything", reason="needs the extra `sam`").sam_model_registry
    torch.manual_seed(1)
    return registry["vit_b"]().state_dict()


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return FluoroSAM(preset("vit-b-256", 8)).eval()


def test_sam_fills_decoder_and_encoder(sam_state, vit, tmp_path):
    torch.save(sam_state, tmp_path / "sam_vit_b.pth")
    done = load_foreign(vit, tmp_path / "sam_vit_b.pth")
    assert len(done.loaded) == len(sam_state)
    assert not done.skipped
    own = vit.state_dict()
    name = "mask_decoder.transformer.layers.1.mlp.lin1.weight"
    assert torch.equal(own[name], sam_state[name])
    assert torch.equal(
        own["image_encoder.backbone.blocks.3.mlp.fc1.weight"], sam_state["image_encoder.blocks.3.mlp.lin1.weight"]
    )


def test_positions_of_another_image_size_are_interpolated(sam_state, vit, tmp_path):
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    table = torch.stack([rows, columns], -1).repeat(1, 1, 384)[None]
    along = torch.arange(127.0)[:, None].repeat(1, 64)
    names = "image_encoder.pos_embed", "image_encoder.blocks.2.attn.rel_pos_h"
    torch.save(sam_state | dict(zip(names, (table, along), strict=True)), tmp_path / "ramps.pth")
    load_foreign(vit, tmp_path / "ramps.pth")
    own = vit.state_dict()
    got = own["image_encoder.backbone.pos_embed"][0]
    centres = torch.arange(16.0) * 4 + 1.5  # of four cells each
    inner = slice(2, -2)  # the filter is cut at the border
    torch.testing.assert_close(got[inner, 0, 0], centres[inner], atol=0.05, rtol=0)
    torch.testing.assert_close(got[0, inner, 1], centres[inner], atol=0.05, rtol=0)
    relative = own["image_encoder.backbone.blocks.2.attn.rel_pos_h"][:, 0]
    torch.testing.assert_close(relative[15], torch.tensor(63.0))  # no offset stays none
    torch.testing.assert_close(relative.diff()[1:-1], torch.full((28,), 127 / 31))


@torch.no_grad()
def test_sam_med2d_gives_its_whole_network_but_the_adapters(sam_state, vit, tmp_path):
    modeling = pytest.importorskip("segment_anything.modeling")
    theirs = modeling.ImageEncoderViT(
        img_size=256, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4, out_chans=256, patch_size=16, qkv_bias=True,
        use_rel_pos=True, global_attn_indexes=[2, 5, 8, 11], window_size=14,
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
    ).eval()  # fmt: skip
    theirs.pos_embed.normal_(std=0.1)
    state = {name: value for name, value in sam_state.items() if not name.startswith("image_encoder.")}
    state |= {f"image_encoder.{name}": value for name, value in theirs.state_dict().items()}
    state |= {"image_encoder.blocks.0.Adapter.channel.0.weight": torch.randn(192, 768)}
    torch.save({"model": state, "optimizer": {"lr": 1e-4}}, tmp_path / "sam-med2d_b.pth")
    done = load_foreign(vit, tmp_path / "sam-med2d_b.pth")
    assert done.skipped == [("image_encoder.blocks.0.Adapter.channel.0.weight", "no such part")]
    image = torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(vit.image_encoder(image), theirs(image), atol=1e-4, rtol=1e-4)


def test_medsam_initialises_the_decoder_of_a_swin(sam_state, tmp_path):
    torch.save({f"module.{name}": value for name, value in sam_state.items()}, tmp_path / "medsam.pth")
    model = FluoroSAM(preset("swin-t-448", 8))
    done = load_foreign(model, tmp_path / "medsam.pth")
    assert not any(name.startswith("image_encoder") for name in done.loaded)
    assert sum(name.startswith("mask_decoder") for name in done.loaded) > 100
    assert all(reason for _, reason in done.skipped)


@pytest.mark.parametrize(("donor", "receiver"), [("tiny", "small"), ("swin-t-448", "swin-t-448")])
def test_another_size_of_ours_gives_all_that_it_learnt(donor, receiver, tmp_path):
    from safetensors.torch import save_file

    theirs, ours = FluoroSAM(preset(donor, 8)), FluoroSAM(preset(receiver, 8))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    done = load_foreign(ours, tmp_path / "model.safetensors")
    assert not done.skipped
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


class Danger:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, writer):
    model = FluoroSAM(preset("swin-t-448", 8))
    path, witness = tmp_path / "evil.pth", tmp_path / "was-run"
    state = {"mask_decoder.iou_token.weight": Danger(witness)}
    torch.save(state, path) if writer == "torch" else path.write_bytes(pickle.dumps(state))
    with pytest.raises(FluoroError, match="as tensors alone"):
        load_foreign(model, path)
    with pytest.raises(FluoroError, match="as tensors alone"):
        load_backbone(model, str(path))
    assert not witness.exists()


def test_files_that_fit_nothing(tmp_path):
    model = FluoroSAM(preset("tiny", 8))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(FluoroError, match="nothing in it fits"):
        load_foreign(model, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(FluoroError, match=r"text\.pth"):
        load_foreign(model, tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(FluoroError, match="no state dict"):
        load_foreign(model, tmp_path / "list.pth")
    with pytest.raises(FluoroError, match="no such file"):
        load_backbone(model, str(tmp_path / "absent.safetensors"))
    with pytest.raises(FluoroError, match="tiny has no backbone of timm's"):
        load_backbone(model, "ms_in1k")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_pretrained_backbone_from_a_file(tmp_path, suffix):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    donor = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5)
    path = tmp_path / f"weights{suffix}"
    save_file(donor.state_dict(), path) if suffix == ".safetensors" else torch.save(donor.state_dict(), path)
    model = FluoroSAM(preset("swin-t-448", 8))
    done = load_backbone(model, str(path))
    assert len(done.loaded) > 150
    name = "image_encoder.backbone.layers_2.blocks.4.attn.qkv.weight"
    assert torch.equal(model.state_dict()[name], donor.state_dict()["layers.2.blocks.4.attn.qkv.weight"])


def test_a_tag_without_a_connection(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = FluoroSAM(preset("swin-t-448", 8))
    with pytest.raises(FluoroError, match=r"swin_tiny_patch4_window7_224\.ms_in1k: cannot be had"):
        load_backbone(model, "ms_in1k")
    with pytest.raises(FluoroError, match="cannot be had"):
        load_backbone(model, "no_such_tag")
    monkeypatch.setenv("FLUORO_OFFLINE", "1")
    with pytest.raises(FluoroError, match="not downloaded, FLUORO_OFFLINE is set"):
        load_backbone(model, "ms_in1k")


def test_wrapped_state_dicts(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "a.pth")
    assert read_tensors(tmp_path / "a.pth")["a"].sum() == 2

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fluorosam_cli.contracts import TextEncoderConfig
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.geometry.frame import Frame
from fluorosam_cli.model import checkpoint
from fluorosam_cli.model.checkpoint import HEADER, load_checkpoint, save_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM, ImageFeatures, Prompts, preset
from fluorosam_cli.model.preprocess import channels, fit, to_image

CPU = torch.device("cpu")
TEXT_DIM = 12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FluoroSAM(preset("tiny", TEXT_DIM)).eval()


def prompts(model, count, points, seed=0):
    random = torch.Generator().manual_seed(seed)
    empty = model.empty_prompts(count, points, CPU)
    empty.text.copy_(torch.randn(count, model.config.embedding_dim, generator=random))
    empty.has_text[::2] = True
    empty.points_xy.copy_(torch.rand(count, points, 2, generator=random) * 128)
    empty.point_labels[:, 0] = 1
    return empty


def take(p: Prompts, row: int, points: int) -> Prompts:
    one = slice(row, row + 1)
    return Prompts(
        p.image_index[one],
        p.text[one],
        p.has_text[one],
        p.points_xy[one, :points],
        p.point_labels[one, :points],
        p.mask_logits[one],
        p.has_mask[one],
    )


@torch.no_grad()
def test_a_prompt_answers_the_same_alone_and_in_a_padded_batch(model):
    features = model.encode_image(channels(torch.rand(2, 128, 128)))
    batch = prompts(model, 6, 5)
    batch.image_index.copy_(torch.tensor([0, 1, 0, 1, 0, 1]))
    together = model.decode(features, batch)
    for row in range(6):
        alone = model.decode(features, take(batch, row, 1))
        torch.testing.assert_close(alone.masks[0], together.masks[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.presence[0], together.presence[row], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_finest_masks_begin_as_the_coarser_ones_doubled(model):
    coarser = FluoroSAM(model.config.model_copy(update={"finest_dim": 0})).eval()
    assert not coarser.load_state_dict(model.state_dict(), strict=False).missing_keys
    image, asked = channels(torch.rand(1, 128, 128)), prompts(model, 4, 2)
    finest = model.decode(model.encode_image(image), asked).masks
    side = coarser.config.logits_px
    asked = replace(asked, mask_logits=asked.mask_logits[..., :side, :side])  # nothing in them
    coarse = coarser.decode(coarser.encode_image(image), asked).masks
    smooth = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(finest, smooth, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_previous_mask_keeps_what_is_thinner_than_a_coarse_cell(model):
    asked = prompts(model, 1, 1)
    none = model.decode(model.encode_image(channels(torch.zeros(1, 128, 128))), asked)
    asked.has_mask[:] = True
    asked.mask_logits[..., 31, :] = 8  # one row of the finest cells
    line = model.decode(model.encode_image(channels(torch.zeros(1, 128, 128))), asked)
    gain = (line.masks - none.masks)[0, 0].mean(1)
    assert gain.argmax() == 31
    assert gain[31] - gain[[29, 33]].max() > 7


@torch.no_grad()
def test_decoder_and_prompt_encoder_equal_segment_anything():
    modeling = pytest.importorskip("segment_anything.modeling", reason="needs the extra `sam`")
    config = preset("vit-b-256", TEXT_DIM).model_copy(update={"backbone": "resnet18t_half"})  # only the decoder runs
    torch.manual_seed(0)
    ours = FluoroSAM(config).eval()
    side, size = config.grid_px, config.image_size_px
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = modeling.MaskDecoder(transformer_dim=256, transformer=transformer).eval()
    encoder = modeling.PromptEncoder(256, (side, side), (size, size), mask_in_chans=16).eval()
    for theirs, mine in ((decoder, ours.mask_decoder), (encoder, ours.prompt_encoder)):
        missing, unexpected = theirs.load_state_dict(mine.state_dict(), strict=False)
        assert not missing
        assert all(name.startswith("presence_head") for name in unexpected)
    embedding = torch.randn(1, 256, side, side)
    points = torch.tensor([[[30.0, 40.0], [100.0, 7.0]]])
    labels = torch.tensor([[1, 0]])
    mask = torch.randn(1, 1, 4 * side, 4 * side)
    box = torch.tensor([[10.0, 20.0, 90.0, 120.0]])
    sparse, dense = encoder(points=(points, labels), boxes=box, masks=mask)
    expected, expected_iou = decoder(embedding, encoder.get_dense_pe(), sparse, dense, multimask_output=True)
    asked = Prompts(
        image_index=torch.zeros(1, dtype=torch.long),
        text=torch.zeros(1, config.embedding_dim),
        has_text=torch.tensor([False]),
        points_xy=torch.cat([points, box.reshape(1, 2, 2)], dim=1),
        point_labels=torch.tensor([[1, 0, 2, 3]]),
        mask_logits=mask,
        has_mask=torch.tensor([True]),
    )
    decoded = ours.decode(ImageFeatures(embedding), asked)
    torch.testing.assert_close(decoded.masks[:, 1:], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoded.iou[:, 1:], expected_iou, atol=1e-5, rtol=1e-5)


def test_unknown_preset():
    with pytest.raises(UsageError, match="not a model preset"):
        preset("huge", 1)


@pytest.mark.parametrize("height_width", [(61, 97), (97, 61), (128, 128), (300, 200), (5, 400)])
def test_points_and_masks_share_one_geometry(height_width):
    height, width = height_width
    image = torch.zeros(height, width)
    image[height // 2 :, width // 3 :] = 1
    square, frame = fit(image, 128)
    assert square.shape == (128, 128)
    rows, columns = frame.inner
    assert square[rows:].sum() == square[:, columns:].sum() == 0
    back = to_image((square - 0.5)[None], frame)[0] > 0
    assert back.shape == image.shape
    assert (back == (image > 0.5)).float().mean() > 0.93
    corner = frame.to_input(torch.tensor([width - 0.5, height - 0.5]))
    torch.testing.assert_close(corner, torch.tensor([columns - 0.5, rows - 0.5]), atol=0.51, rtol=0)


@pytest.mark.parametrize("width", [3000, 2980, 2960])
def test_a_border_stays_where_it_is_when_the_image_ends_within_a_cell(width):
    """The logits change sign at the same share of the image, whatever its sides; 96 cells of 31 pixels each."""
    frame = Frame(3000, width, 192)
    covered = frame.inner[1] / 2
    centres = (torch.arange(96) + 0.5) / covered
    back = to_image((centres - 0.6).expand(1, 96, 96), frame)[0, 0]
    assert abs(int((back <= 0).sum()) / width - 0.6) < 1 / width


def test_channels_ignore_scale_and_offset_and_batch():
    images = torch.rand(3, 32, 32)
    torch.testing.assert_close(channels(images * 900 + 70), channels(images), atol=2e-3, rtol=0)
    torch.testing.assert_close(channels(images)[1:2], channels(images[1:2]))


def test_windows_sit_on_the_two_clusters():
    image = torch.cat([torch.full((500,), 0.2), torch.full((524,), 0.8)]).reshape(1, 32, 32)
    image[0, 0, 0], image[0, 0, 1] = 0, 1
    _, dark, bright = channels(image)[0].reshape(3, -1)
    assert dark[5].abs() < 0.2
    assert dark[-5] == 1
    assert bright[-5].abs() < 0.2
    assert bright[5] == -1


def save(model, folder, step=1):
    return save_checkpoint(
        folder,
        model,
        text_encoder=TextEncoderConfig(name="minilm", revision="x", dim=TEXT_DIM),
        step=step,
        seed=0,
        structures=["heart"],
        shards_sha256="0" * 64,
        metrics={},
    )


def test_checkpoints_come_back_and_only_the_newest_stays(model, tmp_path):
    save(model, tmp_path, 1)
    header = save(model, tmp_path, 2)
    (weights,) = tmp_path.glob("*.safetensors")
    assert weights.name == header.weights
    assert weights.stat().st_mode == (tmp_path / "checkpoint.json").stat().st_mode  # whoever may read one, may both
    loaded, _ = load_checkpoint(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_an_earlier_checkpoint_stays_whole_until_another_of_the_same_step_is_finished(model, tmp_path, monkeypatch):
    save(model, tmp_path, 1)
    other = FluoroSAM(model.config)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save(other, tmp_path, 1)
    loaded, _ = load_checkpoint(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    header = save(other, tmp_path, 1)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [header.weights]


def test_damaged_and_foreign_checkpoints_are_refused(model, tmp_path):
    header = save(model, tmp_path)
    weights = tmp_path / header.weights
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(FluoroError, match="sha256"):
        load_checkpoint(tmp_path)
    path = tmp_path / HEADER
    path.write_text(path.read_text().replace("fluoro.checkpoint/1", "fluoro.checkpoint/9"))
    with pytest.raises(FluoroError, match=r"fluoro\.checkpoint/9"):
        load_checkpoint(tmp_path)
    with pytest.raises(FluoroError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent")


def test_frame_scale():
    assert Frame(100, 50, 200).scale == 2

"""Randomly initialised weights in the format of each family, small ones, against the authors' own predictor."""

import copy
import pickle

import numpy as np
import pytest
import torch

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation.protocol import SERIES, Protocol, score_scene, understood
from fluorosam_cli.evaluation.segmenter import load_segmenter
from fluorosam_cli.evaluation.sources import Scene
from fluorosam_cli.prediction.overlay import to_display
from fluorosam_cli.prediction.predictor import ImagePrompt

GRID, WIDTH, DEPTH = 6, 32, 3  # 96 px
POINT = ImagePrompt(points_xy=[(30, 20)], point_labels=[1])
POINTS = ImagePrompt(points_xy=[(30, 20), (5, 60)], point_labels=[1, 0])
BOX = ImagePrompt(box_xyxy=(10, 12, 60, 50))


def sam(seed=0):
    modeling = pytest.importorskip("segment_anything.modeling", reason="needs the extra: fluorosam-cli[sam]")
    torch.manual_seed(seed)
    encoder = modeling.ImageEncoderViT(
        img_size=GRID * 16, embed_dim=WIDTH, depth=DEPTH, num_heads=4, out_chans=32, use_rel_pos=True, window_size=14,
        global_attn_indexes=(1,), norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
    )  # fmt: skip
    prompts = modeling.PromptEncoder(32, (GRID, GRID), (GRID * 16, GRID * 16), 16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=32, num_heads=8, mlp_dim=64)
    decoder = modeling.MaskDecoder(transformer_dim=32, transformer=transformer)
    model = modeling.Sam(encoder, prompts, decoder).eval()
    for parameter in model.parameters():  # biases and relative positions begin at 0, which would hide mistakes
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def write_adapted(path):
    """SAM-Med2D's file: its weights with adapters under `model`, and the optimiser as an object."""
    state = sam().state_dict()
    for block in range(DEPTH):
        name = f"image_encoder.blocks.{block}.Adapter."
        state[name + "channel.0.weight"] = torch.randn(WIDTH // 4, WIDTH)
        state[name + "channel.2.weight"] = torch.randn(WIDTH, WIDTH // 4)
        state[name + "spatial.0.weight"] = torch.randn(WIDTH, WIDTH, 3, 3) * 0.1
        state[name + "spatial.2.weight"] = torch.randn(WIDTH, WIDTH, 4, 4) * 0.1
        state[name + "norm.weight"], state[name + "norm.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    weight = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()
    optimiser.step()
    torch.save({"model": state, "optimizer": optimiser}, path)
    return state


def image():
    rng = np.random.default_rng(0)
    return (rng.random((72, 90)).cumsum(axis=1) * 500).astype(np.uint16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(sam().state_dict(), folder / "sam.pth")
    write_adapted(folder / "adapted.pth")
    return folder


@pytest.mark.parametrize("prompt", [POINT, POINTS, BOX], ids=["point", "points", "box"])
def test_sam_answers_as_its_own_predictor_does(files, prompt):
    from segment_anything import SamPredictor

    segmenter, described = load_segmenter(f"sam:{files / 'sam.pth'}", "cpu")
    assert described.takes == ["points", "box", "mask"]
    segmenter.set_image(image())
    [answer] = segmenter.predict_batch([prompt])
    own = SamPredictor(sam())
    own.set_image(np.repeat(to_display(image().astype(np.float32))[..., None], 3, axis=2))
    multimask = prompt is POINT
    masks, ious, logits = own.predict(
        point_coords=np.array(prompt.points_xy, float) if len(prompt.points_xy) else None,
        point_labels=np.array(prompt.point_labels) if len(prompt.points_xy) else None,
        box=None if prompt.box_xyxy is None else np.array(prompt.box_xyxy) - 0.5,
        multimask_output=multimask,
    )
    best = int(ious.argmax())
    assert answer.best == best + multimask
    np.testing.assert_allclose(answer.logits[answer.best], logits[best], atol=0.15)  # it rounds the image to 8 bits
    assert (answer.mask != masks[best]).mean() < 0.02
    [fed_back] = segmenter.predict_batch(
        [ImagePrompt(points_xy=[(3, 4)], point_labels=[0], mask_input=answer.logits[0])]
    )
    assert fed_back.mask.shape == (72, 90)


def test_each_prompt_is_answered_as_if_alone(files):
    segmenter, _ = load_segmenter(f"sam:{files / 'sam.pth'}", "cpu")
    segmenter.set_image(image())
    together = segmenter.predict_batch([POINT, BOX, POINTS, POINT])
    for prompt, answer in zip([POINT, BOX, POINTS, POINT], together, strict=True):
        [alone] = segmenter.predict_batch([prompt])
        np.testing.assert_allclose(answer.logits, alone.logits, atol=1e-4)


def test_medsam_takes_a_box_alone(files):
    segmenter, described = load_segmenter(f"medsam:{files / 'sam.pth'}", "cpu")
    assert described.takes == ["box"]
    assert understood(SERIES, described) == ("box",)
    segmenter.set_image(image())
    [answer] = segmenter.predict_batch([BOX])
    assert (answer.masks.shape, answer.best) == ((1, 72, 90), 0)


def test_sam_med2d_runs_its_adapters(files):
    """The encoder with adapters, written out by hand block by block, gives the same embedding."""
    segmenter, described = load_segmenter(f"sam-med2d:{files / 'adapted.pth'}", "cpu")
    assert understood(SERIES, described) == ("points", "box", "box+points")
    segmenter.set_image(image())
    state = torch.load(files / "adapted.pth", weights_only=False)["model"]
    encoder = sam().image_encoder
    grey = torch.nn.functional.interpolate(
        torch.from_numpy(to_display(image().astype(np.float32)))[None, None].float(), (96, 96), mode="bilinear"
    )
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    with torch.inference_mode():
        x = encoder.patch_embed((grey.expand(1, 3, -1, -1) - mean) / deviation) + encoder.pos_embed
        for i, block in enumerate(encoder.blocks):
            name = f"image_encoder.blocks.{i}.Adapter."
            without = block(x)
            normed = block.norm2(_before_mlp(block, x))
            planes = normed.permute(0, 3, 1, 2)
            gate = planes.mean((2, 3)) @ state[name + "channel.0.weight"].T
            gate = torch.sigmoid(gate.relu() @ state[name + "channel.2.weight"].T)
            spatial = torch.nn.functional.conv2d(
                gate[..., None, None] * planes, state[name + "spatial.0.weight"], None, 2, 1
            )
            spatial = torch.nn.functional.conv_transpose2d(spatial.relu(), state[name + "spatial.2.weight"], None, 2, 1)
            adapted = torch.nn.functional.layer_norm((planes + spatial.relu()).permute(0, 2, 3, 1), (WIDTH,))
            x = without + adapted
        expected = encoder.neck(x.permute(0, 3, 1, 2))
    np.testing.assert_allclose(segmenter._embedding, expected, atol=1e-4)  # pyright: ignore


def _before_mlp(block, x):
    """What a block adds its MLP to: its answer where the MLP gives nothing."""
    silent = copy.deepcopy(block)
    silent.mlp.lin2.weight.data.zero_()
    silent.mlp.lin2.bias.data.zero_()
    return silent(x)


def test_what_a_model_does_not_take_is_left_blank(files):
    segmenter, described = load_segmenter(f"sam:{files / 'sam.pth'}", "cpu")
    series = understood(SERIES, described)
    assert series == ("points", "box", "box+points")
    mask = np.zeros((72, 90), bool)
    mask[20:40, 30:60] = True
    scene = Scene("a", "pa", image(), {"heart": mask}, ["liver"], None)
    words = {"heart": ["heart", "cor"], "liver": ["liver"]}
    rows = score_scene(Protocol(series, 2, 0, words, words, 0), segmenter, True, scene, 0)
    assert [row.prompt for row in rows] == ["points+1", "points+2", "box", "box+1", "box+2"]
    assert all(row.presence is None and row.phrase is None for row in rows)
    assert all(row.unit == "px" for row in rows)
    assert all(row.oracle_iou >= row.iou for row in rows)  # also where SAM's first mask is its answer


class Explodes:
    def __reduce__(self):
        return (print, ("code from the file ran",))


def test_no_code_in_a_file_is_run(tmp_path, capfd):
    torch.save({"model": {"image_encoder.pos_embed": Explodes()}}, tmp_path / "bad.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Explodes()))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "text.onnx").write_text("not a model")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    for model in ("sam:bad.pth", "sam-med2d:raw.pth", "medsam:cut.pth", "sam:other.pth", "onnx:text.onnx"):
        kind, name = model.split(":")
        with pytest.raises(FluoroError):
            load_segmenter(f"{kind}:{tmp_path / name}", "cpu")
    assert "code from the file ran" not in capfd.readouterr().out


def test_a_size_that_is_not_the_files(files):
    with pytest.raises(FluoroError, match="its width is 32, not that of vit_b"):
        load_segmenter(f"sam:vit_b:{files / 'sam.pth'}", "cpu")


def onnx_model(path, inputs, nodes, outputs):
    onnx = pytest.importorskip("onnx", reason="needs the extra: fluorosam-cli[onnx]")
    pytest.importorskip("onnxruntime", reason="needs the extra: fluorosam-cli[onnx]")
    helper, kinds = onnx.helper, {"f": onnx.TensorProto.FLOAT, "s": onnx.TensorProto.STRING}
    declared = [helper.make_tensor_value_info(name, kinds[kind], shape) for name, kind, shape in inputs]
    given = [helper.make_tensor_value_info(name, kinds["f"], shape) for name, shape in outputs]
    graph = helper.make_graph([helper.make_node(*node[:3], **node[3]) for node in nodes], "g", declared, given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return f"onnx:{path}"


def test_onnx_is_asked_with_what_it_declares(tmp_path):
    """A network that takes the bright half of the image, and whose presence is how many points it was given."""
    model = onnx_model(
        tmp_path / "bright.onnx",
        [("image", "f", [1, 1, "h", "w"]), ("point_coords", "f", [1, "k", 2]), ("point_labels", "f", [1, "k"])],
        [
            ("ReduceMean", ["image"], ["middle"], {"axes": [2, 3], "keepdims": 1}),
            ("Sub", ["image", "middle"], ["masks"], {}),
            ("ReduceSum", ["point_labels"], ["presence"], {"keepdims": 0}),
        ],
        [("masks", [1, 1, "h", "w"]), ("presence", [])],
    )  # fmt: skip
    segmenter, described = load_segmenter(model, "cpu")
    assert described.takes == ["points"]
    picture = np.zeros((40, 50), np.uint8)
    picture[10:20, 10:40] = 200
    segmenter.set_image(picture)
    one, two = segmenter.predict_batch([POINT, ImagePrompt(points_xy=[(1, 1), (2, 2)], point_labels=[1, 1])])
    assert (one.mask == (picture > 0)).all()
    assert (one.presence, two.presence) == (1, 2)


def test_an_onnx_file_with_other_names_is_refused(tmp_path):
    model = onnx_model(
        tmp_path / "other.onnx", [("x", "f", [1, 1, 4, 4])], [("Neg", ["x"], ["y"], {})], [("y", [1, 1, 4, 4])]
    )
    with pytest.raises(FluoroError, match="inputs are x, outputs y"):
        load_segmenter(model, "cpu")

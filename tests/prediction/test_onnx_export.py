"""The exported network, run with onnxruntime by a user who has only docs/onnx.md, against `Predictor`."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fluorosam_cli.artefacts import read_header, sha256_of
from fluorosam_cli.contracts import Onnx
from fluorosam_cli.model import preprocess
from fluorosam_cli.prediction.predictor import Predictor

pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, tmp_path_factory):
    from fluorosam_cli import cli

    folder = tmp_path_factory.mktemp("exported") / "onnx"
    assert cli.run(["export", str(tiny_checkpoint), "--onnx", "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[0:90, 0:140]
    return (np.random.default_rng(0).integers(0, 3000, (90, 140)) + 40_000 * (np.hypot(x - 90, y - 40) < 30)).astype(
        np.uint16
    )


class Browser:
    """What docs/onnx.md tells to do, without a line of fluoro."""

    def __init__(self, folder, image):
        self.header = json.loads((folder / "onnx.json").read_text())
        self.decoder = onnxruntime.InferenceSession(folder / self.header["decoder"]["file"])
        encoder = onnxruntime.InferenceSession(folder / self.header["encoder"]["file"])
        self.size, self.shape = self.header["image_size_px"], image.shape
        self.scale = self.size / max(image.shape)
        rows, columns = (max(1, round(side * self.scale)) for side in image.shape)
        small = Image.fromarray(image.astype(np.float32)).resize((columns, rows), Image.Resampling.BILINEAR)
        square = np.zeros((1, self.size, self.size), np.float32)
        square[0, :rows, :columns] = np.asarray(small) - np.asarray(small).min()
        names = [output.name for output in encoder.get_outputs()]
        self.encoded = dict(zip(names, encoder.run(None, {"image": square}), strict=True))
        self.tokens = np.fromfile(folder / self.header["tokens"], "<f4").reshape(-1, self.header["token_dim"])

    def ask(self, phrase=None, points=(), labels=(), earlier=None):
        side = self.header["mask_input_px"]
        rows = {entry["text"]: entry["row"] for entry in self.header["phrases"]}
        xy = (np.array([*points, (0, 0)], np.float32)[None] + 0.5) * self.scale - 0.5  # one padding point, label -1
        logits, ious, presence = self.decoder.run(
            None,
            {
                "points_xy": xy.astype(np.float32),
                "point_labels": np.array([[*labels, -1]]),
                "text": self.tokens[[rows.get(phrase, 0)]],
                "has_text": np.array([phrase is not None]),
                "mask_logits": np.zeros((1, 1, side, side), np.float32) if earlier is None else earlier,
                "has_mask": np.array([earlier is not None]),
                **self.encoded,
            },
        )
        best = ious[0].argmax()
        height, width = self.shape
        side = self.header["logits_px"]
        rows, columns = (max(1, round(round(n * self.scale) * side / self.size)) for n in (height, width))
        inner = Image.fromarray(logits[0, best, :rows, :columns])
        return np.asarray(inner.resize((width, height), Image.Resampling.BILINEAR)), ious[0], presence[0]


def test_onnxruntime_draws_the_same_masks(exported, tiny_checkpoint, image):
    predictor, browser = Predictor.from_checkpoint(tiny_checkpoint).set_image(image), Browser(exported, image)
    for phrase, points, labels in (
        ("whole left lung", [], []),
        ("heart", [[30, 40]], [1]),
        (None, [[90, 40], [5, 5], [100, 50]], [1, 0, 1]),
        ("liver", [[10, 10], [80, 60]], [2, 3]),  # a box: its corners
    ):
        box = None if 2 not in labels else [10.5, 10.5, 80.5, 60.5]
        clicks = ([], []) if box else (points, labels)
        expected = predictor.predict(phrase, *clicks, box)
        logits, ious, presence = browser.ask(phrase, points, labels)
        np.testing.assert_allclose(ious, expected.ious, atol=1e-3)
        assert presence == pytest.approx(expected.presence, abs=1e-3)
        level = np.quantile(logits, 0.7)  # of random weights, 0 may be nowhere or everywhere
        ours = preprocess.to_image(torch.from_numpy(expected.logits[expected.best])[None], expected.frame)[0].numpy()
        assert ((logits > level) & (ours > level)).sum() / ((logits > level) | (ours > level)).sum() > 0.999


def test_the_header_says_what_lies_beside_it(exported, tiny_checkpoint):
    header = read_header(exported / "onnx.json", Onnx)
    for network in (header.encoder, header.decoder):
        assert sha256_of(exported / network.file) == network.sha256
    assert {"whole left lung", "heart"} <= {phrase.text for phrase in header.phrases}
    tokens = np.fromfile(exported / header.tokens, "<f4").reshape(-1, header.token_dim)
    assert {phrase.row for phrase in header.phrases} == set(range(len(tokens)))
    assert not list(exported.glob("*.data"))


def test_a_checkpoint_of_another_text_encoder_is_refused_before_anything_is_written(fluoro, tiny_checkpoint, tmp_path):
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(tiny_checkpoint, other)
    header = json.loads((other / "checkpoint.json").read_text())
    header["text_encoder"]["revision"] = "another"
    (other / "checkpoint.json").write_text(json.dumps(header))
    code, _, err = fluoro("export", other, "--onnx", "-o", out)
    assert code == 1
    assert "the checkpoint needs another" in err
    assert not out.exists()
    out.mkdir()
    earlier = {"run.json": "{}", "onnx.json": "{}", "encoder.onnx": "earlier"}
    for name, text in earlier.items():
        (out / name).write_text(text)
    assert fluoro("export", other, "--onnx", "-o", out, "--overwrite")[0] == 1
    assert {path.name: path.read_text() for path in out.iterdir()} == earlier


def test_the_builtin_checkpoint_is_the_default(fluoro, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("fluorosam_cli.model.checkpoint.SHIPPED", tmp_path / "none")
    assert "no built-in checkpoint" in fluoro("export", "--onnx", "-o", tmp_path / "out")[2]
    monkeypatch.setattr("fluorosam_cli.model.checkpoint.SHIPPED", tiny_checkpoint)
    for words in ((), ("builtin",)):
        plan = json.loads(fluoro("export", *words, "--onnx", "-o", tmp_path / "out", "--dry-run", "--json")[1])
        assert plan["checkpoint"] == str(tiny_checkpoint)
    assert not list(tmp_path.iterdir())


def test_a_format_has_to_be_named(fluoro, tiny_checkpoint, tmp_path):
    code, _, err = fluoro("export", tiny_checkpoint, "-o", tmp_path / "out")
    assert code == 2
    assert "fluoro export --onnx" in err
    assert not (tmp_path / "out").exists()

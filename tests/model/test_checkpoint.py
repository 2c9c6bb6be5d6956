"""Checkpoints that somebody has tampered with, or that a disk has."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fluorosam_cli.artefacts import read_header, sha256_of, write_json
from fluorosam_cli.contracts import Checkpoint
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.checkpoint import HEADER, load_checkpoint

AVERAGE = Path(__file__).parents[2] / "scripts" / "average_checkpoints.py"


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    return folder, read_header(folder / HEADER, Checkpoint)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"backbone": "hf-hub:somebody/model"}, "hf-hub:somebody/model: no name of a Swin or ViT"),
        ({"backbone": "resnet18"}, "resnet18: no name of a Swin or ViT"),  # it has batch norms
        ({"image_size_px": 0}, "images of 0 px"),
        ({"image_size_px": 193}, "images of 193 px"),
        ({"image_size_px": 10**9}, "images of 1000000000 px"),
        ({"embedding_dim": 64}, "does not fit"),
    ],
)
def test_a_header_that_lies_is_refused(copy, changed, said):
    folder, header = copy
    write_json(folder / HEADER, header.model_copy(update={"model": header.model.model_copy(update=changed)}))
    with pytest.raises(FluoroError, match=said):
        load_checkpoint(folder)


def test_weights_that_are_no_numbers_are_refused(copy):
    folder, header = copy
    weights = load_file(folder / header.weights)
    weights["mask_decoder.iou_token.weight"][0, 3] = float("nan")
    save_file(weights, folder / header.weights)
    changed = header.model_copy(update={"weights_sha256": sha256_of(folder / header.weights)})
    write_json(folder / HEADER, changed)
    with pytest.raises(FluoroError, match="weights that are no numbers"):
        load_checkpoint(folder)


def test_only_checkpoints_of_the_same_words_are_averaged(copy, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    folder, header = copy
    monkeypatch.setattr(sys, "argv", ["average", *map(str, (tiny_checkpoint, folder, tmp_path / "mean"))])
    runpy.run_path(str(AVERAGE), run_name="__main__")
    (tmp_path / "mean" / HEADER).unlink()
    weights = load_file(folder / header.weights)
    weights["text_head.mlp.0.weight"] += 1
    save_file(weights, folder / header.weights)
    changed = header.model_copy(update={"weights_sha256": sha256_of(folder / header.weights)})
    write_json(folder / HEADER, changed)
    with pytest.raises(SystemExit):
        runpy.run_path(str(AVERAGE), run_name="__main__")
    assert "their text heads differ" in capsys.readouterr().err
    assert not (tmp_path / "mean" / HEADER).exists()

"""What chooses the best checkpoint: which structures are asked for, where clicks go, what the answers are worth."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from fluorosam_cli.artefacts import sha256_of, write_json
from fluorosam_cli.contracts import Shard, Shards, ShardsPhrase
from fluorosam_cli.dataset.shard_writer import PackedImage, pack_mask, positions_to_bits, write_shard
from fluorosam_cli.dataset.shards import HEADER, ShardReader
from fluorosam_cli.model.fluorosam import FluoroSAM, ImageFeatures, preset
from fluorosam_cli.model.mask_decoder import Decoded
from fluorosam_cli.training import validate as validation
from fluorosam_cli.training.validate import selection, validate

SIZE, IMAGES = 32, 4
CORNERS = {"heart": (2, 3), "liver": (2, 20), "lung_left": (20, 3), "lung_right": (20, 20)}  # row, column of 8 x 8 px
SQUARES = np.zeros((len(CORNERS), SIZE, SIZE), bool)
for square, (top, left) in zip(SQUARES, CORNERS.values(), strict=True):
    square[top : top + 8, left : left + 8] = True
TOKENS = torch.eye(len(CORNERS), 128)


class Oracle(FluoroSAM):
    """Knows the squares: by words half of the heart and all of the others, by clicks nothing before the third."""

    def __init__(self) -> None:
        super().__init__(preset("tiny", 8))
        self.words, self.clicks = [], []

    def encode_image(self, image):
        assert image.shape == (1, 3, 128, 128)
        return ImageFeatures(image)

    def decode(self, features, prompts):
        squares = torch.from_numpy(SQUARES)
        if prompts.has_text.all():
            asked = prompts.text.argmax(dim=1)
            self.words.append(asked.tolist())
            answer = squares[asked]
            answer[asked == 0, :, 7:] = False
        else:
            assert not prompts.has_text.any()
            self.clicks.append(deepcopy(prompts))  # the tensors are written into later
            column, row = ((prompts.points_xy[:, 0] + 0.5) / 4).long().T
            all_made = (prompts.point_labels >= 0).all(dim=1)
            answer = squares[squares[:, row, column].float().argmax(dim=0)] & all_made[:, None, None]
        masks = torch.stack([~answer, answer], dim=1) * 20.0 - 10
        return Decoded(masks, torch.tensor([[0.2, 0.9]]).expand(len(masks), 2), torch.zeros(len(masks)))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Four images, each with all squares."""
    folder = tmp_path_factory.mktemp("squares")
    image = PackedImage(
        np.full((SIZE, SIZE), 30000, np.uint16), (SIZE, SIZE), (SIZE, SIZE), 0, b"pa", (0.0, 0.0), 1.0,
        [pack_mask(square, number, None) for number, square in enumerate(SQUARES)],
        positions_to_bits([], len(CORNERS)),
    )  # fmt: skip
    path = folder / "val-00000.h5"
    write_shard(path, [image] * IMAGES, ["one"])
    shard = Shard(file=path.name, split="val", images=IMAGES, masks=IMAGES * len(CORNERS), sha256=sha256_of(path))
    phrases = [ShardsPhrase(structure=name, text=name, split="train") for name in CORNERS]
    header = Shards(
        size_px=SIZE, polarity="bone_bright", structures=list(CORNERS), cases={"one": "val"}, phrases=phrases,
        shards=[shard],
    )  # fmt: skip
    write_json(folder / HEADER, header)
    return ShardReader(folder, "val")


@pytest.fixture
def oracle():
    return Oracle()


def test_known_answers_have_their_iou(reader, oracle):
    scores = validate(oracle.train(), reader, TOKENS, IMAGES)
    assert scores == pytest.approx({"text_iou": (0.5 + 3) / 4, "clicks_1_iou": 0, "clicks_3_iou": 1})
    assert oracle.training
    assert selection(scores, with_text=True) == pytest.approx((3.5 / 4 + 1) / 2)
    assert selection(scores, with_text=False) == 1


def test_every_image_asks_for_other_structures(reader, oracle, monkeypatch):
    monkeypatch.setattr(validation, "PROMPTS_PER_IMAGE", 1)
    validate(oracle, reader, TOKENS, IMAGES)
    assert oracle.words == [[0], [1], [2], [3]]
    oracle.words.clear()
    validate(oracle, reader, TOKENS, 2)  # the first image and the last
    assert oracle.words == [[0], [3]]


def test_what_has_no_phrase_is_not_asked_for(reader, oracle):
    tokens = TOKENS.clone()
    tokens[0] = torch.nan
    assert validate(oracle, reader, tokens, 1)["text_iou"] == 1
    assert oracle.words == [[1, 2, 3]]
    assert validate(oracle, reader, torch.full_like(TOKENS, torch.nan), 1) == {}


def test_clicks_land_on_the_centre_of_their_pixel_in_the_networks_image(reader, oracle):
    validate(oracle, reader, TOKENS, 1)
    centres = torch.tensor([[(left + 3.5) * 4 - 0.5, (top + 3.5) * 4 - 0.5] for top, left in CORNERS.values()])
    for number, prompts in enumerate(oracle.clicks, 1):
        assert torch.equal(prompts.points_xy[:, :number], centres[:, None].expand(-1, number, -1))
        assert prompts.point_labels.tolist() == [[1] * number + [-1] * (3 - number)] * len(CORNERS)
        assert prompts.has_mask.all() == (number > 1)
    assert len(oracle.clicks) == 3

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fluorosam_cli.anatomy.structures import names
from fluorosam_cli.artefacts import sha256_of, write_json
from fluorosam_cli.contracts import IntegralsHeader, Shard, Shards, ShardsPhrase
from fluorosam_cli.dataset import sheet
from fluorosam_cli.dataset.loader import (
    Positions,
    SampleConfig,
    TrainingSamples,
    draw_warp,
    shares_of_present,
    warped,
    warped_masks,
)
from fluorosam_cli.dataset.pictures import Annotation, Picture, packed
from fluorosam_cli.dataset.randomisation import FULL, OFF
from fluorosam_cli.dataset.shard_writer import write_shard
from fluorosam_cli.dataset.shards import HEADER, ShardReader
from fluorosam_cli.dataset.sheet import write_sheet
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.render.materials import MATERIALS
from tests.dataset.test_redraw import scene
from tests.shapes import STRUCTURES, write_shapes

CONFIG = SampleConfig(size_px=48, prompts=6, draws=7, absent_share=0.3, seed=3)
PATH_MM = 50.0  # through the liver
LEFT_HIP, TOOLS = "hip_left", [f"screw_{i}" for i in range(400)]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Shards with integrals and every name: a chest with a liver, and a hip, whose mask is the left third, in turns."""
    folder, size = tmp_path_factory.mktemp("rendered"), 96
    structures = [*names(), *TOOLS]
    numbers = {name: i for i, name in enumerate(structures)}
    header = IntegralsHeader(size_px=48, materials=list(MATERIALS), tissues=["lung_left", "liver", "ribs"])
    images = []
    for number in range(6):
        mask = np.zeros((size, size), bool)
        mask[:, :32] = True
        present = LEFT_HIP if number % 2 else "liver"
        unknown = {present, "hips"}
        images.append(
            packed(
                Picture(
                    image=np.full((size, size), 1000 * number, np.uint16) + mask * np.uint16(30000),
                    view="pelvis_ap",
                    masks=[Annotation(present, mask, None if number % 2 else np.float32(PATH_MM) * mask)],
                    absent=[name for name in structures if name not in unknown],
                    pixel_spacing_mm=2.0,
                    integrals=scene(),
                    materials=MATERIALS,
                ),
                0, numbers, size, header, False,
            )
        )  # fmt: skip
    write_shard(folder / "train-00000.h5", images, ["one"])
    shard = Shard(file="train-00000.h5", split="train", images=6, masks=6, sha256=sha256_of(folder / "train-00000.h5"))
    phrases = [ShardsPhrase(structure=name, text=name, split="train") for name in structures]
    write_json(
        folder / HEADER,
        Shards(
            size_px=size, polarity="bone_bright", structures=structures, cases={"one": "train"}, phrases=phrases,
            integrals=header, shards=[shard],
        ),
    )  # fmt: skip
    return ShardReader(folder, "train")


def only(**settings: float) -> SampleConfig:
    return replace(CONFIG, absent_share=0.0, randomisation=replace(OFF, **settings))


# --- order ------------------------------------------------------------------------------------------------------------


def test_a_sample_depends_on_seed_and_position_alone(rendered):
    forward, backward = TrainingSamples(rendered, CONFIG), TrainingSamples(rendered, CONFIG)
    there = [forward[i] for i in range(20)]
    back = [backward[i] for i in reversed(range(20))][::-1]
    for a, b in zip(there, back, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    other = TrainingSamples(rendered, replace(CONFIG, seed=4))
    assert not torch.equal(there[0]["image"], other[0]["image"])


def test_workers_draw_the_same_samples(rendered):
    samples = TrainingSamples(rendered, CONFIG)
    positions = Positions(0, 3, batch=4, rank=0, world=1)
    alone, workers = (list(DataLoader(samples, batch_sampler=positions, num_workers=n)) for n in (0, 2))
    for a, b in zip(alone, workers, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_epoch_visits_every_image_once(shapes):
    samples = TrainingSamples(ShardReader(shapes, "train"), CONFIG)
    assert sorted(samples.index(p) for p in range(8, 16)) == list(range(8))


class NothingAbsent(ShardReader):
    """As of a user's own radiographs: what has no mask is unknown. Views are named by whether they have a liver."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        view = "with liver" if STRUCTURES.index("liver") in sample.structures else "without"
        return replace(sample, absent=np.zeros(0, int), view=view)


def test_images_of_which_nothing_can_be_asked_give_way_to_the_next(shapes, tmp_path, monkeypatch):
    reader = NothingAbsent(shapes, "train")
    with_liver = sum(STRUCTURES.index("liver") in sample.structures for sample in reader)
    assert 0 < with_liver < len(reader)
    samples = TrainingSamples(reader, replace(CONFIG, exclude=("heart", "lung_left", "lung_right")))
    for position in range(len(reader)):
        sample = samples[position]
        assert {reader.header.phrases[int(number)].structure for number in sample["phrase"]} == {"liver"}
    heads = []
    monkeypatch.setattr(
        sheet, "_cell", lambda sample, reader, head, prompts: heads.append(head) or Image.new("L", (1, 1))
    )
    write_sheet(tmp_path / "sheet.png", reader, samples.config, rows=len(reader), draws=0)
    assert all(head.endswith("with liver") for head in heads)
    with pytest.raises(FluoroError, match="no image has a mask"):
        TrainingSamples(reader, replace(CONFIG, exclude=tuple(STRUCTURES)))[0]


def test_processes_share_a_step_without_overlap():
    whole = list(Positions(2, 4, batch=6, rank=0, world=1))
    halves = [list(Positions(2, 4, batch=6, rank=rank, world=2)) for rank in range(2)]
    assert whole == [list(range(12, 18)), list(range(18, 24))]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == whole


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_phrases_name_the_structure_and_are_never_held_out(shapes):
    reader = ShardReader(shapes, "train")
    samples = TrainingSamples(reader, CONFIG)
    for position in range(16):
        sample = samples[position]
        structures = {STRUCTURES[s] for s in reader[samples.index(position)].structures}
        for number, present in zip(sample["phrase"], sample["present"], strict=True):
            phrase = reader.header.phrases[int(number)]
            assert phrase.split == "train"
            assert (phrase.structure in structures) == bool(present)


def test_only_what_is_known_to_be_absent_is_called_absent_and_tools_are_half_of_it(rendered):
    samples = TrainingSamples(rendered, replace(CONFIG, prompts=200, absent_share=1.0, randomisation=OFF))
    asked = []
    for position in range(6):
        named = [rendered.header.phrases[int(n)].structure for n in samples[position]["phrase"]]
        present = LEFT_HIP if samples.index(position) % 2 else "liver"
        assert not {present, "hips"} & set(named)  # nobody said whether the hips are there
        asked += named
    assert np.mean([name in TOOLS for name in asked]) == pytest.approx(0.5, abs=0.05)


def test_present_ones_are_drawn_by_the_fourth_root_of_their_areas_and_tools_four_times_as_often():
    shares = shares_of_present(np.array([16, 10000, 16]), np.array([False, False, True]))
    assert shares == pytest.approx(np.array([2, 10, 8]) / 20)


def test_what_is_held_out_is_neither_shown_nor_named(shapes):
    reader = ShardReader(shapes, "train")
    samples = TrainingSamples(reader, replace(CONFIG, exclude=("liver", "heart")))
    asked = {reader.header.phrases[int(n)].structure for p in range(16) for n in samples[p]["phrase"]}
    assert asked == {"lung_left", "lung_right"}


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_off_is_the_image_as_packed(rendered):
    samples = TrainingSamples(rendered, replace(only(), size_px=96))
    for position in range(6):
        sample, packed_sample = samples[position], rendered[samples.index(position)]
        assert torch.allclose(sample["image"], torch.from_numpy(packed_sample.image / np.float32(65535)), atol=1e-5)
        assert np.array_equal(sample["masks"][0].numpy(), packed_sample.mask(0))


def test_integrals_replace_the_picture(rendered):
    samples = TrainingSamples(rendered, only(redraw=1.0))
    there = samples.drawn(0, 0)["image"], samples.drawn(0, 1)["image"]
    assert not torch.equal(*there)
    assert all(len(image.unique()) > 100 for image in there)  # the stored one has two greys


def test_a_flip_exchanges_the_names_of_a_hip_and_leaves_a_chest_alone(rendered):
    samples = TrainingSamples(rendered, only(flip=1.0))
    for index in range(6):
        sample = samples.drawn(index, index)
        (name,) = {rendered.header.phrases[int(n)].structure for n in sample["phrase"]}
        columns = sample["masks"][0].any(dim=0).nonzero()[:, 0]
        where = "right" if columns.float().mean() > 24 else "left"
        assert (name, where) == (("hip_right", "right") if index % 2 else ("liver", "left"))
        bright = sample["image"] > sample["image"].mean()
        assert torch.equal(bright, sample["masks"][0] > 0)  # the picture went the same way


def test_geometry_moves_picture_and_masks_together(rendered):
    sample = rendered[1]
    for seed in range(8):
        warp = draw_warp(np.random.default_rng(seed), FULL, flipped=seed % 2 == 0)
        mask = sample.mask(0)
        moved = warped(mask.astype(np.float32), warp, 64)
        masks = warped_masks(sample, np.zeros(40, int), warp, 64)  # more than fit one word of bits
        assert (masks == masks[0]).all()
        assert np.mean((moved >= 0.5) != masks[0]) < 0.01  # at the edge alone
        assert masks[0].sum() > 50


@pytest.mark.parametrize("side", [640, 639, 637])
def test_a_picture_stays_in_place_where_pixels_are_left_over_when_it_is_made_smaller(side):
    image = np.zeros((side, side), np.float32)
    image[590:610, 30:50] = 1
    small = warped(image, draw_warp(np.random.default_rng(0), OFF), 128)
    row, column = ((small * at).sum() / small.sum() for at in np.indices(small.shape))
    assert row == pytest.approx(600 * 128 / side - 0.5, abs=0.05)
    assert column == pytest.approx(40 * 128 / side - 0.5, abs=0.05)


def test_a_flip_of_a_narrow_image_stays_within_it():
    image = np.zeros((64, 64), np.float32)
    image[:, :32] = np.linspace(0.1, 1, 32)
    flipped = warped(image, draw_warp(np.random.default_rng(0), OFF, flipped=True, inner_share=0.5), 64)
    assert np.allclose(flipped[:, :32], image[:, :32][:, ::-1], atol=1e-4)
    assert not flipped[:, 33:].any()


def test_a_collimator_cuts_masks_and_what_is_gone_is_not_counted(rendered):
    samples = TrainingSamples(rendered, only(collimate=1.0))
    areas = [samples.drawn(1, position)["masks"][0].sum() for position in range(30)]
    assert min(areas) < max(areas) <= 16 * 48
    moved = TrainingSamples(rendered, only(shift=2.0))
    for position in range(30):
        sample = moved.drawn(1, position)
        enough = sample["masks"].mean(dim=(1, 2)) >= 0.001
        assert torch.equal(sample["usable"], enough)
        assert (sample["present"] == 1).all()


def test_path_lengths_move_with_their_masks_and_are_unknown_where_nobody_noted_them(rendered):
    samples = TrainingSamples(rendered, replace(CONFIG, travel=4))
    for position in range(12):
        sample = samples[position]
        assert sample["travel"].shape == (4, 48, 48)
        known = sample["travel_known"].bool()
        assert torch.equal(known, sample["present"][:4].bool() & (samples.index(position) % 2 == 0))
        mask, path = sample["masks"][:4][known] > 0, sample["travel"][known]
        assert not path[~mask].any()
        assert (path[mask] > PATH_MM - 1).float().mean() > 0.9 or not mask.any()  # less at the edge alone
        assert path.max() <= PATH_MM + 1e-3 if len(path) else True


def test_the_sheet_has_a_row_per_image_and_a_column_per_draw(rendered, tmp_path):
    write_sheet(tmp_path / "sheet.png", rendered, CONFIG, rows=2, draws=3)
    write_sheet(tmp_path / "again.png", rendered, CONFIG, rows=2, draws=3)
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.mode == "RGB"
        cells = np.asarray(drawn).reshape(2, drawn.height // 2, 4, drawn.width // 4, 3).swapaxes(1, 2)
    assert not np.array_equal(cells[0, 1], cells[0, 2])
    assert all(cell.max() == 255 for row in cells for cell in row)

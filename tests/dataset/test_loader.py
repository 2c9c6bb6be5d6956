import numpy as np
import torch

from fluorosam_cli.dataset.augment import appearance, geometric
from fluorosam_cli.dataset.loader import Positions, SampleConfig, TrainingSamples
from fluorosam_cli.dataset.shards import ShardReader
from tests.shapes import STRUCTURES, write_shapes

CONFIG = SampleConfig(size_px=48, prompts=6, draws=7, absent_share=0.3, seed=3)


def test_a_sample_depends_on_seed_and_position_alone(tmp_path):
    folder = write_shapes(tmp_path)
    forward = TrainingSamples(ShardReader(folder, "train"), CONFIG)
    backward = TrainingSamples(ShardReader(folder, "train"), CONFIG)
    there = [forward[i] for i in range(20)]
    back = [backward[i] for i in reversed(range(20))][::-1]
    for a, b in zip(there, back, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_epoch_visits_every_image_once(tmp_path):
    samples = TrainingSamples(ShardReader(write_shapes(tmp_path), "train"), CONFIG)
    assert sorted(samples._index(p) for p in range(8, 16)) == list(range(8))


def test_phrases_name_the_structure_and_are_never_held_out(tmp_path):
    reader = ShardReader(write_shapes(tmp_path), "train")
    samples = TrainingSamples(reader, CONFIG)
    for position in range(16):
        sample = samples[position]
        structures = {STRUCTURES[s] for s in reader[samples._index(position)].structures}
        for number, present in zip(sample["phrase"], sample["present"], strict=True):
            phrase = reader.header.phrases[int(number)]
            assert phrase.split == "train"
            assert (phrase.structure in structures) == bool(present)


def test_processes_share_a_step_without_overlap():
    whole = list(Positions(2, 4, batch=6, rank=0, world=1))
    halves = [list(Positions(2, 4, batch=6, rank=rank, world=2)) for rank in range(2)]
    assert whole == [list(range(12, 18)), list(range(18, 24))]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == whole


def test_geometry_moves_image_and_masks_together():
    image = torch.zeros(64, 64)
    image[20:40, 10:30] = 1
    for seed in range(5):
        moved, masks = geometric(image, image[None].clone(), np.random.default_rng(seed))
        assert ((moved >= 0.5).float() == masks[0]).all()
        assert masks.sum() > 50


def test_appearance_stays_in_range_and_follows_its_generator():
    image = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        a, b = (appearance(image, np.random.default_rng(seed)) for _ in range(2))
        assert torch.equal(a, b)
        assert a.min() >= 0
        assert a.max() <= 1

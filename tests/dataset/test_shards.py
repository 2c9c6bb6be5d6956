import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.dataset.shards import ShardReader, pack_mask, unpack_mask, verify
from fluorosam_cli.errors import FluoroError
from tests.shapes import STRUCTURES, draw, write_shapes


@given(arrays(bool, st.tuples(st.just(17), st.just(17))))
@settings(max_examples=50, deadline=None)
def test_masks_survive_packing(mask):
    packed = pack_mask(mask, 3)
    if packed is None:
        assert not mask.any()
    else:
        assert np.array_equal(unpack_mask(packed.bits, np.array(packed.box_xyxy), 17), mask)
        assert packed.area_px == mask.sum()
        assert len(packed.bits) <= 17 * 17 / 8 + 1


def test_samples_come_back_as_written(tmp_path):
    reader = ShardReader(write_shapes(tmp_path), "train")
    rng = np.random.default_rng([7, 0])
    for sample in reader:
        image, masks = draw(rng, 64)
        assert np.array_equal(sample.image, image)
        found = {STRUCTURES[s]: sample.mask(i) for i, s in enumerate(sample.structures)}
        assert found.keys() == masks.keys()
        assert all(np.array_equal(found[name], masks[name]) for name in masks)
    assert reader[3].case == "train1"


def test_equal_input_gives_equal_bytes(tmp_path):
    write_shapes(tmp_path / "a")
    write_shapes(tmp_path / "b")
    assert sha256_of(tmp_path / "a/train-00000.h5") == sha256_of(tmp_path / "b/train-00000.h5")


def test_a_reader_travels_to_a_worker_without_its_open_files(tmp_path):
    reader = ShardReader(write_shapes(tmp_path), "train")
    first = reader[0].image
    assert np.array_equal(pickle.loads(pickle.dumps(reader))[0].image, first)


def test_a_shard_cut_short_is_named(tmp_path):
    folder = write_shapes(tmp_path)
    path = folder / "train-00000.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FluoroError, match=r"train-00000\.h5"):
        ShardReader(folder, "train")[0]
    assert verify(folder) == ["train-00000.h5"]

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.dataset.shard_writer import pack_mask
from fluorosam_cli.dataset.shards import ShardReader, unpack_mask, verify
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


def test_damaged_shards_are_refused_or_read_and_never_crash(tmp_path):
    """In a process of its own, which the C library underneath might take down."""
    folder = write_shapes(tmp_path, size=32, images=4, splits=("train",))
    code = """
import sys
from pathlib import Path
import numpy as np
from fluorosam_cli.dataset.shards import ShardReader
from fluorosam_cli.errors import FluoroError

folder = Path(sys.argv[1])
path = folder / "train-00000.h5"
whole = path.read_bytes()
rng = np.random.default_rng(0)
refused = 0
for number in range(100):
    data = bytearray(whole)
    for place in rng.integers(len(data), size=1 + number % 8):
        data[place] ^= 1 << rng.integers(8)
    if number % 5 == 0:
        data = data[: rng.integers(len(data))]
    path.unlink()  # HDF5 would go on with the open one
    path.write_bytes(data)
    try:
        for sample in ShardReader(folder, "train"):
            sample.integrals, sample.absent
            [(sample.mask(i), sample.travel_mm(i)) for i in range(len(sample.structures))]
    except FluoroError:
        refused += 1
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_tables_that_point_elsewhere_are_refused(tmp_path):
    """What a hostile file might say; each alone is enough."""
    import h5py

    def link(file):
        del file["images"]
        file["images"] = h5py.ExternalLink("other.h5", "images")

    def outside(file):
        del file["cases"]
        file.create_dataset("cases", (2,), "S5", external=[("/etc/hostname", 0, 10)])

    def boxes(file):
        file["mask/box_xyxy"][0] = (0, 0, 1 << 30, 1 << 30)

    def offsets(file):
        file["mask/offset"][1] = -5

    def names(file):
        file["mask/structure"][0] = 99

    def objects(file):
        del file["view"]
        file["view"] = np.array(["a"] * 8, object)

    def huge(file):
        del file["mask/bits"]
        file.create_dataset("mask/bits", (1 << 50,), "uint8", chunks=(1 << 30,), compression="gzip")

    for number, change in enumerate((link, outside, boxes, offsets, names, objects, huge)):
        folder = write_shapes(tmp_path / str(number), splits=("train",))
        with h5py.File(folder / "train-00000.h5", "r+") as file:
            change(file)
        with pytest.raises(FluoroError, match=r"train-00000\.h5"):
            ShardReader(folder, "train")[0]

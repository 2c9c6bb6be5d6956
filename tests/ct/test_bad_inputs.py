"""Files that are damaged or mean harm: each is one error in words, in bounded time and memory, and leaves nothing."""

import gzip
import io
import os
import struct
import time
import zipfile
import zlib

import nibabel
import numpy as np
import pytest

from fluorosam_cli.ct.sources import members
from fluorosam_cli.ct.volume import LPS_FROM_RAS, Volume
from fluorosam_cli.errors import FluoroError
from tests.ct.dicom_files import SYNTAXES, compress, save, series_of
from tests.ct.scan_files import MATRIX, SHAPE, phantom, write


def mha(**fields) -> bytes:
    values = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
        "ElementSpacing": "1 1 1", "DimSize": "16 14 12", "ElementType": "MET_SHORT",
    } | fields  # fmt: skip
    values |= {"ElementDataFile": values.pop("ElementDataFile", "LOCAL")}
    text = "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)
    return text.encode() + phantom().array.tobytes()


def nrrd(**fields) -> bytes:
    values = {
        "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "16 14 12",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)", "endian": "little", "encoding": "raw", "space origin": "(0,0,0)",
    } | {key.replace("_", " "): value for key, value in fields.items()}  # fmt: skip
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in values.items() if value is not None) + "\n"
    return text.encode() + phantom().array.tobytes()


def nifti(**fields) -> bytes:
    data = bytearray(nibabel.Nifti1Image(phantom().array.T, LPS_FROM_RAS @ MATRIX).to_bytes())
    header = np.frombuffer(data, dtype=nibabel.Nifti1Header.template_dtype, count=1)
    header.flags.writeable = True
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def zip_promising(size: int) -> bytes:
    """An archive whose directory says that its one member unpacks to `size` bytes."""
    data = bytearray(zip_of(("a.nii", nifti())))
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(zip_of(("a.nii", nifti())))
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def cut(data: bytes, keep: float) -> bytes:
    return data[: int(len(data) * keep)]


def bomb() -> bytes:
    """A gzip of a header that promises 2e9 voxels and as many zeros as make the file long enough to be believed."""
    header = nifti(dim=[3, 2000, 1000, 1000, 1, 1, 1, 1])[:352]
    return gzip.compress(header + bytes(2**20))


HEADERS: dict[str, dict[str, object]] = {  # file -> what its header says instead of the truth; None: not said
    "magic.nii": {"magic": b"abc"},
    "pair magic.nii": {"magic": b"ni1"},
    "no orientation.nii": {"sform_code": 0, "qform_code": 0},
    "far offset.nii": {"vox_offset": 1e9},
    "nan offset.nii": {"vox_offset": np.nan},
    "unknown type.nii": {"datatype": 77},
    "complex.nii": {"datatype": 32, "bitpix": 64},
    "colour.nii": {"datatype": 128, "bitpix": 24},
    "infinite intercept.nii": {"scl_slope": 1, "scl_inter": np.inf},
    "huge intercept.nii": {"scl_slope": 1, "scl_inter": 2.6e33},
    "infinite slope.nii": {"scl_slope": np.inf},
    "4D.mha": {"NDims": "4", "DimSize": "16 14 6 2"},
    "0 slices.mha": {"DimSize": "16 14 0"},
    "negative.mha": {"DimSize": "16 -14 12"},
    "huge.mha": {"DimSize": "1000000 1000000 1000000"},
    "huge number.mha": {"DimSize": "9" * 400 + " 1 1"},
    "fraction.mha": {"DimSize": "16.5 14 12"},
    "words.mha": {"DimSize": "a b c"},
    "two sizes.mha": {"DimSize": "16 14"},
    "spacing.mha": {"ElementSpacing": "1e30 1 1"},
    "nan spacing.mha": {"ElementSpacing": "nan 1 1"},
    "no spacing.mha": {"ElementSpacing": None},
    "zero matrix.mha": {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
    "short matrix.mha": {"TransformMatrix": "1 0 0"},
    "type.mha": {"ElementType": "MET_STRING"},
    "channels.mha": {"ElementNumberOfChannels": "3"},
    "ascii.mha": {"BinaryData": "False"},
    "not deflated.mha": {"CompressedData": "True"},
    "elsewhere.mhd": {"ElementDataFile": "../../../../etc/passwd"},
    "absolute.mhd": {"ElementDataFile": "/etc/passwd"},
    "absent.mhd": {"ElementDataFile": "absent.raw"},
    "list.mhd": {"ElementDataFile": "LIST"},
    "pattern.mhd": {"ElementDataFile": "slice%03d.raw 1 12 1"},
    "itself.mhd": {"ElementDataFile": "itself.mhd", "HeaderSize": "999999999"},
    "dimension.nrrd": {"dimension": "4", "sizes": "16 14 6 2"},
    "huge.nrrd": {"sizes": "99999 99999 99999"},
    "zero.nrrd": {"sizes": "16 14 0"},
    "no space.nrrd": {"space": None},
    "other space.nrrd": {"space": "scanner-xyz"},
    "nan.nrrd": {"space_directions": "(nan,0,0) (0,1,0) (0,0,1)"},
    "none.nrrd": {"space_directions": "none (0,1,0) (0,0,1)"},
    "words.nrrd": {"space_directions": "(a,b,c) (d,e,f) (g,h,i)"},
    "type.nrrd": {"type": "block"},
    "endian.nrrd": {"endian": None},
    "encoding.nrrd": {"encoding": "hex"},
    "not gzip.nrrd": {"encoding": "gzip"},
    "skip.nrrd": {"byte_skip": "99999999999"},
    "negative skip.nrrd": {"byte_skip": "-7"},
    "elsewhere.nhdr": {"data_file": "../../../../etc/passwd"},
    "absent.nhdr": {"data_file": "absent.raw"},
}
WRITERS = {".nii": nifti, ".mha": mha, ".mhd": mha, ".nrrd": nrrd, ".nhdr": nrrd}
VOLUMES = {
    **{name: WRITERS[os.path.splitext(name)[1]](**fields) for name, fields in HEADERS.items()},
    "empty.nii": b"",
    "text.nii.gz": b"this is no image",
    "zeros.nii": bytes(1000),
    "header only.nii": nifti()[:352],
    "cut header.nii": nifti()[:200],
    "half.nii": cut(nifti(), 0.5),
    "last byte.nii": nifti()[:-1],
    "half.nii.gz": cut(gzip.compress(nifti()), 0.5),
    "tail.nii.gz": gzip.compress(nifti())[:-9],
    "wrong crc.nii.gz": gzip.compress(nifti())[:-8] + bytes(8),
    "4D.nii": nifti(dim=[4, 16, 14, 6, 2, 1, 1, 1]),
    "2D.nii": nifti(dim=[2, 16, 14, 1, 1, 1, 1, 1]),
    "0 slices.nii": nifti(dim=[3, 16, 14, 0, 1, 1, 1, 1]),
    "9 slices.nii": nifti(dim=[3, 16, 14, 9, 1, 1, 1, 1]),
    "negative.nii": nifti(dim=[3, 16, -14, 12, 1, 1, 1, 1]),
    "30000 cubed.nii.gz": gzip.compress(nifti(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])),
    "1200 cubed.nii": nifti(dim=[3, 1200, 1200, 1200, 1, 1, 1, 1]),
    "1200 cubed.nii.gz": gzip.compress(nifti(dim=[3, 1200, 1200, 1200, 1, 1, 1, 1])),
    "bomb.nii.gz": bomb(),
    "nan affine.nii": nifti(srow_x=[np.nan, 0, 0, 0]),
    "inf affine.nii": nifti(srow_y=[0, np.inf, 0, 0]),
    "flat affine.nii": nifti(srow_z=[0, 0, 0, 0]),
    "sheared affine.nii": nifti(srow_x=[0.8, 0.7, 0, 0], srow_y=[0, 0.7, 0, 0]),
    "metres.nii": nifti(srow_x=[8e-4, 0, 0, 0]),
    "kilometres.nii": nifti(srow_x=[8e6, 0, 0, 0]),
    "far offset.nii.gz": gzip.compress(nifti(vox_offset=1e30)),
    "all zero.nii": nifti()[:352] + bytes(2 * 16 * 14 * 12),
    "constant.nii": nifti()[:352] + b"\x18\xfc" * (16 * 14 * 12),
    "empty.mha": b"",
    "text.mha": b"this is no image\nat all\n",
    "binary.mha": bytes(range(256)) * 20,
    "one long line.mha": b"A" * 3_000_000,
    "cut.mha": cut(mha(), 0.7),
    "no data.mha": mha()[:200],
    "deflated bomb.mha": mha(CompressedData="True", DimSize="1200 1200 1200")[:400] + zlib.compress(bytes(10**6)),
    "empty.nrrd": b"",
    "text.nrrd": b"this is no image",
    "cut.nrrd": cut(nrrd(), 0.7),
    "header only.nrrd": b"NRRD0004\ntype: short\n",
    "empty.zip": b"",
    "text.zip": b"PK this is no archive",
    "nothing.zip": zip_of(),
    "only text.zip": zip_of(("readme.txt", b"hello")),
    "cut.zip": cut(zip_of(("a.nii", nifti())), 0.6),
    "traversal.zip": zip_of(("../../evil.nii", nifti())),
    "absolute.zip": zip_of(("/tmp/evil.nii", nifti())),
    "backslash.zip": zip_of(("..\\..\\evil.nii", nifti())),
    "encrypted.zip": encrypted_zip(),
    "bomb.zip": zip_of(("a.nii", nifti()[:352] + bytes(300 * 2**20))),
    "promise.zip": zip_promising(2**32 - 2),
    "bad inside.zip": zip_of(("a.nii", b"no image")),
    "nested.zip": zip_of(("inner.zip", zip_of(("a.nii", nifti())))),
    "wrong crc.zip": (lambda data: data.replace(nifti()[400:420], b""))(zip_of(("a.nii", nifti())))[:-40] + bytes(40),
    "plain.txt": b"hello",
    "noise": np.random.default_rng(0).bytes(5000),
    "noise.dcm": np.random.default_rng(1).bytes(5000),
    "mark only.dcm": bytes(128) + b"DICM",
    "mark and noise": bytes(128) + b"DICM" + np.random.default_rng(2).bytes(5000),
}


def refused(fluoro, tmp_path, path) -> str:
    """The one error line of a run that must leave nothing."""
    labels = write(tmp_path / "labels.nii.gz", Volume(np.ones(SHAPE, np.uint8), MATRIX))
    started = time.monotonic()
    code, out, err = fluoro("segment-ct", path, "--labels", labels, "-o", tmp_path / "ct")
    assert time.monotonic() - started < 10
    assert code == 1, err
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert not (tmp_path / "ct").exists()
    return errors[0]


@pytest.fixture
def little_memory():
    """At most 1.5 GB more address space than now: what asks for more fails instead of filling the machine."""
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", VOLUMES)
def test_a_bad_file_is_one_error_and_leaves_nothing(fluoro, tmp_path, little_memory, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(VOLUMES[name])
    error = refused(fluoro, tmp_path, tmp_path / "in" / name)
    assert name in error
    assert sorted(os.listdir(tmp_path)) == ["in", "labels.nii.gz"]
    assert "memory" not in error


def test_an_archive_is_refused_for_what_it_is(tmp_path):
    words = {"traversal": "outside", "absolute": "outside", "backslash": "outside", "encrypted": "encrypted"}
    for name, expected in (words | {"bomb": "would unpack to", "promise": "would unpack to", "text": "zip"}).items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(VOLUMES[f"{name}.zip"])
        with pytest.raises(FluoroError, match=expected):
            members(path)


def spoilt_series(kind: str, folder):
    """A whole DICOM series, each file spoilt in the same way."""
    save(series_of(phantom()), folder, suffix="")
    if kind.startswith("jpeg"):
        compress(folder, SYNTAXES[kind.split(":")[0]])
    rng = np.random.default_rng(sum(map(ord, kind)))
    for path in folder.iterdir():
        data = path.read_bytes()
        at = data.rindex(b"\xe0\x7f\x10\x00")
        if kind == "cut":
            data = data[: at + 40]
        elif kind == "length":
            data = data[: at + 8] + b"\xf0\xff\xff\x7f" + data[at + 12 :]
        elif kind == "odd length":
            data = data[: at + 8] + b"\x01\x00\x00\x00" + data[at + 12 :]
        elif kind == "rows":
            data = data.replace(b"\x28\x00\x10\x00US\x02\x00\x0e\x00", b"\x28\x00\x10\x00US\x02\x00\xff\xff")
        elif kind == "zero rows":
            data = data.replace(b"\x28\x00\x10\x00US\x02\x00\x0e\x00", b"\x28\x00\x10\x00US\x02\x00\x00\x00")
        elif kind == "bits":
            data = data.replace(b"\x28\x00\x00\x01US\x02\x00\x10\x00", b"\x28\x00\x00\x01US\x02\x00\x07\x00")
        elif kind == "syntax":
            data = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
        elif kind == "deflated bomb":
            start = 144 + struct.unpack("<I", data[140:144])[0]
            meta = data[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
            meta = meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:]
            at = meta.index(b"\x02\x00\x10\x00UI")
            meta = meta[: at + 6] + struct.pack("<H", 22) + meta[at + 8 :]
            packer = zlib.compressobj(9, wbits=-15)
            block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
            path.write_bytes(meta + 300 * block + packer.flush())
            for other in list(folder.iterdir()):
                if other != path:
                    other.unlink()
            return
        elif kind.endswith(":size"):
            marker = data.rindex(b"\xff\x4f\xff\x51") if "2000" in kind else None
            if marker is not None:
                data = data[: marker + 8] + struct.pack(">II", 60000, 60000) + data[marker + 16 :]
            else:
                marker = max(data.rfind(b"\xff\xc3"), data.rfind(b"\xff\xf7"))
                data = data[: marker + 5] + struct.pack(">HH", 60000, 60000) + data[marker + 9 :]
        elif kind.endswith(":cut"):
            data = data[: at + (len(data) - at) // 2]
        elif kind.endswith(":noise"):
            spoilt = bytearray(data)
            for place in rng.integers(at + 60, len(data), 40):
                spoilt[place] = rng.integers(256)
            data = bytes(spoilt)
        path.write_bytes(data)


SERIES = [
    "cut", "length", "odd length", "rows", "zero rows", "bits", "syntax", "deflated bomb",
    *(f"{syntax}:{how}" for syntax in ("jpeg lossless", "jpeg-ls", "jpeg 2000") for how in ("size", "cut")),
]  # fmt: skip


@pytest.mark.parametrize("kind", SERIES)
def test_a_bad_series_is_one_error_and_leaves_nothing(fluoro, tmp_path, little_memory, kind):
    spoilt_series(kind, tmp_path / "in")
    refused(fluoro, tmp_path, tmp_path / "in")


def test_there_are_a_hundred_bad_inputs():
    assert len(VOLUMES) + len(SERIES) >= 100


def test_a_bad_scan_stops_no_batch(fluoro, tmp_path):
    for name in ("4D.nii", "nan affine.nii", "cut.mha", "huge.nrrd", "traversal.zip", "mark and noise"):
        (tmp_path / "in" / "bad").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "bad" / name).write_bytes(VOLUMES[name])
    spoilt_series("cut", tmp_path / "in" / "series")
    write(tmp_path / "in" / "good.nii.gz", phantom())
    write(tmp_path / "labels" / "good.nii.gz", Volume(np.full(SHAPE, 1, np.uint8), MATRIX))
    code, _, err = fluoro("segment-ct", tmp_path / "in", "--labels", tmp_path / "labels", "-o", tmp_path / "ct")
    assert code == 1
    assert [path.name for path in (tmp_path / "ct").iterdir() if path.is_dir()] == ["good"]
    assert err.count("failed: ") == 7

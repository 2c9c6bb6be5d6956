"""DICOM radiographs of every kind, written with pydicom, GDCM and highdicom's requirements in mind."""

import sys
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from fluorosam_cli.ct.decoder import stored_frames
from fluorosam_cli.ct.dicom import HIGH_THROUGHPUT, JPEG_EXTENDED, Refused, _decode_rare, decode, silenced
from fluorosam_cli.ct.sources import Source
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.prediction.images import probe, read_frames, read_radiograph
from fluorosam_cli.prediction.radiograph import PixelSpacing
from tests.ct.dicom_files import SYNTAXES, compress, data_set

STORAGE = "1.2.840.10008.5.1.4.1.1."
CR, DX, DX_PROCESSING, XA, RF = (STORAGE + kind for kind in ("1", "1.1", "1.1.1", "12.1", "12.2"))
SHAPE = (40, 56)  # rows, columns
SECRET = {"PatientName": "Secret^Person", "PatientID": "SECRET-7", "PatientBirthDate": "19500101"}


def picture(bits: int = 12, frames: int = 0) -> np.ndarray:
    """Every value of its range, bone in the middle bright: (rows, columns), or frames of it that differ."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = np.exp(-(((x - 28) / 10) ** 2)) * (1 + y / 80)
    plane = np.rint((smooth - smooth.min()) / np.ptp(smooth) * (2**bits - 1)).astype(np.uint16)
    return plane if not frames else np.stack([np.roll(plane, number, axis=1) for number in range(frames)])


def write(path, stored, sop_class=DX, bits=12, **fields):
    """A DICOM file whose pixels are `stored`, (rows, columns) or (frames, rows, columns)."""
    defaults = {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "PixelRepresentation": 0, **SECRET}
    data = data_set(sop_class, StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), **defaults)
    data.Rows, data.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.BitsStored, data.HighBit = bits, bits - 1
    data.BitsAllocated = 8 if bits == 8 else 16
    data.PixelData = stored.astype("u1" if bits == 8 else "<u2").tobytes()
    for keyword, value in fields.items():
        setattr(data, keyword, value)
    path.parent.mkdir(exist_ok=True, parents=True)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_stored_values_are_kept(tmp_path, bits):
    shown = read_radiograph(write(tmp_path / "a.dcm", picture(bits), bits=bits))
    np.testing.assert_array_equal(shown.pixels, picture(bits))


def test_unused_bits_are_left_out(tmp_path):
    """Old files keep an overlay in them; signed values need their sign from the highest bit that is used."""
    dirty = picture(10) | 0xF000
    np.testing.assert_array_equal(read_radiograph(write(tmp_path / "a.dcm", dirty, bits=10)).pixels, picture(10))
    signed = picture(11).astype(np.int16) - 1024
    path = write(tmp_path / "b.dcm", (signed & 0x0FFF).astype(np.uint16), bits=12, PixelRepresentation=1)
    np.testing.assert_array_equal(read_radiograph(path).pixels, signed)


def test_values_that_do_not_begin_at_the_lowest_bit_are_told_of(tmp_path, caplog):
    read = read_radiograph(write(tmp_path / "a.dcm", picture(12) << 4, bits=12, HighBit=15))
    assert read.remarks == ("HighBit is 15, values are read as if it were 11",)
    assert caplog.messages == [f"warning: {tmp_path / 'a.dcm'}: {read.remarks[0]}"]


@pytest.mark.parametrize(
    ("orientation", "said"),
    [
        (None, ""),
        (["L", "F"], ""),
        (["P", "F"], ""),  # lateral
        (["R", "F"], "its right is the patient's right, so sides come out exchanged: mirror the image first"),
        (["R", "H"], "the patient's head is not on top: turn it by half first"),
        (["L", "H"], "the patient's head is not on top: turn it by half and mirror it first"),
        (["F", "R"], "the patient's head is not on top: turn it by a quarter first"),
        (["H", "R"], "the patient's head is not on top: turn it by a quarter and mirror it first"),
        (["A", "H"], "the patient's head is not on top: turn it by half first"),
    ],
)
def test_films_that_hang_otherwise_are_told_of(tmp_path, caplog, orientation, said):
    fields = {} if orientation is None else {"PatientOrientation": orientation}
    read_radiograph(write(tmp_path / "a.dcm", picture(), **fields))
    assert [message.removeprefix(f"warning: {tmp_path / 'a.dcm'}: ") for message in caplog.messages] == [said] * bool(
        said
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("frames", [0, 3])
def test_compressed_as_plain(tmp_path, syntax, frames):
    stored = picture(12, frames)
    path = write(tmp_path / "in" / "a.dcm", stored, XA if frames else CR)
    compress(path.parent, SYNTAXES[syntax])
    for shown, plane in zip(read_frames(path), stored.reshape(-1, *SHAPE), strict=True):
        np.testing.assert_array_equal(shown.pixels, plane)


@pytest.mark.parametrize("syntax", [None, *SYNTAXES])
@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_colour_becomes_luma(tmp_path, syntax, space):
    """Some archives keep screenshots of radiographs, coloured marks and all."""
    from PIL import Image

    grey = Image.fromarray(picture(8).astype(np.uint8))
    shown = Image.merge("RGB", [grey, grey.point(lambda value: value // 2), grey.point(lambda value: 255 - value)])
    stored = np.asarray(shown.convert("YCbCr") if space == "YBR_FULL" else shown)
    path = write(tmp_path / "in" / "a.dcm", stored[..., 0], STORAGE + "7", bits=8, SamplesPerPixel=3)
    data = dcmread(path)
    data.PhotometricInterpretation, data.PlanarConfiguration, data.PixelData = space, 0, stored.tobytes()
    data.save_as(path)
    if syntax:
        compress(path.parent, SYNTAXES[syntax])
    np.testing.assert_allclose(read_radiograph(path).pixels, np.asarray(shown.convert("L")), atol=2)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"])
def test_jpeg_of_8_bits_nearly_as_plain(tmp_path, syntax):
    from io import BytesIO

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    packed = BytesIO()
    Image.fromarray(picture(8).astype(np.uint8)).save(packed, "JPEG", quality=95)
    path = write(tmp_path / "a.dcm", picture(8), CR, bits=8)
    from pydicom import dcmread

    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.PixelData = encapsulate([packed.getvalue()])
    data.save_as(path)
    assert np.abs(read_radiograph(path).pixels.astype(int) - picture(8)).max() <= 6
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.save_as(path)
    with pytest.raises(FluoroError, match="another depth" if syntax.endswith("51") else r"damaged|cannot be read"):
        read_radiograph(path)


@pytest.mark.parametrize("syntax", [*sorted(HIGH_THROUGHPUT), JPEG_EXTENDED])
@pytest.mark.parametrize("frames", [0, 3])
def test_what_gdcm_does_not_read(tmp_path, syntax, frames):
    imagecodecs = pytest.importorskip("imagecodecs", reason="needs the extra `dicom`")
    from pydicom.encaps import encapsulate

    stored = picture(12, frames)
    path = write(tmp_path / "a.dcm", stored, XA if frames else CR)
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = syntax
    planes = stored.reshape(-1, *SHAPE)
    if syntax == JPEG_EXTENDED:
        streams = [imagecodecs.jpeg8_encode(plane, level=98, bitspersample=12) for plane in planes]
    else:
        streams = [imagecodecs.htj2k_encode(plane) for plane in planes]
    data.PixelData = encapsulate(streams)
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    for shown, plane in zip(read_frames(path), planes, strict=True):
        np.testing.assert_allclose(shown.pixels, plane, atol=12 if syntax == JPEG_EXTENDED else 0)
    data.PixelData = encapsulate([stream[: len(stream) // 2] for stream in streams])
    data.save_as(path)
    with pytest.raises(FluoroError, match=r"damaged|cut short"):
        list(read_frames(path))


def test_the_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    path = write(tmp_path / "a.dcm", picture())
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = JPEG_EXTENDED
    with pytest.raises(Refused, match=r"JPEG Extended.*fluorosam-cli\[dicom\]"):
        list(_decode_rare(data, [0]))


def test_windows_and_rescale_as_the_standard_has_them(tmp_path):
    """A linear window (PS3.3 C.11.2.1.2) of centre c and width w is flat below c - 0.5 - (w - 1) / 2."""
    stored = picture()
    fields = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 3000, "WindowWidth": 1001}
    shown = read_radiograph(write(tmp_path / "a.dcm", stored, **fields)).pixels
    expected = np.clip((2.0 * stored - 100 - 2999.5) / 1000 + 0.5, 0, 1)
    unit = (shown - shown.min()) / np.ptp(shown)
    np.testing.assert_allclose(unit, expected, atol=1e-6)
    beside = write(tmp_path / "b.dcm", stored, WindowCenter=99999, WindowWidth=10)
    np.testing.assert_array_equal(read_radiograph(beside).pixels, stored)
    for number, empty in enumerate(({"RescaleSlope": None, "RescaleIntercept": None}, {"WindowWidth": -10})):
        path = write(tmp_path / f"{number}.dcm", stored, **{"WindowCenter": None, **empty})
        np.testing.assert_array_equal(read_radiograph(path).pixels, stored)


def test_lookup_tables(tmp_path):
    stored = picture(8)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], (np.arange(256, dtype=np.uint16)[::-1] ** 2).tolist()
    table.add_new(0x00283002, "US", [256, 0, 16])
    table.add_new(0x00283006, "US", (np.arange(256, dtype=np.uint32)[::-1] ** 2).tolist())
    path = write(tmp_path / "a.dcm", stored, bits=8, VOILUTSequence=Sequence([table]))
    np.testing.assert_array_equal(read_radiograph(path).pixels, (255 - stored.astype(np.int64)) ** 2)


PACKED = bytes(value >> 4 for value in range(4096))


@pytest.mark.parametrize(
    ("kind", "data"),
    [("US", list(PACKED)), ("US", np.frombuffer(PACKED, "<u2").tolist()), ("OW", PACKED)],
    ids=["a word each", "two in a word", "bytes"],
)
def test_a_table_of_8_bits_may_have_more_than_256_entries(tmp_path, kind, data):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 8])
    table.add_new("LUTData", kind, data)
    path = write(tmp_path / "a.dcm", picture(), VOILUTSequence=Sequence([table]))
    np.testing.assert_array_equal(read_radiograph(path).pixels, picture() >> 4)


@pytest.mark.parametrize(
    ("fields", "bright", "turned", "told"),
    [
        ({"PixelIntensityRelationshipSign": -1}, True, False, "header"),
        ({"PixelIntensityRelationshipSign": 1}, False, False, "header"),
        ({"PixelIntensityRelationshipSign": 1, "PhotometricInterpretation": "MONOCHROME1"}, True, True, "header"),
        ({"PixelIntensityRelationshipSign": -1, "PhotometricInterpretation": "MONOCHROME1"}, False, True, "header"),
        ({"PixelIntensityRelationshipSign": 1, "PresentationLUTShape": "INVERSE"}, True, True, "header"),
        ({"PixelIntensityRelationship": "LOG"}, False, False, "header"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, False, True, "detected"),
        ({}, True, False, "detected"),
    ],
)
def test_polarity(tmp_path, fields, bright, turned, told):
    stored = picture()
    shown = read_radiograph(write(tmp_path / "a.dcm", stored, **fields))
    np.testing.assert_array_equal(shown.pixels, 4095 - stored if turned else stored)
    assert (shown.bone_bright, shown.polarity_from) == (bright, told)
    np.testing.assert_array_equal(shown.for_network, shown.pixels if bright else 4095 - shown.pixels)
    for invert in (True, False):
        assert read_radiograph(tmp_path / "a.dcm", invert=invert).bone_bright == (not invert)


def test_images_for_processing_are_seen_as_films_see_them(tmp_path):
    """Exponential in the attenuation as stored, linear in it as read."""
    attenuation = np.linspace(0, 5, SHAPE[1])[None].repeat(SHAPE[0], 0)
    stored = np.rint(60000 * np.exp(-attenuation)).astype(np.uint16)
    told = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    path = write(tmp_path / "a.dcm", stored, DX_PROCESSING, 16, PixelIntensityRelationshipSign=1, **told)
    bright = read_radiograph(path).for_network
    steps = np.diff(bright[0])[:40]
    assert steps.min() > 0
    assert steps.max() / steps.min() < 1.2


@pytest.mark.parametrize(
    ("fields", "spacing"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.1]}, PixelSpacing(0.2, 0.1, "detector")),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [0.2, 0.1]}, PixelSpacing(0.2, 0.1, "detector")),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.15, 0.15]}, PixelSpacing(0.15, 0.15, "patient")),
        ({"PixelSpacing": [0.3, 0.3], "PixelSpacingCalibrationType": "FIDUCIAL"}, PixelSpacing(0.3, 0.3, "patient")),
        ({"PixelSpacing": [0.3, 0.3]}, PixelSpacing(0.3, 0.3, "unknown")),
        ({}, None),
    ],
)
def test_what_a_pixel_measures(tmp_path, fields, spacing):
    assert read_radiograph(write(tmp_path / "a.dcm", picture(), **fields)).spacing == spacing


@pytest.mark.parametrize("imager", [[0.143, 0.143], None])
def test_rounded_spacing_is_no_calibration_and_a_scanners_is_the_films(tmp_path, imager):
    fields = {"ImagerPixelSpacing": imager, "PixelSpacing": [0.1430001, 0.1430001]} if imager else {}
    path = write(tmp_path / "a.dcm", picture(), NominalScannedPixelSpacing=[0.175, 0.175], **fields)
    side = 0.143 if imager else 0.175
    assert read_radiograph(path).spacing == PixelSpacing(side, side, "detector")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("body", "bits", "sign", "padding", "told"),
    [
        (picture(12), 16, 0, 65535, [("US", 65535)]),
        (picture(12), 16, 0, 60003, [("US", 60010), ("US", 60000)]),
        (picture(10) | 0x1000, 12, 0, 0x1FFF, [("US", 0xFFF)]),  # an overlay in the bits that are not used
        (picture(12), 16, 1, -2000, [("SS", -2000)]),
        (picture(12), 16, 1, -2000, [("US", 65536 - 2000)]),  # as some write it
        (picture(10), 12, 1, -2048, [("SS", -2048)]),
    ],
)
def test_padding_is_black_and_has_no_part_in_the_tones(
    tmp_path, body, bits, sign, padding, told, implicit, photometric
):
    frame = np.zeros(SHAPE, bool)
    frame[:, :7] = True
    body = body.astype(np.int32)
    fields = {"bits": bits, "PixelRepresentation": sign, "PhotometricInterpretation": photometric}
    alone = read_radiograph(write(tmp_path / "a.dcm", np.where(frame, body[~frame].min(), body), **fields)).pixels
    data = dcmread(write(tmp_path / "b.dcm", np.where(frame, padding, body), **fields))
    for keyword, (kind, value) in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), told, strict=False):
        data.add_new(keyword, kind, value)
    if implicit:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data.save_as(tmp_path / "b.dcm", implicit_vr=implicit, little_endian=True)
    shown = read_radiograph(tmp_path / "b.dcm").pixels
    np.testing.assert_array_equal(shown[~frame], alone[~frame])
    assert (shown[frame] == alone[~frame].min()).all()


def lookup_table(values) -> Sequence:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [len(values), 0, 16])
    table.add_new("LUTData", "US", list(values))
    table.ModalityLUTType = "US"
    return Sequence([table])


LINEAR = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
RISING, FALLING = range(0, 8192, 2), range(8190, -1, -2)


@pytest.mark.parametrize(
    ("fields", "turned"),
    [
        ({"VOILUTSequence": RISING}, False),
        ({"VOILUTSequence": FALLING}, True),
        ({"VOILUTSequence": FALLING, "PhotometricInterpretation": "MONOCHROME1"}, False),
        ({"ModalityLUTSequence": FALLING}, True),
        ({"ModalityLUTSequence": FALLING, "VOILUTSequence": FALLING}, False),
        ({"RescaleSlope": -1, "RescaleIntercept": 4095}, True),
        ({"RescaleSlope": -1, "RescaleIntercept": 4095, **LINEAR}, False),  # whose rescale is not applied
    ],
)
def test_tables_and_slopes_that_fall_exchange_black_and_white(tmp_path, fields, turned):
    fields = {key: lookup_table(value) if isinstance(value, range) else value for key, value in fields.items()}
    path = write(tmp_path / "a.dcm", picture(), PixelIntensityRelationshipSign=-1, **fields)
    shown = read_radiograph(path)
    assert (shown.bone_bright, shown.polarity_from) == (not turned, "header")
    assert shown.for_network[20, 28] > shown.for_network[20, 0]  # bone is in the middle


def test_enhanced_frames_have_windows_of_their_own(tmp_path):
    def frame(centre):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 101
        group.FrameVOILUTSequence = Sequence([window])
        return group

    groups = Sequence([frame(1000), frame(3000)])
    path = write(tmp_path / "a.dcm", picture(12, 2), STORAGE + "12.1.1", PerFrameFunctionalGroupsSequence=groups)
    one, two = (shown.pixels for shown in read_frames(path))
    assert (one == one.max()).mean() > (two == two.max()).mean() + 0.1


@pytest.mark.parametrize("group", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_enhanced_frames_have_their_spacing_in_groups(tmp_path, group):
    properties, item = Dataset(), Dataset()
    properties.ImagerPixelSpacing = [0.2, 0.1]
    item.FramePixelDataPropertiesSequence = Sequence([properties])
    path = write(tmp_path / "a.dcm", picture(12, 1), STORAGE + "12.1.1", **{group: Sequence([item])})
    assert read_radiograph(path).spacing == PixelSpacing(0.2, 0.1, "detector")


@pytest.mark.parametrize("syntax", [None, *SYNTAXES])
def test_no_frames_are_none_and_leave_the_next_file_its_own(tmp_path, syntax):
    for number in (0, 1):
        write(tmp_path / "in" / f"{number}.dcm", np.roll(picture(12, 2), 5 * number, axis=2), XA)
    if syntax:
        compress(tmp_path / "in", SYNTAXES[syntax])
    assert list(read_frames(tmp_path / "in/0.dcm", [])) == []
    with silenced():
        for function in (decode, partial(stored_frames, syntax=SYNTAXES.get(syntax, ""))):
            assert list(function(Source(tmp_path / "in/0.dcm"), frames=[])) == []
    np.testing.assert_array_equal(read_radiograph(tmp_path / "in/1.dcm", 2).pixels, np.roll(picture(12, 2)[1], 5, 1))


def test_pixels_of_another_size_than_the_headers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fluorosam_cli.ct.decoder.stored_frames", lambda *_: iter([picture().T]))
    with pytest.raises(FluoroError, match="its pixels do not fit its header"):
        read_radiograph(write(tmp_path / "a.dcm", picture()))


def test_frames_are_chosen_and_counted_from_one(tmp_path):
    path = write(tmp_path / "a.dcm", picture(12, 5), RF)
    assert probe(path) == (5, True)
    found = list(read_frames(path, [2, 5]))
    assert [(shown.frame, shown.frames) for shown in found] == [(2, 5), (5, 5)]
    np.testing.assert_array_equal(found[1].pixels, picture(12, 5)[4])
    with pytest.raises(FluoroError, match="no frame 6"):
        list(read_frames(path, [6]))
    with pytest.raises(FluoroError, match="no frame 0"):
        read_radiograph(path, 0)
    with pytest.raises(FluoroError, match="holds 5 frames, one image is expected"):
        read_radiograph(path)


def test_what_is_no_radiograph_or_damaged_is_one_line_without_the_header(tmp_path):
    whole = write(tmp_path / "whole.dcm", picture())
    (tmp_path / "cut.dcm").write_bytes(whole.read_bytes()[:-900])
    (tmp_path / "head.dcm").write_bytes(whole.read_bytes()[:400])
    (tmp_path / "bare.dcm").write_bytes(whole.read_bytes()[132:])
    write(tmp_path / "jpeg" / "a.dcm", picture())
    compress(tmp_path / "jpeg", SYNTAXES["jpeg 2000"])
    packed = (tmp_path / "jpeg" / "a.dcm").read_bytes()
    (tmp_path / "jpeg" / "bad.dcm").write_bytes(packed[: len(packed) // 2])
    write(tmp_path / "ct.dcm", picture(), STORAGE + "2")
    write(tmp_path / "palette.dcm", picture(), STORAGE + "7", PhotometricInterpretation="PALETTE COLOR")
    write(tmp_path / "huge.dcm", picture(), Rows=60000, Columns=60000)
    write(tmp_path / "dot.dcm", picture()[:1, :1])
    write(tmp_path / "films.dcm", picture(), NumberOfFrames=10**8)
    write(tmp_path / "short.dcm", picture(), NumberOfFrames=3)
    data = dcmread(whole)
    for keyword in ("PixelData", "PhotometricInterpretation", "Rows"):
        lacking = deepcopy(data)
        delattr(lacking, keyword)
        lacking.save_as(tmp_path / f"no {keyword}.dcm", enforce_file_format=True)
    for name, problem in {
        "cut.dcm": "not a readable DICOM image",
        "head.dcm": "not a readable DICOM image",
        "bare.dcm": "not a readable DICOM image .no preamble",
        "jpeg/bad.dcm": "not a readable DICOM image",
        "ct.dcm": "is CT Image Storage, no radiograph",
        "palette.dcm": "its colours come from a palette",
        "huge.dcm": "is 60000x60000",
        "dot.dcm": "is 1x1",
        "films.dcm": "claims 100000000 frames",
        "short.dcm": "not a readable DICOM image .its pixels do not fit",
        "no PixelData.dcm": "lacks pixels",
        "no PhotometricInterpretation.dcm": "lacks PhotometricInterpretation",
        "no Rows.dcm": "lacks Rows",
    }.items():
        with pytest.raises(FluoroError, match=problem) as caught:
            read_radiograph(tmp_path / name)
        assert "\n" not in caught.value.problem
        assert "secret" not in caught.value.problem.lower()

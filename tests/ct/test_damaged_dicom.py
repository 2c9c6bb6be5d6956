"""Damaged DICOM files among whole ones: what is lost, what is named, and what is never said."""

import logging
import os

import pytest

from fluorosam_cli.ct import decoder
from fluorosam_cli.ct.scans import find_scans, read_scan
from fluorosam_cli.errors import FluoroError
from tests.ct.dicom_files import SYNTAXES, compress, data_set, save, series_of
from tests.ct.scan_files import assert_phantom, phantom


@pytest.mark.parametrize("syntax", ["plain", "jpeg lossless"])
def test_a_damaged_copy_of_a_slice_is_named_and_the_whole_one_used(tmp_path, syntax):
    """Wherever the copy lies: it is found before the series and behind it."""
    save(series_of(phantom()), tmp_path / "in" / "b")
    if syntax in SYNTAXES:
        compress(tmp_path / "in" / "b", SYNTAXES[syntax])
    for folder, name in (("a", "IM0000.dcm"), ("c", "IM0007.dcm")):
        (tmp_path / "in" / folder).mkdir()
        whole = (tmp_path / "in" / "b" / name).read_bytes()
        (tmp_path / "in" / folder / name).write_bytes(whole[:-60])
    scans, skipped = find_scans([tmp_path / "in"])
    assert_phantom(read_scan(scans[0]))
    assert {file.parent.name for file in scans[0].files} == {"b"}
    assert [(entry.subject, entry.reason, entry.damaged) for entry in skipped] == [
        ("DICOM series 2", "damaged copy of what is there whole (2 files)", True)
    ]


def test_a_decoder_that_dies_takes_one_series_with_it(tmp_path):
    """As it does on some damaged code streams; the next series is decoded all the same."""
    compress(save(series_of(phantom()), tmp_path / "a"), SYNTAXES["jpeg lossless"])
    scan = find_scans([tmp_path])[0][0]
    process = decoder._process(os.getpid())
    process.kill()
    process.wait()
    with pytest.raises(FluoroError, match="file 1 of 12: its compressed pixels are damaged"):
        read_scan(scan)
    assert_phantom(read_scan(scan))


def test_damaged_files_are_listed_and_nothing_of_the_header_is_said(tmp_path, capfd, caplog):
    """Values that no reader can parse are what pydicom quotes in its warnings and errors."""
    save(series_of(phantom()), tmp_path)
    path = tmp_path / "secretname.dcm"
    data = series_of(phantom())[0]
    data.save_as(path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"\\2.5", b"\\XXX").replace(b"-1024", b"SECRE").replace(b"0.7", b"SEC"))
    caplog.set_level(logging.DEBUG)
    scans, skipped = find_scans([tmp_path])
    assert len(scans) == 1
    assert [(entry.reason, entry.damaged) for entry in skipped] == [("damaged DICOM (ValueError) (1 file)", True)]
    said = repr(skipped) + caplog.text + "".join(capfd.readouterr())
    assert "SEC" not in said.replace("secretname", "")
    assert "secretname" not in skipped[0].subject


def unread_syntax(sop_class: str):
    """A file compressed as something that is not read."""
    data = data_set(sop_class, SeriesNumber=9, Rows=2, Columns=2)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    data.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0"
    data["PixelData"].is_undefined_length = True
    return data


def test_what_may_have_been_a_scan_is_damage_and_what_was_none_is_not(tmp_path):
    save(series_of(phantom()), tmp_path)
    save([unread_syntax("1.2.840.10008.5.1.4.1.1.2")], tmp_path / "ct")
    save([unread_syntax("1.2.840.10008.5.1.4.1.1.77.1.4.1")], tmp_path / "video")
    (tmp_path / "a.dcm").write_text("no DICOM")
    (tmp_path / "b.txt").write_text("no DICOM")
    (tmp_path / "c.dcm").symlink_to(tmp_path / "absent")
    cut = save(series_of(phantom(), SeriesNumber=10)[:1], tmp_path / "cut") / "IM0000.dcm"
    cut.write_bytes(cut.read_bytes()[:300])
    report = save([data_set("1.2.840.10008.5.1.4.1.1.88.67")], tmp_path / "report") / "IM0000.dcm"
    report.write_bytes(report.read_bytes()[:-3])
    scans, skipped = find_scans([tmp_path])
    assert len(scans) == 1
    assert sorted((entry.reason.partition(",")[0], entry.damaged) for entry in skipped) == [
        ("Video Photographic Image Storage", False),
        ("X-Ray Radiation Dose SR Storage", False),
        ("cannot be read as a scan", True),
        ("compressed as MPEG2 Main Profile / Main Level", True),
        ("damaged DICOM (cut short) (1 file)", True),
        ("is a link to nothing", True),
    ]

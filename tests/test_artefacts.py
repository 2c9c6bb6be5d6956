"""Files of artefacts: whole files or none, records that are continued."""

import tracemalloc
from pathlib import Path

import pytest

from fluorosam_cli.artefacts import (
    Lines,
    atomic_path,
    read_lines,
)
from fluorosam_cli.contracts import Description
from fluorosam_cli.errors import FluoroError


def record(number: int) -> Description:
    return Description(name="spleen", text=f"spleen {number}", kind="phrase", split="train", source="lexicon")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert names(tmp_path) == {"deep", "deep/a.txt"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_nothing_and_the_old_file_stays(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == {"a.txt"}
    assert target.read_text() == "old"


# --- records ----------------------------------------------------------------------------------------------------------


def test_lines_appear_under_their_name_only_when_complete(tmp_path):
    path = tmp_path / "d.jsonl"
    with Lines(path, Description) as lines:
        lines.append(record(0))
        assert not path.exists()
    assert list(read_lines(path, Description)) == [record(0)]
    assert names(tmp_path) == {"d.jsonl"}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_lines_continue_after_a_kill_in_the_middle_of_a_line(tmp_path, cut):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    with Lines(whole, Description) as lines:
        for number in range(5):
            lines.append(record(number))
    (tmp_path / "killed.jsonl.part").write_bytes(whole.read_bytes()[:-cut])
    with Lines(killed, Description) as lines:
        assert lines.done == [record(number) for number in range(len(lines.done))]
        assert len(lines.done) == 4
        for number in range(len(lines.done), 5):
            lines.append(record(number))
    assert killed.read_bytes() == whole.read_bytes()


def test_lines_are_sorted_by_their_keys_in_little_memory(tmp_path):
    path = tmp_path / "d.jsonl"
    many = [record(number).model_copy(update={"text": f"{number:03d}" + "x" * 20_000}) for number in range(200)]
    (tmp_path / "d.jsonl.part").write_bytes(b"".join(f"{r.model_dump_json()}\n".encode() for r in many[:99:-1]) + b"{")
    expected = "".join(f"{r.model_dump_json()}\n" for r in many)
    tracemalloc.start()
    with Lines(path, Description, key=lambda one: int(one.text[:3])) as lines:
        assert lines.done == [*range(199, 99, -1)]
        for one in many[:100]:
            lines.append(one)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert path.read_text() == expected


def test_an_error_keeps_the_records_for_the_next_run(tmp_path):
    path = tmp_path / "d.jsonl"

    def write() -> None:
        with Lines(path, Description) as lines:
            lines.append(record(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not path.exists()
    with Lines(path, Description) as lines:
        assert lines.done == [record(0)]


@pytest.mark.parametrize("damage", [b"{\n", b"\xff\xfe\n", b"[]\n", b'{"name": "spleen"}\n'])
def test_a_damaged_record_is_named_by_file_and_line(tmp_path, damage):
    path = tmp_path / "d.jsonl"
    path.write_bytes((record(0).model_dump_json() + "\n").encode() + damage)
    with pytest.raises(FluoroError, match=r"d\.jsonl: line 2"):
        list(read_lines(path, Description))
    with pytest.raises(FluoroError, match=r"d\.jsonl: line 2"):
        Lines(path, Description)

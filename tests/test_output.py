"""Output folders: refused and replaced, continued, one process's at a time, no absolute paths."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from fluorosam_cli import output as module
from fluorosam_cli.artefacts import TEMPORARY, find_artefacts, read_header
from fluorosam_cli.commands.stage import Stage
from fluorosam_cli.contracts import Descriptions, Run
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.output import RUN_FILE, Output


def output(path: Path, **changes) -> Output:
    options = {"stage": "describe", "header": "descriptions.json", "config": {"count": 3}, **changes}
    return Output(path, **options)


def stop_in_the_middle(path: Path, error: BaseException) -> None:
    def write() -> None:
        with output(path) as out:
            (out.path / "0.txt").write_text("whole")
            raise error

    with pytest.raises(type(error)):
        write()


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def recorded(path: Path) -> Run:
    return read_header(path / RUN_FILE, Run)


def test_private_words_are_counted_and_not_recorded(tmp_path, monkeypatch):
    words = ["segment-ct", "pat/JANE DOE", "./pat/JOHN", "/scans/JOHN", "--labels=pat/JOHN", "-o", "ct"]
    monkeypatch.setattr(sys, "argv", ["fluoro", *words])
    with output(tmp_path / "a", private=["pat/JANE DOE", "pat/JOHN", "/scans/JOHN"]):
        (tmp_path / "a" / "0.txt").write_text("whole")
    assert recorded(tmp_path / "a").argv == ["segment-ct", "(3 not recorded)", "--labels=(1 not recorded)", "-o", "ct"]


def test_a_part_that_stopped_in_the_middle_can_be_resumed(tmp_path):
    folder = tmp_path / "d"
    with output(tmp_path / "e", part="2-of-2") as other:
        pass

    def write(done: int, error: Exception | None, **options) -> None:
        with output(folder, part="1-of-2", **options) as out:
            (folder / "0.txt").write_text("whole")
            out.done = done
            if error:
                raise error

    for done, kept in ((0, False), (1, True)):
        with pytest.raises(OSError, match="full"):
            write(done, OSError("full"), resume=bool(done))
        assert (folder / "run-1-of-2.json").is_file() == kept
        shutil.copy(other.path / other.run_file, folder)
    write(2, None, resume=True)


def test_a_finished_folder_has_its_header_and_its_run(tmp_path):
    with output(tmp_path / "d") as out:
        assert read_header(out.path / RUN_FILE, Run).status == "running"
        out.done = 3
        out.finish(Descriptions(count=3, names=1, seed=0))
    run = read_header(tmp_path / "d" / RUN_FILE, Run)
    assert (run.status, run.done, run.stage) == ("done", 3, "describe")
    assert find_artefacts(tmp_path, "descriptions.json", Descriptions)[0][0] == tmp_path / "d"


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FluoroError, match="not empty") as caught:
        output(tmp_path)
    assert "--resume" in caught.value.hint
    assert "--overwrite" in caught.value.hint


def test_an_empty_folder_is_taken(tmp_path):
    with output(tmp_path) as out:
        assert not out.resuming


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "d").write_text("")
    with pytest.raises(FluoroError, match="is a file"):
        output(tmp_path / "d")


def test_overwrite_replaces_all_of_it(tmp_path):
    with output(tmp_path / "d") as out:
        (out.path / "old").mkdir()
        (out.path / "old" / "x").write_text("x")
    with output(tmp_path / "d", overwrite=True):
        pass
    assert names(tmp_path / "d") == {RUN_FILE}


def test_inputs_of_one_name_in_folders_of_one_name_all_count(tmp_path):
    sources = [tmp_path / name / "views" / "views.json" for name in "ab"]
    for source in sources:
        source.parent.mkdir(parents=True)
        source.write_text("one")
    with output(tmp_path / "d", inputs=sources):
        pass
    sources[0].write_text("two")
    with pytest.raises(FluoroError, match="its inputs have changed"):
        output(tmp_path / "d", inputs=sources, resume=True)


def test_two_processes_do_not_write_into_one_folder(tmp_path, monkeypatch):
    """A lock belongs to an open file, so that two in one process are like two processes."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    with output(tmp_path / "out") as out:
        (out.path / "0.txt").write_text("whole")
        with pytest.raises(FluoroError, match="another process writes there"), output(tmp_path / "out", resume=True):
            pass
    with output(tmp_path / "out", resume=True) as out:
        assert (out.path / "0.txt").read_text() == "whole"


def test_a_folder_is_looked_at_again_when_it_is_entered(tmp_path):
    late = output(tmp_path / "d")
    with output(tmp_path / "d") as out:
        (out.path / "0.txt").write_text("whole")
    with pytest.raises(FluoroError, match="not empty"), late:
        pass
    assert names(tmp_path / "d") == {"0.txt", RUN_FILE}


def test_a_part_is_written_by_one_process_and_others_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    again = output(tmp_path, part="1-of-2")
    with output(tmp_path, part="1-of-2"):
        with pytest.raises(FluoroError, match="another process writes there"), again:
            pass
        with output(tmp_path, part="2-of-2"):
            pass
    assert names(tmp_path) == {"run-1-of-2.json", "run-2-of-2.json"}


def test_a_part_that_is_just_starting_is_not_in_the_way_of_another(tmp_path):
    (tmp_path / f"{TEMPORARY}1-run-1-of-2.json").write_text("{")
    with output(tmp_path, part="2-of-2"):
        pass


@pytest.mark.parametrize(
    ("before", "now"), [("1-of-2", None), (None, "1-of-2"), ("1-of-2", "1-of-3"), ("1-of-2", "1-of-12")]
)
@pytest.mark.parametrize("option", ["overwrite", "resume"])
def test_parts_and_the_whole_do_not_mix(tmp_path, before, now, option):
    with output(tmp_path, part=before) as out:
        (tmp_path / "0.txt").write_text("whole")
    with pytest.raises(FluoroError, match=rf"with another --shard or with none \({out.run_file}\)"):
        output(tmp_path, part=now, **{option: True})


def test_all_parts_have_the_same_options(tmp_path):
    with output(tmp_path, part="1-of-2", config={"count": 3, "shard": "1/2"}):
        pass
    with pytest.raises(FluoroError, match="begun with count = 3, now 4"):
        output(tmp_path, part="2-of-2", config={"count": 4, "shard": "2/2"})
    with output(tmp_path, part="2-of-2", config={"count": 3, "shard": "2/2"}):
        pass


def test_overwrite_does_not_delete_what_fluoro_did_not_write(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FluoroError, match="not written by fluoro"):
        output(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_resume_keeps_items_and_removes_the_leftovers_of_a_kill(tmp_path):
    stop_in_the_middle(tmp_path, KeyboardInterrupt())
    (tmp_path / f"{TEMPORARY}1-1.txt").write_text("half")
    (tmp_path / f"{TEMPORARY}case").mkdir()
    assert read_header(tmp_path / RUN_FILE, Run).status == "interrupted"
    with output(tmp_path, resume=True) as out:
        assert out.resuming
        assert not out.finished
    assert names(tmp_path) == {"0.txt", RUN_FILE}


def test_resume_says_what_has_changed(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("one")
    with output(tmp_path / "d", inputs=[source]):
        pass
    with pytest.raises(FluoroError, match=r"begun with count = 3, now 4"):
        output(tmp_path / "d", inputs=[source], resume=True, config={"count": 4})
    with pytest.raises(FluoroError, match="was written by `fluoro describe`"):
        output(tmp_path / "d", inputs=[source], resume=True, stage="pack")
    source.write_text("two")
    with pytest.raises(FluoroError, match="inputs have changed"):
        output(tmp_path / "d", inputs=[source], resume=True)


def test_resume_of_a_folder_that_fluoro_did_not_write_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FluoroError, match="nothing to resume"):
        output(tmp_path, resume=True)


def test_resume_of_nothing_is_a_new_run(tmp_path):
    with output(tmp_path / "d", resume=True) as out:
        assert not out.resuming


def test_overwrite_and_resume_exclude_each_other(tmp_path):
    with pytest.raises(UsageError):
        output(tmp_path, overwrite=True, resume=True)


def test_an_error_before_anything_was_made_leaves_no_folder(tmp_path):
    with pytest.raises(FluoroError), output(tmp_path / "d"):
        raise FluoroError("bad", "mend it")
    assert names(tmp_path) == set()


def test_an_error_after_something_was_made_keeps_it_for_resume(tmp_path):
    stop_in_the_middle(tmp_path / "d", FluoroError("bad", "mend it"))
    assert names(tmp_path / "d") == {"0.txt", RUN_FILE}
    assert read_header(tmp_path / "d" / RUN_FILE, Run).status == "failed"


# --- what a command reads and --overwrite spares ----------------------------------------------------------------------


def overwriting(folder: Path, **resolved: object) -> Stage:
    return Stage("train", folder, {"overwrite": True, "resume": False, "seed": 0, "config": None}, resolved)


def test_overwrite_spares_what_lies_in_the_folder_that_a_command_settles_on(tmp_path):
    header = tmp_path / "tiny" / "best" / "checkpoint.json"
    header.parent.mkdir(parents=True)
    header.write_text("{}")
    stage = overwriting(tmp_path / "small")
    stage.folder = tmp_path / "tiny"
    with pytest.raises(UsageError, match="which --overwrite would empty"):
        stage.output(None, inputs=[header])
    with pytest.raises(UsageError, match="which --overwrite would empty"):
        stage.output(None, reads=[header.parent])
    stage.resolved["init"] = tmp_path / "tiny" / "*" / "*.json"
    with pytest.raises(UsageError, match="which --overwrite would empty"):
        stage.output(None)
    stage.folder = tmp_path / "small"
    stage.output(None)


def test_a_word_is_no_input_where_a_folder_has_its_name(fluoro, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["-o", "head"], ["head"]):
        command = ["phantom", *words, "--region", "head", "--spacing", 12]
        assert fluoro(*command, "--overwrite")[0] == 0
        code, _, err = fluoro(*command, "--overwrite")
        assert code == 0, err


def test_no_absolute_path_reaches_run_json(tmp_path, monkeypatch):
    home = tmp_path / "Jane Doe (1961)"
    (home / "data").mkdir(parents=True)
    (home / "data" / "in.txt").write_text("x")
    words = ["fluoro", "render", f"{home}/ct", f"--out={home}/views", "-o", f"{home}/views", "http://host:80/v1", "a/b"]
    monkeypatch.setattr(sys, "argv", words)
    config = {"ct": home / "ct", "scans": [home / "a", home / "b"], "weights": f"open_clip:ViT-B-32:{home}/w.pt"}
    with output(home / "views", config=config, inputs=[home / "data" / "in.txt"]) as out:
        out.done = 1
        out.failed.append(f"{home}/a.nii.gz: shape differs from {home}/b.nii.gz")
    text = (home / "views" / RUN_FILE).read_text()
    assert str(tmp_path) not in text
    assert "Doe" not in text
    run = json.loads(text)
    assert run["argv"] == ["render", "ct", "--out=views", "-o", "views", "http://host:80/v1", "a/b"]
    assert run["config"] == {"ct": "ct", "scans": ["a", "b"], "weights": "open_clip:ViT-B-32:w.pt"}

import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.anatomy.structures import names, side_of
from fluorosam_cli.anatomy.wording import content_bag
from fluorosam_cli.artefacts import read_header, read_lines
from fluorosam_cli.contracts import Description, Descriptions
from fluorosam_cli.text.phrases import names as all_names
from fluorosam_cli.text.phrases import phrases_of, resolve


def records(folder):
    return list(read_lines(folder / "descriptions.jsonl", Description))


def test_all_names_offline(fluoro, tmp_path):
    code, out, err = fluoro("describe", "-o", tmp_path / "d", "--json")
    assert code == 0, err
    found = records(tmp_path / "d")
    header = read_header(tmp_path / "d" / "descriptions.json", Descriptions)
    assert (header.count, header.names) == (len(found), len(all_names()))
    assert json.loads(out)["descriptions"] == len(found)
    assert list(dict.fromkeys(record.name for record in found)) == list(all_names())
    from_lexicon = [(r.name, r.text, r.kind, r.split) for r in found if r.source == "lexicon"]
    assert from_lexicon == [(n, p.text, p.kind, p.split) for n in all_names() for p in phrases_of(n)]


def test_templates_are_made_of_train_phrases_only(fluoro, tmp_path):
    fluoro("describe", "femur_left", "ribs", "-o", tmp_path / "d", "--templates", 6)
    found = records(tmp_path / "d")
    made = [record for record in found if record.source == "template"]
    train = [record for record in found if record.source == "lexicon" and record.split == "train"]
    assert len(made) == 6 * len(train)
    assert {(record.kind, record.split) for record in made} == {("phrase", "train")}
    assert all(resolve(record.text) is None for record in made)
    held_out = {content_bag(record.text) for record in found if record.split == "test"}
    assert not held_out & {content_bag(record.text) for record in made}


def test_names_can_be_given_in_words_and_order_is_kept(fluoro, tmp_path):
    code, _, err = fluoro(
        "describe", "the left kidney", "spleen", "kidney_left", "-o", tmp_path / "d", "--templates", 0
    )
    assert code == 0, err
    assert list(dict.fromkeys(record.name for record in records(tmp_path / "d"))) == ["kidney_left", "spleen"]


def test_other_names_do_not_change_a_name_s_phrases(fluoro, tmp_path):
    fluoro("describe", "spleen", "-o", tmp_path / "a")
    fluoro("describe", "liver", "spleen", "-o", tmp_path / "b")
    assert records(tmp_path / "a") == [r for r in records(tmp_path / "b") if r.name == "spleen"]
    fluoro("describe", "spleen", "-o", tmp_path / "c", "--seed", 1)
    assert records(tmp_path / "c") != records(tmp_path / "a")


def test_unknown_name(fluoro, tmp_path):
    code, out, err = fluoro("describe", "left femer", "-o", tmp_path / "d")
    assert (code, out) == (2, "")
    assert "left femer: not a known structure" in err
    assert "femur_left" in err
    assert not (tmp_path / "d").exists()


def test_resume_after_being_cut_off_anywhere_gives_the_same_bytes(fluoro, tmp_path):
    command = ("describe", "femur_left", "liver", "ribs", "L3", "-o")
    fluoro(*command, tmp_path / "whole")
    whole = (tmp_path / "whole" / "descriptions.jsonl").read_bytes()
    for cut in (0, 1, 150, len(whole) // 2, len(whole) - 1):
        folder = tmp_path / f"cut{cut}"
        fluoro(*command, folder)
        header = (folder / "descriptions.json").read_bytes()
        (folder / "descriptions.json").unlink()
        (folder / "descriptions.jsonl").unlink()
        (folder / "descriptions.jsonl.part").write_bytes(whole[:cut])
        code, _, err = fluoro(*command, folder, "--resume")
        assert code == 0, err
        assert (folder / "descriptions.jsonl").read_bytes() == whole
        assert (folder / "descriptions.json").read_bytes() == header


def test_resume_of_a_finished_folder_changes_nothing(fluoro, tmp_path):
    fluoro("describe", "liver", "-o", tmp_path / "d")
    before = (tmp_path / "d" / "descriptions.jsonl").stat().st_mtime_ns
    code, _, _ = fluoro("describe", "liver", "-o", tmp_path / "d", "--resume")
    assert code == 0
    assert (tmp_path / "d" / "descriptions.jsonl").stat().st_mtime_ns == before


def test_dry_run_counts_what_a_run_writes(fluoro, tmp_path):
    code, out, _ = fluoro("describe", "liver", "rib_left_5", "-o", tmp_path / "d", "--dry-run", "--json")
    assert code == 0
    assert not (tmp_path / "d").exists()
    fluoro("describe", "liver", "rib_left_5", "-o", tmp_path / "d")
    assert json.loads(out)["phrases"] == len(records(tmp_path / "d"))


# --- what a phrase means ----------------------------------------------------------------------------------------------


def test_resolve_lists_what_a_phrase_means_best_first(fluoro, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = fluoro("describe", "--resolve", "the left thigh bone")
    assert code == 0
    assert out.splitlines()[0] == "the left thigh bone\t1.000\tfemur_left\tleft femur"
    assert not list(tmp_path.iterdir())


def test_resolve_reads_phrases_from_stdin_and_prints_json(fluoro, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("left lung\n\n  rigth kidny \nleft banana sandwich\nscrews\n"))
    code, out, _ = fluoro("describe", "--resolve", "-", "--json")
    assert code == 0
    found = json.loads(out)
    assert [entry["phrase"] for entry in found] == ["left lung", "rigth kidny", "left banana sandwich", "screws"]
    assert found[0]["structures"][0] == {"structure": "lung_above_diaphragm_left", "score": 1.0}
    assert found[1]["structures"][0]["structure"] == "kidney_right"
    assert found[2]["structures"] == []
    assert [entry["structure"] for entry in found[3]["structures"][:2]] == ["bone_screws", "pedicle_screws"]
    for entry in found:
        scores = [match["score"] for match in entry["structures"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)


def test_resolve_of_nonsense_says_so(fluoro):
    code, out, err = fluoro("describe", "--resolve", "qwertyuiop")
    assert (code, out) == (0, "")
    assert '"qwertyuiop" is no known name' in err


@pytest.mark.parametrize(
    "words", [("--resolve", " "), ("liver", "--resolve", "liver"), ("--resolve", "x", "--llm", "m")]
)
def test_resolve_alone_and_not_of_nothing(fluoro, words):
    assert fluoro("describe", *words)[0] == 2


# --- with a language model --------------------------------------------------------------------------------------------


def suggestions(name):
    side = "left" if name.endswith("left") else "right"
    other = {"left": "right", "right": "left"}[side]
    return {
        f"kidney_{side}": [f"{side} bean-like organ", f"{other} bean-like organ", f"{side} liver"],
        "spleen": ["fist-sized organ of the immune system", "spleen", "liver", "fist-sized organ of the immune system"],
    }.get(name, [f"outline of {name.replace('_', ' ')} please"])


def test_suggestions_are_checked_and_cached(fluoro, tmp_path, llm_server):
    llm_server.phrases = suggestions
    llm_server.script = ["429"]
    command = ("describe", "kidney_left", "kidney_right", "spleen", "--llm", "tiny", "--base-url", llm_server.url)
    code, out, err = fluoro(*command, "-o", tmp_path / "a", "--json")
    assert code == 0, err
    assert len(llm_server.requests) == 2  # refused once, then answered
    kept = [record for record in records(tmp_path / "a") if record.source == "llm"]
    assert [(record.name, record.text) for record in kept] == [
        ("kidney_left", "left bean-like organ"),
        ("kidney_right", "right bean-like organ"),
        ("spleen", "fist-sized organ of the immune system"),
    ]
    assert {record.model for record in kept} == {"tiny"}
    assert all(len(record.prompt_sha256) == 64 for record in kept)
    assert "rejected kidney_left: 'right bean-like organ': says right, not left" in err
    assert "rejected kidney_left: 'left liver': contains 'liver', which names liver" in err
    assert "rejected spleen: 'liver': names liver" in err
    assert "rejected spleen: 'spleen': already names spleen" in err
    assert json.loads(out)["rejected"] == 7

    held_out = [p.text for name in ("kidney_left", "spleen") for p in lexicon()[name] if p.split == "test"]
    assert not any(text in llm_server.requests[0]["messages"][1]["content"] for text in held_out)
    assert llm_server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["answers"]

    fluoro(*command, "-o", tmp_path / "b")
    assert len(llm_server.requests) == 2
    assert (tmp_path / "b" / "descriptions.jsonl").read_bytes() == (tmp_path / "a" / "descriptions.jsonl").read_bytes()


def test_an_answer_that_stays_malformed_fails_its_names_only(fluoro, tmp_path, llm_server):
    llm_server.phrases = suggestions
    llm_server.script = ["garbage", "garbage"]
    chosen = names()[:12]
    command = ("describe", *chosen, "-o", tmp_path / "d", "--llm", "tiny", "--base-url", llm_server.url)
    code, _, err = fluoro(*command, "--parallel", 1)
    assert code == 1
    assert "failed: spleen: the model's answer is not the JSON asked for" in err
    found = records(tmp_path / "d")
    assert {r.name for r in found if r.source == "llm"} == set(chosen[8:])
    assert {r.name for r in found} == set(chosen)
    code, _, err = fluoro(*command, "--parallel", 1, "--resume")  # asks for the others alone
    assert code == 0, err
    assert len(llm_server.requests) == 4
    again = records(tmp_path / "d")
    assert {r.name for r in again if r.source == "llm"} == set(chosen)
    assert len(again) == len(set(again)) > len(found)


def test_a_malformed_answer_is_asked_for_again(fluoro, tmp_path, llm_server):
    llm_server.phrases = suggestions
    llm_server.script = ["garbage"]
    code, _, err = fluoro("describe", "spleen", "-o", tmp_path / "d", "--llm", "tiny", "--base-url", llm_server.url)
    assert code == 0, err
    assert len(llm_server.requests) == 2


def test_a_refused_key_keeps_what_was_written(fluoro, tmp_path, llm_server):
    command = ("describe", *names()[:12], "-o", tmp_path / "d", "--llm", "tiny", "--base-url", llm_server.url)
    llm_server.phrases = suggestions
    llm_server.script = ["answer", "401"]
    code, _, err = fluoro(*command)
    assert code == 1
    assert "refuses the key" in err
    assert not (tmp_path / "d" / "descriptions.json").exists()
    code, _, err = fluoro(*command, "--resume")
    assert code == 0, err
    assert len(llm_server.requests) == 3


def test_resume_after_a_kill_gives_the_bytes_of_an_unbroken_run(fluoro, tmp_path, llm_server):
    llm_server.phrases = suggestions
    chosen = names()[:20]
    command = ("describe", *chosen, "--llm", "tiny", "--base-url", llm_server.url, "--templates", "1", "-o")
    llm_server.script = ["answer", "hang"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "fluorosam_cli", *command, str(tmp_path / "killed")],
        env={**os.environ, "FLUORO_CACHE": str(tmp_path / "cache1")},
        stderr=subprocess.DEVNULL,
    )
    assert llm_server.hanging.wait(60)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "descriptions.jsonl").exists()
    assert fluoro(*command, tmp_path / "killed", "--resume")[0] == 0
    assert fluoro(*command, tmp_path / "whole")[0] == 0
    assert (tmp_path / "killed" / "descriptions.jsonl").read_bytes() == (
        tmp_path / "whole" / "descriptions.jsonl"
    ).read_bytes()


@pytest.mark.parametrize("script", [["500", "503"], ["429", "429", "500"], ["hang"], ["hang", "429", "garbage"]])
def test_a_server_in_trouble_is_asked_again(fluoro, tmp_path, llm_server, script):
    llm_server.phrases = suggestions
    llm_server.script = list(script)
    code, _, err = fluoro(
        "describe", "spleen", "-o", tmp_path / "d", "--llm", "tiny", "--base-url", llm_server.url, "--timeout", 0.5
    )
    assert code == 0, err
    assert len(llm_server.requests) == len(script) + 1
    assert [r.text for r in records(tmp_path / "d") if r.source == "llm"] == ["fist-sized organ of the immune system"]


def test_a_server_that_stays_down_is_given_up_and_resumed(fluoro, tmp_path, llm_server, monkeypatch):
    monkeypatch.setattr("fluorosam_cli.text.llm.RETRIES", 1)
    llm_server.phrases = suggestions
    llm_server.script = ["500", "500"]
    command = ("describe", "spleen", "-o", tmp_path / "d", "--llm", "tiny", "--base-url", llm_server.url)
    code, _, err = fluoro(*command)
    assert code == 1
    assert "500" in err
    assert not (tmp_path / "d" / "descriptions.json").exists()
    assert fluoro(*command, "--resume", "--parallel", 2)[0] == 0  # how fast it is asked is no part of the configuration


def test_nothing_of_a_model_that_swaps_left_and_right_is_kept(fluoro, tmp_path, llm_server):
    other = {"left": "right", "right": "left"}
    chosen = ["kidney_left", "kidney_right", "femur_left", "femur_right", "rib_left_5", "rib_right_5"]
    llm_server.phrases = lambda name: [
        f"{other['left' if '_left' in name else 'right']} sided {word} of the body" for word in ("part", "thing")
    ]
    code, out, err = fluoro(
        "describe", *chosen, "-o", tmp_path / "d", "--llm", "tiny", "--base-url", llm_server.url, "--json"
    )
    assert code == 0
    assert not [record for record in records(tmp_path / "d") if record.source == "llm"]
    assert json.loads(out)["rejected"] == 12
    assert err.count("rejected ") == 12


def test_answers_are_kept_in_order_whatever_the_server_does(fluoro, tmp_path, llm_server):
    llm_server.phrases = lambda name: [f"{side_of(name) or ''} thing number called {name[:3]}".strip()]
    llm_server.delay_s = 0.05
    command = ("describe", *names()[:48], "--templates", 0, "--llm", "tiny", "--base-url", llm_server.url, "-o")
    assert fluoro(*command, tmp_path / "a", "--parallel", 6)[0] == 0
    assert 1 < llm_server.most_at_once <= 6
    shutil.rmtree(tmp_path / "cache")
    llm_server.most_at_once = 0
    assert fluoro(*command, tmp_path / "b", "--parallel", 1)[0] == 0
    assert llm_server.most_at_once == 1
    one, other = ((tmp_path / folder / "descriptions.jsonl").read_bytes() for folder in "ab")
    assert one == other


def test_the_rate_limit_spaces_the_calls(fluoro, tmp_path, llm_server):
    command = ("describe", *names()[:32], "--templates", 0, "--llm", "tiny", "--base-url", llm_server.url)
    assert fluoro(*command, "-o", tmp_path / "d", "--parallel", 4, "--rate", 600)[0] == 0
    began = sorted(llm_server.began_s)
    assert len(began) == 4
    assert began[-1] - began[0] > 0.2  # three times 0.1 s, less the way to the server


def test_a_name_cut_off_between_suggestions_gets_the_same_ones_again(fluoro, tmp_path, llm_server):
    llm_server.phrases = lambda name: [f"odd organ {word}" for word in ("one", "two", "red", "blue", "wide", "thin")]
    command = ("describe", "spleen", "--per-name", 4, "--llm", "tiny", "--base-url", llm_server.url, "-o")
    fluoro(*command, tmp_path / "whole")
    whole = (tmp_path / "whole" / "descriptions.jsonl").read_bytes()
    fluoro(*command, tmp_path / "cut")
    (tmp_path / "cut" / "descriptions.json").unlink()
    (tmp_path / "cut" / "descriptions.jsonl").unlink()
    (tmp_path / "cut" / "descriptions.jsonl.part").write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    assert fluoro(*command, tmp_path / "cut", "--resume")[0] == 0
    assert (tmp_path / "cut" / "descriptions.jsonl").read_bytes() == whole


def test_dry_run_counts_calls_and_makes_none(fluoro, tmp_path, llm_server):
    words = (
        "describe",
        *names(),
        "--price",
        0.5,
        2,
        "--llm",
        "tiny",
        "--base-url",
        llm_server.url,
        "-o",
        tmp_path / "d",
        "--dry-run",
        "--json",
    )
    code, out, _ = fluoro(*words)
    plan = json.loads(out)
    assert code == 0
    assert plan["calls"] == 26
    assert 5_000 < plan["approximate_prompt_tokens"] < 50_000
    assert plan["approximate_answer_tokens"] == len(names()) * 8 * 16
    tokens = plan["approximate_prompt_tokens"], plan["approximate_answer_tokens"]
    assert plan["approximate_cost"] == pytest.approx((tokens[0] * 0.5 + tokens[1] * 2) / 1e6, abs=1e-4)
    assert llm_server.requests == []


def test_no_key_and_no_network(fluoro, tmp_path, llm_server, monkeypatch):
    code, _, err = fluoro("describe", "liver", "--llm", "gpt-5", "-o", tmp_path / "d")
    assert code == 1
    assert "OPENAI_API_KEY is not set" in err
    monkeypatch.setenv("FLUORO_OFFLINE", "1")
    code, _, err = fluoro("describe", "liver", "--llm", "tiny", "--base-url", llm_server.url, "-o", tmp_path / "d")
    assert code == 1
    assert "FLUORO_OFFLINE" in err
    assert llm_server.requests == []
    assert not (tmp_path / "d").exists()


def test_unreachable_server(fluoro, tmp_path, llm_server, monkeypatch):
    monkeypatch.setattr("fluorosam_cli.text.llm.RETRIES", 0)
    code, _, err = fluoro(
        "describe", "liver", "--llm", "tiny", "--base-url", "http://127.0.0.1:9/v1", "-o", tmp_path / "d"
    )
    assert code == 1
    assert "127.0.0.1: no answer" in err


def test_base_url_without_a_model(fluoro, tmp_path):
    assert fluoro("describe", "--base-url", "http://localhost/v1", "-o", tmp_path / "d")[0] == 2


def test_tools_of_ones_own_are_described_too(fluoro, tmp_path):
    import trimesh

    folder = tmp_path / "tools"
    folder.mkdir()
    trimesh.creation.box((4, 4, 60)).export(folder / "bone_key.stl")
    (folder / "tools.toml").write_text(
        '[bone_key]\nname = "Bergmann bone key"\ndescription = "turns a bone"\nsynonyms = ["Bergmann wrench"]\n'
    )
    asked = "describe", "spleen", "--tools", folder, "--templates", 1
    code, out, _ = fluoro(*asked, "--dry-run", "--json")
    assert code == 0
    assert fluoro(*asked, "-o", tmp_path / "out")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "descriptions.jsonl").read_text().splitlines()]
    assert len(lines) == json.loads(out)["phrases"]
    assert {line["name"] for line in lines} == {"spleen", "bone_key", "user_tools"}
    own = {line["text"] for line in lines if line["name"] == "bone_key"}
    assert {"Bergmann bone key", "Bergmann wrench", "Bergmann bone key that turns a bone"} <= own
    assert {line["split"] for line in lines if line["name"] == "bone_key"} == {"train", "test"}
    (folder / "tools.toml").write_text('[bone_key]\nname = "left femur"\n')
    code, _, err = fluoro(*asked, "-o", tmp_path / "other")
    assert code == 1
    assert "names something else" in err

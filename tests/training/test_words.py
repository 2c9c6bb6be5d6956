import json

import numpy as np
import pytest
import torch

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.contracts import ShardsPhrase
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.fluorosam import preset
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.text.encoder import load_text_encoder
from fluorosam_cli.training import lessons
from fluorosam_cli.training import words as stage
from fluorosam_cli.training.lessons import all_phrases
from fluorosam_cli.training.prototypes import base_of, facets
from fluorosam_cli.training.word_report import as_markdown, word_report
from fluorosam_cli.training.words import check_words, learn_words, load_words, phrase_features, save_words

ENCODER = load_text_encoder()
CONFIG = preset("tiny", ENCODER.dim)


def phrases_of(*prefixes):
    chosen = [name for name in lexicon() if name.startswith(prefixes)]
    return [ShardsPhrase(structure=n, text=p.text, split=p.split) for n in chosen for p in lexicon()[n]]


@pytest.fixture(scope="module", autouse=True)
def few_sentences():
    """Most of the time of a lesson goes to sentence embeddings; 200 phrases with one are plenty for a few names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "EMBEDDED", 200)
        yield


@pytest.fixture(scope="module")
def taught(few_sentences):
    phrases = phrases_of("femur_", "humerus_", "kidney_", "rib_left_3", "rib_left_4", "vertebrae_L3", "vertebrae_L4")
    features = phrase_features(ENCODER, phrases)
    return phrases, features, learn_words(phrases, features, CONFIG, ENCODER)


@pytest.fixture(scope="module")
def head(taught):
    found = TextHead(CONFIG)
    found.load_state_dict(taught[2].head)
    return found.eval()


def read(words, head, *texts):
    features = torch.from_numpy(ENCODER.encode(texts))
    return [words.names[int(code) % len(words.names)] for code in head.codes(head.mlp(features))]


def test_held_out_phrases_fall_on_a_code_of_their_structure(taught):
    assert taught[2].scores["words_train_accuracy"] > 0.99
    assert taught[2].scores["words_held_out_accuracy"] > 0.92


def test_left_is_not_right_and_a_spelling_error_does_no_harm(taught, head):
    asked = "left femur", "right femur", "LEFT FEMUR", "left femr", "rigth kidney", "3rd left rib", "L4"
    expected = ["femur_left", "femur_right", "femur_left", "femur_left", "kidney_right", "rib_left_3", "vertebrae_L4"]
    assert read(taught[2], head, *asked) == expected


def test_strangers_are_not_known(head):
    known = head.known(torch.from_numpy(ENCODER.encode(["left femur", "kidney on the right", "L3", "left humrus"])))
    strange = head.known(torch.from_numpy(ENCODER.encode(["left banana", "the quick brown fox", "xqzv", "dishwasher"])))
    assert known.min() > max(0.5, strange.max())  # a household word may pass 0.5, but no known one falls below it


def test_the_same_seed_teaches_the_same(taught, monkeypatch):
    monkeypatch.setattr(stage, "MOST_STEPS", 20)
    phrases = taught[0][:60]
    one, two = (learn_words(phrases, taught[1][:60], CONFIG, ENCODER, seed=3) for _ in range(2))
    assert all(torch.equal(one.head[key], two.head[key]) for key in one.head)


def test_words_survive_writing_and_reading(taught, tmp_path):
    words = taught[2]
    save_words(tmp_path, words)
    again = load_words(tmp_path)
    assert (again.encoder, again.names, again.scores) == (words.encoder, words.names, words.scores)
    assert all(torch.equal(again.head[key], words.head[key]) for key in words.head)
    check_words(again, CONFIG, ENCODER, ["femur_left"])


@pytest.mark.parametrize("damage", ["bytes", "gone", "header"])
def test_damaged_words_are_refused(taught, tmp_path, damage):
    save_words(tmp_path, taught[2])
    weights = tmp_path / "words.safetensors"
    if damage == "bytes":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif damage == "gone":
        weights.unlink()
    else:
        (tmp_path / "words.json").write_text(json.dumps({"format": "fluoro.words/1"}))
    with pytest.raises(FluoroError):
        load_words(tmp_path)


def test_words_for_another_network_or_other_structures_are_refused(taught):
    with pytest.raises(FluoroError, match="text head"):
        check_words(taught[2], preset("swin-t-448", ENCODER.dim), ENCODER, [])
    with pytest.raises(FluoroError, match="know no spleen"):
        check_words(taught[2], CONFIG, ENCODER, ["spleen", "femur_left"])


def test_more_names_than_codes_are_refused(taught):
    few = CONFIG.model_copy(update={"codebook_size": 3})
    with pytest.raises(FluoroError, match="3 codes for"):
        learn_words(taught[0], taught[1], few, ENCODER)


def test_names_share_what_they_have_in_common():
    assert set(facets("rib_left_5")) & set(facets("rib_right_5")) == {"rib", "number 5"}
    assert set(facets("femur_left")) & set(facets("femora")) == {"femur"}
    assert set(facets("cortical_screw_3_5_x_32_mm")) >= {"cortical_screw", "size 3_5", "size 32_mm"}
    assert base_of("cortical_screw_3_5_x_32_mm") == base_of("cortical_screw") == "cortical_screw"
    phrases = all_phrases(0)
    made_of = {name: frozenset(facets(name)) for name in {phrase.structure for phrase in phrases}}
    assert len(set(made_of.values())) == len(made_of)
    assert len({phrase.text for phrase in phrases if phrase.split == "test"}) > 2000


def test_the_report_counts_what_it_says(taught):
    phrases, features, words = taught
    report = word_report(words, phrases, features, CONFIG, ENCODER, seed=0)
    rows = {(row["phrases"], row["of"]): row for row in report["accuracy"]}
    known, new = rows["known words", "anatomy"], rows.get(("unseen words", "anatomy"), {"count": 0, "quantised": 0})
    assert known["count"] + new["count"] == report["phrases"]["test"] == sum(p.split == "test" for p in phrases)
    right = known["count"] * known["quantised"] + new["count"] * new["quantised"]
    assert right / report["phrases"]["test"] == pytest.approx(words.scores["words_held_out_accuracy"], abs=1e-3)
    assert known["quantised"] > known["raw"]
    assert report["codes"]["names_that_share_a_code"] == 0
    assert report["refusal"][-1]["auroc"] > 0.9
    assert "| one spelling error | anatomy |" in as_markdown(report)
    assert np.isfinite([row["auroc"] for row in report["refusal"]]).all()


def test_the_command_writes_a_folder_that_train_reads(fluoro, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MOST_STEPS", 20)
    described = tmp_path / "descriptions"
    assert fluoro("describe", "spleen", "left kidney", "right kidney", "--templates", 0, "-o", described)[0] == 0
    code, out, _ = fluoro("words", described, "--preset", "tiny", "--report", "-o", tmp_path / "words")
    assert (code, out.strip()) == (0, str(tmp_path / "words"))
    assert {path.name for path in (tmp_path / "words").iterdir()} == {
        "words.json", "words.safetensors", "run.json", "report.json", "report.md",
    }  # fmt: skip
    assert load_words(tmp_path / "words").names == ["kidney_left", "kidney_right", "spleen"]
    lines = described / "descriptions.jsonl"
    lines.write_text(lines.read_text().replace("lien", "milt"))
    code, _, err = fluoro("words", described, "--preset", "tiny", "--report", "-o", tmp_path / "words", "--resume")
    assert (code, "its inputs have changed" in err) == (1, True)
    code, _, err = fluoro("words", tmp_path / "none", "-o", tmp_path / "other")
    assert code == 1
    assert "descriptions.json" in err
    assert not (tmp_path / "other").exists()

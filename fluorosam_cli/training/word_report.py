"""What the words are worth: how often phrases nobody was taught fall on the right code, and how strangers are refused.

Every figure is the encoder's own: no phrase is looked up. Phrases count as `taught` when each of their content words
stands in a train phrase of the same structure (of either side, of any level), as `elsewhere` when each stands in some
train phrase, and as `new` otherwise. A spelling error is put into those of the first two kinds.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fluorosam_cli.anatomy.lexicon import lexicon
from fluorosam_cli.anatomy.structures import side_of
from fluorosam_cli.anatomy.wording import content_bag
from fluorosam_cli.artefacts import write_bytes
from fluorosam_cli.contracts import ModelConfig, ShardsPhrase
from fluorosam_cli.evaluation.metrics import auroc
from fluorosam_cli.model.quantiser import TextHead
from fluorosam_cli.text.encoder import TextEncoder
from fluorosam_cli.text.phrases import has_one_size
from fluorosam_cli.text.strangers import nonsense
from fluorosam_cli.text.typos import misspelt
from fluorosam_cli.training.prototypes import base_of
from fluorosam_cli.training.words import Words, nearest, phrase_features

MARKS = frozenset({"left", "right", "both", *map(str, range(13)), *(f"{r}{n}" for r in "ctls" for n in range(13))})
GOALS = {
    ("known words", "anatomy"): 0.97,
    ("known words", "sided pairs"): 0.99,
    ("one spelling error", "anatomy"): 0.9,
}
AUROC_GOAL = 0.95


@dataclass(frozen=True)
class Asked:
    """Held-out phrases and the names that three ways of reading find in them."""

    phrases: Sequence[ShardsPhrase]
    found: dict[str, list[str]]  # "quantised", "unquantised", "raw" -> names


def word_report(
    words: Words,
    phrases: Sequence[ShardsPhrase],
    features: Tensor,
    config: ModelConfig,
    encoder: TextEncoder,
    seed: int,
) -> dict:
    """Accuracies, refusals, code usage and collisions, as plain data."""
    head = TextHead(config)
    head.load_state_dict(words.head)
    train = [i for i, phrase in enumerate(phrases) if phrase.split == "train"]
    test = [i for i, phrase in enumerate(phrases) if phrase.split == "test"]
    with torch.inference_mode():
        read = _readers(words, head, [phrases[i].structure for i in train], features[train], encoder.sentence_dim)
        asked = [phrases[i] for i in test]
        vocabulary = _vocabulary([phrases[i] for i in train])
        kinds = [_kind(phrase, vocabulary) for phrase in asked]
        known = [phrase for phrase, kind in zip(asked, kinds, strict=True) if kind != "new"]
        random = np.random.default_rng(np.random.SeedSequence([seed, len(known)]))
        wrong = [(phrase, misspelt(phrase.text, random)) for phrase in known]
        wrong = [phrase.model_copy(update={"text": text}) for phrase, text in wrong if text]
        wrong_features = phrase_features(encoder, wrong)
        plain = Asked(asked, {way: reader(features[test]) for way, reader in read.items()})
        with_error = Asked(wrong, {way: reader(wrong_features) for way, reader in read.items()})
        subsets = {
            "known words": _only(plain, [kind != "new" for kind in kinds]),
            "words taught for it": _only(plain, [kind == "taught" for kind in kinds]),
            "words known, not for it": _only(plain, [kind == "elsewhere" for kind in kinds]),
            "unseen words": _only(plain, [kind == "new" for kind in kinds]),
            "one spelling error": with_error,
        }
        rows = [row for subset, part in subsets.items() for row in _rows(subset, part)]
        known_scores = head.known(features[test])[torch.tensor([kind != "new" for kind in kinds])].numpy()
        refusals = _refusals(head, encoder, known_scores, head.known(wrong_features).numpy())
        codes = _codes(words, head, phrases, features)
    return {"accuracy": rows, "refusal": refusals, "codes": codes, "phrases": {"train": len(train), "test": len(test)}}


def _readers(
    words: Words, head: TextHead, of: list[str], train: Tensor, sentence_dim: int
) -> dict[str, Callable[[Tensor], list[str]]]:
    """Ways to read features (n, text_dim) as names."""
    number = {name: i for i, name in enumerate(words.names)}
    owner = torch.tensor([number[name] for name in of])
    tokens = head.mlp(train)
    sums = torch.zeros(len(number), tokens.shape[1]).index_add_(0, owner, tokens)
    means = sums / owner.bincount(minlength=len(number))[:, None]
    anchors = train[:, :sentence_dim]

    def names(rows: Tensor) -> list[str]:
        return [words.names[i] for i in rows.tolist()]

    ways = {
        "unquantised": lambda features: names(nearest(head.mlp(features), means)),
        "raw": lambda features: names(
            torch.cat([owner[(part[:, :sentence_dim] @ anchors.T).argmax(1)] for part in features.split(512)])
        ),
    }
    if head.codebook is not None:
        ways["quantised"] = lambda features: names(head.codes(head.mlp(features)) % len(words.names))
    return dict(sorted(ways.items()))


# --- which phrases ----------------------------------------------------------------------------------------------------


def _vocabulary(train: Sequence[ShardsPhrase]) -> dict[str, set[str]]:
    """Base of a name -> content words of its train phrases."""
    found: dict[str, set[str]] = {}
    for phrase in train:
        found.setdefault(base_of(phrase.structure), set()).update(content_bag(phrase.text))
    return found


def _kind(phrase: ShardsPhrase, vocabulary: dict[str, set[str]]) -> str:
    bag = set(content_bag(phrase.text))
    if bag - MARKS <= vocabulary[base_of(phrase.structure)]:
        return "taught"
    return "elsewhere" if all(any(word in words for words in vocabulary.values()) for word in bag) else "new"


def _only(asked: Asked, chosen: Sequence[bool]) -> Asked:
    def pick(items: Sequence) -> list:
        return [item for item, is_chosen in zip(items, chosen, strict=True) if is_chosen]

    return Asked(pick(asked.phrases), {way: pick(names) for way, names in asked.found.items()})


PARTS: dict[str, Callable[[str], bool]] = {
    "anatomy": lambda name: name in lexicon(),
    "sided pairs": lambda name: name in lexicon() and side_of(name) is not None,
    "vertebrae": lambda name: name.startswith("vertebrae_"),
    "ribs": lambda name: name.startswith("rib_"),
    "tool families and designs": lambda name: name not in lexicon() and not has_one_size(name),
    "tools of one size": has_one_size,
}


def _rows(subset: str, asked: Asked) -> list[dict]:
    rows = []
    for part, belongs in PARTS.items():
        inside = _only(asked, [belongs(phrase.structure) for phrase in asked.phrases])
        if inside.phrases:
            rows.append({"phrases": subset, "of": part, "count": len(inside.phrases), **_shares(inside, str)})
            if part == "tools of one size":
                rows.append({**rows[-1], "of": "tools of one size, any size", **_shares(inside, base_of)})
    return rows


def _shares(asked: Asked, name_of: Callable[[str], str]) -> dict[str, float]:
    """Share of phrases read rightly, each way."""
    real = [name_of(phrase.structure) for phrase in asked.phrases]
    return {
        way: round(float(np.mean([name_of(name) == true for name, true in zip(names, real, strict=True)])), 4)
        for way, names in asked.found.items()
    }


# --- strangers and codes ----------------------------------------------------------------------------------------------


def _refusals(head: TextHead, encoder: TextEncoder, known: np.ndarray, with_error: np.ndarray) -> list[dict]:
    scores = {kind: head.known(torch.from_numpy(encoder.encode(texts))).numpy() for kind, texts in nonsense().items()}
    scores["all"] = np.concatenate(list(scores.values()))
    return [
        {
            "kind": kind,
            "count": len(strange),
            "auroc": round(auroc(known, strange) or 0.0, 4),
            "auroc_against_misspelt": round(auroc(with_error, strange) or 0.0, 4),
            "refused": round(float(np.mean(strange < 0.5)), 4),
            "known_accepted": round(float(np.mean(known >= 0.5)), 4),
        }
        for kind, strange in scores.items()
    ]


def _codes(words: Words, head: TextHead, phrases: Sequence[ShardsPhrase], features: Tensor) -> dict[str, int]:
    """Codes in all and in use, and names that share with another the code on which most of their phrases fall."""
    if head.codebook is None:
        return {}
    codes = torch.cat([head.codes(head.mlp(part)) for part in features.split(4096)]).tolist()
    by_name: dict[str, list[int]] = {}
    for phrase, code in zip(phrases, codes, strict=True):
        by_name.setdefault(phrase.structure, []).append(code)
    usual = [max(set(own), key=own.count) for own in by_name.values()]
    several = {code for code in usual if usual.count(code) > 1}
    return {
        "codes": head.codebook.num_embeddings,
        "used": len(set(codes)),
        "names": len(words.names),
        "names_that_share_a_code": sum(code in several for code in usual),
    }


# --- as a table -------------------------------------------------------------------------------------------------------


def as_markdown(report: dict) -> str:
    """The report as Markdown, with the goals and whether they are met."""
    ways = [way for way in ("quantised", "unquantised", "raw") if way in report["accuracy"][0]]
    lines = [_line("held-out phrases", "of", "count", *ways, "goal"), _line(*["---"] * (4 + len(ways)))]
    for row in report["accuracy"]:
        goal = GOALS.get((row["phrases"], row["of"]))
        met = "" if goal is None else f"{goal:.0%} {'met' if row[ways[0]] >= goal else 'missed'}"
        lines.append(_line(row["phrases"], row["of"], row["count"], *(f"{row[way]:.1%}" for way in ways), met))
    lines += ["", _line("strangers", "count", "AUROC", "against misspelt", "refused", "goal"), _line(*["---"] * 6)]
    for row in report["refusal"]:
        met = f"{AUROC_GOAL} {'met' if row['auroc'] >= AUROC_GOAL else 'missed'}" if row["kind"] == "all" else ""
        figures = f"{row['auroc']:.3f}", f"{row['auroc_against_misspelt']:.3f}", f"{row['refused']:.0%}"
        lines.append(_line(row["kind"], row["count"], *figures, met))
    counts = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in report["codes"].items())
    accepted = f"{report['refusal'][-1]['known_accepted']:.1%}"
    lines += ["", f"{accepted} of the held-out phrases with known words are accepted as known. {counts}."]
    return "\n".join(chain(lines, [""]))


def write_report(folder: Path, report: dict) -> None:
    """`report.json` and `report.md`."""
    write_bytes(folder / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    write_bytes(folder / "report.md", as_markdown(report).encode())


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"

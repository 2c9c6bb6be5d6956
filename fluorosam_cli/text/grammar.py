"""Requests around a phrase ("where is the left femur on this film?"), drawn from a small grammar with a seed."""

import hashlib
import re
import tomllib
from functools import cache
from importlib.resources import files

import numpy as np

from fluorosam_cli.contracts import PhraseKind

BARE = re.compile(
    r"(both|all|every|one|half|either|left and right|things|objects|everything) |[A-Z]+-?\d|(\d|[A-Z]{2,})"
)
PLURAL = re.compile(r"(both |all |left and right )|[a-z]{2}(?<!s)(?<!us)(?<!is)(?<!u)(?<!i)s$")


def requests(phrase: str, kind: PhraseKind, count: int, seed: int) -> list[str]:
    """`count` different requests, far fewer than the grammar has; the same for a seed whatever else is drawn."""
    key = int.from_bytes(hashlib.sha256(phrase.encode()).digest()[:8], "big")
    random = np.random.default_rng(np.random.SeedSequence([seed, key]))
    bare = kind == "abbreviation" or BARE.match(phrase)
    noun = {"np": phrase if bare else f"the {phrase}", "is": "are" if PLURAL.search(phrase) else "is"}
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(_expanded(random).format(**noun))
    return list(found)


def _expanded(random: np.random.Generator) -> str:
    """A sentence of the grammar with {np} and {is} still in it."""
    text = _drawn("sentences", random)
    while (symbol := re.search(r"\{(?!np\}|is\})(\w+)\}", text)) is not None:
        text = text[: symbol.start()] + _drawn(symbol[1], random) + text[symbol.end() :]
    return text


def _drawn(symbol: str, random: np.random.Generator) -> str:
    alternatives = _grammar()[symbol]
    return alternatives[random.integers(len(alternatives))]


@cache
def _grammar() -> dict[str, list[str]]:
    return tomllib.loads((files("fluorosam_cli.text") / "requests.toml").read_text(encoding="utf-8"))

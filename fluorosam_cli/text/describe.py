"""The describe stage: structure and group names -> phrases, from the lexicon and, when asked, from a language model.

The lexicon's phrases come first, then a few templates around its train phrases, then the model's suggestions that pass
`objection`. Names are written in the order given; whatever a killed run had written is kept.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from fluorosam_cli.anatomy.lexicon import lexicon, normalised, resolve, split_of
from fluorosam_cli.anatomy.marks import marks
from fluorosam_cli.anatomy.structures import display_name, groups, side_of, structures
from fluorosam_cli.artefacts import Lines, Output, Track, silent
from fluorosam_cli.contracts import Description, Descriptions
from fluorosam_cli.text.llm import LanguageModel, Question

TEMPLATES = (
    "segment the {x}",
    "{x} on this radiograph",
    "where is the {x}?",
    "show me the {x}",
    "outline the {x}",
    "the {x} in this X-ray",
)
NO_ARTICLE = ("both ", "all ")
NAMES_PER_CALL = 8
TOKENS_PER_PHRASE = 16  # of an answer, with its JSON
MIN_LENGTH, MAX_LENGTH = 2, 80
PLAIN = re.compile(r"[A-Za-z0-9 ,.'()/?-]*[A-Za-z][A-Za-z0-9 ,.'()/?-]*")

SYSTEM = """You collect the phrases with which radiologists, surgeons, students and patients name a part of the body
that they want to see outlined on an X-ray. Each phrase must name exactly the part asked for and no other: always state
the side of a sided part (the patient's left or right), the number of a rib or vertebra and its region of the spine.
Vary formal terms, synonyms, everyday words, word order and short requests. Plain letters, 2 to 80 characters, no
explanations. Do not repeat the phrases given."""


class Suggestion(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str
    kind: Literal["synonym", "lay", "variant", "phrase"]


class NamePhrases(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    phrases: list[Suggestion]


class Suggestions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    answers: list[NamePhrases]


@dataclass(frozen=True)
class Asking:
    """What is asked of a language model."""

    llm: LanguageModel
    phrases_per_name: int


@dataclass
class Counts:
    descriptions: int = 0
    from_llm: int = 0
    rejected: list[str] = field(default_factory=list)  # "name: text: why"
    unanswered: list[str] = field(default_factory=list)  # names for which the model gave no valid JSON


def questions(names: Sequence[str], asking: Asking) -> list[Question]:
    """The questions that cover `names`, `NAMES_PER_CALL` names each."""
    return [_question(batch, asking) for batch in _batches(names)]


def describe(
    output: Output, names: Sequence[str], templates: int, seed: int, asking: Asking | None, track: Track = silent
) -> Counts:
    """Write `descriptions.jsonl` and its header into `output`. `templates`: phrases made from each train phrase."""
    counts = Counts()
    with Lines(output.path / "descriptions.jsonl", Description) as lines:
        written = set(lines.done)
        last = lines.done[-1].name if lines.done else None
        complete = {record.name for record in lines.done if record.name != last}
        taken = {normalised(record.text): record.name for record in lines.done}
        counts.descriptions = len(written)
        for batch in track(_batches(names), "describe", -(-len(names) // NAMES_PER_CALL), "batches"):
            if complete.issuperset(batch):
                output.skipped += len(batch)
                continue
            suggested = _suggested(batch, asking, counts) if asking else {}
            for name in batch:
                records = [*_from_lexicon(name, templates, seed)]
                taken |= {normalised(record.text): name for record in records}
                if asking:
                    records += _kept(name, suggested.get(name, ()), asking, batch, taken, counts)
                for record in records:
                    if record not in written:
                        lines.append(record)
                        counts.descriptions += 1
                output.done += 1
    output.finish(Descriptions(count=counts.descriptions, names=len(names), seed=seed))
    return counts


def _batches(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + NAMES_PER_CALL] for start in range(0, len(names), NAMES_PER_CALL)]


# --- offline ----------------------------------------------------------------------------------------------------------


def _from_lexicon(name: str, templates: int, seed: int) -> Iterator[Description]:
    """The lexicon's phrases of a name, then `templates` sentences around each of its train phrases."""
    for phrase in lexicon()[name]:
        yield Description(name=name, text=phrase.text, kind=phrase.kind, split=phrase.split, source="lexicon")
    for phrase in lexicon()[name]:
        if phrase.split == "train":
            for index in sorted(_stream(seed, name, phrase.text).choice(len(TEMPLATES), templates, replace=False)):
                template = TEMPLATES[index].replace(
                    "the {x}", "{x}" if phrase.text.startswith(NO_ARTICLE) else "the {x}"
                )
                text = template.format(x=phrase.text)
                yield Description(name=name, text=text, kind="phrase", split="train", source="template")


def _stream(seed: int, name: str, text: str) -> np.random.Generator:
    """A random stream of its own for each phrase, so that other names change nothing."""
    key = int.from_bytes(hashlib.sha256(f"{name}/{text}".encode()).digest()[:8], "big")
    return np.random.default_rng(np.random.SeedSequence([seed, key]))


# --- from a language model --------------------------------------------------------------------------------------------


def _question(batch: Sequence[str], asking: Asking) -> Question:
    parts = [
        {
            "name": name,
            "part": display_name(name),
            "phrases": [phrase.text for phrase in lexicon()[name] if phrase.split == "train"][:6],
        }
        for name in batch
    ]
    request = f"Give {asking.phrases_per_name} new phrases for each of these parts, under its name:"
    return Question(SYSTEM, f"{request}\n{json.dumps(parts, indent=1)}", Suggestions)


def _suggested(batch: Sequence[str], asking: Asking, counts: Counts) -> dict[str, list[Suggestion]]:
    answer = asking.llm.ask(_question(batch, asking))
    if not isinstance(answer, Suggestions):
        counts.unanswered += batch
        return {}
    return {part.name: part.phrases for part in answer.answers}


def _kept(
    name: str,
    suggested: Sequence[Suggestion],
    asking: Asking,
    batch: Sequence[str],
    taken: dict[str, str],
    counts: Counts,
) -> Iterator[Description]:
    """The suggestions without objection, at most `phrases_per_name`; the others are noted in `counts.rejected`."""
    sha256 = asking.llm.sha256(_question(batch, asking))
    kept = 0
    for suggestion in suggested:
        text = " ".join(suggestion.text.split())
        owner = taken.get(normalised(text))
        why = f"already names {owner}" if owner else objection(name, text)
        if why is None and kept == asking.phrases_per_name:
            why = f"more than {kept} phrases"
        if why:
            counts.rejected.append(f"{name}: {text!r}: {why}")
            continue
        kept += 1
        counts.from_llm += 1
        taken[normalised(text)] = name
        yield Description(
            name=name,
            text=text,
            kind=suggestion.kind,
            split=split_of(name, text),
            source="llm",
            model=asking.llm.model,
            prompt_sha256=sha256,
        )


def objection(name: str, text: str) -> str | None:
    """Why `text` must not stand for `name`, or None: its form, side or number, or another structure's phrase."""
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        return f"{len(text)} characters, {MIN_LENGTH} to {MAX_LENGTH} allowed"
    if not PLAIN.fullmatch(text):
        return "characters other than plain letters, digits and punctuation"
    other = resolve(text)
    if other is not None:
        return None if other == name else f"names {other}"
    return _side_objection(name, text) or _level_objection(name, text) or _foreign_objection(name, text)


def _foreign_objection(name: str, text: str) -> str | None:
    """Whether the text contains another structure's phrase that no phrase of its own contains ("left liver")."""
    words = normalised(text).split()
    own = [f" {normalised(phrase.text)} " for phrase in lexicon()[name]]
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            part = " ".join(words[start:end])
            other = resolve(part)
            if other not in (None, name, *_relatives(name)) and not any(f" {part} " in phrase for phrase in own):
                return f"contains {part!r}, which names {other}"
    return None


def _relatives(name: str) -> set[str]:
    """The groups a name is in, its members and their other groups: their words may stand in its phrases."""
    members = set(groups().get(name, ()))
    return members | {group for group, inside in groups().items() if {name, *members} & set(inside)}


def _side_objection(name: str, text: str) -> str | None:
    side, stated = side_of(name), marks(text).sides
    if side and stated != {side}:
        return f"says {' and '.join(sorted(stated)) or 'no side'}, not {side}"
    two_sided = {side_of(member) for member in groups().get(name, ())} >= {"left", "right"}
    if not side and two_sided and len(stated) == 1:
        return f"says only {min(stated)}"
    return None


def _level_objection(name: str, text: str) -> str | None:
    level = _levels().get(name)
    if level is None:
        return None
    number, region = int(level.lstrip("CTLS")), level[0] if level[0].isalpha() else None
    stated = marks(text)
    if stated.numbers != {number}:
        return f"says {', '.join(map(str, sorted(stated.numbers))) or 'no number'}, not {number}"
    if region and stated.regions != {region}:
        return f"says {', '.join(sorted(stated.regions)) or 'no region of the spine'}, not {region}"
    if not region and stated.regions - {"T"}:  # ribs are thoracic
        return f"says region {min(stated.regions - {'T'})} of the spine for a rib"
    return None


def _levels() -> dict[str, str]:
    return {structure.name: structure.level for structure in structures() if structure.level}

"""The describe stage: names -> phrases, from the lexicon, a grammar of requests and, when asked, a language model.

The lexicon's phrases come first, then requests around its train phrases, then the model's suggestions to which `checks`
has no objection. Names are written in the order given; whatever a killed run had written is kept.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fluorosam_cli.anatomy.lexicon import Phrase, split_of
from fluorosam_cli.anatomy.wording import content_bag, normalised
from fluorosam_cli.artefacts import Lines, Track, silent
from fluorosam_cli.contracts import Description, Descriptions
from fluorosam_cli.output import Output
from fluorosam_cli.text.checks import objection
from fluorosam_cli.text.grammar import requests
from fluorosam_cli.text.llm import LanguageModel, Question
from fluorosam_cli.text.phrases import has_one_size, phrases_of

NAMES_PER_CALL = 8
EXAMPLES_PER_NAME = 6  # train phrases shown to the model
TOKENS_PER_PHRASE = 16  # of an answer, with its JSON

Own = Mapping[str, tuple[Phrase, ...]]  # phrases of what the catalogue lacks
NOTHING: Own = {}

SYSTEM = """You collect the phrases with which radiologists, surgeons, students and patients name a part of the body,
a surgical tool or an implant that they want to see outlined on an X-ray. Each phrase must name exactly the thing asked
for and no other: always state the side of a sided part (the patient's left or right), the number of a rib or vertebra
and its region of the spine, the size of a tool that is given with one. Vary formal terms, synonyms, everyday words,
word order and short requests. Plain letters, 2 to 80 characters, no explanations. Do not repeat the phrases given."""


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
    output: Output,
    names: Sequence[str],
    templates: int,
    seed: int,
    asking: Asking | None,
    track: Track = silent,
    own: Own = NOTHING,
) -> Counts:
    """Write `descriptions.jsonl` and its header into `output`. `templates`: requests made from each train phrase.

    `own` names come after the others, and the model is not asked about them.
    """
    counts = Counts()
    with Lines(output.path / "descriptions.jsonl", Description) as lines:
        batches = [*_batches(names), *_batches(list(own))]
        again = {record.name for record in lines.done[-1:]}  # perhaps incomplete
        if asking:
            again |= _unanswered(_batches(names), asking, lines.done)
        complete = {record.name for record in lines.done} - again
        written = {record for record in lines.done if record.name in again}
        taken = {content_bag(record.text): record.name for record in lines.done if record.name in complete}
        counts.descriptions = len(lines.done)
        todo = [batch for batch in batches if not complete.issuperset(batch)]
        output.skipped = sum(map(len, batches)) - sum(map(len, todo))
        asked = [_question(batch, asking) for batch in todo if batch[0] not in own] if asking else []
        answers = asking.llm.ask_all(asked) if asking else iter(())
        for number, batch in enumerate(track(todo, "describe", len(todo), "batches")):
            ask = asking if batch[0] not in own else None
            suggested = _suggested(batch, next(answers), counts) if ask else {}
            sha256 = ask.llm.sha256(asked[number]) if ask else ""
            for name in batch:
                records = list(offline(name, templates, seed, own))
                taken |= {content_bag(record.text): name for record in records}
                if ask:
                    records += _kept(name, suggested.get(name, ()), ask, sha256, records, taken, counts)
                for record in records:
                    if name not in complete and record not in written:
                        lines.append(record)
                        counts.descriptions += 1
                output.done += 1
    output.finish(Descriptions(count=counts.descriptions, names=len(names) + len(own), seed=seed))
    return counts


def _unanswered(batches: Sequence[Sequence[str]], asking: Asking, records: Sequence[Description]) -> set[str]:
    """The names on which an earlier run had no answer of the model's."""
    told = {record.name for record in records if record.source == "llm"}
    missing = [batch for batch in batches if told.isdisjoint(batch) and not asking.llm.cached(_question(batch, asking))]
    return {name for batch in missing for name in batch}


def _batches(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + NAMES_PER_CALL] for start in range(0, len(names), NAMES_PER_CALL)]


# --- offline ----------------------------------------------------------------------------------------------------------


def offline(name: str, templates: int, seed: int, own: Own = NOTHING) -> Iterator[Description]:
    """The lexicon's (or its `own`) phrases of a name, then `templates` requests around each of its train phrases."""
    for phrase in own.get(name) or phrases_of(name):
        yield Description(name=name, text=phrase.text, kind=phrase.kind, split=phrase.split, source="lexicon")
    for phrase in asked_for(name, own):
        for text in requests(phrase.text, phrase.kind, templates, seed):
            yield Description(name=name, text=text, kind="phrase", split="train", source="template")


def asked_for(name: str, own: Own = NOTHING) -> tuple[Phrase, ...]:
    """The train phrases that get requests: all of a name, but of a tool of one size, which are many, the first."""
    train = tuple(phrase for phrase in own.get(name) or phrases_of(name) if phrase.split == "train")
    return train[:1] if name not in own and has_one_size(name) else train


# --- from a language model --------------------------------------------------------------------------------------------


def _question(batch: Sequence[str], asking: Asking) -> Question:
    parts = [
        {
            "name": name,
            "part": phrases_of(name)[0].text,
            "phrases": [phrase.text for phrase in phrases_of(name) if phrase.split == "train"][:EXAMPLES_PER_NAME],
        }
        for name in batch
    ]
    request = f"Give {asking.phrases_per_name} new phrases for each of these parts, under its name:"
    return Question(SYSTEM, f"{request}\n{json.dumps(parts, indent=1)}", Suggestions)


def _suggested(batch: Sequence[str], answer: BaseModel | None, counts: Counts) -> dict[str, list[Suggestion]]:
    if not isinstance(answer, Suggestions):
        counts.unanswered += batch
        return {}
    for part in answer.answers:
        if part.name not in batch:
            counts.rejected += [f"{part.name}: {phrase.text!r}: was not asked for" for phrase in part.phrases]
    return {part.name: part.phrases for part in answer.answers}


def _kept(
    name: str,
    suggested: Sequence[Suggestion],
    asking: Asking,
    sha256: str,
    records: Sequence[Description],
    taken: dict[tuple[str, ...], str],
    counts: Counts,
) -> Iterator[Description]:
    """The suggestions without objection, at most `phrases_per_name`; the others are noted in `counts.rejected`."""
    own = {normalised(record.text) for record in records}
    kept = 0
    for suggestion in suggested:
        text = " ".join(suggestion.text.split())
        owner = taken.get(content_bag(text), name)
        if normalised(text) in own:
            why = f"already names {name}"
        elif owner != name:
            why = f"names {owner}"
        else:
            why = objection(name, text)
        if why is None and kept == asking.phrases_per_name:
            why = f"more than {kept} phrases"
        if why:
            counts.rejected.append(f"{name}: {text!r}: {why}")
            continue
        kept += 1
        counts.from_llm += 1
        own.add(normalised(text))
        taken[content_bag(text)] = name
        yield Description(
            name=name,
            text=text,
            kind=suggestion.kind,
            split=split_of(name, phrases_of(name), text),
            source="llm",
            model=asking.llm.model,
            prompt_sha256=sha256,
        )

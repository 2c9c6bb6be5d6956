"""`fluoro describe`: structure and group names -> descriptions (phrases to train and to test with)."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import UsageError

if TYPE_CHECKING:
    from fluorosam_cli.text.describe import Asking
    from fluorosam_cli.text.llm import Question

log = logging.getLogger("fluoro")

Names = Annotated[
    list[str] | None, typer.Argument(help="Structures and groups, by name or in words; all of them by default.")
]


def register(app: typer.Typer) -> None:
    command(app, "describe", default_out="descriptions")(describe)


def describe(
    stage: Stage,
    names: Names = None,
    templates: Annotated[int, typer.Option(min=0, max=6, help="Sentences made from each train phrase.")] = 2,
    llm: Annotated[str | None, typer.Option(help="Also ask this model of an OpenAI-compatible server.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The server; OpenAI's own by default.")] = None,
    per_name: Annotated[int, typer.Option(min=1, max=100, help="Phrases asked of the model for each name.")] = 8,
) -> dict[str, object]:
    """Write the phrases that name each structure: from the built-in lexicon, and from a language model when asked."""
    from fluorosam_cli.text.describe import Asking, questions
    from fluorosam_cli.text.describe import describe as run
    from fluorosam_cli.text.llm import LanguageModel

    if base_url and not llm:
        raise UsageError("--base-url: no model is asked", "add --llm MODEL")
    chosen = _chosen(names or [])
    asking = Asking(LanguageModel(llm, base_url), per_name) if llm else None
    to_ask = [q for q in questions(chosen, asking) if not asking.llm.cached(q)] if asking else []
    if stage.dry_run:
        return stage.plan(**_plan(chosen, templates, to_ask, asking))
    if asking and to_ask:
        asking.llm.check_ready()
    with stage.output("descriptions.json") as output:
        if output.finished:
            return {"names": len(chosen), "descriptions": "complete already"}
        counts = run(output, chosen, templates, stage.seed, asking, stage.track)
        output.failed = [f"{name}: the model's answer is not the JSON asked for" for name in counts.unanswered]
    for problem in counts.rejected:
        log.info("rejected %s", problem)
    summary: dict[str, object] = {"names": len(chosen), "descriptions": counts.descriptions}
    if asking:
        summary |= {"calls": len(to_ask), "from_llm": counts.from_llm, "rejected": len(counts.rejected)}
    return {**summary, "failed": output.failed}


def _chosen(words: list[str]) -> list[str]:
    """The names asked for, each once; all names when there are none."""
    from fluorosam_cli.anatomy.lexicon import nearest, resolve
    from fluorosam_cli.anatomy.structures import names

    chosen: dict[str, None] = {}
    for word in words:
        name = word if word in names() else resolve(word)
        if name is None:
            near = nearest(word)
            hint = f"did you mean {' or '.join(near)}?" if near else "fluoro info structures lists all names"
            raise UsageError(f"{word}: not a known structure or group", hint)
        chosen.setdefault(name)
    return list(chosen or names())


def _plan(
    chosen: Sequence[str], templates: int, to_ask: "Sequence[Question]", asking: "Asking | None"
) -> dict[str, object]:
    from fluorosam_cli.anatomy.lexicon import lexicon
    from fluorosam_cli.text.describe import NAMES_PER_CALL, TOKENS_PER_PHRASE

    phrases = [phrase for name in chosen for phrase in lexicon()[name]]
    train = sum(phrase.split == "train" for phrase in phrases)
    plan: dict[str, object] = {"names": len(chosen), "phrases": len(phrases) + templates * train}
    if asking:
        answer_tokens = min(len(chosen), len(to_ask) * NAMES_PER_CALL) * asking.phrases_per_name * TOKENS_PER_PHRASE
        plan |= {
            "calls": len(to_ask),
            "approximate_prompt_tokens": sum(question.approximate_tokens for question in to_ask),
            "approximate_answer_tokens": answer_tokens,
        }
    return plan

"""`fluoro describe`: names -> descriptions (phrases to train and to test with); or the names that a phrase means."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command
from fluorosam_cli.errors import FluoroError, UsageError

if TYPE_CHECKING:
    from fluorosam_cli.text.describe import Asking, Own
    from fluorosam_cli.text.llm import Question

log = logging.getLogger("fluoro")

MATCHES = 5  # names listed for a phrase
MOST_REQUESTS = 50  # around one phrase, far fewer than the grammar has
NOT_CONFIGURATION = ("resolve", "price", "parallel", "rate", "timeout")  # leave the descriptions as they are

Names = Annotated[
    list[str] | None, typer.Argument(help="Structures, groups and tools, by name or in words; all of them by default.")
]
Price = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="IN OUT", help="Price of a million tokens of question and of answer, for --dry-run."),
]


def register(app: typer.Typer) -> None:
    command(app, "describe", default_out="descriptions")(describe)


def describe(
    stage: Stage,
    names: Names = None,
    resolve: Annotated[
        str | None,
        typer.Option(metavar="PHRASE", help="Only print what a phrase means; - reads one a line from stdin."),
    ] = None,
    templates: Annotated[int, typer.Option(min=0, max=MOST_REQUESTS, help="Requests made from each train phrase.")] = 1,
    tools: Annotated[
        list[Path] | None, typer.Option(help="Also these meshes of tools and their tools.toml, as for fluoro render.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Also ask this model of an OpenAI-compatible server.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The server; OpenAI's own by default.")] = None,
    per_name: Annotated[int, typer.Option(min=1, max=100, help="Phrases asked of the model for each name.")] = 8,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Questions to the model under way at once.")] = 4,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Most questions to the model a minute.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer of the model.")] = 120.0,
    price: Price = None,
) -> dict[str, object]:
    """Write the phrases that name each structure and tool: from the lexicon, and from a language model when asked."""
    if resolve is not None:
        if names or llm or tools:
            raise UsageError("--resolve only looks up words", "leave out the names, --tools and --llm")
        _print_meanings(_phrases(resolve), stage.options["json"])
        raise typer.Exit
    from fluorosam_cli.text.describe import Asking, questions
    from fluorosam_cli.text.describe import describe as run
    from fluorosam_cli.text.llm import LanguageModel

    if not llm and (base_url or price):
        raise UsageError(f"{'--base-url' if base_url else '--price'}: no model is asked", "add --llm MODEL")
    chosen = _chosen(names or [])
    own, meshes = _own(tools or [])
    asking = Asking(LanguageModel(llm, base_url, parallel, rate, timeout), per_name) if llm else None
    to_ask = [q for q in questions(chosen, asking) if not asking.llm.cached(q)] if asking else []
    for option in NOT_CONFIGURATION:
        stage.resolved.pop(option, None)
    folder = stage.output("descriptions.json", inputs=meshes)
    if stage.dry_run:
        return stage.plan(**_plan(chosen, templates, to_ask, asking, price, own))
    if asking and to_ask:
        asking.llm.check_ready()
    with folder as output:
        if output.finished:
            return {"names": len(chosen) + len(own), "descriptions": "complete already"}
        counts = run(output, chosen, templates, stage.seed, asking, stage.track, own)
        output.failed = [f"{name}: the model's answer is not the JSON asked for" for name in counts.unanswered]
    for problem in counts.rejected:
        log.info("rejected %s", problem)
    summary: dict[str, object] = {"names": len(chosen) + len(own), "descriptions": counts.descriptions}
    if asking:
        summary |= {"calls": len(to_ask), "from_llm": counts.from_llm, "rejected": len(counts.rejected)}
    return {**summary, "failed": output.failed}


def _chosen(words: list[str]) -> list[str]:
    """The names asked for, each once; all names when there are none."""
    from fluorosam_cli.text.phrases import is_name, matches, names, resolve

    chosen: dict[str, None] = {}
    for word in words:
        name = word if is_name(word) else resolve(word)
        if name is None:
            near = [match.name for match in matches(word, 3)]
            hint = f"did you mean {' or '.join(near)}?" if near else "fluoro info structures lists all names"
            raise UsageError(f"{word}: not a known structure, group or tool", hint)
        chosen.setdefault(name)
    return list(chosen or names())


def _own(folders: list[Path]) -> "tuple[Own, list[Path]]":
    """The phrases of users' tools, and the files that these are in."""
    if not folders:
        return {}, []
    from fluorosam_cli.text.tool_words import words_of
    from fluorosam_cli.tools.meshes import files_of, load_tools

    found = load_tools(*folders)
    return words_of(found), files_of(found)


def _plan(
    chosen: Sequence[str],
    templates: int,
    to_ask: "Sequence[Question]",
    asking: "Asking | None",
    price: tuple[float, float] | None,
    own: "Own",
) -> dict[str, object]:
    from fluorosam_cli.text.describe import NAMES_PER_CALL, TOKENS_PER_PHRASE, asked_for
    from fluorosam_cli.text.phrases import phrases_of

    phrases = sum(len(phrases_of(name)) + templates * len(asked_for(name)) for name in chosen)
    phrases += sum(len(found) + templates * len(asked_for(name, own)) for name, found in own.items())
    plan: dict[str, object] = {"names": len(chosen) + len(own), "phrases": phrases}
    if asking:
        prompt = sum(question.approximate_tokens for question in to_ask)
        answer = min(len(chosen), len(to_ask) * NAMES_PER_CALL) * asking.phrases_per_name * TOKENS_PER_PHRASE
        calls = -(-len(chosen) // NAMES_PER_CALL)
        plan |= {"calls": len(to_ask), "answers_at_hand": calls - len(to_ask)}
        plan |= {"approximate_prompt_tokens": prompt, "approximate_answer_tokens": answer}
        if price:
            plan["approximate_cost"] = round((prompt * price[0] + answer * price[1]) / 1e6, 4)
    return plan


# --- what a phrase means ----------------------------------------------------------------------------------------------


def _phrases(resolve: str) -> list[str]:
    """The phrase given, or the lines of stdin that are not empty."""
    if resolve != "-":
        if not resolve.strip():
            raise UsageError("--resolve: the phrase is empty", 'for example --resolve "the left thigh bone"')
        return [resolve]
    try:
        return [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise FluoroError(f"stdin: not UTF-8 text ({error.reason})", "give one phrase a line in UTF-8") from error


def _print_meanings(phrases: list[str], as_json: bool) -> None:
    """One JSON list, or a line for each name that a phrase may mean: phrase, score, name and its words."""
    from fluorosam_cli.text.phrases import matches, phrases_of

    meanings = [(phrase, matches(phrase, MATCHES)) for phrase in phrases]
    if as_json:
        listed = [
            {"phrase": phrase, "structures": [{"structure": match.name, "score": match.score} for match in found]}
            for phrase, found in meanings
        ]
        sys.stdout.write(json.dumps(listed, ensure_ascii=False) + "\n")
        return
    for phrase, found in meanings:
        if not found:
            log.warning('"%s" is no known name of a structure or tool', phrase)
        for match in found:
            words = phrases_of(match.name)[0].text
            sys.stdout.write(f"{phrase}\t{match.score:.3f}\t{match.name}\t{words}\n")

"""`fluoro words`: descriptions -> a text head that has learnt them, for `fluoro train --words`."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from fluorosam_cli.commands.stage import Stage, command

log = logging.getLogger("fluoro")


def words(
    stage: Stage,
    descriptions: Annotated[
        Path | None, typer.Argument(help="Folder written by `fluoro describe`; the lexicon alone by default.")
    ] = None,
    preset: Annotated[str, typer.Option(help="The network the words are for, as in `fluoro train`.")] = "small",
    text_encoder: Annotated[str, typer.Option(help="minilm, or open_clip:ARCH[:PRETRAINED or path].")] = "minilm",
    report: Annotated[
        bool, typer.Option("--report", help="Also measure them on held-out phrases: report.md and report.json.")
    ] = False,
) -> dict[str, object]:
    """Learn the words of structures and tools, before any image is seen. `fluoro train` does this if you do not."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on few cores
    from fluorosam_cli.model.fluorosam import preset as config_of
    from fluorosam_cli.text.encoder import load_text_encoder
    from fluorosam_cli.training.lessons import all_phrases, described_phrases
    from fluorosam_cli.training.words import HEADER, learn_words, phrase_features, save_words

    phrases = all_phrases(stage.seed) if descriptions is None else described_phrases(descriptions)
    encoder = load_text_encoder(text_encoder)
    config = config_of(preset, encoder.dim)
    counts = {"names": len({phrase.structure for phrase in phrases}), "phrases": len(phrases)}
    inputs = [descriptions / name for name in ("descriptions.json", "descriptions.jsonl")] if descriptions else []
    folder = stage.output(HEADER, inputs=inputs)
    if stage.dry_run:
        return stage.plan(**counts)
    with folder as output:
        if output.finished:
            return {**counts, "words": "complete already"}
        features = phrase_features(encoder, phrases, stage.track)
        learnt = learn_words(phrases, features, config, encoder, stage.seed, stage.track)
        if report:
            from fluorosam_cli.training.word_report import as_markdown, word_report, write_report

            found = word_report(learnt, phrases, features, config, encoder, stage.seed)
            write_report(output.path, found)
            log.info("%s", as_markdown(found))
        save_words(output.path, learnt)
        output.done = len(phrases)
    return {**counts, **{name: round(score, 4) for name, score in learnt.scores.items()}}


def register(app: typer.Typer) -> None:
    command(app, "words", default_out="words")(words)

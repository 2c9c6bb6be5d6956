"""The protocol of one image: which prompts are put to a model, and the simulated user's clicks after each answer.

| series | answers |
|---|---|
| `text` | `text`: a phrase alone |
| `text+points` | `text`, then `text+1`, `text+2`, ...: a click more each time |
| `points` | `points+1`, `points+2`, ...: clicks alone |
| `box` | `box`: the tight box around the mask |
| `box+points` | `box`, then `box+1`, ... |
| `presence` | `absent`: phrases of structures that are not in the image, as many as it has masks, at least one |
| `paraphrases` | `paraphrase`: several held-out phrases of the same structure, each alone |

`presence` and `paraphrases` bring `text` with them. Each click is the centre of the largest error of the answer before
it (`clicks.py`); its logits are fed back to models that take them. The mask is always the one with the highest
predicted IoU; the best of all, which only an oracle can choose, is scored beside it. For the number of clicks needed
(NoC), clicking goes on to `cap` for masks that have not reached the highest goal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fluorosam_cli.contracts import EvaluatedModel
from fluorosam_cli.evaluation.clicks import next_click
from fluorosam_cli.evaluation.metrics import dice, iou
from fluorosam_cli.evaluation.samples import ABSENT, PARAPHRASE, Row
from fluorosam_cli.evaluation.segmenter import Answer, Segmenter
from fluorosam_cli.evaluation.sources import Scene, Words
from fluorosam_cli.evaluation.surfaces import surface_scores
from fluorosam_cli.geometry.boxes import box_of
from fluorosam_cli.prediction.predictor import ImagePrompt

SERIES = ("text", "text+points", "points", "box", "box+points", "presence", "paraphrases")
NEEDS = {"text": {"text"}, "points": {"points"}, "box": {"box"}, "presence": {"text"}, "paraphrases": {"text"}}
GOALS = (0.80, 0.85, 0.90)  # IoU, of NoC
PROMPTS_AT_ONCE = 32  # bounds memory: four masks of the image's size for each
TOLERANCE = 2.0  # of the normalised surface distance, mm or pixels
PARAPHRASES = 4  # of each mask


@dataclass(frozen=True)
class Protocol:
    """What is asked of every image."""

    series: tuple[str, ...]
    clicks: int  # scored one by one
    cap: int  # clicks until which a goal counts as reached; 0: NoC is not measured
    words: Words  # structure -> phrases to draw from
    held_out: Words  # those for paraphrases
    seed: int

    def clicked(self, start: str) -> bool:
        return ("points" if start == "points" else f"{start}+points") in self.series

    def starts(self) -> list[str]:
        """The first prompts in use."""
        return [s for s in ("text", "points", "box") if self.clicked(s) or (s != "points" and s in self.series)]

    def answers_per_mask(self) -> int:
        """About how often the model is asked for one mask."""
        found = 0
        for start in self.starts():
            found += (start != "points") + (max(self.clicks, self.cap) if self.clicked(start) else 0)
        return found + ("presence" in self.series) + PARAPHRASES * ("paraphrases" in self.series)


def understood(series: Sequence[str], model: EvaluatedModel) -> tuple[str, ...]:
    """The series whose prompts the model takes."""
    return tuple(s for s in series if all(NEEDS[part] <= set(model.takes) for part in s.split("+")))


def score_scene(protocol: Protocol, segmenter: Segmenter, feeds_back: bool, scene: Scene, image: int) -> list[Row]:
    """All rows of one image. Phrases and absent structures depend on the seed and the image's position alone."""
    rng = np.random.default_rng(np.random.SeedSequence([protocol.seed, image]))
    structures = list(scene.masks)
    phrases = [_draw(protocol.words.get(name, []), rng) for name in structures]
    absent = _draw_absent(protocol, scene, max(1, sum(phrase is not None for phrase in phrases)), rng)
    held_out = [(name, phrase) for name in structures for phrase in _draw_several(protocol.held_out.get(name, []), rng)]
    singles = [(ABSENT, pair) for pair in absent if "presence" in protocol.series]
    singles += [(PARAPHRASE, pair) for pair in held_out if "paraphrases" in protocol.series]
    if not structures and not singles:
        return []
    segmenter.set_image(scene.image)
    score = _Scorer(scene, image)
    rows: list[Row] = []
    for start in protocol.starts():
        asked = [(n, p) for n, p in zip(structures, phrases, strict=True) if start != "text" or p is not None]
        for part in _parts(asked):
            for clicks, name, phrase, answer in _series(protocol, segmenter, feeds_back, start, part, scene):
                prompt = start if clicks == 0 else f"{start}+{clicks}"
                rows.append(score(name, prompt, phrase, answer, full=clicks <= protocol.clicks))
    for part in _parts(singles):
        answers = segmenter.predict_batch([ImagePrompt(text=phrase) for _, (_, phrase) in part])
        for (kind, (name, phrase)), answer in zip(part, answers, strict=True):
            rows.append(score(name, kind, phrase, answer, full=False))
    return rows


class _Scorer:
    """Compares answers with the truth of one image."""

    def __init__(self, scene: Scene, image: int) -> None:
        self.scene, self.image = scene, image
        self.unit = "px" if scene.pixel_mm is None else "mm"

    def __call__(self, name: str, prompt: str, phrase: str | None, answer: Answer, full: bool) -> Row:
        real = None if prompt == ABSENT else self.scene.masks[name]
        nsd, hd95 = None, None
        if real is not None and full:
            nsd, hd95 = surface_scores(answer.mask, real, self.scene.pixel_mm or (1.0, 1.0), TOLERANCE)
        ious = [iou(mask, real) for mask in answer.masks] if real is not None and full else []
        return Row(
            image=self.image,
            case=self.scene.case,
            view=self.scene.view,
            structure=name,
            prompt=prompt,
            phrase=phrase,
            area_px=0 if real is None else int(real.sum()),
            iou=None if real is None else iou(answer.mask, real),
            dice=None if real is None else dice(answer.mask, real),
            nsd=nsd,
            hd95=hd95,
            unit=None if hd95 is None else self.unit,
            oracle_iou=max(ious, default=None),
            predicted_iou=answer.iou,
            presence=answer.presence if phrase is not None and np.isfinite(answer.presence) else None,
        )


def _series(
    protocol: Protocol,
    segmenter: Segmenter,
    feeds_back: bool,
    start: str,
    asked: Sequence[tuple[str, str | None]],
    scene: Scene,
) -> Iterator[tuple[int, str, str | None, Answer]]:
    """(clicks, structure, phrase, answer) after the first prompt and after each click; a perfect mask gets no more."""
    prompts, answers = {}, {}
    phrase_of = dict(asked)
    for name, phrase in asked:
        box = box_of(scene.masks[name]) if start == "box" else None
        prompts[name] = ImagePrompt(text=phrase if start == "text" else None, box_xyxy=box)
    words = {name: phrase if start == "text" else None for name, phrase in phrase_of.items()}
    if start != "points":
        answers = dict(zip(prompts, segmenter.predict_batch(list(prompts.values())), strict=True))
        yield from ((0, name, words[name], answer) for name, answer in answers.items())
    best = {name: iou(answers[name].mask, scene.masks[name]) if answers else 0.0 for name in prompts}
    last = max(protocol.clicks, protocol.cap) if protocol.clicked(start) else 0
    for number in range(1, last + 1):
        going = [name for name in prompts if number <= protocol.clicks or best[name] < max(GOALS)]
        if not going:
            return
        for name in going:
            prompts[name] = _clicked(prompts[name], answers.get(name), scene.masks[name], feeds_back)
        answers |= dict(zip(going, segmenter.predict_batch([prompts[name] for name in going]), strict=True))
        for name in going:
            best[name] = max(best[name], iou(answers[name].mask, scene.masks[name]))
            yield number, name, words[name], answers[name]


def _clicked(prompt: ImagePrompt, before: Answer | None, real: np.ndarray, feeds_back: bool) -> ImagePrompt:
    click = next_click(np.zeros_like(real) if before is None else before.mask, real)
    if click is None:
        return prompt
    return replace(
        prompt,
        points_xy=[*prompt.points_xy, (click.x, click.y)],
        point_labels=[*prompt.point_labels, click.label],
        mask_input=before.logits[before.best] if before is not None and feeds_back else None,
    )


def _parts(items: list) -> Iterator[list]:
    return (items[start : start + PROMPTS_AT_ONCE] for start in range(0, len(items), PROMPTS_AT_ONCE))


def _draw(words: list[str], rng: np.random.Generator) -> str | None:
    return words[int(rng.integers(len(words)))] if words else None


def _draw_several(words: list[str], rng: np.random.Generator) -> list[str]:
    """Up to PARAPHRASES phrases; none where there is but one."""
    count = min(PARAPHRASES, len(words))
    return [words[i] for i in sorted(rng.choice(len(words), count, replace=False))] if count > 1 else []


def _draw_absent(protocol: Protocol, scene: Scene, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """At most `count` structures known not to be in the image, each with a phrase."""
    candidates = [name for name in scene.absent if protocol.words.get(name)]
    chosen = rng.choice(len(candidates), min(count, len(candidates)), replace=False) if candidates else []
    names = [candidates[i] for i in sorted(int(i) for i in chosen)]
    return [(name, _draw(protocol.words[name], rng) or "") for name in names]

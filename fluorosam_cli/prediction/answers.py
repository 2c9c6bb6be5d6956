"""From what a user asks of an image to masks: phrases understood, every prompt answered, or every structure tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fluorosam_cli.contracts import Prompt
from fluorosam_cli.prediction.predictor import ImagePrompt, PredictedMasks, Predictor
from fluorosam_cli.prediction.understanding import How, display_phrase, understand
from fluorosam_cli.text.phrases import is_name

PRESENT = 0.5  # below this probability the named structure is called absent


@dataclass(frozen=True)
class Request:
    """What is asked of every image of a call."""

    prompts: list[Prompt]  # none: every structure
    masks: dict[str, np.ndarray]  # (H, W) bool, of the files that prompts name
    invert: bool | None = None  # see `images.read_frames`
    tta: bool = False


@dataclass(frozen=True)
class Answer:
    """One prompt and its masks."""

    prompt: Prompt
    predicted: PredictedMasks
    structure: str | None = None  # what the phrase was understood as
    understood: How | None = None
    asked: str | None = None  # the words the network was given

    @property
    def presence(self) -> float | None:
        """None without a phrase: the network then does not say."""
        return None if self.prompt.text is None else self.predicted.presence

    @property
    def absent(self) -> bool:
        return self.presence is not None and self.presence < PRESENT


def answer_prompts(
    predictor: Predictor, prompts: Sequence[Prompt], masks: Mapping[str, np.ndarray] | None = None
) -> list[Answer]:
    """Answers in the order of the prompts, of the current image; `masks` holds the pixels of the files prompts name.

    A misspelt phrase is asked as it is understood; of an ambiguous one the meaning most surely present is taken.
    """
    asked: list[ImagePrompt] = []
    meant: list[tuple[int, How | None, str | None]] = []  # position of the prompt, how it was understood, as what
    for place, prompt in enumerate(prompts):
        words = None if prompt.text is None else understand(prompt.text)
        given = None if prompt.mask is None else (masks or {})[prompt.mask]
        labels = prompt.point_labels or [1] * len(prompt.points_xy)
        for text, structure in zip(words.asked, words.structures, strict=True) if words else [(None, None)]:
            asked.append(ImagePrompt(text, prompt.points_xy, labels, prompt.box_xyxy, mask=given))
            meant.append((place, words.how if words else None, structure))
    best: dict[int, Answer] = {}
    for one, (place, how, structure), predicted in zip(asked, meant, predictor.predict_batch(asked), strict=True):
        if place not in best or predicted.presence > best[place].predicted.presence:
            best[place] = Answer(prompts[place], predicted, structure, how, one.text)
    return [best[place] for place in range(len(prompts))]


def answer_everything(predictor: Predictor) -> tuple[list[Answer], dict[str, float]]:
    """The structures of the checkpoint that the current image shows, surest first, and the presence of the others."""
    names = predictor.checkpoint.structures
    texts = [display_phrase(name) if is_name(name) else name.replace("_", " ") for name in names]
    predicted = predictor.predict_batch([ImagePrompt(text) for text in texts])
    answers = [
        Answer(Prompt(text=text), masks, name, "known", text)
        for name, text, masks in zip(names, texts, predicted, strict=True)
    ]
    present = sorted((one for one in answers if not one.absent), key=lambda one: -one.predicted.presence)
    absent = {one.structure or "": round(one.predicted.presence, 6) for one in answers if one.absent}
    return present, absent

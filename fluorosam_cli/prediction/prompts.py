"""What a user asks for, from the words of a command line or a file, as prompts."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fluorosam_cli.artefacts import validate
from fluorosam_cli.contracts import Prompt, Prompts
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.prediction import raster_images
from fluorosam_cli.prediction.understanding import parted

SIDE_MAX = 1e6  # of a coordinate: beyond, it is no pixel
FORM = 'a list such as [{"text": "heart", "points_xy": [[120, 300]], "point_labels": [1], "box_xyxy": [1, 2, 30, 40]}]'


def prompts_of(phrases: Sequence[str], points: Sequence[str], box: str | None, mask: str | None) -> list[Prompt]:
    """One prompt for each phrase, each with all points, the box and the mask; or one without words.

    Raises UsageError when a point or box cannot be read or nothing is asked.
    """
    marks = [_numbers("--point", text, (2, 3), "x,y or x,y,1 (inside) or x,y,0 (outside)") for text in points]
    for text, mark in zip(points, marks, strict=True):
        if len(mark) == 3 and mark[2] not in (0, 1):
            raise UsageError(f"--point {text}: the third number is 1 (inside) or 0 (outside)", "--point 120,300,0")
    corners = None if box is None else _numbers("--box", box, (4,), "x0,y0,x1,y1")
    for phrase in phrases:
        if not phrase.strip():
            raise UsageError("a phrase is empty", 'name a structure, for example "left femur"')
    if not phrases and not marks and corners is None and mask is None:
        raise UsageError(
            "nothing to segment is named", 'add a phrase such as "left femur", --point x,y, --box, --mask or --all'
        )
    return [
        Prompt(
            text=phrase,
            points_xy=[(mark[0], mark[1]) for mark in marks],
            point_labels=[1 if len(mark) == 2 or mark[2] else 0 for mark in marks],
            box_xyxy=None if corners is None else (corners[0], corners[1], corners[2], corners[3]),
            mask=mask,
        )
        for phrase in (phrases or [None])
    ]


def spelt_out(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts; one whose words list known names ("heart and liver") becomes one for each.

    Raises UsageError for words that name nothing.
    """
    for text in (prompt.text for prompt in prompts if prompt.text is not None):
        if (legible := text.encode(errors="replace").decode()) != text:
            raise UsageError(f"{legible}: is not UTF-8", "check the terminal's encoding")
        if not text.strip().isprintable():
            raise UsageError(f"{text!a}: holds control characters", "give the words alone")
        if not any(character.isalnum() for character in text):
            raise UsageError(f"{text!r}: names nothing", 'name a structure, for example "left femur"')
        if text.strip().lower() in ("left", "right"):
            raise UsageError(f"{text}: a side alone names nothing", f'quote the whole phrase, such as "{text} lung"')
    return [
        prompt if prompt.text is None else prompt.model_copy(update={"text": part})
        for prompt in prompts
        for part in ([""] if prompt.text is None else parted(prompt.text))
    ]


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts in a `prompts.json`, or in a list of them alone. Raises FluoroError when it is neither."""
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FluoroError(f"{path}: not valid JSON ({error})", "mend the file") from error
    expected = str(Prompts.model_fields["format"].default)
    if isinstance(data, list):
        data = {"format": expected, "prompts": data}
    found = data.get("format") if isinstance(data, dict) else None
    if found != expected:
        raise FluoroError(f"{path}: format is {found!r}, {expected!r} is expected", FORM)
    prompts = validate(Prompts, data, str(path), FORM).prompts
    if not prompts:
        raise FluoroError(f"{path}: holds no prompts", 'for example [{"text": "left femur"}]')
    return prompts


def read_masks(prompts: Sequence[Prompt], folder: Path) -> dict[str, np.ndarray]:
    """The masks (H, W) bool of the files that prompts name, which lie relative to `folder`."""
    names = dict.fromkeys(prompt.mask for prompt in prompts if prompt.mask is not None)
    return {name: _read_mask(folder / name) for name in names}


def _read_mask(path: Path) -> np.ndarray:
    pixels = next(raster_images.read(path, [1])).pixels
    if not pixels.max() > 0:
        raise FluoroError(f"{path}: the mask is empty", "give one that is white where the structure is")
    return pixels > pixels.max() / 2


def _numbers(option: str, text: str, counts: tuple[int, ...], form: str) -> list[float]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(abs(value) < SIDE_MAX for value in values):
        raise UsageError(
            f"{option} {text}: not of the form {form}", f"for example {option} 120,300" + ",400,500" * (4 in counts)
        )
    return values

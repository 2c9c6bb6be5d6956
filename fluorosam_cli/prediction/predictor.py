"""One image, any prompts: the network as Python code uses it, with the call shapes of segment-anything's predictor."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.contracts import Checkpoint
from fluorosam_cli.devices import choose_devices
from fluorosam_cli.errors import FluoroError, UsageError
from fluorosam_cli.geometry.frame import Frame
from fluorosam_cli.model import preprocess
from fluorosam_cli.model.checkpoint import HEADER, find_checkpoint, load_checkpoint
from fluorosam_cli.model.fluorosam import FluoroSAM, ImageFeatures, Prompts
from fluorosam_cli.model.prompt_encoder import BOX_MAX, BOX_MIN, NEGATIVE, POSITIVE
from fluorosam_cli.prediction.images import to_grey
from fluorosam_cli.prediction.tta import LOOKS, PLAIN, Look

if TYPE_CHECKING:
    from fluorosam_cli.text.encoder import TextEncoder

PROMPTS_AT_ONCE = 16  # bounds the decoder's memory
CACHED_TEXTS = 4096  # phrases whose vectors are kept
MASK_MARGIN = 0.01  # a mask given as a prompt is believed to that probability


@dataclass(frozen=True)
class ImagePrompt:
    """What is asked of the current image: a phrase, points, a box, earlier logits, in any combination."""

    text: str | None = None
    points_xy: Sequence[Sequence[float]] | np.ndarray = ()  # (K, 2) image pixels, centres at integers
    point_labels: Sequence[int] | np.ndarray = ()  # (K,) 1 inside the structure, 0 outside
    box_xyxy: Sequence[float] | np.ndarray | None = None  # inclusive-exclusive
    mask_input: np.ndarray | None = None  # (h, w) or (1, h, w) `logits` of an earlier answer
    mask: np.ndarray | None = None  # (H, W) bool at the image's own size, where there are no earlier logits


@dataclass(frozen=True)
class PredictedMasks:
    """The answer to one prompt: four masks, the last three being alternatives for an ambiguous prompt.

    Masks are drawn from the logits when they are asked for, the best alone or all.
    """

    ious: np.ndarray  # (4,) predicted
    presence: float  # probability that what the text names is in the image; means nothing without text
    best: int  # position of the highest predicted IoU
    logits: np.ndarray  # (4, h, w) low resolution, over the padded square: one of them is the next `mask_input`
    frame: Frame  # how the image lies in that square
    threshold_logit: float

    @property
    def masks(self) -> np.ndarray:
        """All four masks (4, H, W) bool at the image's own size."""
        return np.stack([self._drawn(logits) for logits in self.logits])

    @cached_property
    def mask(self) -> np.ndarray:
        """The best mask (H, W) bool, columns contiguous, as run-length codes count."""
        return self._drawn(self.logits[self.best])

    @property
    def iou(self) -> float:
        """The best mask's predicted IoU."""
        return float(self.ious[self.best])

    def _drawn(self, logits: np.ndarray) -> np.ndarray:
        across = Frame(self.frame.width, self.frame.height, self.frame.size)
        turned = torch.from_numpy(np.ascontiguousarray(logits.T))[None]
        return (preprocess.to_image(turned, across)[0] > self.threshold_logit).numpy().T


class Predictor:
    """Encodes an image once (`set_image`), then answers any number of prompts."""

    def __init__(self, model: FluoroSAM, checkpoint: Checkpoint, sha256: str, threshold: float = 0.5) -> None:
        self.checkpoint = checkpoint
        self.checkpoint_sha256 = sha256
        self._model = model
        self._device = next(model.parameters()).device
        self._threshold_logit = logit_of(threshold)
        self._features: dict[str, torch.Tensor] = {}
        self._tokens: dict[str, torch.Tensor] = {}  # what the network makes of them
        self._nearest: dict[tuple[str | int, ...], list[str]] = {}  # what `nearest` was asked -> its answer
        self._frame: Frame | None = None
        self._looks: list[tuple[Look, ImageFeatures]] = []

    @classmethod
    def from_checkpoint(cls, path: Path | str, device: str = "cpu", threshold: float = 0.5) -> "Predictor":
        """Load a checkpoint or run folder, or `builtin`. `device`: cpu, cuda, cuda:N or auto.

        `threshold`: the probability above which a pixel is in the mask.
        """
        chosen = choose_device(device)
        folder = find_checkpoint(path)
        model, header = load_checkpoint(folder, chosen)
        return cls(model, header, sha256_of(folder / HEADER), threshold)

    def set_image(self, image: np.ndarray, tta: bool = False) -> "Predictor":
        """Encode a grey (H, W) or colour (H, W, 3) image of any number type and range, best with bone bright.

        With `tta` it is encoded as several looks at it, and every answer is their mean. Returns the predictor.
        """
        grey = torch.from_numpy(to_grey(image)).to(self._device)
        fitted, frame = preprocess.fit(grey, self._model.config.image_size_px)
        encoded = []
        with torch.inference_mode():
            for look in LOOKS if tta else PLAIN:
                encoded.append((look, self._model.encode_image(preprocess.channels(look.image(fitted)[None]))))
        self._frame, self._looks = frame, encoded
        return self

    def predict(
        self,
        text: str | None = None,
        points_xy: Sequence[Sequence[float]] | np.ndarray | None = None,
        point_labels: Sequence[int] | np.ndarray | None = None,
        box_xyxy: Sequence[float] | np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> PredictedMasks:
        """Segment the current image. See ImagePrompt for shapes; points without labels are positive."""
        points = () if points_xy is None else points_xy
        labels = [1] * len(points) if point_labels is None else point_labels
        return self.predict_batch([ImagePrompt(text, points, labels, box_xyxy, mask_input, mask)])[0]

    def predict_batch(self, prompts: Sequence[ImagePrompt]) -> list[PredictedMasks]:
        """Answers in the order of the prompts; each is the same as if it were asked alone."""
        frame = self._frame
        if frame is None:
            raise FluoroError("no image is set", "call set_image first")
        inputs = [self._as_input(prompt, frame) for prompt in prompts]
        self._encode_texts([prompt.text for prompt in inputs if prompt.text is not None])
        answers: list[PredictedMasks] = []
        for start in range(0, len(inputs), PROMPTS_AT_ONCE):
            with torch.inference_mode():
                answers.extend(self._decode(inputs[start : start + PROMPTS_AT_ONCE], frame))
        return answers

    def text_codes(self, texts: Sequence[str]) -> list[int] | None:
        """The quantiser's code of each phrase; None for a model without a quantiser."""
        head = self._model.text_head
        if head.codebook is None or not texts:
            return None
        self._encode_texts(list(texts))
        with torch.inference_mode():
            return head.codes(head.mlp(torch.stack([self._features[text] for text in texts]))).tolist()

    def known(self, text: str) -> float:
        """How surely the network was taught the words, from 0 to 1; it needs no image."""
        self._encode_texts([text])
        with torch.inference_mode():
            return float(self._model.text_head.known(self._features[text][None])[0])

    def nearest(self, text: str, phrases: Sequence[str], n: int) -> list[str]:
        """The `n` of the phrases whose tokens, before any quantiser, are nearest to that of the words; best first."""
        key = (text, n, *phrases)
        if key not in self._nearest:  # once, not at every click
            self._encode_texts([text])
            encoder = self._text_encoder()
            others = torch.from_numpy(encoder.encode(phrases, sentences=False)).to(self._device)  # 25 times as fast
            mlp = self._model.text_head.mlp
            with torch.inference_mode():
                away = torch.cdist(mlp(self._features[text][None]), mlp(others))[0]
            order: list[int] = away.argsort(stable=True).tolist()
            if len(self._nearest) >= CACHED_TEXTS:
                self._nearest.clear()
            self._nearest[key] = [phrases[i] for i in order[:n]]
        return self._nearest[key]

    def _decode(self, inputs: "list[_InputPrompt]", frame: Frame) -> Iterator[PredictedMasks]:
        told = []
        for look, features in self._looks:
            decoded = self._model.decode(features, self._batch(inputs, look))
            told.append((look.undone(decoded.masks.float()), decoded.iou.float(), decoded.presence.float().sigmoid()))
        masks, ious, presence = (torch.stack(each).mean(0).cpu().numpy() for each in zip(*told, strict=True))
        for i in range(len(inputs)):
            best = int(ious[i].argmax())
            yield PredictedMasks(ious[i], float(presence[i]), best, masks[i], frame, self._threshold_logit)

    def _batch(self, inputs: "list[_InputPrompt]", look: Look) -> Prompts:
        size = self._model.config.image_size_px
        prompts = self._model.empty_prompts(len(inputs), max(len(p.labels) for p in inputs), self._device)
        for i, prompt in enumerate(inputs):
            if prompt.text is not None:
                prompts.text[i] = self._tokens[prompt.text]
                prompts.has_text[i] = True
            if len(prompt.labels):
                points = look.points(torch.from_numpy(prompt.points_xy), size)
                prompts.points_xy[i, : len(prompt.labels)] = points.to(self._device)
                prompts.point_labels[i, : len(prompt.labels)] = torch.from_numpy(prompt.labels).to(self._device)
            if prompt.mask_input is not None:
                logits = torch.from_numpy(prompt.mask_input).to(self._device)
                prompts.mask_logits[i] = look.mask_input(self._model.as_mask_input(logits[None]))[0]
                prompts.has_mask[i] = True
        return prompts

    def _encode_texts(self, texts: list[str]) -> None:
        """One phrase at a time: in company, the last digits would depend on the company."""
        if len(self._features) >= CACHED_TEXTS:
            self._features.clear()
            self._tokens.clear()
        for text in texts:
            if text not in self._features:
                features = torch.from_numpy(self._text_encoder().encode([text])).to(self._device)
                with torch.inference_mode():
                    self._features[text], self._tokens[text] = features[0], self._model.text_head(features)[0]

    def _text_encoder(self) -> "TextEncoder":
        from fluorosam_cli.text.encoder import encoder_of

        return encoder_of(self.checkpoint.text_encoder)

    def _as_input(self, prompt: ImagePrompt, frame: Frame) -> "_InputPrompt":
        """Check a prompt and bring it into the network's square."""
        text = None if prompt.text is None else prompt.text.strip()
        if text == "":
            raise FluoroError("phrase: is empty", 'name a structure, for example "left femur"')
        points, labels = _checked_points(prompt, frame)
        points = frame.to_input(points)
        if prompt.box_xyxy is not None:
            corners = frame.to_input(_checked_corners(prompt.box_xyxy, frame))
            points = np.concatenate([corners, points])
            labels = np.concatenate([np.array([BOX_MIN, BOX_MAX]), labels])
        mask_input = None if prompt.mask_input is None else self._checked_logits(prompt.mask_input)
        if prompt.mask is not None:
            if mask_input is not None:
                raise FluoroError("prompt: has both mask and mask_input", "give one of them")
            mask_input = self._as_logits(prompt.mask, frame)
        if text is None and not len(labels) and mask_input is None:
            raise FluoroError("prompt: is empty", "give text, points, a box or a mask")
        return _InputPrompt(text, points.astype(np.float32), labels, mask_input)

    def _as_logits(self, mask: np.ndarray, frame: Frame) -> np.ndarray:
        """A mask of the image's size as logits over the square, of the share of each cell that it covers."""
        if mask.shape != (frame.height, frame.width):
            found, wanted = ("x".join(map(str, shape[::-1])) for shape in (mask.shape, (frame.height, frame.width)))
            raise FluoroError(f"mask: is {found}, the image is {wanted}", "give a mask of the image's own size")
        covered = torch.from_numpy(np.asarray(mask, bool).astype(np.float32)).to(self._device)
        side = max(frame.height, frame.width)
        square = F.pad(covered, (0, side - frame.width, 0, side - frame.height))
        cells = (self._logits_px, self._logits_px)
        shares = F.interpolate(square[None, None], cells, mode="bilinear", antialias=True)[0, 0]
        return torch.logit(shares, MASK_MARGIN).cpu().numpy()

    @property
    def _logits_px(self) -> int:
        return self._model.config.logits_px

    def _checked_logits(self, logits: np.ndarray) -> np.ndarray:
        side = self._logits_px
        array = np.asarray(logits, np.float32)
        array = array[0] if array.shape[:-2] == (1,) else array
        if array.shape != (side, side):
            raise FluoroError(
                f"mask_input: shape is {array.shape}, ({side}, {side}) is expected", "give `logits[best]`"
            )
        return array


@dataclass(frozen=True)
class _InputPrompt:
    """A prompt in the network's square; a box is two more points."""

    text: str | None
    points_xy: np.ndarray  # (K, 2) float32
    labels: np.ndarray  # (K,) int64
    mask_input: np.ndarray | None  # (h, w) float32


def logit_of(threshold: float) -> float:
    """The logit of a probability. Raises UsageError when it is none, or 0 or 1."""
    if not 0 < threshold < 1:
        raise UsageError(f"threshold {threshold}: a probability between 0 and 1 is needed", "0.5 is the default")
    return math.log(threshold / (1 - threshold))


def box_corners(box_xyxy: np.ndarray) -> np.ndarray:
    """The outer corners (2, 2) of an inclusive-exclusive box, as points whose pixel centres are at integers."""
    return np.asarray(box_xyxy, np.float64).reshape(2, 2) - 0.5


def choose_device(name: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N` -> a device torch has. Raises FluoroError when it is not there."""
    return choose_devices(name, None, torch.cuda.device_count)[0]


def _checked_points(prompt: ImagePrompt, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    points = np.asarray(prompt.points_xy, np.float64).reshape(-1, 2)
    labels = np.asarray(prompt.point_labels, np.int64).reshape(-1)
    if len(points) != len(labels):
        raise FluoroError(f"{len(points)} points but {len(labels)} labels", "give one label, 1 or 0, for each point")
    for (x, y), label in zip(points, labels, strict=True):
        if not (-0.5 <= x <= frame.width - 0.5 and -0.5 <= y <= frame.height - 0.5):
            raise FluoroError(
                f"point {x:g},{y:g}: outside the image of {frame.width}x{frame.height}",
                f"x runs from 0 to {frame.width - 1}, y from 0 to {frame.height - 1}, y downwards",
            )
        if label not in (NEGATIVE, POSITIVE):
            raise FluoroError(f"point {x:g},{y:g}: label is {label}, 1 or 0 is expected", "1 is inside, 0 outside")
    return points, labels


def _checked_corners(box_xyxy: Any, frame: Frame) -> np.ndarray:
    box = np.asarray(box_xyxy, np.float64)
    if box.shape != (4,):
        raise FluoroError(f"box: has shape {box.shape}, four numbers x0,y0,x1,y1 are expected", "give one box")
    x0, y0, x1, y1 = box
    name = f"box {x0:g},{y0:g},{x1:g},{y1:g}"
    if not (x0 < x1 and y0 < y1):
        raise FluoroError(f"{name}: is empty", "the first corner is the top left, the second the bottom right")
    if not (x0 >= 0 and y0 >= 0 and x1 <= frame.width and y1 <= frame.height):
        size = f"{frame.width}x{frame.height}"
        raise FluoroError(f"{name}: outside the image of {size}", f"cut it to 0,0,{frame.width},{frame.height}")
    return box_corners(box)

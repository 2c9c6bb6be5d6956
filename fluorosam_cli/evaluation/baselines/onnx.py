"""Any network in one ONNX file whose inputs and outputs have these names; those it lacks are not used.

Inputs (float32 unless it says otherwise):

    image          (1, C, H, W)  C is 1 or 3; 0 to 1 between the 0.5 and 99.5 percentiles; stretched to a fixed H, W
    point_coords   (1, K, 2)     x, y in pixels of `image`, centres at integers
    point_labels   (1, K)        float32 or int64: 1 inside, 0 outside, -1 none (one such stands for no points)
    box            (1, 4)        x0, y0, x1, y1 in pixels of `image`, inclusive-exclusive; needed when declared
    text           (1,)          string
    mask_input     (1, 1, h, w)  `masks` of the answer before; zeros at first
    has_mask_input (1,)          0 or 1

Outputs:

    masks          (1, M, h, w)  logits over the whole image, above 0 inside
    iou            (1, M)        predicted IoU; the highest is taken. Without it the first mask is
    presence       (1,)          probability that what the text names is in the image

The whole network runs for every prompt. Operators beyond ONNX's own and onnxruntime's are refused: none is ever loaded.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fluorosam_cli.artefacts import sha256_of
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.evaluation.segmenter import DrawnMasks, Takes
from fluorosam_cli.prediction.images import to_grey
from fluorosam_cli.prediction.overlay import to_display
from fluorosam_cli.prediction.predictor import ImagePrompt

log = logging.getLogger("fluoro")

NEEDED_BY = {"text": {"text"}, "points": {"point_coords", "point_labels"}, "box": {"box"}, "mask": {"mask_input"}}
KNOWN = {"image", "has_mask_input", *(name for names in NEEDED_BY.values() for name in names)}
MASK_SIDE = 256  # of `mask_input` where the file leaves it open


class OnnxSegmenter:
    def __init__(self, path: Path, device: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise FluoroError("onnxruntime: not installed", "pip install 'fluorosam-cli[onnx]'") from error
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}))
        elif device != "cpu":
            log.warning("warning: this onnxruntime knows no CUDA: the network runs on the CPU")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own classes share no other base
            detail = str(error).strip().splitlines()[0][:160]
            raise FluoroError(f"{path}: onnxruntime does not load it ({detail})", "check the file") from error
        self._inputs: dict[str, Any] = {item.name: item for item in self._session.get_inputs()}
        self._outputs = [item.name for item in self._session.get_outputs()]
        unknown = self._inputs.keys() - KNOWN
        if "image" not in self._inputs or "masks" not in self._outputs or unknown:
            raise FluoroError(
                f"{path}: inputs are {', '.join(self._inputs)}, outputs {', '.join(self._outputs)}",
                f"`image` and `masks` are needed; other inputs may be {', '.join(sorted(KNOWN - {'image'}))}",
            )
        self.sha256, self.name = sha256_of(path), path.name
        self.takes: list[Takes] = [kind for kind, names in NEEDED_BY.items() if names <= self._inputs.keys()]  # pyright: ignore

    def set_image(self, image: np.ndarray) -> None:
        """Prepare the input; the network itself runs with the prompts."""
        from PIL import Image

        shown = to_display(to_grey(image))
        self._hw = (shown.shape[0], shown.shape[1])
        _, channels, height, width = self._inputs["image"].shape
        size = (height if isinstance(height, int) else self._hw[0], width if isinstance(width, int) else self._hw[1])
        resized = (
            np.asarray(Image.fromarray(shown).resize((size[1], size[0]), Image.Resampling.BILINEAR), np.float32) / 255
        )
        self._scale = (size[1] / self._hw[1], size[0] / self._hw[0])
        self._image = np.repeat(resized[None, None], channels if isinstance(channels, int) else 1, axis=1)

    def predict_batch(self, prompts: Sequence[ImagePrompt]) -> list[DrawnMasks]:
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: ImagePrompt) -> DrawnMasks:
        given = self._given(prompt)
        try:
            values = self._session.run(self._outputs, {name: given[name] for name in self._inputs})
        except Exception as error:  # as above
            detail = str(error).strip().splitlines()[0][:160]
            raise FluoroError(
                f"{self.name}: fails on a prompt ({detail})", "compare its inputs with the manual"
            ) from error
        found = dict(zip(self._outputs, (np.asarray(value) for value in values), strict=True))
        logits = found["masks"].astype(np.float32)
        if logits.ndim != 4 or len(logits) != 1:
            raise FluoroError(f"{self.name}: `masks` has shape {logits.shape}", "(1, M, h, w) is expected")
        logits = logits[0]
        ious = found["iou"].astype(np.float32).reshape(-1) if "iou" in found else np.zeros(len(logits), np.float32)
        presence = float(found["presence"].reshape(-1)[0]) if "presence" in found else float("nan")
        return DrawnMasks(self._at_image(logits), ious, presence, int(ious.argmax()), logits)

    def _given(self, prompt: ImagePrompt) -> dict[str, np.ndarray]:
        scale = np.array(self._scale)
        points = (np.asarray(prompt.points_xy, np.float32).reshape(1, -1, 2) + 0.5) * scale - 0.5
        labels = np.asarray(prompt.point_labels, np.float32).reshape(1, -1)
        if not labels.size:
            points, labels = np.zeros((1, 1, 2)), -np.ones((1, 1), np.float32)
        box = np.zeros(4) if prompt.box_xyxy is None else np.asarray(prompt.box_xyxy) * np.tile(scale, 2)
        mask = np.zeros(self._mask_hw()) if prompt.mask_input is None else prompt.mask_input
        if "point_labels" in self._inputs and "int64" in self._inputs["point_labels"].type:
            labels = labels.astype(np.int64)
        return {
            "image": self._image,
            "point_coords": points.astype(np.float32),
            "point_labels": labels,
            "box": box.astype(np.float32)[None],
            "text": np.array([prompt.text or ""], dtype=object),
            "mask_input": mask.astype(np.float32)[None, None],
            "has_mask_input": np.array([prompt.mask_input is not None], np.float32),
        }

    def _mask_hw(self) -> tuple[int, int]:
        declared = self._inputs["mask_input"].shape[2:] if "mask_input" in self._inputs else ()
        height, width = (side if isinstance(side, int) else MASK_SIDE for side in declared or (MASK_SIDE, MASK_SIDE))
        return height, width

    def _at_image(self, logits: np.ndarray) -> np.ndarray:
        """(M, h, w) -> (M, H, W) bool."""
        import torch
        from torch.nn import functional as F

        scaled = F.interpolate(torch.from_numpy(logits)[None], self._hw, mode="bilinear", align_corners=False)[0]
        return (scaled > 0).numpy()

"""Weights from elsewhere: SAM, MedSAM and SAM-Med2D checkpoints, other runs of ours, timm's pretrained backbones.

Files are read as tensors only: a pickle that would execute anything is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluorosam_cli.contracts import ModelConfig
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.fluorosam import FluoroSAM
from fluorosam_cli.model.image_encoder import SMALL, backbone
from fluorosam_cli.text.encoder import offline

# timm's names for segment-anything's ViT
RENAMED = (("image_encoder.", "image_encoder.backbone."), (".mlp.lin1.", ".mlp.fc1."), (".mlp.lin2.", ".mlp.fc2."))

POSITIONS = re.compile(r"\.(pos_embed|rel_pos_[hw])$")  # absolute (1, h, w, dim), relative (2 side - 1, dim)


@dataclass(frozen=True)
class Loaded:
    """What a file gave the network."""

    loaded: list[str]  # the network's names
    skipped: list[tuple[str, str]]  # the file's names, and why


def load_foreign(model: FluoroSAM, path: Path) -> Loaded:
    """Initialise `model` from a SAM, MedSAM or SAM-Med2D checkpoint, or another size of ours, wherever names and
    shapes match.

    Tables of positions are resized to the network's grid, as SAM-Med2D did to go from 1024 to 256 px. Raises
    FluoroError when the file is none, or nothing of it fits.
    """
    state = read_tensors(path)
    own = model.state_dict()
    fitted = {name if name in own else _renamed(name): (name, tensor) for name, tensor in state.items()}
    for name, (theirs, tensor) in fitted.items():
        if name in own and POSITIONS.search(name):
            fitted[name] = (theirs, _resized(tensor, own[name].shape))
    return _copy(model, fitted, path.name)


def find_backbone(config: ModelConfig, source: str) -> Path | None:
    """The file of a pretrained backbone, or None for a tag of timm's. Raises FluoroError where there can be neither."""
    path = Path(source)
    if not path.is_file() and (path.suffix or "/" in source):
        raise FluoroError(f"{source}: no such file", "give a .safetensors or .pth file, or a tag of timm's")
    if config.backbone == SMALL:
        raise FluoroError(f"{source}: {config.preset} has no backbone of timm's", "start from weights of ours: --init")
    if path.is_file():
        return path
    if offline():
        raise FluoroError(
            f"{config.backbone}.{source}: not downloaded, FLUORO_OFFLINE is set", "unset FLUORO_OFFLINE, or give a file"
        )
    return None


def load_backbone(model: FluoroSAM, source: str) -> Loaded:
    """Initialise the backbone from a pretrained tag of timm's ("ms_in22k"; downloads) or a file in timm's names.

    Windows and position tables of other sizes are resized by timm. Raises FluoroError when it cannot be had.
    """
    file = find_backbone(model.config, source)
    options = {"tag": source} if file is None else {"pretrained_cfg_overlay": {"state_dict": read_tensors(file)}}
    try:
        donor = backbone(model.config.model_copy(update={"adapters": False}), pretrained=True, **options)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        detail = str(error).strip().splitlines()[0][:200]
        if file is not None:
            raise FluoroError(
                f"{source}: does not fit {model.config.backbone} ({detail})", "give its weights"
            ) from error
        raise FluoroError(
            f"{model.config.backbone}.{source}: cannot be had ({detail})",
            "check the tag and the connection, or give a file",
        ) from error
    own = {f"image_encoder.backbone.{name}": (name, tensor) for name, tensor in donor.state_dict().items()}
    return _copy(model, own, source)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or a PyTorch pickle, also where it lies under "model" or "state_dict"."""
    if not path.is_file():
        raise FluoroError(f"{path}: no such file", "give a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise FluoroError(f"{path}: not a safetensors file ({error})", "download it again") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way there is
        detail = (str(error) or type(error).__name__).strip().splitlines()[0][:120]
        raise FluoroError(
            f"{path}: cannot be read as tensors alone ({detail})",
            "pickles that hold code are refused: save the state dict alone",
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise FluoroError(f"{path}: holds no state dict", "give a checkpoint of SAM, MedSAM or SAM-Med2D")
    return tensors


def _resized(table: Tensor, shape: torch.Size) -> Tensor:
    """A table of positions for another grid; as it is where it is none or fits already."""
    if table.shape == shape or table.ndim != len(shape) or table.shape[-1] != shape[-1]:
        return table
    if table.ndim == 2:
        return F.interpolate(table.T[None], shape[:1], mode="linear")[0].T
    return F.interpolate(table.permute(0, 3, 1, 2), shape[1:3], mode="bicubic", antialias=True).permute(0, 2, 3, 1)


def _renamed(name: str) -> str:
    name = name.removeprefix("module.")
    if not name.startswith("image_encoder."):
        return name
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    return name


@torch.no_grad()
def _copy(model: nn.Module, state: dict[str, tuple[str, Tensor]], source: str) -> Loaded:
    """Copy (file's name, tensor) by the network's name."""
    own = model.state_dict()
    loaded: list[str] = []
    skipped: list[tuple[str, str]] = []
    for name, (theirs, tensor) in state.items():
        if name not in own:
            skipped.append((theirs, "no such part"))
        elif own[name].shape != tensor.shape:
            skipped.append((theirs, f"is {tuple(tensor.shape)}, {tuple(own[name].shape)} is needed"))
        else:
            own[name].copy_(tensor)
            loaded.append(name)
    if not loaded:
        raise FluoroError(f"{source}: nothing in it fits {type(model).__name__}", "choose a preset of its kind")
    return Loaded(loaded, skipped)

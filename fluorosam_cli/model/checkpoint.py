"""Checkpoint folders: `checkpoint.json` and the weights that it names. Reading one never executes code from it."""

import hashlib
from pathlib import Path

from torch import Tensor

from fluorosam_cli.artefacts import read_header, sha256_of, write_bytes, write_json
from fluorosam_cli.contracts import Checkpoint, TextEncoderConfig
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.model.fluorosam import FluoroSAM

HEADER = "checkpoint.json"
BUILTIN = "builtin"  # what users call the checkpoint inside the package
IMAGE_MAX_PX = 4096
DAMAGED = "the file is damaged: copy or write it again"
SHIPPED = Path(__file__).parents[1] / "builtin"


def save_checkpoint(
    folder: Path,
    model: FluoroSAM,
    *,
    text_encoder: TextEncoderConfig,
    step: int,
    seed: int,
    structures: list[str],
    shards_sha256: str,
    metrics: dict[str, float],
    training: dict[str, object] | None = None,
) -> Checkpoint:
    """Write weights, then the header. An earlier checkpoint in the folder stays whole until the header replaces it."""
    data = _safetensors(model.state_dict())
    sha256 = hashlib.sha256(data).hexdigest()
    weights = f"model-{step:06d}-{sha256[:8]}.safetensors"  # other weights of the same step have another name
    write_bytes(folder / weights, data)
    header = Checkpoint(
        model=model.config,
        text_encoder=text_encoder,
        weights=weights,
        weights_sha256=sha256,
        step=step,
        seed=seed,
        structures=structures,
        shards_sha256=shards_sha256,
        metrics=metrics,
        training=training or {},
    )
    write_json(folder / HEADER, header)
    for old in folder.glob("model-*.safetensors"):
        if old.name != weights:
            old.unlink()
    return header


def find_checkpoint(named: Path | str) -> Path:
    """The checkpoint folder at a path: itself, or the `best` (else `last`) of a run folder; or `builtin`."""
    if named == BUILTIN:  # a folder of that name in the working directory is ./builtin
        return _builtin_checkpoint()
    path = Path(named)
    for folder in (path, path / "best", path / "last"):
        if (folder / HEADER).is_file():
            return folder
    if not path.exists():
        raise FluoroError(f"{path}: no such checkpoint", "give the folder that `fluoro train` wrote")
    raise FluoroError(f"{path}: holds no {HEADER}, nor do its best/ and last/", "give the folder `fluoro train` wrote")


def _builtin_checkpoint() -> Path:
    if not (SHIPPED / HEADER).is_file():
        raise FluoroError(
            "no built-in checkpoint is shipped with this version",
            "give one with --model, for example the folder that `fluoro train shards/` writes",
        )
    return SHIPPED


def load_checkpoint(path: Path | str, device: str = "cpu") -> tuple[FluoroSAM, Checkpoint]:
    """The network of a checkpoint or run folder, or `builtin`, in eval mode, and its header.

    Raises FluoroError when the header is of another version, the weights were changed or do not fit the header.
    """
    folder = find_checkpoint(path)
    header = read_header(folder / HEADER, Checkpoint)
    state = read_weights(folder, HEADER, header.weights, header.weights_sha256)
    config, name = header.model, folder / Path(header.weights).name
    fits = (
        config.image_size_px == 4 * config.detail_px if config.detail_dim else 0 < config.image_size_px <= IMAGE_MAX_PX
    )
    if not fits:
        raise FluoroError(f"{folder / HEADER}: images of {config.image_size_px} px fit no such network", DAMAGED)
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise FluoroError(f"{name}: holds weights that are no numbers", "train it again")
    try:
        model = FluoroSAM(header.model)
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[0]
        raise FluoroError(f"{name}: does not fit {HEADER} ({detail})", "train it again") from error
    return model.eval().to(device), header


def write_weights(path: Path, state: dict[str, Tensor]) -> str:
    """Write a safetensors file; its sha256."""
    data = _safetensors(state)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def _safetensors(state: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save  # its save_file lets nobody but the owner read the file

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})


def read_weights(folder: Path, header: str, name: str, sha256: str) -> dict[str, Tensor]:
    """The safetensors file that a header in the same folder names. Raises FluoroError unless it is what was written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = folder / Path(name).name
    if not weights.is_file():
        raise FluoroError(f"{weights}: not found", "copy the whole folder")
    if sha256_of(weights) != sha256:
        raise FluoroError(f"{weights}: its sha256 differs from {header}", DAMAGED)
    try:
        return load_file(weights)
    except SafetensorError as error:
        raise FluoroError(f"{weights}: not readable ({error})", DAMAGED) from error

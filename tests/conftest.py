import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads OpenMP: tests share few cores

import pytest

from fluorosam_cli import cli

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no CTs at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def fluoro(capfd):
    """Run one command line in this process: `code, out, err = fluoro("render", folder, "--views", 2)`."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run([str(word) for word in words])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of the smallest preset with random weights, and its real text encoder.

    Without the quantiser, because an untrained one gives all words the same code.
    """
    import torch

    from fluorosam_cli.contracts import TextEncoderConfig
    from fluorosam_cli.model.checkpoint import save_checkpoint
    from fluorosam_cli.model.fluorosam import FluoroSAM, preset
    from fluorosam_cli.text.encoder import load_text_encoder

    folder = tmp_path_factory.mktemp("checkpoint")
    encoder = load_text_encoder("minilm")
    torch.manual_seed(0)
    save_checkpoint(
        folder,
        FluoroSAM(preset("tiny", encoder.dim).model_copy(update={"codebook_size": 0})),
        text_encoder=TextEncoderConfig(name=encoder.name, revision=encoder.revision, dim=encoder.dim),
        step=1,
        seed=0,
        structures=["heart", "liver", "lung_left", "lung_right"],
        shards_sha256="0" * 64,
        metrics={},
    )
    return folder

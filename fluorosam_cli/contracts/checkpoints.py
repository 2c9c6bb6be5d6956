"""The contracts of checkpoints, and of the words that training starts from."""

from typing import Literal

from fluorosam_cli.contracts.schema import Model, Sha256


class ModelConfig(Model):
    """Everything that decides the network's shape: `model.FluoroSAM(config)` rebuilds it without the weights."""

    preset: str
    backbone: str
    image_size_px: int
    grid_px: int  # side of the image embedding
    embedding_dim: int
    neck_dim: int
    neck_blocks: int = 3
    detail_dim: int = 0  # channels of features of side `detail_px` that reach the decoder; 0: none, as in the paper
    finest_dim: int = 0  # channels at twice `detail_px`, the side of the masks then; 0: none
    upscale_stages: int  # each doubles the side, from the grid's to `detail_px`
    decoder_depth: int
    decoder_heads: int
    decoder_mlp_dim: int
    text_dim: int
    text_hidden_dim: int
    codebook_size: int  # 0: no quantiser
    text_map: bool  # a first mask from words goes to the decoder as its mask prompt; needs detail_dim
    travel: bool = False  # the decoder also predicts the path length inside the structure
    adapters: bool = False  # small trainable layers behind every block of the backbone

    @property
    def detail_px(self) -> int:
        """Side of the decoder's upscaled features, and of the text map."""
        return self.grid_px * 2**self.upscale_stages

    @property
    def logits_px(self) -> int:
        """Side of the mask logits."""
        return 2 * self.detail_px if self.finest_dim else self.detail_px


class TextEncoderConfig(Model):
    name: str  # "minilm", "open_clip:ViT-B-32:..."
    revision: str
    dim: int


class WordsHeader(Model):
    """A text head that has learnt its words and has seen no image."""

    format: Literal["fluoro.words/1"] = "fluoro.words/1"
    text_encoder: TextEncoderConfig
    weights: str = "words.safetensors"
    weights_sha256: Sha256
    names: list[str]  # the quantiser's code i belongs to names[i % len(names)]
    scores: dict[str, float]


class Checkpoint(Model):
    format: Literal["fluoro.checkpoint/1"] = "fluoro.checkpoint/1"
    model: ModelConfig
    text_encoder: TextEncoderConfig
    weights: str = "model.safetensors"
    weights_sha256: Sha256
    step: int
    seed: int
    structures: list[str]  # what the model was trained to find
    shards_sha256: Sha256
    metrics: dict[str, float]
    training: dict[str, object] = {}  # how it was trained: recipe, rates, batch

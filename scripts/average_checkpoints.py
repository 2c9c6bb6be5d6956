"""The mean of two checkpoints' weights, the second trained on from the first.

It is often steadier than either where both meet images unlike those they learnt from (Wortsman et al., "Robust
fine-tuning of zero-shot models", CVPR 2022). The header is the second's, without the scores that are only its own.

Usage: python scripts/average_checkpoints.py FIRST SECOND OUT [--share 0.5]
"""

import argparse
from pathlib import Path

import torch

from fluorosam_cli.model.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    options = parser.parse_args()
    model, earlier = load_checkpoint(find_checkpoint(options.first))
    other, header = load_checkpoint(find_checkpoint(options.second))
    if model.config != other.config:
        parser.error("the two are different networks")
    weights, words = other.state_dict(), other.text_head.state_dict()
    same = all(torch.equal(value, words[name]) for name, value in model.text_head.state_dict().items())
    if earlier.text_encoder != header.text_encoder or not same:
        parser.error("the two have learnt their words apart: their text heads differ")
    mean = {
        name: value.lerp(weights[name], options.share) if value.is_floating_point() else weights[name]
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(mean)
    options.out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        options.out,
        model,
        text_encoder=header.text_encoder,
        step=header.step,
        seed=header.seed,
        structures=header.structures,
        shards_sha256=header.shards_sha256,
        metrics={},
        training={**header.training, "averaged_share": options.share},
    )


if __name__ == "__main__":
    main()

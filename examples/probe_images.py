"""Labelled images made into two further questions for `fluoro eval`: turned negative, and asked for what is absent.

Usage: python examples/probe_images.py IMAGES OUT [--negative] [--absent femur_left,sacrum]

IMAGES and OUT are folders with images/ and masks/ID/STRUCTURE.png. An empty mask says that a structure is absent.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fluorosam_cli.dataset.image_files import images_in, stem_of
from fluorosam_cli.dataset.pictures import to_16_bits
from fluorosam_cli.prediction.images import read_radiograph


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--negative", action="store_true", help="dark where it was bright")
    parser.add_argument("--absent", default="", help="structures that no image shows, with commas between")
    options = parser.parse_args()
    shutil.copytree(options.images / "masks", options.out / "masks", dirs_exist_ok=True)
    (options.out / "images").mkdir(exist_ok=True)
    for path in images_in(options.images / "images"):
        pixels = to_16_bits(read_radiograph(path).pixels)
        Image.fromarray(~pixels if options.negative else pixels).save(options.out / "images" / f"{stem_of(path)}.png")
        for name in filter(None, options.absent.split(",")):
            empty = np.zeros(pixels.shape, np.uint8)
            Image.fromarray(empty).save(options.out / "masks" / stem_of(path) / f"{name}.png")


if __name__ == "__main__":
    main()

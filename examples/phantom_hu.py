"""CTs from a label volume: HU drawn per tissue and per copy, with marrow, fat, bowel gas and texture.

Usage: python examples/phantom_hu.py LABELS.nii.gz BODY.nii.gz LABELS.json OUT [--count 4] [--seed 0]

A phantom made of meshes has labels and no HU. Each copy is another patient's tissue in the same shape; with
`fluoro render --augment-anatomy` the shape changes too. Writes OUT/scans and OUT/labels, which `fluoro segment-ct
OUT/scans --labels OUT/labels` reads. HU ranges: Schneider et al., Phys Med Biol 45:459 (2000), table 1, and what
clinical CT shows of the same organs.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

BONE = re.compile(
    "vertebrae|rib_|sacrum|humerus|scapula|clavicula|femur|hip_|skull|sternum|tibia|fibula|patella|radius|ulna|carpal"
    "|metacarpal|phalanges|metatarsal|tarsal|mandible|hyoid"
)
HU = (  # first pattern that is found in the name: lowest and highest mean
    ("lung_", -880, -760),
    ("trachea|bronchus|sinus", -1000, -990),
    ("teeth", 1500, 2300),
    ("cartilage|discs", 70, 160),
    ("liver", 40, 75),
    ("spleen|kidney|heart|aorta|atri|vein|vena|artery|trunk", 30, 70),
    ("bladder|prostate", 0, 25),
    ("colon|bowel|stomach|duodenum|esophagus", 15, 45),
    ("brain", 30, 40),
    ("", 35, 65),
)
GASSY = {"colon": 0.7, "stomach": 0.9, "small_bowel": 1.5}  # gas where the texture, of deviation 1, exceeds this
CORTEX, MARROW, FAT, MUSCLE = (450, 1100), (100, 350), (-115, -80), (40, 60)
FAT_LAYER_MM = 4, 25
SKIN_MM = 2
NOISE = 8, 18


def paint(labels: np.ndarray, inside: np.ndarray, names: dict[int, str], spacing_mm: float, seed: list[int]):
    """HU (int16) of one copy on the labels' grid."""
    rng = np.random.default_rng(seed)

    def texture(length_mm: float) -> np.ndarray:
        """Smooth noise of deviation 1; coarse first, as it is smooth."""
        step = max(1, int(length_mm / spacing_mm / 2))
        coarse = rng.standard_normal([-(-n // step) + 1 for n in labels.shape]).astype(np.float32)
        coarse = ndimage.gaussian_filter(coarse, length_mm / spacing_mm / step)
        full = ndimage.zoom(coarse / coarse.std(), step, order=1)
        return full[tuple(slice(n) for n in labels.shape)]

    depth = ndimage.distance_transform_edt(inside[::2, ::2, ::2]).astype(np.float32) * 2 * spacing_mm
    depth = np.repeat(np.repeat(np.repeat(depth, 2, 0), 2, 1), 2, 2)[tuple(slice(n) for n in labels.shape)]
    blobs = texture(7)
    fat = rng.uniform(*FAT)
    hu = np.where(inside, rng.uniform(*MUSCLE), -1000).astype(np.float32)
    hu[inside & (blobs > rng.uniform(0.7, 1.5))] = fat  # between the muscles
    hu[inside & (depth < rng.uniform(*FAT_LAYER_MM) + 3 * texture(20))] = fat
    hu[inside & (depth < SKIN_MM)] = 40
    for number, name in names.items():
        if name == "skin":
            continue
        low, high = next((low, high) for pattern, low, high in HU if re.search(pattern, name))
        hu[labels == number] = rng.uniform(low, high)
        if name in GASSY:
            hu[(labels == number) & (blobs > GASSY[name] + rng.uniform(-0.3, 0.3))] = -950
    bones = np.isin(labels, [number for number, name in names.items() if BONE.match(name)])
    marrow = ndimage.binary_erosion(bones)
    hu[bones] = rng.uniform(*CORTEX)
    hu[marrow] = rng.uniform(*MARROW) + 45 * blobs[marrow]
    lung = np.isin(labels, [number for number, name in names.items() if name.startswith("lung_")])
    vessels = texture(2)
    hu[lung] += 50 * vessels[lung]
    hu[lung & (vessels > rng.uniform(2.1, 2.6))] = 20
    hu[inside] += rng.standard_normal(int(inside.sum()), np.float32) * rng.uniform(*NOISE)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("body", type=Path, help="filled outline of the body")
    parser.add_argument("names", type=Path, help="JSON: id -> name, or an object that holds such")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    image = nibabel.load(options.labels)
    labels = np.asarray(image.dataobj)
    inside = np.asarray(nibabel.load(options.body).dataobj) > 0
    table = json.loads(options.names.read_text())
    if not all(key.isdigit() for key in table):
        table = next(value for value in table.values() if isinstance(value, dict))
    names = {int(number): name for number, name in table.items()}
    spacing_mm = float(image.header.get_zooms()[0])
    for folder in ("scans", "labels"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    (options.out / "labels" / "labels.json").write_text(json.dumps(names))
    for copy in range(options.count):
        scan = options.out / "scans" / f"body_{copy:02d}.nii.gz"
        if scan.exists():
            continue
        hu = paint(labels, inside, names, spacing_mm, [options.seed, copy])
        shutil.copyfile(options.labels, options.out / "labels" / scan.name)
        growing = scan.with_name(f".{scan.name}")
        nibabel.save(nibabel.Nifti1Image(hu, image.affine), growing)
        growing.rename(scan)


if __name__ == "__main__":
    main()

"""Hounsfield units to materials: how much of what a voxel holds.

The projector looks densities up in one table. A voxel's row there is its HU, moved by 4096 for each kind of tissue that
its label says it is: 250 HU are bone in a rib, and blood with contrast agent in an aorta.
"""

from collections.abc import Collection, Mapping

import numpy as np

from fluorosam_cli.anatomy.structures import groups, structures
from fluorosam_cli.kernels import ROW_OFFSET  # pyright: ignore[reportMissingImports] - the folder `kernels`

MATERIALS = ("lung", "adipose", "soft_tissue", "bone", "iodine")
ROWS_PER_KIND = 4096
HU_RANGE = -ROW_OFFSET, ROWS_PER_KIND - ROW_OFFSET - 1

# What labels tell. A scan's own contrast agent is iodine in a soft structure; `injected` is what is added to it. Bones
# need no kind: there HU tell marrow from mineral.
KINDS = ("unlabelled", "lung", "soft", "injected")
_KIND_OF_MATERIAL = {"lung": "lung", "air": "lung", "soft": "soft", "bone": "unlabelled"}

# Density of each material against HU, linear in between and constant beyond. Their sum is the calibration of Schneider,
# Bortfeld and Schlegel, Phys Med Biol 45:459 (2000): 1.0297e-3 HU + 1.031 up to -98, 0.893e-3 HU + 1.018 up to 14,
# 0.592e-3 HU + 1.017 above 23. Between two knots two tissues mix by volume. Three departures:
# - its separate line for connective tissue (23-100 HU) is left out: it jumps down by 0.044 at 100, and in that range
#   patients are mostly muscle and blood;
# - below -950 there is nothing and the lung line is reached at -900: metres of air around the patient, noisy and with
#   the table's foam in it, would otherwise weigh more than a lung. Within a labelled lung the line goes on to its end;
# - up to 100 HU a voxel is dense soft tissue without mineral; from there the share of cortical bone grows to 1 at 1524.
AIR_HU = -950  # up to which an unlabelled voxel holds nothing
_KNOTS_HU = (AIR_HU, -900, -200, -98, 14, 23, 100, 1524, 3071)
_KNOTS_G_CM3 = {
    "lung": (0, 0.1042, 0.8251, 0, 0, 0, 0, 0, 0),
    "adipose": (0, 0, 0, 0.9305, 0, 0, 0, 0, 0),
    "soft_tissue": (0, 0, 0, 0, 1.0305, 1.0306, 1.0762, 0, 0),
    "bone": (0, 0, 0, 0, 0, 0, 0, 1.9192, 2.835),
}
_LUNG_KNOTS_HU, _LUNG_KNOTS_G_CM3 = (-1000, -200), (0.0013, 0.8251)
BLOOD_HU = 75  # no blood without contrast agent is denser, whatever its haematocrit
HU_PER_MG_IODINE_ML = 26.0  # about, at 120 kVp (Bae, Radiology 256:32, 2010)
INJECTED_MG_IODINE_ML = 100.0  # in the vessel or the bladder: a third of the 300-370 mg/ml of what is injected


def material_table() -> np.ndarray:
    """Density in g/cm3 of each of `MATERIALS` in each row, shape (4 * 4096, 5) float32.

    There is no material for air: its mass (a metre of it is 1 mm of water) is left out, and unlabelled voxels up to
    -950 HU are 0.
    """
    hu = np.arange(ROWS_PER_KIND) - ROW_OFFSET
    column = {name: index for index, name in enumerate(MATERIALS)}
    table = np.zeros((len(KINDS), ROWS_PER_KIND, len(MATERIALS)))
    for name, densities in _KNOTS_G_CM3.items():
        table[:, :, column[name]] = np.interp(hu, _KNOTS_HU, densities)

    lung = table[KINDS.index("lung")]
    lung[hu <= -200, column["lung"]] = np.interp(hu[hu <= -200], _LUNG_KNOTS_HU, _LUNG_KNOTS_G_CM3)

    soft = table[KINDS.index("soft")]
    enhanced = hu > BLOOD_HU
    soft[enhanced] = soft[hu == BLOOD_HU]
    soft[enhanced, column["iodine"]] = (hu[enhanced] - BLOOD_HU) / HU_PER_MG_IODINE_ML / 1000

    injected = table[KINDS.index("injected")]
    injected[:] = soft
    injected[:, column["iodine"]] = INJECTED_MG_IODINE_ML / 1000
    return table.reshape(-1, len(MATERIALS)).astype(np.float32)


def kinds_of_labels(names: Mapping[int, str], contrast: Collection[str] = ()) -> np.ndarray:
    """The number in `KINDS` of every label id, (65536,) int16: `names` says what each label is.

    `contrast` names the structures and groups that are filled with contrast agent.
    """
    material = {structure.name: structure.material for structure in structures()}
    filled = {member for name in contrast for member in (name, *groups().get(name, ()))}
    kinds = np.zeros(65536, np.int16)
    for label_id, name in names.items():
        kind = "injected" if name in filled else _KIND_OF_MATERIAL.get(material.get(name, "bone"), "unlabelled")
        kinds[label_id] = KINDS.index(kind)
    return kinds


def set_rows(volume_hu: np.ndarray, labels: np.ndarray, kinds: np.ndarray) -> None:
    """Turn HU into rows of the table, less `ROW_OFFSET`, in place: int16 (z, y, x), labels on the same grid."""
    moved = kinds * np.int16(ROWS_PER_KIND)
    for hu, label in zip(volume_hu, labels, strict=True):
        np.clip(hu, *HU_RANGE, out=hu)
        hu += moved[label]

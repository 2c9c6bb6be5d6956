"""What makes a case suspicious: structures of unlikely size, on the wrong side, or in tissue they cannot be.

Nothing is dropped here: a finding is a flag for a person to look at. Sums run over every second or third voxel, some
2 mm apart, which is fine enough for volumes, centres and mean HU.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from fluorosam_cli.anatomy.structures import label_ids, mirrored, structure, structures
from fluorosam_cli.contracts import Case, CaseQuality, CaseStructure, Finding
from fluorosam_cli.ct.body import TISSUE_HU
from fluorosam_cli.ct.volume import Direction, Volume

METAL_HU = 3000  # above cortical bone and enamel; 12-bit scans end at 3071. Undiluted contrast medium gets there too
METAL_ML = 0.1  # less is noise and a tooth's filling
SAMPLE_MM = 2.0
SIDE_MM = 5.0  # centres nearer to each other than this do not tell a side
MEAN_HU: dict[str, tuple[float, float]] = {"bone": (80, 2500), "lung": (-980, -300), "air": (-1000, -200)}
CARTILAGE = {"costal_cartilages", "intervertebral_discs", "thyroid_cartilage"}  # with the bones by their material
FIT_ML = 5.0  # smaller structures are not held to MEAN_HU: partial volumes
AXIS: dict[Direction, tuple[int, int]] = {
    "left": (0, 1),
    "right": (0, -1),
    "posterior": (1, 1),
    "anterior": (1, -1),
    "superior": (2, 1),
    "inferior": (2, -1),
}

Relation = tuple[str, Direction, str]
SIDES: tuple[Relation, ...] = (  # organs that lie on one side in everybody but for situs inversus
    ("liver", "right", "spine"),
    ("spleen", "left", "spine"),
    ("stomach", "left", "spine"),
    ("heart", "left", "spine"),
    ("gallbladder", "right", "spine"),
    ("aorta", "left", "inferior_vena_cava"),
    ("liver", "right", "spleen"),
)
ORDER: tuple[Relation, ...] = (
    ("heart", "anterior", "spine"),
    ("sternum", "anterior", "spine"),
    ("liver", "anterior", "spine"),
    ("urinary_bladder", "anterior", "sacrum"),
    ("lungs", "superior", "liver"),
    ("heart", "superior", "liver"),
    ("thoracic_spine", "superior", "lumbar_spine"),
    ("cervical_spine", "superior", "thoracic_spine"),
    ("lumbar_spine", "superior", "sacrum"),
    ("brain", "superior", "cervical_spine"),
    ("liver", "superior", "urinary_bladder"),
)


@dataclass(frozen=True)
class Measured:
    """Per label id, (256,) or more: voxels sampled, mean position (n, 3) LPS mm, mean HU."""

    counts: np.ndarray
    centres: np.ndarray
    mean_hu: np.ndarray


def assess(ct: Volume, labels: Volume, found: Iterable[CaseStructure], table_ml: float) -> CaseQuality:
    """Every gate over one case; `found` are its structures, `table_ml` what was set aside around the body."""
    found = list(found)
    measured = measure(ct, labels)
    steps = ct.steps_zyx(SAMPLE_MM)
    coarse = ct.array[tuple(slice(None, None, step) for step in steps)]
    metal_ml = sum(int(np.count_nonzero(plane >= METAL_HU)) for plane in ct.array) * ct.voxel_volume_ml
    findings = [*_size_findings(found), *_place_findings(measured), *_fit_findings(found, measured)]
    if not found:
        findings.insert(0, Finding(gate="structures", structure=None, text="no structure was found"))
    return CaseQuality(
        suspicious=bool(findings),
        findings=findings,
        body_ml=round(float(np.count_nonzero(coarse > TISSUE_HU)) * ct.voxel_volume_ml * float(np.prod(steps)), 1),
        table_ml=round(table_ml, 1),
        metal_ml=round(metal_ml, 2) if metal_ml >= METAL_ML else 0.0,
    )


def measure(ct: Volume, labels: Volume) -> Measured:
    """Voxels, centres and mean HU of every label, on a grid of about SAMPLE_MM."""
    steps = ct.steps_zyx(SAMPLE_MM)
    coarse = tuple(slice(None, None, step) for step in steps)
    ids, hu = labels.array[coarse], ct.array[coarse]
    size = max(256, int(ids.max(initial=0)) + 1)
    sums = np.zeros((size, 5))  # voxels, x, y, z in voxels, HU
    y, x = (index.ravel() for index in np.indices(ids.shape[1:]))
    for z, (plane, values) in enumerate(zip(ids, hu, strict=True)):
        flat = plane.ravel()
        inside = np.flatnonzero(flat)
        flat = flat[inside]
        count = np.bincount(flat, minlength=size)
        sums[:, 0] += count
        sums[:, 1] += np.bincount(flat, x[inside] * steps[2], minlength=size)
        sums[:, 2] += np.bincount(flat, y[inside] * steps[1], minlength=size)
        sums[:, 3] += count * z * steps[0]
        sums[:, 4] += np.bincount(flat, values.ravel()[inside], minlength=size)
    counts = sums[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[:, 1:] / counts[:, None]
    centres = means[:, :3] @ ct.world_from_voxel[:3, :3].T + ct.world_from_voxel[:3, 3]
    return Measured(counts, centres, means[:, 3])


@cache
def volume_ranges_ml() -> dict[str, tuple[float, float]]:
    """Structure -> lowest and highest plausible volume of an adult, whole structure.

    Organs: about a third to three times the reference masses of ICRP Publication 89 (2002), more where filling
    decides; the rest: a third (ribs less) to 2.5 times the volumes of BodyParts3D's adult male.
    """
    text = (files("fluorosam_cli.anatomy") / "volumes.csv").read_text(encoding="utf-8")
    return {row["name"]: (float(row["low_ml"]), float(row["high_ml"])) for row in csv.DictReader(text.splitlines())}


def _size_findings(found: list[CaseStructure]) -> list[Finding]:
    """A structure that the scan cuts may be small, but never large."""
    findings = []
    for entry in found:
        low, high = volume_ranges_ml().get(entry.name, (0.0, np.inf))
        small = entry.volume_ml < low and not entry.cut_by
        if small or entry.volume_ml > high:
            text = f"{entry.name} has {entry.volume_ml:.3g} ml, {low:g} to {high:g} is plausible"
            findings.append(Finding(gate="volume", structure=entry.name, text=text))
    return findings


def _place_findings(measured: Measured) -> list[Finding]:
    pairs = {
        tuple(sorted((entry.name, mirrored(entry.name))))
        for entry in structures()
        if entry.side and mirrored(entry.name) != entry.name
    }
    sided: list[Relation] = [(a, "left", b) for a, b in sorted(pairs)]
    wrong_pairs, right_pairs = _check(sided, measured)
    wrong, right = _check(SIDES, measured)
    findings = []
    wrong_all, all_told = len(wrong) + len(wrong_pairs), len(wrong) + len(wrong_pairs) + len(right) + len(right_pairs)
    if wrong_all > 1 and (wrong_all > all_told / 2 or len(wrong) > max(1, len(right))):
        example = _words((wrong + wrong_pairs)[0])
        text = f"left and right look exchanged: {wrong_all} of {all_told} relations are wrong ({example})"
        findings.append(Finding(gate="side", structure=None, text=text))
    else:
        findings += [
            Finding(gate="side", structure=relation[0], text=_words(relation)) for relation in wrong + wrong_pairs
        ]
    wrong_order, _ = _check(ORDER, measured)
    return findings + [Finding(gate="order", structure=relation[0], text=_words(relation)) for relation in wrong_order]


def _words(relation: Relation) -> str:
    a, direction, b = relation
    words = {"left": "to the left of", "right": "to the right of", "anterior": "in front of", "superior": "above"}
    return f"{a} is not {words[direction]} {b}"


def _check(relations: Iterable[Relation], measured: Measured) -> tuple[list[Relation], list[Relation]]:
    """(those that do not hold, those that do); what is absent or too near to tell is in neither."""
    wrong, right = [], []
    for a, direction, b in relations:
        centre_a, centre_b = _centre(a, measured), _centre(b, measured)
        if centre_a is None or centre_b is None:
            continue
        axis, sign = AXIS[direction]
        ahead_mm = sign * (centre_a[axis] - centre_b[axis])
        if abs(ahead_mm) > SIDE_MM:
            (right if ahead_mm > 0 else wrong).append((a, direction, b))
    return wrong, right


def _centre(name: str, measured: Measured) -> np.ndarray | None:
    """The centre of a structure or group in LPS mm, or None when it is not there."""
    ids = [label_id for label_id in label_ids(name) if label_id < len(measured.counts) and measured.counts[label_id]]
    if not ids:
        return None
    return np.average(measured.centres[ids], axis=0, weights=measured.counts[ids])


def _fit_findings(found: list[CaseStructure], measured: Measured) -> list[Finding]:
    """Structures whose mean HU their material cannot have: labels that do not belong to this scan."""
    findings = []
    for entry in found:
        low, high = MEAN_HU.get(structure(entry.name).material, (-np.inf, np.inf))
        mean = measured.mean_hu[entry.label_id]
        if entry.volume_ml >= FIT_ML and entry.name not in CARTILAGE and not low <= mean <= high:
            text = f"{entry.name} has {mean:.0f} HU on average, {low:g} to {high:g} is plausible"
            findings.append(Finding(gate="fit", structure=entry.name, text=text))
    return findings


# --- the summary of a batch -------------------------------------------------------------------------------------------

COLUMNS: tuple[str, ...] = ("case", "structures", "cut", "body_ml", "table_ml", "metal_ml", "findings")


def summary_row(case: Case) -> dict[str, str]:
    """One line of `quality.csv`: what a person has to know of a case at a glance."""
    quality = case.quality
    cut: dict[str, int] = {}
    for entry in case.structures:
        for direction in entry.cut_by:
            cut[direction] = cut.get(direction, 0) + 1
    return {
        "case": case.name,
        "structures": str(len(case.structures)),
        "cut": " ".join(f"{direction}:{count}" for direction, count in sorted(cut.items())),
        "body_ml": f"{quality.body_ml:.0f}" if quality else "",
        "table_ml": f"{quality.table_ml:.0f}" if quality else "",
        "metal_ml": f"{quality.metal_ml:g}" if quality else "",
        "findings": "; ".join(finding.text for finding in quality.findings) if quality else "",
    }


def summary_table(rows: list[dict[str, str]], file: str, limit: int = 30) -> list[str]:
    """Lines of text for the terminal: all rows of `file`, or only the suspicious of more than `limit`."""
    shown = rows if len(rows) <= limit else [row for row in rows if row["findings"]][:limit]
    columns: tuple[str, ...] = ("case", "structures", "cut", "table_ml", "metal_ml", "findings")
    cells = [[*columns], *([row[column] or "-" for column in columns] for row in shown)]
    for line in cells[1:]:
        line[-1] = line[-1] if len(line[-1]) <= 90 else line[-1][:87] + "..."
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    if len(shown) < len(rows):
        lines.append(f"{len(rows) - len(shown)} more in {file}")
    return lines

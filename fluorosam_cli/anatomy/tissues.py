"""Tissue groups: about two dozen parts that share out all labels of structures.csv, each label in exactly one.

Per view, the path length through each is known: radiographic outlines are drawn from them, and training re-draws the
contrast of each tissue without rendering again. A body's unlabelled rest is in none of them.
"""

import csv
from collections.abc import Collection
from functools import cache
from importlib.resources import files

from fluorosam_cli.anatomy.structures import label_ids


@cache
def tissues() -> dict[str, tuple[int, ...]]:
    """Tissue group -> its label ids, in the order of tissues.csv, whose members are structures or their groups."""
    text = (files("fluorosam_cli.anatomy") / "tissues.csv").read_text(encoding="utf-8")
    return {
        row["name"]: tuple(sorted({label_id for name in row["members"].split("|") for label_id in label_ids(name)}))
        for row in csv.DictReader(text.splitlines())
    }


def tissues_with(label_ids: Collection[int]) -> list[tuple[str, tuple[int, ...]]]:
    """The tissue groups, name and label ids, that a case with these labels has something of."""
    known = set(label_ids)
    return [(name, members) for name, members in tissues().items() if not known.isdisjoint(members)]

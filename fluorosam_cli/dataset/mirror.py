"""Which views may be mirrored: then left and right exchange their names.

A body is not its own mirror image: a flipped chest would teach that the heart lies on the right. A view is flipped only
if nothing that tells left from right is in it, and it is known that nothing is; in practice hands, feet, arms, legs,
some pelves. Bowel, whose sides nobody sees on a radiograph, does not forbid it, but is not asked for when flipped.
"""

from collections.abc import Sequence

import numpy as np

from fluorosam_cli.anatomy.structures import groups, mirrored, names, outlines, structures
from fluorosam_cli.dataset.shards import Sample

SYMMETRIC_SOFT = (  # besides bone
    *("skin", "brain", "spinal_cord", "urinary_bladder", "prostate"),
    *("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"),
)
UNSEEN_SIDES = ("colon", "small_bowel")
LOOKED_FOR = ("heart", "aorta", "liver", "spleen", "stomach")  # without which nothing is known about sides


def telling_sides() -> frozenset[str]:
    """Structures that are not where their mirror image would be: organs of one side, and lungs, which differ."""
    even = {name for name in names() for stem in SYMMETRIC_SOFT if name in (stem, f"{stem}_left", f"{stem}_right")}
    return frozenset(s.name for s in structures() if s.material != "bone" and s.name not in {*even, *UNSEEN_SIDES})


class Mirror:
    """The exchange of sides among the structures of a shards folder."""

    def __init__(self, known: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(known)}
        telling = telling_sides()
        drawn = {*telling, *(g for g, members in groups().items() if telling & set(members)), *outlines()}
        self._telling = np.array([name in drawn for name in known])
        # -1: the mirror image has no name here
        self._other = np.array(
            [-1 if name in UNSEEN_SIDES else position.get(mirrored(name), -1) for name in known], dtype=int
        )
        self._all_known = set(LOOKED_FOR) <= set(known)

    def allows(self, sample: Sample) -> bool:
        """Whether all that tells sides is known to be absent from the view."""
        absent = np.zeros(len(self._telling), bool)
        absent[sample.absent] = True
        return self._all_known and bool(absent[self._telling].all())

    def other(self, structures: np.ndarray) -> np.ndarray:
        """Positions of the structures' names in the flipped view; -1 for those that are not asked for there."""
        return self._other[structures]

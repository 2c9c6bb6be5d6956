"""A token for every name, put together from what the name is made of."""

import re
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from fluorosam_cli.anatomy.structures import groups, levels, side_of
from fluorosam_cli.anatomy.structures import names as anatomy
from fluorosam_cli.tools.catalogue import catalogue

OWN = "own "  # begins the facet that no other name has
OWN_SHARE = 0.1  # its share in the prototype: the more, the less the left one learns from the right one


class Prototypes(torch.nn.Module):
    """One token per name, the sum of what it is made of: its base, side, number, region, and a little of its own.

    So "left" and "fifth" are learnt from all ribs at once, and a word for the left hip serves the right one.
    """

    def __init__(self, names: Sequence[str], dim: int) -> None:
        super().__init__()
        made_of = [facets(name) for name in names]
        number = {facet: i for i, facet in enumerate(sorted({facet for row in made_of for facet in row}), 1)}
        most = max(map(len, made_of))
        rows = [[number[facet] for facet in row] + [0] * (most - len(row)) for row in made_of]
        self.rows = torch.tensor(rows)  # (n_names, most), 0: nothing
        own = torch.tensor([[facet.startswith(OWN) for facet in row] + [False] * (most - len(row)) for row in made_of])
        self.weight = torch.where(own, OWN_SHARE, 1.0)[..., None] * (self.rows > 0)[..., None]
        self.vectors = torch.nn.Parameter(torch.randn(len(number) + 1, dim))

    def forward(self) -> Tensor:
        """(n_names, dim)."""
        return (self.vectors[self.rows] * self.weight).sum(1)


def facets(name: str) -> list[str]:
    """What a name is made of: "vertebrae_L3" -> vertebrae, number 3, region L; "femora" -> femur, both sides.

    A tool of one size is its design and its measures.
    """
    own = OWN + name
    if (level := levels().get(name)) is not None:
        found = [name.split("_")[0], f"number {level.lstrip('CTLS')}", own]
        found += [f"region {level[0]}"] if level[0].isalpha() else []
    elif name in _designs():
        design = _designs()[name]
        return [design, *(f"size {part}" for part in name.removeprefix(f"{design}_").split("_x_")), own]
    else:
        found = [base_of(name), own]
    if name not in anatomy():
        return found
    side = "both" if len(groups().get(name, ())) == 2 and base_of(name) != name else side_of(name)
    return [*found, f"side {side}"] if side else found


@cache
def base_of(name: str) -> str:
    """The name without side, level and size: of "femur_left" and of "femora" it is "femur"."""
    if name in levels():
        return name.split("_")[0]
    if name in _designs():
        return _designs()[name]
    bases = {re.sub(r"_(left|right)$", "", member) for member in groups().get(name, ())}
    return bases.pop() if len(bases) == 1 else re.sub(r"_(left|right)$", "", name)


@cache
def _designs() -> dict[str, str]:
    """Tool of one size -> its design."""
    return {tool.name: tool.design for tool in catalogue() if tool.name != tool.design}

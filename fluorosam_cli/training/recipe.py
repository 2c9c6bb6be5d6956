"""Recipes: every number of the prompt simulation, in the values of the papers and in ours."""

from dataclasses import dataclass
from typing import Literal

from fluorosam_cli.errors import UsageError

KINDS = ("text", "text_points", "points", "box", "text_box", "mask")  # how a prompt begins
SECTION = 8  # uniform numbers before those of the first points: kind, box (4), count, mask, mask-only round


@dataclass(frozen=True)
class Recipe:
    """How the prompts of one mask are simulated, and the loss and rate that go with it.

    The shares of `text` ... `mask` sum to 1. Points of the first prompt are uniform in the mask; later ones fall on
    wrong pixels and carry their sign. A structure that is not in the image is asked for by words alone.
    """

    name: str
    text: float
    text_points: float
    points: float
    box: float
    text_box: float
    mask: float  # an earlier mask: the true one, coarse, grown or shrunk
    absent: float  # of all prompts: the structure is not in the image
    first_points: tuple[int, ...]  # one of these numbers, where the prompt begins with points
    clicks: tuple[int, ...]  # one of these numbers is added in every later round
    crowding: float  # a wrong pixel's weight for a click: the share of wrong ones around it to this power; 0: uniform
    rounds: int  # decoder rounds on one image encoding: 1 + those with clicks
    mask_rounds: bool  # one later round at random and the last show the previous mask, and no point or box
    first_round_only: bool  # the image encoder learns from the first round alone
    box_noise: Literal["normal", "uniform"]  # each side moves by N(0, box_sigma x side), or uniformly
    box_sigma: float
    box_max_px: float  # at the network's input size; the limit of either
    focal_alpha: float
    optimiser: Literal["adamw", "muon"]
    learning_rate: float
    tuning_rate: float  # where weights are given (--from, --init)

    @property
    def shares(self) -> list[float]:
        """The shares of `KINDS`."""
        return [getattr(self, kind) for kind in KINDS]

    @property
    def teaches_text(self) -> bool:
        return self.text + self.text_points + self.text_box > 0

    @property
    def draws(self) -> int:
        """Uniform numbers that one prompt needs."""
        return SECTION + max(self.first_points) + (self.rounds - 1) * (1 + max(self.clicks))


# FluoroSAM (arXiv 2403.08059) states: text, up to 8 points uniform in the mask, and masks as prompts; box jitter
# N(0, 0.1 x side) up to 20 px; learning rate 8e-4 at batch 16. Unknown, so chosen here: the shares, the rounds, the
# loss weights, and that a fifth of the prompts begins with a box. It knew no absent structures.
FLUOROSAM = Recipe(
    name="fluorosam",
    text=0.4,
    text_points=0.4,
    points=0.0,
    box=0.0,
    text_box=0.2,
    mask=0.0,
    absent=0.0,
    first_points=tuple(range(1, 9)),
    clicks=(1,),
    crowding=0,
    rounds=2,
    mask_rounds=False,
    first_round_only=False,
    box_noise="normal",
    box_sigma=0.1,
    box_max_px=20.0,
    focal_alpha=0.75,
    optimiser="adamw",
    learning_rate=8e-4,
    tuning_rate=8e-4,
)

# SAM-Med2D (arXiv 2308.16184): a box moved by up to 5 px, or one point, half and half; then 8 rounds with 1, 3, 5 or 9
# points from the error region and the previous mask; one of them and the last show the mask alone; the embedding is
# detached after the first; focal (alpha .25) and rate 1e-4. No text: presets with a text map still teach that map.
SAM_MED2D = Recipe(
    name="sam-med2d",
    text=0.0,
    text_points=0.0,
    points=0.5,
    box=0.5,
    text_box=0.0,
    mask=0.0,
    absent=0.0,
    first_points=(1,),
    clicks=(1, 3, 5, 9),
    crowding=0,
    rounds=9,
    mask_rounds=True,
    first_round_only=True,
    box_noise="uniform",
    box_sigma=0.0,
    box_max_px=5.0,
    focal_alpha=0.25,
    optimiser="adamw",
    learning_rate=1e-4,
    tuning_rate=1e-4,
)

# Ours: text alone most often, as it is what users type first and what clicks cannot replace. RetinaNet's alpha of .25
# favours the background; from scratch it empties every mask at first, hence .75. A quarter of absent structures,
# so that presence does not learn to say yes to all. Up to ten clicks in three rounds: after one a round, answers got
# worse from the fifth on. Clicks crowd in the middle of large errors, where users put them, and not on thin rims.
# Set by hand, not searched.
FLUORO = Recipe(
    name="fluoro",
    text=0.35,
    text_points=0.15,
    points=0.2,
    box=0.15,
    text_box=0.1,
    mask=0.05,
    absent=0.25,
    first_points=(1, 2),
    clicks=(1, 2, 4),
    crowding=4,
    rounds=3,
    mask_rounds=False,
    first_round_only=False,
    box_noise="normal",
    box_sigma=0.1,
    box_max_px=20.0,
    focal_alpha=0.75,
    optimiser="muon",
    learning_rate=3e-2,
    tuning_rate=6e-3,
)

RECIPES = {recipe.name: recipe for recipe in (FLUOROSAM, SAM_MED2D, FLUORO)}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises UsageError for an unknown one."""
    if name not in RECIPES:
        raise UsageError(f"--recipe {name}: not a recipe", f"choose one of {', '.join(RECIPES)}")
    return RECIPES[name]

"""How an image of any size lies in the square that shards store and the network sees."""

from dataclasses import dataclass
from typing import TypeVar

Points = TypeVar("Points")  # a NumPy array or a tensor


@dataclass(frozen=True)
class Frame:
    """An image of (height, width) scaled so that its longest side is `size`, at the top left, zero padded."""

    height: int
    width: int
    size: int

    @property
    def scale(self) -> float:
        return self.size / max(self.height, self.width)

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns of the square that the image covers."""
        return max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale))

    def to_input(self, points_xy: Points) -> Points:
        """Image pixels (..., 2) -> pixels of the square; pixel centres at integers on both sides."""
        return (points_xy + 0.5) * self.scale - 0.5  # pyright: ignore[reportOperatorIssue]

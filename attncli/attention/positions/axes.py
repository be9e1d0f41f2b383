"""Places on a grid: what the schemes for images and clips share.

Tokens come row by row (frame by frame, and in a frame row by row), behind ``prefix`` tokens that stand
nowhere: class and register tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from attncli.errors import DataError, RecipeError


class Grid:
    """A grid of ``sizes``, (rows, columns) or (frames, rows, columns), with ``prefix`` tokens before it."""

    def __init__(self, name: str, axes: int, sizes: Sequence[int] | None, prefix: int = 0) -> None:
        sizes = tuple(sizes or ())
        if len(sizes) != axes or min(sizes) < 1:
            given = "x".join(map(str, sizes)) or "a sequence"
            raise RecipeError(f"position {name} is of tokens on a grid of {axes} axes, not of {given}")
        self.sizes, self.prefix = sizes, prefix
        self.cells = math.prod(sizes)

    @property
    def tokens(self) -> int:
        """Cells and the tokens before them."""
        return self.cells + self.prefix

    def check(self, end: int) -> None:
        """:class:`DataError` where there are more tokens than ``end`` places."""
        if isinstance(end, int) and end > self.tokens:
            shape = "x".join(map(str, self.sizes))
            raise DataError(f"{end} tokens, but the model's grid of {shape} has {self.tokens} places")

    def coordinates(self, places: Tensor) -> Tensor:
        """Coordinates int64 [..., axes] of places int64 [...]; 0 of the tokens before the grid."""
        cell = (places - self.prefix).clamp(min=0)
        found = []
        for size in reversed(self.sizes[1:]):
            found.append(cell % size)
            cell = cell // size
        return torch.stack([cell, *reversed(found)], -1)

    def inside(self, places: Tensor) -> Tensor:
        """Whether places [...] are on the grid: bool [...]."""
        return places >= self.prefix


def shares(whole: int, axes: int) -> list[int]:
    """``whole`` cut into ``axes`` nearly equal parts, the larger ones first."""
    return [(whole + axes - 1 - axis) // axes for axis in range(axes)]

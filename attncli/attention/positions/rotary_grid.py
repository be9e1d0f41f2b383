"""Rotary positions on a grid: an equal part of a head's channels turns with each axis.

Heo et al. 2024, "Rotary Position Embedding for Vision Transformer", https://arxiv.org/abs/2403.13298, the
axial form; its base of 100 suits grids, which are short. Class and register tokens are not turned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from attncli.attention.positions.axes import Grid, shares
from attncli.attention.positions.rotary import Rotary
from attncli.errors import RecipeError


class Rotary2D(Rotary):
    """Rows and columns; wavelengths from 2 pi to ``base`` times that. No parameters."""

    name = "rotary_2d"
    axes = 2

    def __init__(
        self, head_dim: int, grid: Sequence[int] | None = None, prefix: int = 0, *, base: float = 100.0
    ) -> None:
        super().__init__(head_dim, base=base)
        if head_dim // 2 < self.axes:
            raise RecipeError(
                f"position {self.name} needs two channels of a head for each axis, and there are {head_dim}"
            )
        self.grid = Grid(self.name, self.axes, grid, prefix)

    def angles(self, positions: Tensor) -> Tensor:
        """Angles [..., D / 2] of places [...], float32; 0 before the grid."""
        place = self.grid.coordinates(positions).float()  # [..., axes]
        parts = []
        for axis, count in enumerate(shares(self.head_dim // 2, self.axes)):
            channel = torch.arange(count, device=positions.device, dtype=torch.float32)
            rate = torch.exp(channel * (-math.log(self.base) / count))
            parts.append(place[..., axis : axis + 1] * rate)
        return torch.cat(parts, -1)


class Rotary3D(Rotary2D):
    """Frames, rows and columns; the earlier axes get the channels that are left over. No parameters."""

    name = "rotary_3d"
    axes = 3

"""Learnt positions on a grid, added to the input: a vector for each place along each axis, and their sum.

Dehghani et al. 2023, "Patch n' Pack: NaViT" (factorised positions), https://arxiv.org/abs/2307.06304. Far
fewer weights than one vector a place (``learned``); class and register tokens, which learn their own, get
none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attncli.attention.positions.axes import Grid
from attncli.attention.positions.base import Position


class Learned2D(Position):
    """``weight`` [rows + columns, C]: the rows' vectors, then the columns'."""

    name = "learned_2d"
    absolute = True
    axes = 2

    def __init__(
        self, width: int, grid: Sequence[int] | None = None, prefix: int = 0, *, std: float = 0.02
    ) -> None:
        super().__init__()
        self.grid = Grid(self.name, self.axes, grid, prefix)
        self.weight = nn.Parameter(torch.empty(sum(self.grid.sizes), width))
        self.std = std
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal; the sum over the axes varies as one vector a place would."""
        nn.init.normal_(self.weight, std=self.std / self.axes**0.5)

    def embed(self, x: Tensor, positions: Tensor | None = None, start: int = 0) -> Tensor:
        """``x`` [B, T, C] plus the vector of each place."""
        end = start + x.shape[1]
        self.grid.check(end)
        places = torch.arange(start, end, device=x.device) if positions is None else positions
        at = self.grid.coordinates(places)  # [..., T, axes]
        first, code = 0, 0.0
        for axis, size in enumerate(self.grid.sizes):
            code = code + nn.functional.embedding(at[..., axis] + first, self.weight)
            first += size
        return x + (code * self.grid.inside(places).unsqueeze(-1)).to(x.dtype)


class Learned3D(Learned2D):
    """``weight`` [frames + rows + columns, C]: the frames' vectors, then the rows', then the columns'."""

    name = "learned_3d"
    axes = 3

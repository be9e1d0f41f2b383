"""Sinusoidal positions on a grid, added to the input: an equal part of the channels for each axis.

Chen et al. 2021, "An Empirical Study of Training Self-Supervised Vision Transformers" (MoCo v3),
https://arxiv.org/abs/2104.02057. Nothing is added to class and register tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attncli.attention.positions.axes import Grid, shares
from attncli.attention.positions.base import Position
from attncli.attention.positions.sinusoidal import Sinusoidal


class Sinusoidal2D(Position):
    """Sines and cosines of rows, then of columns. No parameters."""

    name = "sinusoidal_2d"
    absolute = True
    axes = 2

    def __init__(
        self, width: int, grid: Sequence[int] | None = None, prefix: int = 0, *, base: float = 10000.0
    ) -> None:
        super().__init__()
        self.grid = Grid(self.name, self.axes, grid, prefix)
        self.codes_of = [Sinusoidal(part, base=base, halves=True) for part in shares(width, self.axes)]
        self._table: Tensor | None = None

    def embed(self, x: Tensor, positions: Tensor | None = None, start: int = 0) -> Tensor:
        """``x`` [B, T, C] plus the code of each place."""
        end = start + x.shape[1]
        self.grid.check(end)
        if self._table is None or self._table.device != x.device:
            with torch.inference_mode(False):
                self._table = self.codes(torch.arange(self.grid.tokens, device=x.device))
        code = self._table[start:end] if positions is None else self._table[positions]
        return x + code.to(x.dtype)

    def codes(self, places: Tensor) -> Tensor:
        """The code [..., C] of places [...], float32."""
        at = self.grid.coordinates(places)
        code = torch.cat([part.codes(at[..., axis]) for axis, part in enumerate(self.codes_of)], -1)
        return code * self.grid.inside(places).unsqueeze(-1)


class Sinusoidal3D(Sinusoidal2D):
    """Sines and cosines of frames, then of rows, then of columns. No parameters."""

    name = "sinusoidal_3d"
    axes = 3

"""A learnt term of the scores for each head and offset on a grid: so many rows and columns away.

Liu et al. 2021, "Swin Transformer", https://arxiv.org/abs/2103.14030; with class tokens as in Bao et al.
2022, "BEiT", https://arxiv.org/abs/2106.08254, which has terms of its own for pairs that a class token is in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attncli.attention.positions.axes import Grid
from attncli.attention.positions.base import Bias, Position


class Relative2D(Position):
    """``weight`` [(2 rows - 1) (2 columns - 1), H], and three more rows where tokens stand before the grid:
    from such a token, to one, between two of them."""

    name = "relative_2d"
    axes = 2

    def __init__(self, heads: int, grid: Sequence[int] | None = None, prefix: int = 0) -> None:
        super().__init__()
        self.grid = Grid(self.name, self.axes, grid, prefix)
        rows, columns = self.grid.sizes
        self.offsets = (2 * rows - 1) * (2 * columns - 1)
        self.weight = nn.Parameter(torch.empty(self.offsets + (3 if prefix else 0), heads))
        self._index: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small, so that training starts from content."""
        nn.init.trunc_normal_(self.weight, std=0.02)

    def index(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The row of ``weight`` for places of queries [..., r] and keys [..., c]: int64 [..., r, c]."""
        rows, columns = self.grid.sizes
        away = self.grid.coordinates(queries).unsqueeze(-2) - self.grid.coordinates(keys).unsqueeze(-3)
        found = (away[..., 0] + rows - 1) * (2 * columns - 1) + away[..., 1] + columns - 1  # [..., r, c]
        if self.grid.prefix:
            from_prefix = ~self.grid.inside(queries).unsqueeze(-1)
            to_prefix = ~self.grid.inside(keys).unsqueeze(-2)
            found = found.masked_fill(from_prefix, self.offsets).masked_fill(to_prefix, self.offsets + 1)
            found = found.masked_fill(from_prefix & to_prefix, self.offsets + 2)
        return found

    def bias(
        self,
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> Bias:
        """The term, learnt through ``weight``."""
        self.grid.check(keys)
        if q_positions is not None:
            return _Offsets(self.weight, self.index(q_positions, k_positions))
        if self._index is None or self._index.device != device:
            with torch.inference_mode(False):
                places = torch.arange(self.grid.tokens, device=device)
                self._index = self.index(places, places)
        return _Offsets(self.weight, self._index[None, keys - queries : keys, :keys])


class _Offsets(Bias):
    """Rows of a table laid out by an index [B|1, Tq, Tk]."""

    def __init__(self, weight: Tensor, index: Tensor) -> None:
        self.sources, self.table = (weight,), index

    def at(self, rows: slice, cols: slice, *sources: Tensor) -> Tensor:
        """[B|1, H, r, c]."""
        (weight,) = sources
        index = self.table[:, rows, cols]
        return weight.t()[:, index.flatten()].view(-1, *index.shape).transpose(0, 1)

"""Shifted windows: attention inside windows of a grid, whose borders move from layer to layer.

    weights = softmax(q k / sqrt(D) + bias of (row, column) distance)  over the places of one window

The windows of a shifted layer start ``shift`` places further down and right. The grid is rolled, so that
what is left over at its borders fills windows, in which places that are no neighbours do not see each other.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
https://arxiv.org/abs/2103.14030
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.images.base import ImageAttention
from attncli.attention.masks import Mask
from attncli.attention.module import Attention
from attncli.attention.positions.relative_grid import Relative2D
from attncli.attention.table import require
from attncli.errors import RecipeError


class Regions(Mask):
    """Places of one window that are neighbours in the grid; ``regions`` int64 [n, T], below 0 for padding.

    Batch entry ``b`` is window ``b % n``: pictures come one after the other, each with its n windows.
    """

    kind = "regions"

    def __init__(self, regions: Tensor) -> None:
        super().__init__()
        self.regions = regions

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """The key is real and of the query's region."""
        window = batch % self.regions.shape[0]
        mine, other = self.regions[window, q], self.regions[window, k]
        return (mine == other) & (other >= 0)


class ShiftedWindowAttention(ImageAttention):
    """``window`` places on a side; ``shift`` 0, or half of the window in every second layer.

    ``relative`` adds the learnt term of distances (:class:`Relative2D`). The other options are those of
    :class:`Attention`: heads, kv_heads, mechanism, dropout, qk_norm, ... A grid that windows do not cover
    evenly is padded at its end, and nothing attends to padding. Along an axis that one window covers
    nothing is shifted.
    """

    name = "shifted_window"
    takes = "a grid of tokens [B, H, W, C] to the same"
    time = "O(H W window^2 C)"
    use = "large pictures: the cost grows with the picture, and stacked layers widen the view"
    seen = "weights [B windows, heads, window^2, window^2], windows row by row after the shift"

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        window: int = 7,
        shift: int = 0,
        relative: bool = True,
        mechanism: str = "scaled_dot",
        **options: Any,
    ) -> None:
        super().__init__()
        if window < 1 or not 0 <= shift < window:
            raise RecipeError(
                f"shifted_window needs a window of 1 or more and a shift below it, not {window} and {shift}"
            )
        self.window, self.shift = window, shift
        position = Relative2D(heads, (window, window)) if relative else None
        self.attention = Attention(width, heads=heads, mechanism=mechanism, position=position, **options)
        if shift:
            require(self.attention.mechanism, "pairs", "the masks of shifted windows")
        self._kept: dict[tuple[int, int, torch.device], Mask | None] = {}

    def forward(self, x: Tensor, mask: None = None, cache: None = None, positions: None = None) -> Tensor:
        """``x`` [B, H, W, C] to the same. The rest is what a block of layers hands on: it must be None."""
        self.only_grids(mask, cache, positions)
        batch, height, width, _ = x.shape
        w = self.window
        down, right = (self.shift if length > w else 0 for length in (height, width))
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        if down or right:
            x = x.roll((-down, -right), (1, 2))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        x = x.view(batch, rows, w, columns, w, -1).transpose(2, 3)  # [B, rows, columns, w, w, C]
        y = self.attention(x.reshape(-1, w * w, x.shape[-1]), mask=self._mask(height, width, x.device))
        y = y.view(batch, rows, columns, w, w, -1).transpose(2, 3)
        y = y.reshape(batch, rows * w, columns * w, -1)
        if down or right:
            y = y.roll((down, right), (1, 2))
        return y[:, :height, :width]

    def _mask(self, height: int, width: int, device: torch.device) -> Mask | None:
        """The rule of a grid of this size; the same object every time, which keeps its dense form."""
        key = height, width, device
        if key not in self._kept:
            if len(self._kept) > 8:
                self._kept.clear()
            regions = self._regions(height, width)
            whole = bool((regions == regions[:, :1]).all())
            self._kept[key] = None if whole else Regions(regions.to(device))
        return self._kept[key]

    def _regions(self, height: int, width: int) -> Tensor:
        """For each window and place of it the region, int64 [n, window^2]; -1 for padding."""
        axes = []
        for length in (height, width):
            shift = self.shift if length > self.window else 0
            padded = length + -length % self.window
            place = torch.arange(padded) + shift
            axes.append(((place >= padded).long(), place % padded < length))  # rolled over the end; real
        (below, row_real), (beside, column_real) = axes
        regions = below.unsqueeze(1) * 2 + beside
        regions = regions.masked_fill(~(row_real.unsqueeze(1) & column_real), -1)  # [H, W], padded
        w = self.window
        return regions.unflatten(1, (-1, w)).unflatten(0, (-1, w)).transpose(1, 2).reshape(-1, w * w)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"window={self.window}, shift={self.shift}"

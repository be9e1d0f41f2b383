"""Rows of different length without their padding."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class Ragged:
    """Where the kept places of rows stand when padding and empty rows are left out.

    Rows come longest first, and tokens time by time: token 0 of every row, then token 1 of every row that
    has one, and so on, as recurrent layers read them (``torch.nn.utils.rnn.PackedSequence``). Kept places
    may stand anywhere in a row; they keep their order.

    Legend: N rows, T places, R rows with a token, M tokens, L tokens of the longest row.

    Args:
        keep: bool [N, T].

    Attributes:
        rows: int64 [R], the number of each row that has a token, longest first.
        lengths: int64 [R], tokens of each.
        grid: bool [L, R], where there is a token.
        sizes: int64 [L], rows that have a token t, in main memory.
        flat: int64 [M], place of each token in the flattened [N T].
        row: int64 [M], which of the R rows each token is of.
    """

    def __init__(self, keep: Tensor) -> None:
        counts = keep.sum(1)
        lengths, order = counts.sort(descending=True, stable=True)
        filled = int((lengths > 0).sum())
        self.rows, self.lengths = order[:filled], lengths[:filled]
        longest = int(self.lengths[0]) if filled else 0
        time = torch.arange(longest, device=keep.device)
        self.grid = time.unsqueeze(1) < self.lengths  # [L, R]
        self.sizes = self.grid.sum(1).cpu()
        kept_first = torch.sort((~keep).to(torch.uint8), dim=1, stable=True).indices
        places = kept_first[self.rows, :longest]  # [R, L]
        self.flat = (places + (self.rows * keep.shape[1]).unsqueeze(1)).T[self.grid]
        self.row = torch.arange(filled, device=keep.device).expand_as(self.grid)[self.grid]

    @cached_property
    def turned(self) -> Tensor:
        """int64 [M]: the tokens of each row backwards; its own inverse."""
        starts = self.sizes.cumsum(0).to(self.row.device) - self.sizes.to(self.row.device)  # [L]
        time = torch.arange(len(self.sizes), device=self.row.device).unsqueeze(1)
        back = (self.lengths - 1 - time)[self.grid]  # [M]: the time that each token changes places with
        return starts[back] + self.row

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """Tokens [M, ...] as rows [R, L, ...], filled up with ``value``."""
        out = x.new_full((*self.grid.shape, *x.shape[1:]), value)
        out[self.grid] = x
        return out.transpose(0, 1)

    def unpad(self, x: Tensor) -> Tensor:
        """Rows [R, L, ...] as tokens [M, ...]."""
        return x.transpose(0, 1)[self.grid]

    @property
    def keep(self) -> Tensor:
        """bool [R, L]: where :meth:`pad` puts tokens."""
        return self.grid.T

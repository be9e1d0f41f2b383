"""What a position scheme is.

Absolute schemes (``absolute = True``) are added to the input by the embedding layer through ``embed``.
The others act inside attention through two hooks: ``rotate`` on queries and keys before they meet, and
``bias``, a term of the scores. Places are counted along the keys; explicit ``positions`` (packed rows
restart them) replace the count.

Legend: B batch, H heads, Tq queries, Tk keys, D head width; r, c rows and columns of a chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Bias(ABC):
    """A term of the scores, evaluated chunk by chunk. Gradients flow into ``sources``."""

    sources: tuple[Tensor, ...] = ()
    needs_query = False
    """Whether the term depends on the queries (``scores``) or adds to the output (``values``)."""

    @abstractmethod
    def at(self, rows: slice, cols: slice, *sources: Tensor) -> Tensor | float:
        """The term at these queries and keys, [B|1, H|1, r, c], as a function of the sources."""

    def scores(self, q: Tensor, rows: slice, cols: slice) -> Tensor | None:
        """A further term that depends on the scaled queries ``q`` [B, H, r, D]: [B, H, r, c]."""
        return None

    def values(self, weights: Tensor, rows: slice, cols: slice) -> Tensor | None:
        """A term of the output from the weights [B, H, r, c]: [B, H, r, D]."""
        return None


class DenseBias(Bias):
    """A given term, broadcastable to [B, H, Tq, Tk]."""

    def __init__(self, term: Tensor) -> None:
        term = term.reshape((1,) * (4 - term.ndim) + term.shape)
        self.sources = (term,)

    def at(self, rows: slice, cols: slice, *sources: Tensor) -> Tensor:
        """A chunk of the tensor."""
        (term,) = sources
        rows = rows if term.shape[2] > 1 else slice(0, 1)
        return term[:, :, rows, cols if term.shape[3] > 1 else slice(0, 1)]


class DistanceBias(Bias):
    """A term that depends on the distance (key place minus query place) and the head alone.

    ``rule(distance int64 [...], *sources) -> [..., H]``. Without explicit positions the rule is evaluated
    once for each distance, r + c - 1 of them, and laid out along the diagonals.
    """

    def __init__(
        self,
        rule: Callable[..., Tensor],
        sources: tuple[Tensor, ...],
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> None:
        self.rule, self.sources = rule, sources
        self.queries, self.keys, self.device = queries, keys, device
        self.q_positions, self.k_positions = q_positions, k_positions

    def at(self, rows: slice, cols: slice, *sources: Tensor) -> Tensor:
        """[1, H, r, c], or [B, H, r, c] with explicit positions."""
        shift = self.keys - self.queries
        q_places, k_places = self.q_positions, self.k_positions
        if q_places is None and not isinstance(self.keys, int):  # a graph of any length
            q_places = torch.arange(shift, self.keys, device=self.device).unsqueeze(0)
            k_places = torch.arange(self.keys, device=self.device).unsqueeze(0)
        if q_places is not None:
            away = explicit_distance(q_places, k_places, rows, cols)  # [B|1, r, c]
            return self.rule(away, *sources).movedim(-1, 1)
        first, last = cols.start - (rows.stop - 1) - shift, cols.stop - 1 - rows.start - shift
        away = torch.arange(first, last + 1, device=self.device)  # [r + c - 1]
        term = self.rule(away, *sources).t()  # [H, r + c - 1]
        return _Toeplitz.apply(term, rows.stop - rows.start, cols.stop - cols.start).unsqueeze(0)


def explicit_distance(q_positions: Tensor, k_positions: Tensor, rows: slice, cols: slice) -> Tensor:
    """Key place minus query place of a chunk, from positions [B|1, T]: [B|1, r, c]."""
    return k_positions[:, None, cols] - q_positions[:, rows, None]


class _Toeplitz(torch.autograd.Function):
    """[H, r + c - 1] laid along diagonals: ``out[h, i, j] = term[h, j - i + r - 1]``, [H, r, c]."""

    @staticmethod
    def forward(ctx: Any, term: Tensor, r: int, c: int) -> Tensor:
        ctx.sizes = r, c
        return term.unfold(-1, c, 1).flip(1)  # window n starts at n = r - 1 - i

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        r, c = ctx.sizes
        width = r + c - 1
        # Row i, flipped, starts at column i of a [r, width] frame: one column more a row, as flat memory.
        frame = grad.new_zeros(grad.shape[0], r, width + 1)
        frame[:, :, :c] = grad.flip(1)
        skewed = frame.reshape(grad.shape[0], -1)[:, : r * width].view(grad.shape[0], r, width)
        return skewed.sum(1), None, None


class Position(nn.Module):
    """Base of all schemes."""

    name: str = ""
    absolute = False
    turned: int = 0
    """Channels of a head that :meth:`rotate` turns."""

    def embed(self, x: Tensor, positions: Tensor | None = None, start: int = 0) -> Tensor:
        """Absolute schemes: ``x`` [B, T, C] plus the code of ``positions`` ([B, T] or [T]).

        Without positions they are counted from ``start``.
        """
        raise NotImplementedError(f"{self.name} acts inside attention")

    def rotate(self, x: Tensor, positions: Tensor | None, start: int) -> Tensor:
        """Heads [B, T, H, D] at ``positions`` ([B, T] or [T]; None: start, start + 1, ...), turned."""
        return x

    def bias(
        self,
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> Bias | None:
        """The term of the scores; positions [B|1, Tq] and [B|1, Tk] are given together or not at all."""
        return None

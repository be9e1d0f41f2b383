"""What a backend is given, and the signature all of them share.

Legend: B batch, H query heads, K key/value heads (K divides H), Tq queries, Tk keys, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from attncli.attention.masks import Causal, Mask, Places

if TYPE_CHECKING:
    from attncli.attention.mechanisms.base import Mechanism
    from attncli.attention.positions.base import Bias


@dataclass(frozen=True)
class Call:
    """One attention to compute: queries and keys already prepared by the mechanism."""

    q: Tensor  # [B, H, Tq, D]
    k: Tensor  # [B, K, Tk, D]
    v: Tensor  # [B, K, Tk, D']
    mask: Mask | None
    bias: Bias | None
    scale: float
    """Factor on the scores."""
    dropout: float
    """Of the weights; 0 outside training."""
    mechanism: Mechanism
    places: Places = None
    """Where queries and keys stand, as :meth:`Mechanism.restrict` takes it."""

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(B, H, Tq, Tk)."""
        return self.q.shape[0], self.q.shape[1], self.q.shape[2], self.k.shape[2]

    @property
    def shift(self) -> int:
        """Place of the first query among the keys."""
        return self.k.shape[2] - self.q.shape[2]

    @property
    def causal_only(self) -> bool:
        """Whether causality is the whole mask."""
        return isinstance(self.mask, Causal)

    @cached_property
    def with_grad(self) -> bool:
        """Whether a backward pass may follow."""
        if not torch.is_grad_enabled():
            return False
        own = self.q.requires_grad or self.k.requires_grad or self.v.requires_grad
        return own or self.bias_grad or any(p.requires_grad for p in self.mechanism.parameters())

    @property
    def bias_grad(self) -> bool:
        """Whether the bias is learnt."""
        bias = self.bias
        return bias is not None and torch.is_grad_enabled() and any(s.requires_grad for s in bias.sources)

    def away(self, at: slice, cols: slice) -> Tensor:
        """Places from queries ``at`` to keys ``cols``, negative to the left: int64 [r, c], [B|1, 1, r, c]."""
        if self.places is None:
            rows = torch.arange(at.start, at.stop, device=self.q.device) + self.shift
            return torch.arange(cols.start, cols.stop, device=self.q.device) - rows.unsqueeze(-1)
        rows, keys = self.places
        return (keys[:, None, cols] - rows[:, at, None]).unsqueeze(1)

    def keys_seen(self) -> slice:
        """The keys that any query may see, by the mask's own bounds."""
        queries, keys = self.q.shape[2], self.k.shape[2]
        return key_slice(self.mask, 0, queries, keys - queries, keys)


class Backend(Protocol):
    """A module of this package."""

    def refuses(self, call: Call) -> str | None:
        """Why this backend cannot compute ``call``, or None when it can."""
        ...

    def run(self, call: Call) -> Tensor:
        """Heads to heads: [B, H, Tq, D']."""
        ...


def key_slice(mask: Mask | None, first: int, last: int, shift: int, keys: int) -> slice:
    """The keys that queries ``[first, last)`` may see; never empty, so that empty rows stay computable."""
    low, high = (None, None) if mask is None else mask.key_range(first, last, shift)
    start = 0 if low is None else min(max(low, 0), keys - 1)
    stop = keys if high is None else min(max(high, start + 1), keys)
    return slice(start, stop)


def expand_heads(x: Tensor, heads: int) -> Tensor:
    """Key/value heads [B, K, T, D] repeated for their query heads: [B, H, T, D]."""
    batch, kv_heads, length, width = x.shape
    if kv_heads == heads:
        return x
    x = x.unsqueeze(2).expand(batch, kv_heads, heads // kv_heads, length, width)
    return x.reshape(batch, heads, length, width)

"""Rules of sparse mechanisms: which keys a query sees by their distance, block or bucket.

A :class:`Sparse` rule also says which blocks of keys hold everything that a block of queries may see, so that
the ``blocks`` backend touches no others; a :class:`Dilated` one is folded there.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from attncli.attention.masks import All, Dense, Mask, Places


class Placed(Mask):
    """A rule over places; ``places`` says where queries and keys stand, for keys that are not in order."""

    def __init__(self, places: Places = None) -> None:
        super().__init__()
        self.places = places

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """The rule at the places where queries and keys stand."""
        if self.places is None:
            return self.visible(q + shift, k)
        q_places, k_places = self.places
        return self.visible(_at(q_places, batch, q), _at(k_places, batch, k))

    @abstractmethod
    def visible(self, q: Tensor, k: Tensor) -> Tensor:
        """Whether a query at place ``q`` may see a key at place ``k``."""


class Sparse(Placed):
    """A rule whose keys a block of queries finds in few blocks."""

    block: int
    """Places in a block of queries or keys."""
    full_rows: int = 0
    """Queries at the start that may see every key; the others' keys are in :meth:`blocks`."""

    @abstractmethod
    def blocks(self, count: int) -> Tensor:
        """Of ``count`` blocks, those that each block of queries sees into: int64 [count, n], -1 for none."""


def _at(places: Tensor, batch: Tensor, index: Tensor) -> Tensor:
    return places[batch if places.shape[0] > 1 else 0, index]


def _unique(blocks: Tensor, count: int) -> Tensor:
    """Rows of block numbers, with -1 for those outside ``[0, count)`` and for repeated ones."""
    blocks = torch.where((blocks >= 0) & (blocks < count), blocks, -1)
    blocks = blocks.sort(-1).values
    again = torch.zeros_like(blocks, dtype=torch.bool)
    again[:, 1:] = blocks[:, 1:] == blocks[:, :-1]
    blocks = blocks.masked_fill(again, -1)
    width = int((blocks >= 0).sum(-1).max())
    return blocks.sort(-1, descending=True).values[:, :width]


def _band(count: int, side: int) -> Tensor:
    """The blocks at most ``side`` away from each of ``count``: [count, 2 side + 1]."""
    side = min(side, count)
    return torch.arange(count).unsqueeze(1) + torch.arange(-side, side + 1)


class Dilated(Placed):
    """Every ``dilation``-th place, ``window`` of them on each side."""

    def __init__(self, window: int, dilation: int, places: Places = None) -> None:
        super().__init__(places)
        self.window, self.dilation = window, dilation
        self.kind = f"dilated{window}x{dilation}"

    def visible(self, q: Tensor, k: Tensor) -> Tensor:
        """``|k - q| <= window dilation`` and a multiple of ``dilation``."""
        away = (k - q).abs()
        return (away <= self.window * self.dilation) & (away % self.dilation == 0)

    def key_range(self, first: int, last: int, shift: int) -> tuple[int | None, int | None]:
        """The band around the rows."""
        if self.places is not None:
            return None, None
        reach = self.window * self.dilation
        return first + shift - reach, last + shift + reach


class WindowAndGlobal(Sparse):
    """``window`` places on each side; the first ``global_tokens`` places see all and are seen by all."""

    def __init__(self, window: int, global_tokens: int, places: Places = None) -> None:
        super().__init__(places)
        self.window, self.full_rows = window, global_tokens
        self.kind = f"longformer{window}+{global_tokens}"
        self.block = max(16, min(128, window))

    def visible(self, q: Tensor, k: Tensor) -> Tensor:
        """Near, or one of the two is global."""
        return ((k - q).abs() <= self.window) | (k < self.full_rows) | (q < self.full_rows)

    def blocks(self, count: int) -> Tensor:
        """The band's and the global tokens'."""
        band = _band(count, -(-self.window // self.block))
        first = torch.arange(-(-self.full_rows // self.block)).expand(count, -1)
        return _unique(torch.cat([band, first], 1), count)


class BlockAndRandom(Sparse):
    """Neighbouring blocks, the first ``global_blocks`` and ``random_blocks`` drawn for each block of queries.

    The draws of block x are numbers below 2 x + 2, from a hash of x: about half before and half after it,
    whatever the sequence's length; those past its end are none.
    """

    def __init__(self, block: int, global_blocks: int, random_blocks: int, places: Places = None) -> None:
        super().__init__(places)
        self.block, self.global_blocks, self.random_blocks = block, global_blocks, random_blocks
        self.full_rows = block * global_blocks
        self.kind = f"bigbird{block}+{global_blocks}+{random_blocks}"

    def visible(self, q: Tensor, k: Tensor) -> Tensor:
        """By the blocks of the two."""
        a, b = q // self.block, k // self.block
        found = ((a - b).abs() <= 1) | (a < self.global_blocks) | (b < self.global_blocks)
        for number in range(self.random_blocks):
            found = found | (b == drawn(a, number))
        return found

    def blocks(self, count: int) -> Tensor:
        """Those that :meth:`visible` names."""
        own = torch.arange(count).unsqueeze(1)
        random = [drawn(own, number) for number in range(self.random_blocks)]
        first = torch.arange(self.global_blocks).expand(count, -1)
        return _unique(torch.cat([_band(count, 1), first, *random], 1), count)


def drawn(block: Tensor, number: int) -> Tensor:
    """The ``number``-th random block of ``block``, int64, in [0, 2 block + 2)."""
    mixed = (block * 2_654_435_761 + (number + 1) * 2_246_822_519) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 739_982_445) & 0xFFFFFFFF
    mixed = mixed ^ (mixed >> 12)
    return mixed % (2 * block + 2)


class SameBucket(Mask):
    """Keys that share a bucket with the query in any round, and the key at its own place.

    ``queries`` int64 [B, H, R, Tq] and ``keys`` int64 [B, K, R, Tk] number the buckets of R rounds, ``count``
    of them.
    """

    kind = "buckets"

    def __init__(self, queries: Tensor, keys: Tensor, count: int) -> None:
        super().__init__()
        self.queries, self.keys, self.count = queries, keys, count

    def shared(self, number: int, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """Whether round ``number`` puts the two into one bucket."""
        kv_head = head // (self.queries.shape[1] // self.keys.shape[1])
        return self.queries[batch, head, number, q] == self.keys[batch, kv_head, number, k]

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """Some round's buckets agree."""
        found = k == q + shift
        for number in range(self.queries.shape[2]):
            found = found | self.shared(number, batch, head, q, k)
        return found


class ByHalf(Mask):
    """For heads that a mechanism has doubled: ``first`` for the first half, ``second`` for the other.

    Each rule counts its heads from 0; None allows everything.
    """

    def __init__(self, heads: int, first: Mask | None, second: Mask | None) -> None:
        super().__init__()
        self.heads, self.first, self.second = heads, first, second
        self.kind = (
            f"by half({'none' if first is None else first.kind}, {'none' if second is None else second.kind})"
        )

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """The half's rule."""
        number = head % self.heads
        every = torch.ones_like(q + k, dtype=torch.bool)
        parts = [
            every if rule is None else rule.allowed(batch, number, q, k, shift)
            for rule in (self.first, self.second)
        ]
        return torch.where(head < self.heads, *parts)


def doubled(mask: Mask | None, heads: int) -> Mask | None:
    """The mask of ``heads`` heads for twice as many, each half under the same rule."""
    rules = mask.rules if isinstance(mask, All) else (mask,)
    by_head = any(isinstance(rule, Dense) and rule.pattern.shape[1] > 1 for rule in rules)
    return ByHalf(heads, mask, mask) if by_head else mask

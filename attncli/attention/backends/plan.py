"""How the chunked backend cuts a call, and the mask of each cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.backends.base import Call
from attncli.attention.backends.fused import band_of
from attncli.attention.masks import DENSE_LIMIT, only_distance, to_additive

CHUNK_BYTES = 2**20
"""Weights of one chunk, for each thread: what a core's own cache holds."""

VECTOR_BYTES = 64
"""A vector of the widest processors (AVX-512)."""
FILLED_UP = 512
"""Rows of more weights are left as they are: what the rest costs is lost in them."""
FEW_QUERIES = 8
"""For fewer it costs more to fill up the keys than it saves."""


def budget(call: Call) -> int:
    """Weights in a chunk."""
    threads = torch.get_num_threads() if call.q.device.type == "cpu" else 64
    return CHUNK_BYTES * threads // call.q.element_size()


def band_width(call: Call, queries: int, keys: int) -> int:
    """Keys that a single query in the middle can see, by the mask's bounds."""
    if call.mask is None:
        return keys
    low, high = call.mask.key_range(queries // 2, queries // 2 + 1, keys - queries)
    return keys if low is None or high is None else max(1, min(keys, high - low))


def has_rest(call: Call) -> bool:
    """Whether rows of weights end within a vector of the processor, which slows PyTorch's kernels down."""
    keys = call.sizes[3]
    return keys <= FILLED_UP and keys % _lanes(call) != 0


def _lanes(call: Call) -> int:
    """Weights in a vector of the processor; 1 where a rest does no harm: float32, and a few queries."""
    slow = call.q.device.type == "cpu" and call.q.element_size() == 2 and call.sizes[2] >= FEW_QUERIES
    return VECTOR_BYTES // 2 if slow else 1


@dataclass
class Plan:
    """How a call is cut: rows, and (batch, heads) groups of equal treatment."""

    rows: list[slice]
    groups: list[tuple[slice, slice]]
    largest: int  # weights in the largest chunk
    lanes: int  # weights in a vector of the processor
    least: int  # rest of a row from which it is filled up

    def width(self, count: int) -> int:
        """The width of a row of ``count`` weights: filled up to whole vectors where that pays.

        It pays where there is no whole vector, or a long rest; with dropout and a backward pass a longer one.
        """
        rest = count % self.lanes
        if not rest or count > FILLED_UP or (count > self.lanes and rest < self.least):
            return count
        return count + self.lanes - rest

    @staticmethod
    def of(call: Call) -> Plan:
        """Whole heads where they fit, else rows of few heads; narrow rows under a band or causality."""
        batch, heads, queries, keys = call.sizes
        limit, band = budget(call), band_width(call, queries, keys)
        if band * 2 < keys:
            r = min(queries, max(32, band // 8))
            width = min(keys, r + band)
        else:
            r, width = queries, keys
            if call.causal_only and queries >= 256:
                r = queries // 4  # most of what causality rules out is then never computed
        lanes = _lanes(call)
        plan = Plan([], [], 0, lanes, lanes * 5 // 8 if call.with_grad else lanes // 4)
        width = plan.width(width)
        if r * width > limit:  # not even one head of all rows
            threads = torch.get_num_threads()
            r = max(16, limit // (min(heads, threads) * width))
        r = min(r, queries)
        together = max(1, limit // (r * width))  # heads in a chunk
        if together >= heads:
            step = together // heads
            groups = [(slice(b, min(batch, b + step)), slice(0, heads)) for b in range(0, batch, step)]
        else:
            groups = [
                (slice(b, b + 1), slice(h, min(heads, h + together)))
                for b in range(batch)
                for h in range(0, heads, together)
            ]
            step = 1
        plan.rows = [slice(i, min(queries, i + r)) for i in range(0, queries, r)]
        plan.groups, plan.largest = groups, min(together, heads) * min(step, batch) * r * width
        return plan


class Masking:
    """The additive mask of each chunk of rows: sliced from the kept dense form, or evaluated afresh."""

    def __init__(self, call: Call) -> None:
        self.call = call
        batch, heads, queries, keys = call.sizes
        self.whole: tuple[Tensor, Tensor | None] | None = None
        self.triangle: Tensor | None = None
        device, dtype = call.q.device, call.q.dtype
        self.banded = only_distance(call.mask) and band_of(call.mask, queries, keys) is not None
        self.terms: dict[tuple[int, int, int], tuple[Tensor, Tensor | None]] = {}
        if call.mask is None or call.causal_only or self.banded:
            return
        if call.mask.dense_size(batch, heads, queries, keys, device) <= DENSE_LIMIT:
            self.whole = call.mask.additive(batch, heads, queries, keys, device, dtype)

    def rows(self, at: slice, cols: slice, width: int) -> tuple[Tensor | None, Tensor | None, int]:
        """``(term, empty, first)``: the term stands over the columns of the chunk from ``first`` on, up to
        ``width``, and rules out those behind ``cols``.
        """
        term, empty, first = self._rows(at, cols)
        more = width - (cols.stop - cols.start)
        if term is None or not more:
            return term, empty, first
        term = term.expand(*term.shape[:3], width - more - first)  # one column may stand for all
        return F.pad(term, (0, more), value=-torch.inf), empty, first

    def _rows(self, at: slice, cols: slice) -> tuple[Tensor | None, Tensor | None, int]:
        call = self.call
        if call.mask is None:
            return None, None, 0
        count = at.stop - at.start
        if call.causal_only and call.shift >= 0:  # only the last columns are ever ruled out
            if self.triangle is None:
                full = torch.full((count, count), -torch.inf, dtype=call.q.dtype, device=call.q.device)
                self.triangle = full.triu_(1)[None, None]
            return self.triangle[:, :, :count, :count], None, cols.stop - cols.start - count
        if self.banded:  # the same for all chunks that lie alike to their keys
            lie = count, cols.stop - cols.start, at.start + call.shift - cols.start
            if lie not in self.terms:
                one, device = slice(0, 1), call.q.device
                found = call.mask.evaluate(one, one, slice(0, lie[0]), slice(0, lie[1]), lie[2], device)
                self.terms[lie] = to_additive(found, call.q.dtype)
            return *self.terms[lie], 0
        if self.whole is not None:
            term, empty = self.whole
            return cut(term, at, cols), None if empty is None else cut(empty, at, cols), 0
        batch, heads, *_ = call.sizes
        found = call.mask.evaluate(slice(0, batch), slice(0, heads), at, cols, call.shift, call.q.device)
        return *to_additive(found, call.q.dtype), 0


def cut(x: Tensor, at: slice, cols: slice) -> Tensor:
    """Rows and columns of a tensor [., ., Tq|1, Tk|1]."""
    return x[:, :, at if x.shape[2] > 1 else slice(0, 1), cols if x.shape[3] > 1 else slice(0, 1)]


def group_of(x: Tensor, group: tuple[slice, slice]) -> Tensor:
    """Batch entries and heads of a tensor [B|1, H|1, ., .]."""
    b, h = group
    return x[b if x.shape[0] > 1 else slice(0, 1), h if x.shape[1] > 1 else slice(0, 1)]

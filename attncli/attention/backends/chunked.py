"""The plain formula over chunks of heads and queries that fit the processor's cache.

Memory is linear in the length, forward and backward: the backward pass computes each chunk's weights
again. Where all weights together are few (short sequences), they are kept instead, which is faster.
Keys that the mask rules out for a whole chunk are never touched, so a window of w costs O(T w).

Matrix products run in the type of the inputs; softmax adds up in float32 and rounds its result to that
type, as PyTorch's own formula does. Attention dropout draws cheap byte masks, again from a seed in backward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from attncli.attention.backends import reference
from attncli.attention.backends.base import Call, expand_heads, key_slice
from attncli.attention.masks import DENSE_LIMIT, to_additive
from attncli.ops.dropout import keep_mask

CHUNK_BYTES = 2**20
"""Weights of one chunk, for each thread: what a core's own cache holds."""
KEPT_ELEMENTS, KEPT_KEYS = 2**24, 1024
"""Weights are kept for the backward pass up to so many, for at most so many keys."""


def refuses(call: Call) -> str | None:
    """Nothing: any scores and weights can be computed in chunks."""
    return None


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    if not call.mechanism.fusable or (call.bias is not None and call.bias.needs_query):
        return _checkpointed(call)
    heads = call.q.shape[1]
    k, v = expand_heads(call.k, heads), expand_heads(call.v, heads)
    plan = _Plan.of(call)
    if len(plan.rows) > 1:
        k, v = k.contiguous(), v.contiguous()
    call = dataclasses.replace(call, k=k, v=v)
    sources = () if call.bias is None else call.bias.sources
    return _Chunked.apply(call, plan, call.with_grad, call.q, k, v, *sources)


def _checkpointed(call: Call) -> Tensor:
    """Any mechanism and term of the scores: the formula for some rows at a time, again in backward."""
    batch, heads, queries, keys = call.sizes
    row = batch * heads * min(keys, band_width(call, queries, keys)) * call.mechanism.score_width
    count = max(1, _budget(call) * 4 // row)

    def part(q: Tensor, k: Tensor, v: Tensor, at: slice, cols: slice) -> Tensor:
        return reference.rows(call, q, k, v, at, cols)

    outs = []
    for first in range(0, queries, count):
        at = slice(first, min(queries, first + count))
        cols = key_slice(call.mask, at.start, at.stop, call.shift, keys)
        given = call.q[:, :, at], call.k[:, :, cols], call.v[:, :, cols], at, cols
        if call.with_grad:
            outs.append(checkpoint(part, *given, use_reentrant=False, preserve_rng_state=call.dropout > 0))
        else:
            outs.append(part(*given))
    return outs[0] if len(outs) == 1 else torch.cat(outs, 2)


def _budget(call: Call) -> int:
    threads = torch.get_num_threads() if call.q.device.type == "cpu" else 64
    return CHUNK_BYTES * threads // call.q.element_size()


def band_width(call: Call, queries: int, keys: int) -> int:
    """Keys that a single query in the middle can see, by the mask's bounds."""
    if call.mask is None:
        return keys
    low, high = call.mask.key_range(queries // 2, queries // 2 + 1, keys - queries)
    return keys if low is None or high is None else max(1, min(keys, high - low))


@dataclass
class _Plan:
    """How a call is cut: rows, and (batch, heads) groups of equal treatment."""

    rows: list[slice]
    groups: list[tuple[slice, slice]]
    largest: int  # weights in the largest chunk

    @staticmethod
    def of(call: Call) -> _Plan:
        batch, heads, queries, keys = call.sizes
        budget, band = _budget(call), band_width(call, queries, keys)
        if band * 2 < keys:
            r = min(queries, max(32, band // 2))
            width = min(keys, r + band)
        else:
            r, width = queries, keys
            if call.causal_only and queries >= 256:
                r = queries // 4  # most of what causality rules out is then never computed
        if r * width > budget:  # not even one head of all rows
            threads = torch.get_num_threads()
            r = max(16, budget // (min(heads, threads) * width))
        r = min(r, queries)
        together = max(1, budget // (r * width))  # heads in a chunk
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
        rows = [slice(i, min(queries, i + r)) for i in range(0, queries, r)]
        return _Plan(rows, groups, min(together, heads) * min(step, batch) * r * width)


class _Masking:
    """The additive mask of each chunk of rows: sliced from the kept dense form, or evaluated afresh."""

    def __init__(self, call: Call) -> None:
        self.call = call
        batch, heads, queries, keys = call.sizes
        self.whole: tuple[Tensor, Tensor | None] | None = None
        self.triangle: Tensor | None = None
        device, dtype = call.q.device, call.q.dtype
        if call.mask is None or call.causal_only:
            return
        if call.mask.dense_size(batch, heads, queries, keys, device) <= DENSE_LIMIT:
            self.whole = call.mask.additive(batch, heads, queries, keys, device, dtype)

    def rows(self, at: slice, cols: slice) -> tuple[Tensor | None, Tensor | None, int]:
        """``(term, empty, first)``: the term stands over the columns of the chunk from ``first`` on."""
        call = self.call
        if call.mask is None:
            return None, None, 0
        count = at.stop - at.start
        if call.causal_only and call.shift >= 0:  # only the last columns are ever ruled out
            if self.triangle is None:
                full = torch.full((count, count), -torch.inf, dtype=call.q.dtype, device=call.q.device)
                self.triangle = full.triu_(1)[None, None]
            return self.triangle[:, :, :count, :count], None, cols.stop - cols.start - count
        if self.whole is not None:
            term, empty = self.whole
            return _cut(term, at, cols), None if empty is None else _cut(empty, at, cols), 0
        batch, heads, *_ = call.sizes
        found = call.mask.evaluate(slice(0, batch), slice(0, heads), at, cols, call.shift, call.q.device)
        return *to_additive(found, call.q.dtype), 0


def _cut(x: Tensor, at: slice, cols: slice) -> Tensor:
    """Rows and columns of a tensor [., ., Tq|1, Tk|1]."""
    return x[:, :, at if x.shape[2] > 1 else slice(0, 1), cols if x.shape[3] > 1 else slice(0, 1)]


def _group(x: Tensor, group: tuple[slice, slice]) -> Tensor:
    """Batch entries and heads of a tensor [B|1, H|1, ., .]."""
    b, h = group
    return x[b if x.shape[0] > 1 else slice(0, 1), h if x.shape[1] > 1 else slice(0, 1)]


class _Chunked(torch.autograd.Function):
    """Softmax of products. Takes as many key heads as query heads."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, plan: _Plan, with_grad: bool, q: Tensor, k: Tensor, v: Tensor, *sources: Tensor
    ) -> Tensor:
        batch, heads, queries, keys = call.sizes
        # Few enough and short enough: a constant bound, so that memory stays linear in the length.
        total = batch * heads * queries * keys
        keep = with_grad and keys <= KEPT_KEYS and total <= KEPT_ELEMENTS
        seed = int(torch.randint(0, 2**62, ())) if call.dropout > 0 else 0
        out = q.new_empty(batch, queries, heads, v.shape[-1]).transpose(1, 2)  # joins heads without a copy
        kept: list[Tensor] = []
        work = _Work(call, plan, q, k, v, sources, seed, None if keep else plan.largest)
        for chunk in work:
            weight, drop = work.weights(chunk)
            if keep:
                kept += [weight] if drop is None else [weight, drop]
            used = weight if drop is None else work.dropped(weight, drop, in_place=not keep)
            part = torch.bmm(used, chunk.v)
            part = part.view(*chunk.shape[:3], v.shape[-1])
            if chunk.empty is not None:
                part.masked_fill_(chunk.empty, 0)
            _group(out, chunk.group)[:, :, chunk.rows] = part
        if with_grad:
            ctx.save_for_backward(q, k, v, *sources, *kept)
            ctx.settings = call, plan, seed, keep, len(sources)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            return _Chunked._backward(ctx, grad)

    @staticmethod
    def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        call, plan, seed, keep, count = ctx.settings
        q, k, v, *rest = ctx.saved_tensors
        sources, kept = tuple(rest[:count]), iter(rest[count:])
        batch, heads, queries, keys = call.sizes
        once = len(plan.rows) == 1 and key_slice(call.mask, 0, queries, call.shift, keys) == slice(0, keys)
        dq = q.new_empty(batch, queries, heads, q.shape[-1]).transpose(1, 2)
        if once:  # each key is met once: write, in the layout of the projection
            dk = k.new_empty(batch, keys, heads, k.shape[-1]).transpose(1, 2)
            dv = v.new_empty(batch, keys, heads, v.shape[-1]).transpose(1, 2)
        else:  # add up, in float32 whatever the type
            wide = torch.promote_types(k.dtype, torch.float32)
            dk, dv = k.new_zeros(k.shape, dtype=wide), v.new_zeros(v.shape, dtype=wide)
        work = _Work(call, plan, q, k, v, sources, seed, None if keep else plan.largest, backward=True)
        second = q.new_empty(plan.largest)
        for chunk in work:
            if keep:
                weight, drop = next(kept), next(kept) if call.dropout > 0 else None
            else:
                weight, drop = work.weights(chunk)
            g = _group(grad, chunk.group)[:, :, chunk.rows]
            if chunk.empty is not None:
                g = g.masked_fill(chunk.empty, 0)
            g = g.reshape(weight.shape[0], weight.shape[1], -1)
            used = weight if drop is None else work.dropped(weight, drop)
            part_v = torch.bmm(used.transpose(1, 2), g)
            ds = torch.bmm(g, chunk.v.transpose(1, 2), out=second[: weight.numel()].view(weight.shape))
            if drop is not None:
                ds = work.dropped(ds, drop, in_place=True)
            torch.ops.aten._softmax_backward_data.out(ds, weight, -1, weight.dtype, grad_input=ds)
            work.bias_grad(chunk, ds)
            part_q = torch.bmm(ds, chunk.k).mul_(call.scale)
            part_k = torch.bmm(ds.transpose(1, 2), chunk.q)
            _group(dq, chunk.group)[:, :, chunk.rows] = part_q.view(*chunk.shape[:3], -1)
            for whole, part in ((dk, part_k), (dv, part_v)):
                place = _group(whole, chunk.group)[:, :, chunk.cols]
                place.copy_(part.view(place.shape)) if once else place.add_(part.view(place.shape))
        return None, None, None, dq, dk.to(k.dtype), dv.to(v.dtype), *work.finish()


@dataclass
class _Chunk:
    number: int
    rows: slice
    cols: slice
    group: tuple[slice, slice]
    shape: tuple[int, int, int, int]  # batch, heads, r, c
    q: Tensor  # [batch * heads, r, D], scaled
    k: Tensor  # [batch * heads, c, D]
    v: Tensor  # [batch * heads, c, D']
    term: Tensor | None
    empty: Tensor | None
    first: int  # column where the mask's term starts
    bias: Tensor | None


class _Work:
    """The chunks of a call, one after the other, with what each needs at hand."""

    def __init__(
        self, call: Call, plan: _Plan, q: Tensor, k: Tensor, v: Tensor, sources: tuple[Tensor, ...],
        seed: int, shared: int | None, backward: bool = False,
    ) -> None:  # fmt: skip
        self.call, self.plan, self.seed = call, plan, seed
        self.q, self.k, self.v = q, k, v
        self.masking = _Masking(call)
        self.buffer = None if shared is None else q.new_empty(shared)
        self.learns = backward and any(s.requires_grad for s in sources)
        self.leaves = [s.detach().requires_grad_(self.learns) for s in sources]
        self.grads: list[Tensor] | None = [torch.zeros_like(s) for s in sources] if self.learns else None
        self.term: Tensor | None = None  # the bias of the current rows, with its graph
        self.term_grad: Tensor | None = None

    def __iter__(self) -> Iterator[_Chunk]:
        call, number = self.call, 0
        keys = call.sizes[3]
        for at in self.plan.rows:
            cols = key_slice(call.mask, at.start, at.stop, call.shift, keys)
            term, empty, first = self.masking.rows(at, cols)
            bias = self._bias_rows(at, cols)
            for group in self.plan.groups:
                q = _group(self.q, group)[:, :, at]
                k, v = (_group(x, group)[:, :, cols] for x in (self.k, self.v))
                b, h, r, c = *q.shape[:3], k.shape[2]
                scaled = torch.mul(q, call.scale, out=q.new_empty(q.shape))
                yield _Chunk(
                    number, at, cols, group, (b, h, r, c),
                    scaled.view(b * h, r, -1), k.reshape(b * h, c, -1), v.reshape(b * h, c, -1),
                    None if term is None else _group(term, group),
                    None if empty is None else _group(empty, group),
                    first,
                    None if bias is None else _group(bias, group),
                )  # fmt: skip
                number += 1

    def _bias_rows(self, at: slice, cols: slice) -> Tensor | None:
        if self.call.bias is None:
            return None
        self._close_rows()
        with torch.set_grad_enabled(self.learns):
            self.term = self.call.bias.at(at, cols, *self.leaves)
        return self.term.detach().to(self.q.dtype)

    def weights(self, chunk: _Chunk) -> tuple[Tensor, Tensor | None]:
        """Softmax of the chunk's scores [batch * heads, r, c], and which of them dropout keeps."""
        b, h, r, c = chunk.shape
        size = b * h * r * c
        flat = self.q.new_empty(size) if self.buffer is None else self.buffer[:size]
        score = torch.bmm(chunk.q, chunk.k.transpose(1, 2), out=flat.view(b * h, r, c))
        if chunk.bias is not None:
            score.view(chunk.shape).add_(chunk.bias)
        if chunk.term is not None:
            score.view(chunk.shape)[..., chunk.first :].add_(chunk.term)
        torch.softmax(score, -1, out=score)
        return score, self._drop(chunk.number, score) if self.call.dropout > 0 else None

    def _drop(self, number: int, like: Tensor) -> Tensor:
        if like.device.type == "cpu":
            return torch.from_numpy(keep_mask(like.numel(), self.call.dropout, [self.seed, number])).view(
                like.shape
            )
        generator = torch.Generator(like.device).manual_seed(self.seed + number)
        kept = torch.empty(like.shape, dtype=torch.bool, device=like.device)
        return kept.bernoulli_(1 - self.call.dropout, generator=generator)

    def dropped(self, x: Tensor, keep: Tensor, in_place: bool = False) -> Tensor:
        """``x * keep / (1 - p)``."""
        factor = keep.to(x.dtype).mul_(1 / (1 - self.call.dropout))
        return x.mul_(factor) if in_place else factor.mul_(x)

    def bias_grad(self, chunk: _Chunk, ds: Tensor) -> None:
        """Add the gradient of the scores to that of the bias of the current rows."""
        if not self.learns:
            return
        if self.term_grad is None:
            self.term_grad = torch.zeros_like(self.term)
        place = _group(self.term_grad, chunk.group)
        place.add_(ds.view(chunk.shape).sum_to_size(place.shape))

    def _close_rows(self) -> None:
        if self.term_grad is None:
            return
        found = torch.autograd.grad(self.term, self.leaves, self.term_grad)
        for total, part in zip(self.grads, found, strict=True):
            total += part
        self.term_grad = None

    def finish(self) -> list[Tensor | None]:
        """Gradients of the bias sources."""
        self._close_rows()
        return [None] * len(self.leaves) if self.grads is None else list(self.grads)

"""The plain formula over chunks of heads and queries that fit the processor's cache.

Memory is linear in the length, forward and backward: the backward pass computes each chunk's weights
again. Where all weights together are few (short sequences), they are kept instead, which is faster.
Keys that the mask rules out for a whole chunk are never touched, so a window of w costs O(T w).

Matrix products run in the type of the inputs; softmax adds up in float32 and rounds its result to that
type, as PyTorch's own formula does. Attention dropout draws cheap byte masks, again from a seed in backward.

Where it pays, rows of weights are filled up to whole vectors of the processor with keys that nothing sees:
on rows with a rest PyTorch's softmax and its kind are up to ten times slower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from attncli.attention.backends.base import Call, expand_heads, key_slice
from attncli.attention.backends.plan import Masking, Plan, group_of
from attncli.attention.backends.recomputed import by_formula
from attncli.ops.dropout import keep_bits, masked

KEPT_ELEMENTS, KEPT_KEYS = 2**24, 1024
"""Weights are kept for the backward pass up to so many, for at most so many keys."""


def refuses(call: Call) -> str | None:
    """Nothing: any scores and weights can be computed in chunks."""
    return None


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    if not call.mechanism.fusable or (call.bias is not None and call.bias.needs_query):
        return by_formula(call)
    heads = call.q.shape[1]
    k, v = expand_heads(call.k, heads), expand_heads(call.v, heads)
    plan = Plan.of(call)
    if len(plan.rows) > 1:
        k, v = k.contiguous(), v.contiguous()
    call = dataclasses.replace(call, k=k, v=v)
    sources = () if call.bias is None else call.bias.sources
    return _Chunked.apply(call, plan, call.with_grad, call.q, k, v, *sources)


class _Chunked(torch.autograd.Function):
    """Softmax of products. Takes as many key heads as query heads."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, plan: Plan, with_grad: bool, q: Tensor, k: Tensor, v: Tensor, *sources: Tensor
    ) -> Tensor:
        batch, heads, queries, keys = call.sizes
        # Few enough and short enough: a constant bound, so that memory stays linear in the length.
        total = batch * heads * queries * keys
        keep = with_grad and keys <= KEPT_KEYS and total <= KEPT_ELEMENTS
        seed = int(torch.randint(0, 2**62, ())) if call.dropout > 0 else 0
        out = q.new_empty(batch, queries, heads, v.shape[-1]).transpose(1, 2)  # joins heads without a copy
        kept: list[Tensor] = []
        work = _Work(call, plan, (q, k, v), sources, seed, None if keep else plan.largest)
        for chunk in work:
            weight, drop = work.weights(chunk)
            if keep:
                kept += [chunk.q, chunk.k, chunk.v, weight] + ([] if drop is None else [drop])
            part = torch.bmm(weight if drop is None else masked(weight, drop), chunk.v)
            part = part.view(*chunk.shape[:3], v.shape[-1])
            if drop is not None:
                part.mul_(work.rescale)
            if chunk.empty is not None:
                part.masked_fill_(chunk.empty, 0)
            group_of(out, chunk.group)[:, :, chunk.rows] = part
        if with_grad:
            # The call goes along for its sizes; its tensors are held once, by the saved ones alone.
            bare = {name: q.new_empty(()).expand(x.shape) for name, x in (("q", q), ("k", k), ("v", v))}
            ctx.save_for_backward(*sources, *(kept or (q, k, v)))
            ctx.settings = dataclasses.replace(call, **bare), plan, seed, keep, len(sources)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            return _Chunked._backward(ctx, grad)

    @staticmethod
    def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        call, plan, seed, keep, count = ctx.settings
        tensors = ctx.saved_tensors  # asked for once: gradient checkpointing allows no more
        sources, saved = tensors[:count], tensors[count:]
        kept = iter(saved) if keep else None
        q, k, v = (call.q, call.k, call.v) if keep else saved
        batch, heads, queries, keys = call.sizes
        once = len(plan.rows) == 1 and key_slice(call.mask, 0, queries, call.shift, keys) == slice(0, keys)
        dq = q.new_empty(batch, queries, heads, q.shape[-1]).transpose(1, 2)
        if once:  # each key is met once: write, in the layout of the projection
            dk = k.new_empty(batch, keys, heads, k.shape[-1]).transpose(1, 2)
            dv = v.new_empty(batch, keys, heads, v.shape[-1]).transpose(1, 2)
        else:  # add up, in float32 whatever the type
            wide = torch.promote_types(k.dtype, torch.float32)
            dk, dv = k.new_zeros(k.shape, dtype=wide), v.new_zeros(v.shape, dtype=wide)
        shared = None if keep else plan.largest
        work = _Work(call, plan, (q, k, v), sources, seed, shared, backward=True, kept=kept)
        second = q.new_empty(plan.largest)
        for chunk in work:
            if kept is not None:
                weight, drop = next(kept), next(kept) if call.dropout > 0 else None
            else:
                weight, drop = work.weights(chunk)
            g = group_of(grad, chunk.group)[:, :, chunk.rows]
            if chunk.empty is not None:
                g = g.masked_fill(chunk.empty, 0)
            g = g.reshape(weight.shape[0], weight.shape[1], -1)
            if drop is not None:
                g = g * work.rescale
            used = weight if drop is None else masked(weight, drop)
            part_v = torch.bmm(used.transpose(1, 2), g)
            ds = torch.bmm(g, chunk.v.transpose(1, 2), out=second[: weight.numel()].view(weight.shape))
            if drop is not None:
                ds = masked(ds, drop)
            torch.ops.aten._softmax_backward_data.out(ds, weight, -1, weight.dtype, grad_input=ds)
            work.bias_grad(chunk, ds)
            part_q = torch.bmm(ds, chunk.k).mul_(call.scale)
            part_k = torch.bmm(ds.transpose(1, 2), chunk.q)
            group_of(dq, chunk.group)[:, :, chunk.rows] = part_q.view(*chunk.shape[:3], -1)
            for whole, part in ((dk, part_k), (dv, part_v)):
                place = group_of(whole, chunk.group)[:, :, chunk.cols]
                part = part.unflatten(0, place.shape[:2])[:, :, : place.shape[2]]
                place.copy_(part) if once else place.add_(part)
        return None, None, None, dq, dk.to(k.dtype), dv.to(v.dtype), *work.finish()


@dataclass
class _Chunk:
    number: int
    rows: slice
    cols: slice
    group: tuple[slice, slice]
    shape: tuple[int, int, int, int]  # batch, heads, r, w: c columns filled up
    q: Tensor  # [batch * heads, r, D], scaled
    k: Tensor  # [batch * heads, w, D]
    v: Tensor  # [batch * heads, w, D']
    term: Tensor | None
    empty: Tensor | None
    first: int  # column where the mask's term starts
    bias: Tensor | None


class _Work:
    """The chunks of a call, one after the other, with what each needs at hand."""

    def __init__(
        self, call: Call, plan: Plan, qkv: tuple[Tensor, Tensor, Tensor], sources: tuple[Tensor, ...],
        seed: int, shared: int | None, backward: bool = False, kept: Iterator[Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.call, self.plan, self.seed = call, plan, seed
        self.q, self.k, self.v = qkv
        self.kept = kept  # what the forward pass left of each chunk, in its order
        self.masking = Masking(call)
        self.buffer = None if shared is None else self.q.new_empty(shared)
        self.rescale = 1 / (1 - call.dropout)
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
            term, empty, first = self.masking.rows(at, cols, self.plan.width(cols.stop - cols.start))
            bias = self._bias_rows(at, cols)
            for group in self.plan.groups:
                size = *self._size(group), at.stop - at.start, self.plan.width(cols.stop - cols.start)
                yield _Chunk(
                    number, at, cols, group, size, *self._packed(at, cols, group),
                    None if term is None else group_of(term, group),
                    None if empty is None else group_of(empty, group),
                    first,
                    None if bias is None else group_of(bias, group),
                )  # fmt: skip
                number += 1

    @staticmethod
    def _size(group: tuple[slice, slice]) -> tuple[int, int]:
        return group[0].stop - group[0].start, group[1].stop - group[1].start

    def _packed(self, at: slice, cols: slice, group: tuple[slice, slice]) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled queries, keys and values of a chunk, heads in one dimension."""
        if self.kept is not None:
            return next(self.kept), next(self.kept), next(self.kept)
        q = group_of(self.q, group)[:, :, at]
        k, v = (group_of(x, group)[:, :, cols] for x in (self.k, self.v))
        scaled = torch.mul(q, self.call.scale, out=q.new_empty(q.shape))
        count = cols.stop - cols.start
        more = self.plan.width(count) - count
        k, v = (F.pad(x, (0, 0, 0, more)) if more else x for x in (k, v))
        return scaled.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)

    def _bias_rows(self, at: slice, cols: slice) -> Tensor | None:
        if self.call.bias is None or (self.kept is not None and not self.learns):
            return None
        self._close_rows()
        with torch.set_grad_enabled(self.learns):
            self.term = self.call.bias.at(at, cols, *self.leaves)
        return self.term.detach().to(self.q.dtype)

    def weights(self, chunk: _Chunk) -> tuple[Tensor, Tensor | None]:
        """Softmax of the chunk's scores [batch * heads, r, w], and the bits of those that dropout keeps."""
        b, h, r, w = chunk.shape
        size, count = b * h * r * w, chunk.cols.stop - chunk.cols.start
        flat = self.q.new_empty(size) if self.buffer is None else self.buffer[:size]
        score = torch.bmm(chunk.q, chunk.k.transpose(1, 2), out=flat.view(b * h, r, w))
        whole = score.view(chunk.shape)
        if chunk.bias is not None:
            whole[..., :count].add_(chunk.bias)
        if chunk.term is not None:
            whole[..., chunk.first :].add_(chunk.term)
        elif w > count:
            whole[..., count:] = -torch.inf
        torch.softmax(score, -1, out=score)
        return score, self._drop(chunk.number, score) if self.call.dropout > 0 else None

    def _drop(self, number: int, like: Tensor) -> Tensor:
        if like.device.type == "cpu":
            return keep_bits(like.shape, self.call.dropout, [self.seed, number])
        generator = torch.Generator(like.device).manual_seed(self.seed + number)
        kept = torch.empty(like.shape, dtype=torch.int8, device=like.device)
        return kept.bernoulli_(1 - self.call.dropout, generator=generator).neg_()

    def bias_grad(self, chunk: _Chunk, ds: Tensor) -> None:
        """Add the gradient of the scores to that of the bias of the current rows."""
        if not self.learns:
            return
        if self.term_grad is None:
            self.term_grad = torch.zeros_like(self.term)
        place = group_of(self.term_grad, chunk.group)
        count = chunk.cols.stop - chunk.cols.start
        place.add_(ds.view(chunk.shape)[..., :count].sum_to_size(place.shape))

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

"""The reference formula for some rows at a time, computed again in backward: any mechanism, linear memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attncli.attention.backends import reference
from attncli.attention.backends.base import Call, key_slice
from attncli.attention.backends.plan import band_width, budget


def by_formula(call: Call) -> Tensor:
    """Any mechanism and term of the scores: the reference formula for some rows at a time."""
    batch, heads, queries, keys = call.sizes
    row = batch * heads * min(keys, band_width(call, queries, keys)) * call.mechanism.score_width
    count = max(1, budget(call) * 2 // row)
    cuts = []
    for first in range(0, queries, count):
        at = slice(first, min(queries, first + count))
        cuts.append((at, key_slice(call.mask, at.start, at.stop, call.shift, keys)))
    others = (*call.mechanism.parameters(), *(() if call.bias is None else call.bias.sources))
    return _Formula.apply(call, cuts, call.q, call.k, call.v, *others)


class _Formula(torch.autograd.Function):
    """The reference formula in cuts (rows, columns), computed again in backward.

    ``others`` are the further tensors that the formula reads by itself: parameters, bias sources.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        cuts: list[tuple[slice, slice]],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *others: Tensor,
    ) -> Tensor:
        batch, heads, queries, _ = call.sizes
        ctx.settings = call, cuts, others
        ctx.draws = _draws(q.device) if call.dropout > 0 else None
        out = v.new_empty(batch, queries, heads, v.shape[-1]).transpose(1, 2)
        for at, cols in cuts:
            out[:, :, at] = reference.rows(call, q[:, :, at], k[:, :, cols], v[:, :, cols], at, cols)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        call, cuts, others = ctx.settings
        learnt = [x for x in others if x.requires_grad]
        dq, dk, dv = torch.zeros_like(call.q), torch.zeros_like(call.k), torch.zeros_like(call.v)
        totals = [torch.zeros_like(x) for x in learnt]
        kind = grad.device.type
        devices = [grad.device] if kind == "cuda" else []
        with torch.autocast(kind, enabled=False), torch.random.fork_rng(devices), torch.enable_grad():
            if ctx.draws is not None:
                _redraw(ctx.draws, grad.device)
            for at, cols in cuts:
                parts = call.q[:, :, at], call.k[:, :, cols], call.v[:, :, cols]
                parts = [x.detach().requires_grad_() for x in parts]
                out = reference.rows(call, *parts, at, cols)
                found = torch.autograd.grad(out, [*parts, *learnt], grad[:, :, at], allow_unused=True)
                places = dq[:, :, at], dk[:, :, cols], dv[:, :, cols], *totals
                for place, part in zip(places, found, strict=True):
                    if part is not None:
                        place += part
        learnt_grads = iter(totals)
        rest = [next(learnt_grads) if x.requires_grad else None for x in others]
        return None, None, dq, dk, dv, *rest


def _draws(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The state of the generators that dropout draws from."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _redraw(draws: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(draws[0])
    if draws[1] is not None:
        torch.cuda.set_rng_state(draws[1], device)

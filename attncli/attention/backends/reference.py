"""The plain formula, in full: the definition that every other backend is tested against.

    weights = normalise(scores(q, k) * scale + bias + mask),  out = weights v

It computes in float32 when the inputs are of half width, and returns their type. Memory is quadratic.
It is differentiable any number of times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.backends.base import Call
from attncli.attention.masks import to_additive
from attncli.ops.dropout import dropout


def refuses(call: Call) -> str | None:
    """Nothing: the definition is always there."""
    return None


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    _, _, queries, keys = call.sizes
    return rows(call, call.q, call.k, call.v, slice(0, queries), slice(0, keys))


def rows(call: Call, q: Tensor, k: Tensor, v: Tensor, at: slice, cols: slice) -> Tensor:
    """The formula for queries ``at`` and keys ``cols``: ``q`` [B, H, r, D], ``k``, ``v`` [B, K, c, .]."""
    weight, empty = _weights(call, q, k, at, cols)
    weight = dropout(weight, call.dropout)
    v = v.to(weight.dtype)
    out = grouped_product(weight, v)  # [B, H, r, D']
    if call.bias is not None:
        extra = call.bias.values(weight, at, cols)
        out = out if extra is None else out + extra
    if empty is not None:
        out = out.masked_fill(empty, 0)
    return out.to(call.v.dtype)


def weights(call: Call) -> Tensor:
    """Attention weights [B, H, Tq, Tk] before dropout; a row with nothing to attend to is zero."""
    _, _, queries, keys = call.sizes
    weight, empty = _weights(call, call.q, call.k, slice(0, queries), slice(0, keys))
    return call.mechanism.combine(weight if empty is None else weight.masked_fill(empty, 0))


def _weights(call: Call, q: Tensor, k: Tensor, at: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(wide), k.to(wide)
    score = call.mechanism.scores(q, k)  # [B, H, r, c]
    if call.scale != 1.0:
        score = score * call.scale
    if call.bias is not None:
        score = score + call.bias.at(at, cols, *call.bias.sources)
        own = call.bias.scores(q * call.scale, at, cols)
        score = score if own is None else score + own
    if call.mask is None:
        return call.mechanism.mix(_normalise(call, score, at, cols)), None
    term, empty = mask_term(call, at, cols, wide)
    weight = _normalise(call, score + term, at, cols)
    if call.mechanism.mixes:  # heads with masks of their own neither give nor take what one may not see
        hidden = term == -torch.inf if empty is None else (term == -torch.inf) | empty
        weight = call.mechanism.mix(weight.masked_fill(hidden, 0)).masked_fill(hidden, 0)
    return weight, empty


def _normalise(call: Call, score: Tensor, at: slice, cols: slice) -> Tensor:
    if call.mechanism.placed:
        return call.mechanism.normalise_placed(score, call.away(at, cols))
    return call.mechanism.normalise(score)


def mask_term(call: Call, at: slice, cols: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The additive mask of a chunk and its empty rows; the whole is kept on the mask object."""
    batch, heads, queries, keys = call.sizes
    if (at.start, at.stop, cols.start, cols.stop) == (0, queries, 0, keys):
        return call.mask.additive(batch, heads, queries, keys, call.q.device, dtype)
    whole = slice(0, batch), slice(0, heads)
    return to_additive(call.mask.evaluate(*whole, at, cols, call.shift, call.q.device), dtype)


def grouped_product(weight: Tensor, v: Tensor) -> Tensor:
    """``weight`` [B, H, r, c] times ``v`` [B, K, c, D']: each value head serves H / K query heads."""
    batch, heads, r, c = weight.shape
    kv_heads = v.shape[1]
    if kv_heads == heads:
        return weight @ v
    folded = weight.reshape(batch, kv_heads, heads // kv_heads * r, c) @ v
    return folded.view(batch, heads, r, v.shape[-1])

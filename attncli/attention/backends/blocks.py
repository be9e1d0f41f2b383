"""Sparse rules block by block: each block of queries meets only the blocks of keys that its rule names.

Time and memory are O(T n b) for n blocks of b keys a query may see. Queries that see everything (global
tokens) are few and are computed by themselves. A dilated window is folded to a plain one
(``folded.py``); tokens of one bucket are brought together first (``by_bucket.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.backends import by_bucket, folded, reference
from attncli.attention.backends.base import Call
from attncli.attention.backends.plan import budget
from attncli.attention.masks import All, to_additive
from attncli.attention.patterns import Dilated, SameBucket, Sparse
from attncli.ops.dropout import dropout


def rule_of(call: Call) -> Sparse | Dilated | SameBucket | None:
    """The sparse rule in the call's mask."""
    rules = call.mask.rules if isinstance(call.mask, All) else (call.mask,)
    return next((rule for rule in rules if isinstance(rule, Sparse | Dilated | SameBucket)), None)


def refuses(call: Call) -> str | None:
    """Calls without such a rule, and those whose keys are not in order."""
    rule = rule_of(call)
    if rule is None:
        return "its mask has no rule of blocks"
    ordered = isinstance(rule, SameBucket) or rule.places is None
    if call.q.shape[2] != call.k.shape[2] or not ordered:
        return "queries and keys are not the places of one sequence in order"
    if call.bias is not None:
        return "terms of the scores are not cut into blocks"
    if not call.mechanism.fusable:
        return f"mechanism {call.mechanism.name} is not a softmax of products"
    return None


def pays(call: Call) -> bool:
    """Whether the blocks leave out enough for it to be the faster way."""
    rule = rule_of(call)
    if isinstance(rule, Dilated):
        return rule.dilation > 1 and call.q.shape[2] >= 256
    if isinstance(rule, SameBucket):
        return by_bucket.pays(call, rule)
    count = -(-call.q.shape[2] // rule.block)
    return count > 4 and _blocks(call, rule, count).shape[1] * 2 <= count


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    rule = rule_of(call)
    if isinstance(rule, Dilated):
        return folded.run(call, rule)
    if isinstance(rule, SameBucket):
        return by_bucket.run(call, rule)
    batch, heads, length, _ = call.sizes
    size = rule.block
    count = -(-length // size)
    blocks = _blocks(call, rule, count)
    kv_heads, missing = call.k.shape[1], count * size - length
    q, k, v = (
        torch.nn.functional.pad(x, (0, 0, 0, missing)).unflatten(2, (count, size))
        for x in (call.q, call.k, call.v)
    )  # [B, H|K, n, b, D]
    q = q * call.scale
    step = max(1, budget(call) // (batch * heads * size * blocks.shape[1] * size))
    parts = []
    for first in range(0, count, step):
        at = slice(first, min(count, first + step))
        parts.append(_some(call, q[:, :, at], k, v, blocks[at], first, kv_heads))
    out = torch.cat(parts, 2).flatten(2, 3)[:, :, :length]  # [B, H, T, D']
    full = min(rule.full_rows, length)
    if full:
        dense = reference.rows(call, call.q[:, :, :full], call.k, call.v, slice(0, full), slice(0, length))
        out = torch.cat([dense, out[:, :, full:]], 2)
    return out


def _blocks(call: Call, rule: Sparse, count: int) -> Tensor:
    return rule.remember(("blocks", count, call.q.device), lambda: rule.blocks(count).to(call.q.device))


def _some(call: Call, q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, first: int, kv_heads: int) -> Tensor:
    """Queries [B, H, n, b, D] of blocks ``first`` and on over their ``blocks`` [n, m]: [B, H, n, b, D']."""
    batch, heads, n, size, _ = q.shape
    length = call.k.shape[2]
    device = q.device
    wide = torch.promote_types(q.dtype, torch.float32)
    found = blocks.clamp(min=0)  # [n, m]
    k, v = (x[:, :, found].flatten(3, 4) for x in (k, v))  # [B, K, n, m b, D]
    group = heads // kv_heads
    q = q.unflatten(1, (kv_heads, group)).transpose(2, 3).flatten(3, 4)  # [B, K, n, g b, D]
    score = (q @ k.transpose(-1, -2)).to(wide)  # [B, K, n, g b, m b]
    score = score.unflatten(3, (group, size)).transpose(2, 3).flatten(1, 2)  # [B, H, n, b, m b]
    inside = torch.arange(size, device=device)
    rows = ((torch.arange(n, device=device) + first).unsqueeze(1) * size + inside).view(1, 1, n, size, 1)
    cols = (found.unsqueeze(-1) * size + inside).flatten(1)  # [n, m b]
    real = (blocks >= 0).repeat_interleave(size, 1) & (cols < length)
    allowed = call.mask.allowed(
        torch.arange(batch, device=device).view(-1, 1, 1, 1, 1),
        torch.arange(heads, device=device).view(1, -1, 1, 1, 1),
        rows.clamp(max=length - 1),
        cols.clamp(max=length - 1).view(1, 1, n, 1, -1),
        0,
    )
    term, empty = to_additive(allowed & real.view(1, 1, n, 1, -1), wide)
    weight = torch.softmax(score + term, -1).to(v.dtype)
    weight = dropout(weight, call.dropout)
    weight = weight.unflatten(1, (kv_heads, group)).transpose(2, 3).flatten(3, 4)  # [B, K, n, g b, m b]
    out = (weight @ v).unflatten(3, (group, size)).transpose(2, 3).flatten(1, 2)  # [B, H, n, b, D']
    return out if empty is None else out.masked_fill(empty, 0)

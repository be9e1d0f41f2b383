"""PyTorch's fused kernel, ``scaled_dot_product_attention``.

A mask that is more than causality becomes an additive tensor, kept on the mask object. A band (window)
is cut into blocks of queries with their own stretch of keys, so that it costs O(T w).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.backends.base import Call, expand_heads
from attncli.attention.masks import Mask, to_additive


def refuses(call: Call) -> str | None:
    """What the fused kernel cannot compute, or would compute off its fast path."""
    if not call.mechanism.fusable:
        return f"mechanism {call.mechanism.name} is not a softmax of products"
    if call.bias is not None and call.bias.needs_query:
        return "relative positions that meet the queries (shaw) are not a fixed term of the scores"
    if call.q.device.type == "cpu":
        if call.dropout > 0:
            return "attention dropout throws it off its fast path on the CPU"
        if call.bias_grad:
            return "a learnt bias throws it off its fast path on the CPU"
        if call.q.shape[-1] != call.v.shape[-1]:
            return "values of another width than the queries throw it off its fast path on the CPU"
    return None


def run(call: Call) -> Tensor:
    """Heads to heads: [B, H, Tq, D']."""
    batch, heads, queries, keys = call.sizes
    q, k, v = call.q, call.k, call.v
    grouped = k.shape[1] != heads
    if grouped and q.device.type == "cpu":
        k, v, grouped = expand_heads(k, heads), expand_heads(v, heads), False
    options = {"dropout_p": call.dropout, "scale": call.scale, **({"enable_gqa": True} if grouped else {})}
    if call.bias is None:
        if call.mask is None:
            return F.scaled_dot_product_attention(q, k, v, **options)
        if call.causal_only and queries == keys:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)
        band = band_of(call.mask, queries, keys)
        if band is not None:
            return _banded(call, k, v, band, options)
    seen = call.keys_seen()
    term, empty = None, None
    if call.mask is not None:
        term, empty = call.mask.additive(batch, heads, queries, keys, q.device, q.dtype)
        term = term[..., seen] if term.shape[3] > 1 else term
    if call.bias is not None:
        bias = call.bias.at(slice(0, queries), seen, *call.bias.sources).to(q.dtype)
        term = bias if term is None else bias + term
    out = F.scaled_dot_product_attention(q, k[:, :, seen], v[:, :, seen], attn_mask=term, **options)
    return out if empty is None else out.masked_fill(empty, 0)


def band_of(mask: Mask, queries: int, keys: int) -> tuple[int, int] | None:
    """``(left, right)`` of a band narrow enough to be worth cutting into blocks."""
    shift = keys - queries
    middle = queries // 2
    low, high = mask.key_range(middle, middle + 1, shift)
    if low is None or high is None:
        return None
    left, right = middle + shift - low, high - 1 - middle - shift
    return (left, right) if queries > 2 * (left + right + 1) else None


def _banded(call: Call, k: Tensor, v: Tensor, band: tuple[int, int], options: dict) -> Tensor:
    """Blocks of ``c`` queries with the ``c + left + right`` keys around each, as further batch entries."""
    batch, heads, queries, keys = call.sizes
    left, right = band
    # small blocks meet few keys in vain; large ones are quicker each, above all backward
    c = min(queries, max(64, (left + right) // (2 if call.with_grad else 4)))
    blocks = -(-queries // c)
    start = call.shift - left  # place of the first block's first key; negative before the sequence
    width = c + left + right
    end = start + (blocks - 1) * c + width
    q = F.pad(call.q, (0, 0, 0, blocks * c - queries))
    q = q.unflatten(2, (blocks, c)).transpose(1, 2).flatten(0, 1)  # [B n, H, c, D]

    def stretches(x: Tensor) -> Tensor:  # [B, K, Tk, D] -> [B n, K, c + left + right, D]
        x = F.pad(x, (0, 0, -start, end - keys))  # a negative pad cuts
        return x.unfold(2, width, c).permute(0, 2, 1, 4, 3).flatten(0, 1)

    def build() -> tuple[Tensor, Tensor | None]:
        device = call.q.device
        block = torch.arange(blocks, device=device).view(-1, 1, 1) * c
        rows = block + torch.arange(c, device=device).view(1, -1, 1)  # [n, c, 1]
        cols = block + start + torch.arange(width, device=device)  # [n, 1, width]
        inside = (cols >= 0) & (cols < keys)
        found = call.mask.allowed(
            torch.arange(batch, device=device).view(-1, 1, 1, 1, 1),
            torch.arange(heads, device=device).view(1, -1, 1, 1, 1),
            rows.clamp(max=queries - 1)[None, None],
            cols.clamp(0, keys - 1)[None, None],
            call.shift,
        )  # broadcastable to [B, H, n, c, width]
        found = (found & inside).expand(batch, -1, blocks, c, width)
        term, empty = to_additive(found.transpose(1, 2).flatten(0, 1), call.q.dtype)
        return term, empty

    key = ("band", c, batch, heads, queries, keys, call.q.device, call.q.dtype)
    term, empty = call.mask.remember(key, build)
    out = F.scaled_dot_product_attention(q, stretches(k), stretches(v), attn_mask=term, **options)
    if empty is not None:
        out = out.masked_fill(empty, 0)
    out = out.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)  # [B, H, n c, D]
    return out[:, :, :queries]

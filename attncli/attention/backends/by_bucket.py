"""Attention within buckets: both sides are sorted by bucket, and a block of queries meets a stretch of keys.

A stretch holds every key of the block's buckets, so that no pair is lost, however unevenly buckets are
filled. A pair that shares a bucket in several rounds counts in the first of them. Rounds are joined by the
sums of their exponentials. For buckets of n tokens, time is O(T n) a round, beside the sorting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attncli.attention.backends.base import Call
from attncli.attention.backends.plan import budget
from attncli.attention.masks import All, Mask
from attncli.attention.patterns import SameBucket
from attncli.ops.dropout import dropout

BLOCK = 64
"""Queries in a block."""


def pays(call: Call, rule: SameBucket) -> bool:
    """Whether buckets filled evenly leave out enough for it to be the faster way."""
    length, rounds = call.q.shape[2], rule.queries.shape[2]
    return rounds * (BLOCK + 2 * length // rule.count) * 3 < length


def run(call: Call, rule: SameBucket) -> Tensor:
    """Heads to heads, [B, H, T, D']: queries and keys are the places of one sequence in order."""
    work = _Work.of(call, rule)
    v = work.v.index_select(0, work.own)
    score = (work.q * work.k.index_select(0, work.own)).sum(-1).to(work.wide)  # [B H T]: a place and itself
    if work.other is not None:
        score = score.masked_fill(~work.sees_itself(), -torch.inf)
    parts = [(None, score)] + [work.round(number) for number in range(rule.queries.shape[2])]
    sums = torch.stack([total for _, total in parts])  # [R + 1, B H T]
    top = sums.detach().amax(0).clamp(min=torch.finfo(work.wide).min)  # a row may see nothing at all
    shares = torch.exp(sums - top)
    shares = shares / shares.sum(0).clamp(min=torch.finfo(work.wide).tiny)
    out = dropout(shares[0], call.dropout).unsqueeze(-1).to(v.dtype) * v
    for share, (found, _) in zip(shares[1:], parts[1:], strict=True):
        out = out + share.unsqueeze(-1).to(v.dtype) * found
    return out.view(*call.q.shape[:3], -1)


@dataclass
class _Work:
    """A call with its heads laid end to end: row ``(b H + h) T + t``."""

    call: Call
    rule: SameBucket
    other: Mask | None
    q: Tensor  # [B H T, D], scaled
    k: Tensor  # [B K T, D]
    v: Tensor  # [B K T, D']
    own: Tensor  # int64 [B H T]: the row of the key that stands where the query does
    wide: torch.dtype

    @staticmethod
    def of(call: Call, rule: SameBucket) -> _Work:
        batch, heads, length, _ = call.sizes
        other: Mask | None = None
        for one in call.mask.rules if isinstance(call.mask, All) else (call.mask,):
            if one is not rule:
                other = one if other is None else other & one
        row = torch.arange(batch * heads, device=call.q.device)
        own = _key_head(row, heads, call.k.shape[1]).unsqueeze(1) * length
        own = own + torch.arange(length, device=call.q.device)
        q, k, v = (x.flatten(0, 2) for x in (call.q * call.scale, call.k, call.v))
        wide = torch.promote_types(call.q.dtype, torch.float32)
        return _Work(call, rule, other, q, k, v, own.flatten(), wide)

    def sees_itself(self) -> Tensor:
        """Whether the rest of the mask lets each query see its own place, bool [B H T]."""
        batch, heads, length, _ = self.call.sizes
        b, h, t = (torch.arange(n, device=self.q.device) for n in (batch, heads, length))
        b, h = b.view(-1, 1, 1), h.view(-1, 1)
        return self.other.allowed(b, h, t, t, 0).expand(batch, heads, length).flatten()

    def round(self, number: int) -> tuple[Tensor, Tensor]:
        """Of one round the weighted values [B H T, D'], and the logarithms of its sums of weights [B H T]."""
        batch, heads, length, _ = self.call.sizes
        kv_heads = self.call.k.shape[1]
        mine, q_order = self.rule.queries[:, :, number].flatten(0, 1).sort(dim=-1, stable=True)  # [B H, T]
        theirs, k_order = self.rule.keys[:, :, number].flatten(0, 1).sort(dim=-1, stable=True)  # [B K, T]
        count = -(-length // BLOCK)
        place = torch.arange(count * BLOCK, device=self.q.device).clamp(max=length - 1)
        q_order = q_order[:, place].view(-1, BLOCK)  # [B H n, b]
        mine = mine[:, place].view(batch * heads, count, BLOCK)
        head = torch.arange(batch * heads, device=self.q.device)
        theirs = theirs[_key_head(head, heads, kv_heads)].contiguous()  # [B H, T]
        low = torch.searchsorted(theirs, mine[..., 0].contiguous()).flatten()
        high = torch.searchsorted(theirs, mine[..., -1].contiguous(), right=True).flatten()  # [B H n]
        width, blocks = (high - low).sort(descending=True)
        width = width.clamp(min=1).tolist()
        rows, found, sums, first = [], [], [], 0
        while first < len(blocks):  # blocks that meet as many keys, together
            step = max(1, budget(self.call) // (BLOCK * width[first]))
            at = blocks[first : first + step]
            stretch = low[at].unsqueeze(1) + torch.arange(width[first], device=self.q.device)  # [g, w]
            q, head = q_order[at], torch.div(at, count, rounding_mode="floor")
            k = k_order[_key_head(head, heads, kv_heads).unsqueeze(1), stretch.clamp(max=length - 1)]
            part, total = self._some(number, head, q, k, stretch < high[at].unsqueeze(1))
            rows.append((head.unsqueeze(1) * length + q).flatten())
            found.append(part.flatten(0, 1))
            sums.append(total.flatten())
            first += step
        row = torch.cat(rows)
        back = torch.empty(batch * heads * length, dtype=torch.long, device=row.device)
        back[row] = torch.arange(len(row), device=row.device)
        return torch.cat(found).index_select(0, back), torch.cat(sums).index_select(0, back)

    def _some(self, number: int, head: Tensor, q: Tensor, k: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Queries at places ``q`` [g, b] over keys at places ``k`` [g, w] of the heads ``head`` [g]."""
        heads, length = self.call.q.shape[1], self.call.q.shape[2]
        keys = (_key_head(head, heads, self.call.k.shape[1]).unsqueeze(1) * length + k).flatten()
        queries = (head.unsqueeze(1) * length + q).flatten()
        left = self.q.index_select(0, queries).view(*q.shape, -1)
        right, values = (x.index_select(0, keys).view(*k.shape, -1) for x in (self.k, self.v))
        score = (left @ right.transpose(1, 2)).to(self.wide)  # [g, b, w]
        b = torch.div(head, heads, rounding_mode="floor").view(-1, 1, 1)
        h, q, k = (head % heads).view(-1, 1, 1), q.unsqueeze(2), k.unsqueeze(1)
        allowed = self.rule.shared(number, b, h, q, k) & real.unsqueeze(1) & (q != k)
        for earlier in range(number):
            allowed = allowed & ~self.rule.shared(earlier, b, h, q, k)
        if self.other is not None:
            allowed = allowed & self.other.allowed(b, h, q, k, 0)
        score = score.masked_fill(~allowed, -torch.inf)
        total = torch.logsumexp(score, -1)  # -inf for a row without keys
        nothing = total == -torch.inf
        weight = torch.exp(score - total.masked_fill(nothing, 0).unsqueeze(-1)).to(values.dtype)
        return dropout(weight, self.call.dropout) @ values, total


def _key_head(head: Tensor, heads: int, kv_heads: int) -> Tensor:
    """Of heads ``b H + h`` the key/value heads ``b K + h'``."""
    group = heads // kv_heads
    return torch.div(head, group, rounding_mode="floor")

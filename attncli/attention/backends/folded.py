"""A dilated window is a plain window over every ``dilation``-th place: each class of places is a sequence.

Folding costs two copies; the band of each class is then computed as any other, at O(T window D).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.backends import chunked
from attncli.attention.backends.base import Call
from attncli.attention.masks import All, Causal, Mask, Window
from attncli.attention.patterns import Dilated


class Folded(Mask):
    """``rule`` for batch entries that are classes of places: entry ``b d + r`` holds places r, r + d, ..."""

    def __init__(self, rule: Mask | None, dilation: int, length: int) -> None:
        super().__init__()
        self.rule, self.dilation, self.length = rule, dilation, length
        self.kind = f"folded({'none' if rule is None else rule.kind})"

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """The rule at the places themselves; those past the end are no keys."""
        entry = torch.div(batch, self.dilation, rounding_mode="floor")
        first = batch % self.dilation
        q, k = ((x * self.dilation + first) for x in (q, k))
        real = k < self.length
        if self.rule is None:
            return real
        last = self.length - 1
        return real & self.rule.allowed(entry, head, q.clamp(max=last), k.clamp(max=last), 0)


def run(call: Call, rule: Dilated) -> Tensor:
    """Heads to heads, [B, H, T, D']: queries and keys are the places of one sequence in order."""
    batch, _, length, _ = call.sizes
    count = rule.dilation
    missing = -length % count

    def fold(x: Tensor) -> Tensor:  # [B, H, T, D] -> [B d, H, T / d, D]
        x = F.pad(x, (0, 0, 0, missing)).unflatten(2, (-1, count))
        return x.permute(0, 3, 1, 2, 4).flatten(0, 1)

    rules = call.mask.rules if isinstance(call.mask, All) else (call.mask,)
    mask: Mask = Window(rule.window, rule.window)
    other: Mask | None = None
    for one in rules:
        if isinstance(one, Causal):
            mask = mask & one
        elif one is not rule:
            other = one if other is None else other & one
    if other is not None or missing:
        mask = mask & Folded(other, count, length)
    q, k, v = fold(call.q), fold(call.k), fold(call.v)
    out = chunked.run(dataclasses.replace(call, q=q, k=k, v=v, mask=mask))  # [B d, H, T / d, D']
    out = out.unflatten(0, (batch, count)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    return out[:, :, :length]

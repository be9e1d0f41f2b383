"""Cosine similarity with a learnt temperature for each head.

Liu et al. 2022, "Swin Transformer V2" (scaled cosine attention, logit scale learnt and at most 100),
https://arxiv.org/abs/2111.09883; first used for memory in Graves et al. 2014, "Neural Turing Machines",
https://arxiv.org/abs/1410.5401
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.mechanisms.base import Mechanism

_LARGEST = math.log(100.0)


class Cosine(Mechanism):
    """Products of unit queries and keys, times ``exp(log_scale)`` [H], which starts at 10."""

    name = "cosine"
    use = "deep or wide models whose scores grow too large"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.log_scale = nn.Parameter(torch.empty(heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start at a scale of 10."""
        nn.init.constant_(self.log_scale, math.log(10.0))

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Unit length, and the temperature on the queries; computed in float32 at least."""
        wide = torch.promote_types(q.dtype, torch.float32)
        factor = self.log_scale.clamp(max=_LARGEST).exp().to(wide).view(-1, 1, 1)
        unit_q = F.normalize(q.to(wide), dim=-1) * factor
        return unit_q.to(q.dtype), F.normalize(k.to(wide), dim=-1).to(k.dtype), 1.0

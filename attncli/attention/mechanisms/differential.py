"""Differential attention: the difference of two softmaxes cancels what both give to noise.

    out = (1 - l0) RMSNorm((softmax(q1 k1) - l softmax(q2 k2)) v),  q = [q1; q2], k = [k1; k2]
    l = exp(a1 b1) - exp(a2 b2) + l0,  l0 = 0.8

Ye et al. 2024, "Differential Transformer", https://arxiv.org/abs/2410.05258. There l0 grows with
the layer, to 0.8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.masks import Mask, Places
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.patterns import doubled
from attncli.errors import RecipeError

START = 0.8


class Differential(ScaledDot):
    """Pairs of heads of half the width. Parameters: ``vectors`` [4, D / 2] (a1, b1, a2, b2), ``norm`` [D]."""

    name = "differential"
    support = Support(bias=False, relative=False)
    use = "to find few relevant tokens among many; costs what exact attention does"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if head_dim % 2:
            raise RecipeError(f"mechanism differential needs heads of even width; it is {head_dim}")
        self.vectors = nn.Parameter(torch.empty(4, head_dim // 2))
        self.norm = nn.Parameter(torch.ones(head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As published: small random vectors."""
        nn.init.normal_(self.vectors, std=0.1)
        nn.init.ones_(self.norm)

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Halves of the width as further heads: [B, 2 H, Tq, D / 2], [B, 2 K, Tk, D / 2]."""
        q, k = (torch.cat(x.chunk(2, -1), 1) for x in (q, k))
        return q, k, q.shape[-1] ** -0.5

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask, for both halves."""
        return doubled(mask, self.heads)

    def values(self, v: Tensor) -> Tensor:
        """For both halves."""
        return torch.cat([v, v], 1)

    def finish(self, out: Tensor, q: Tensor) -> Tensor:
        """The difference, normalised in float32 at least."""
        wide = torch.promote_types(out.dtype, torch.float32)
        out = self.combine(out.to(wide))
        out = F.rms_norm(out, out.shape[-1:], self.norm.to(wide), 1e-5) * (1 - START)
        return out.to(q.dtype)

    def combine(self, weights: Tensor) -> Tensor:
        """First half less ``l`` times the second."""
        first, second = weights.chunk(2, 1)
        a1, b1, a2, b2 = self.vectors.to(weights.dtype)
        share = torch.exp(a1 @ b1) - torch.exp(a2 @ b2) + START
        return first - share * second

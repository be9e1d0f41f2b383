"""Talking heads: heads exchange scores before the softmax and weights after it.

    weights = P_w softmax(P_l s),  P_l, P_w [H, H] over the heads

Shazeer et al. 2020, "Talking-Heads Attention", https://arxiv.org/abs/2003.02436
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot


class TalkingHeads(ScaledDot):
    """Scaled dot products mixed by ``before`` and, normalised, by ``after`` [H, H], which start as identity.

    Terms of the scores and masks come between the two; what a head may not see stays without weight in it.
    """

    name = "talking_heads"
    time = "O(T^2 (D + H)), H heads"
    use = "few, narrow heads that should share what they find"
    fusable = False
    mixes = True
    support = Support(relative=False, backends=("reference", "chunked"))

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.before = nn.Parameter(torch.eye(heads))
        self.after = nn.Parameter(torch.eye(heads))

    def reset_parameters(self) -> None:
        """Start with heads on their own."""
        nn.init.eye_(self.before)
        nn.init.eye_(self.after)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Products mixed over the heads."""
        return _mix(self.before, super().scores(q, k))

    def mix(self, weights: Tensor) -> Tensor:
        """Weights mixed over the heads."""
        return _mix(self.after, weights)


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix`` [H, H] times ``x`` [B, H, r, c] over the heads."""
    return torch.einsum("gh,bhrc->bgrc", matrix.to(x.dtype), x)

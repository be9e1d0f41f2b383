"""Adaptive span: each head learns how far it looks.

    weights_ij  in proportion to  exp(s_ij) clamp((R + z_h - |i - j|) / R, 0, 1)

Sukhbaatar et al. 2019, "Adaptive Attention Span in Transformers", https://arxiv.org/abs/1905.07799
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.errors import RecipeError


class AdaptiveSpan(ScaledDot):
    """``share`` [H] is each head's span z as a share of ``span``, clamped to [0, 1], and starts at one half;
    ``ramp`` is R, the places over which a head's sight ends.
    """

    name = "adaptive_span"
    fusable = False
    placed = True
    support = Support(cross=False, backends=("reference", "chunked"))
    use = "to find out how far each head needs to look"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, span: int = 512, ramp: int = 32) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if span < 1 or ramp < 1:
            raise RecipeError(f"mechanism adaptive_span needs span and ramp of 1 or more, not {span}, {ramp}")
        self.span, self.ramp = span, ramp
        self.share = nn.Parameter(torch.full((heads,), 0.5))

    def reset_parameters(self) -> None:
        """Start at half the span."""
        nn.init.constant_(self.share, 0.5)

    def normalise_placed(self, scores: Tensor, away: Tensor) -> Tensor:
        """Softmax times the soft mask, over its sum; a row whose sight has nothing in it is zero."""
        reach = self.share.to(scores.dtype).clamp(0, 1).view(-1, 1, 1) * self.span
        seen = ((self.ramp + reach - away.abs().to(scores.dtype)) / self.ramp).clamp(0, 1)  # [H, r, c]
        top = scores.detach().masked_fill(seen == 0, -torch.inf).amax(-1, keepdim=True)
        power = torch.exp((scores - top.masked_fill(top == -torch.inf, 0)).clamp(max=80)) * seen
        return power / power.sum(-1, keepdim=True).clamp(min=1e-30)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"span={self.span}, ramp={self.ramp}"

"""Entmax: between softmax (alpha 1) and sparsemax (alpha 2).

    weights = max((alpha - 1) s - tau, 0) ^ (1 / (alpha - 1)),  tau such that they add up to 1

``entmax15`` has alpha 1.5; ``entmax`` learns an alpha for each head.

Peters et al. 2019, "Sparse Sequence-to-Sequence Models", https://arxiv.org/abs/1905.05702;
Correia et al. 2019, "Adaptively Sparse Transformers" (learnt alpha), https://arxiv.org/abs/1909.00015
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.mechanisms.simplex import MOST, entmax15, is_last


class Entmax15(ScaledDot):
    """Scaled dot products, normalised by 1.5-entmax."""

    name = "entmax15"
    time = "O(T^2 D), with a search for each row"
    use = "between softmax and sparsemax: exact zeros, kinder gradients"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def normalise(self, scores: Tensor) -> Tensor:
        """Each row by its threshold."""
        return entmax15(scores)


class Entmax(ScaledDot):
    """Scaled dot products, normalised by entmax; alpha = 1 + sigmoid(``shape`` [H]) starts at 1.5."""

    name = "entmax"
    time = "O(T^2 D), with a search for each row"
    use = "to let each head learn how sparse it is"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.shape = nn.Parameter(torch.zeros(heads))

    def reset_parameters(self) -> None:
        """Start at alpha 1.5."""
        nn.init.zeros_(self.shape)

    def normalise(self, scores: Tensor) -> Tensor:
        """tau by Newton steps without gradients; a last one carries the gradients."""
        steep = torch.sigmoid(self.shape).to(scores.dtype).clamp(min=0.01).view(-1, 1, 1)  # alpha - 1
        scores = steep * (scores - scores.detach().amax(-1, keepdim=True)).clamp(min=-200.0)
        with torch.no_grad():
            tau = torch.full_like(scores[..., :1], -1.0)
            for _ in range(MOST):
                left = (scores - tau).clamp(min=0)
                slopes = _powers(left, steep / (1 - steep))
                slope, total = slopes.sum(-1, keepdim=True), (slopes * left).sum(-1, keepdim=True)
                norm = total.pow(steep)
                step = (norm - 1) * total / (norm * slope)
                if is_last(step):
                    break
                tau = tau + step
        tau = tau + (_powers(scores - tau, steep).sum(-1, keepdim=True) - 1) * steep / slope
        return _powers(scores - tau, steep)


def _powers(x: Tensor, steep: Tensor) -> Tensor:
    """``max(x, 0) ^ (1 / steep)`` with a gradient of zero where x is not positive."""
    inside = x > 0
    return torch.where(inside, torch.where(inside, x, 1.0).pow(1 / steep), 0.0)

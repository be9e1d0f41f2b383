"""Entmax: between softmax (alpha 1) and sparsemax (alpha 2).

    weights = max((alpha - 1) s - tau, 0) ^ (1 / (alpha - 1)),  tau such that they add up to 1

``entmax15`` has alpha 1.5 and finds tau exactly; ``entmax`` learns an alpha for each head and finds tau by
halving intervals.

Peters et al. 2019, "Sparse Sequence-to-Sequence Models", https://arxiv.org/abs/1905.05702;
Correia et al. 2019, "Adaptively Sparse Transformers" (learnt alpha), https://arxiv.org/abs/1909.00015
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot

_HALVINGS = 40


class Entmax15(ScaledDot):
    """Scaled dot products, normalised by 1.5-entmax."""

    name = "entmax15"
    time = "O(T^2 (D + log T))"
    use = "between softmax and sparsemax: exact zeros, kinder gradients"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def normalise(self, scores: Tensor) -> Tensor:
        """Each row by sorting: with m the mean and S the sum of squares about it of the k best halved scores,
        tau = m - sqrt((1 - S) / k)."""
        half = (scores - scores.detach().amax(-1, keepdim=True)).clamp(min=-4.0) / 2
        with torch.no_grad():
            ranked = half.sort(-1, descending=True).values
            count = torch.arange(1, half.shape[-1] + 1, device=half.device, dtype=half.dtype)
            tau = _tau15(ranked.cumsum(-1), ranked.square().cumsum(-1), count)
            size = (tau <= ranked).sum(-1, keepdim=True)
            support = half >= ranked.gather(-1, size - 1)
            count = support.sum(-1, keepdim=True).to(half.dtype)
        inside = torch.where(support, half, 0.0)
        tau = _tau15(inside.sum(-1, keepdim=True), inside.square().sum(-1, keepdim=True), count)
        return torch.where(support, half - tau, 0.0).clamp(min=0.0).square()


def _tau15(total: Tensor, squares: Tensor, count: Tensor) -> Tensor:
    mean = total / count
    about = squares - mean * total
    # The floor keeps the root's gradient finite where rounding leaves nothing.
    return mean - ((1 - about) / count).clamp(min=1e-12).sqrt()


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
        """tau by halving without gradients; a Newton step on it then carries the gradients."""
        steep = torch.sigmoid(self.shape).to(scores.dtype).clamp(min=0.01).view(-1, 1, 1)  # alpha - 1
        scores = steep * (scores - scores.detach().amax(-1, keepdim=True)).clamp(min=-200.0)
        with torch.no_grad():
            low, high = torch.full_like(scores[..., :1], -1.0), torch.zeros_like(scores[..., :1])
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                heavy = _powers(scores - middle, steep).sum(-1, keepdim=True) >= 1
                low, high = torch.where(heavy, middle, low), torch.where(heavy, high, middle)
            slope = (_powers(scores - low, steep / (1 - steep)) / steep).sum(-1, keepdim=True)
        tau = low + (_powers(scores - low, steep).sum(-1, keepdim=True) - 1) / slope
        return _powers(scores - tau, steep)


def _powers(x: Tensor, steep: Tensor) -> Tensor:
    """``max(x, 0) ^ (1 / steep)`` with a gradient of zero where x is not positive."""
    inside = x > 0
    return torch.where(inside, torch.where(inside, x, 1.0).pow(1 / steep), 0.0)

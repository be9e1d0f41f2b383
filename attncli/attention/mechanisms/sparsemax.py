"""Sparsemax: the scores' projection onto the simplex, which gives many keys exactly no weight.

    weights = argmin_p ||p - s||^2 = max(s - tau, 0),  tau such that they add up to 1

Martins and Astudillo 2016, "From Softmax to Sparsemax", https://arxiv.org/abs/1602.02068
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot


class Sparsemax(ScaledDot):
    """Scaled dot products, normalised by sparsemax."""

    name = "sparsemax"
    time = "O(T^2 (D + log T))"
    use = "weights that are exactly zero, to read; some gradient is lost"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def normalise(self, scores: Tensor) -> Tensor:
        """Euclidean projection of each row; the support is found by sorting."""
        top = scores.detach().amax(-1, keepdim=True)
        scores = (scores - top).clamp(min=-2.0)  # what lies further down than 1 never has weight
        with torch.no_grad():
            ranked = scores.sort(-1, descending=True).values
            count = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
            size = (1 + count * ranked > ranked.cumsum(-1)).sum(-1, keepdim=True)  # of the support
            support = scores >= ranked.gather(-1, size - 1)
            size = support.sum(-1, keepdim=True)
        tau = ((scores * support).sum(-1, keepdim=True) - 1) / size
        return torch.where(support, scores - tau, 0.0).clamp(min=0.0)

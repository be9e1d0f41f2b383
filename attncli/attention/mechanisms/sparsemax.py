"""Sparsemax: the scores' projection onto the simplex, which gives many keys exactly no weight.

    weights = argmin_p ||p - s||^2 = max(s - tau, 0),  tau such that they add up to 1

Martins and Astudillo 2016, "From Softmax to Sparsemax", https://arxiv.org/abs/1602.02068
"""

from __future__ import annotations

from torch import Tensor

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.mechanisms.simplex import sparsemax


class Sparsemax(ScaledDot):
    """Scaled dot products, normalised by sparsemax."""

    name = "sparsemax"
    time = "O(T^2 D), with a search for each row"
    use = "weights that are exactly zero, to read; some gradient is lost"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def normalise(self, scores: Tensor) -> Tensor:
        """Euclidean projection of each row."""
        return sparsemax(scores)

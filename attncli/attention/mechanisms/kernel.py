"""Base of mechanisms whose scores are products of features, so that sums over keys may come first.

out_i = phi(q_i) sum_j phi(k_j) v_j / phi(q_i) sum_j phi(k_j)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from attncli.attention.mechanisms.base import Mechanism, Support


class Kernel(Mechanism):
    """``prepare`` gives the features; the formula forms the weights, the ``linear`` backend never does."""

    fusable = False
    linear = True
    support = Support(bias=False, relative=False, backends=("reference", "chunked", "linear"))
    time = "O(T F D), F features"
    memory = "O(T)"
    divides: ClassVar[bool] = True
    """Whether weights are divided by their sum."""
    decays: ClassVar[bool] = False
    """Whether weights fade with distance, by :meth:`decay` for each place."""
    gated: ClassVar[bool] = False
    """Whether they fade by gates that read the data, :meth:`gates` for each place and feature."""
    smallest: ClassVar[float] = 1e-6
    """Sums below are taken for this one."""

    @property
    def feature_width(self) -> int:
        """Features of a head."""
        return self.head_dim

    def features(self, q: Tensor, k: Tensor, shift: int) -> tuple[Tensor, Tensor]:
        """Prepared queries and keys as features whose products are the weights, but for the decay."""
        return q, k

    def decay(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Factor on the weights for each place of distance, [H]."""
        raise NotImplementedError

    def gates(self, k: Tensor) -> Tensor:
        """Logarithms of the gates from prepared keys, [B, K, Tk, F]."""
        raise NotImplementedError

    def normalise(self, scores: Tensor) -> Tensor:
        """Scores over their sum; masked ones are zero."""
        weights = scores.masked_fill(scores == -torch.inf, 0)
        return self.divide(weights, weights.sum(-1, keepdim=True))

    def divide(self, out: Tensor, total: Tensor) -> Tensor:
        """By the sum of the weights, kept away from zero."""
        return out / total.clamp(min=self.smallest)

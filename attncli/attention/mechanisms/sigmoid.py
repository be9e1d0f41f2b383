"""Sigmoid attention: each weight by itself, ``sigmoid(s - log n)`` with n the keys that the query may see.

Ramapuram et al. 2024, "Theory, Analysis, and Best Practices for Sigmoid Self-Attention",
https://arxiv.org/abs/2409.04431. There n is the length of the sequence; counting what each row sees gives the
same without a mask, and under causality depends on nothing that comes later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot


class Sigmoid(ScaledDot):
    """Scaled dot products through a sigmoid; a row's weights add up to about one where it starts."""

    name = "sigmoid"
    use = "when tokens should not compete for attention"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def normalise(self, scores: Tensor) -> Tensor:
        """Element by element; masked scores give zero."""
        seen = (scores > -torch.inf).sum(-1, keepdim=True).clamp(min=1)
        return torch.sigmoid(scores - seen.to(scores.dtype).log())

"""Bilinear ("general") scores: ``q W k`` with a matrix for each head.

Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", score "general",
https://arxiv.org/abs/1508.04025
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Mechanism


class Bilinear(Mechanism):
    """A product after the queries pass through ``weight`` [H, D, D], which starts as identity / sqrt(D)."""

    name = "bilinear"
    use = "queries and keys of different spaces; Luong's general"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.weight = nn.Parameter(torch.empty(heads, head_dim, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as scaled dot product."""
        with torch.no_grad():
            self.weight.copy_(torch.eye(self.head_dim).mul_(self.head_dim**-0.5).expand_as(self.weight))

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Queries through the matrix."""
        return q @ self.weight.to(q.dtype), k, 1.0

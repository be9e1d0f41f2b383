"""Additive scores: ``w . tanh(U q + V k)``.

Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate",
https://arxiv.org/abs/1409.0473
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.backends.base import expand_heads
from attncli.attention.mechanisms.base import Mechanism, Support


class Additive(Mechanism):
    """A one-layer net of head width scores each pair; a head has ``query``, ``key`` [D, D], ``score`` [D]."""

    name = "additive"
    time = "O(T^2 D), with a tanh for each feature of each pair"
    use = "alignment of two sequences as first published; a score that no product gives"
    fusable = False
    support = Support(relative=False, backends=("reference", "chunked"))

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.score_width = head_dim
        self.query = nn.Parameter(torch.empty(heads, head_dim, head_dim))
        self.key = nn.Parameter(torch.empty(kv_heads, head_dim, head_dim))
        self.bias = nn.Parameter(torch.empty(heads, head_dim))
        self.score = nn.Parameter(torch.empty(heads, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Matrices keep the variance; the score vector starts small enough for even weights."""
        for matrix in (self.query, self.key):
            nn.init.normal_(matrix, std=self.head_dim**-0.5)
        nn.init.normal_(self.score, std=self.head_dim**-0.5)
        nn.init.zeros_(self.bias)

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Both through their matrices, once."""
        q = q @ self.query.to(q.dtype) + self.bias.to(q.dtype).unsqueeze(1)
        return q, k @ self.key.to(k.dtype), 1.0

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """``score . tanh(q + k)`` for every pair, [B, H, r, c]."""
        k = expand_heads(k, q.shape[1])
        pairs = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))  # [B, H, r, c, D]
        # A batched product with a vector would go row by row, and its gradient through outer products.
        return (pairs * self.score.to(q.dtype).view(1, -1, 1, 1, self.head_dim)).sum(-1)

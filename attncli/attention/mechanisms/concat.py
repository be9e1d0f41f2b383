"""Concatenated scores ("concat"): ``w . tanh(W [q; k])``.

Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", score "concat",
https://arxiv.org/abs/1508.04025. W [q; k] is W_q q + W_k k, so pairs cost one sum, as additive scores do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.backends.base import expand_heads
from attncli.attention.mechanisms.base import Mechanism, Support


class Concat(Mechanism):
    """One hidden layer over query and key: a head has ``hidden`` [D, 2 D] and ``score`` [D], no biases."""

    name = "concat"
    time = "O(T^2 D), with a tanh for each feature of each pair"
    use = "alignment of two sequences, beside additive: the same score by one matrix"
    fusable = False
    support = Support(relative=False, backends=("reference", "chunked"))

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.score_width = head_dim
        self.hidden = nn.Parameter(torch.empty(heads, head_dim, 2 * head_dim))
        self.score = nn.Parameter(torch.empty(heads, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The hidden layer keeps the variance of its input; the score vector starts with even weights."""
        nn.init.normal_(self.hidden, std=(2 * self.head_dim) ** -0.5)
        nn.init.normal_(self.score, std=self.head_dim**-0.5)

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Each through its half of the hidden layer; keys then stand once for each query head."""
        left, right = self.hidden.chunk(2, -1)  # [H, D, D] each
        k = expand_heads(k, self.heads)
        return q @ left.transpose(-1, -2).to(q.dtype), k @ right.transpose(-1, -2).to(k.dtype), 1.0

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """``score . tanh(q + k)`` for every pair, [B, H, r, c]."""
        pairs = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))  # [B, H, r, c, D]
        return (pairs * self.score.to(q.dtype).view(1, -1, 1, 1, self.head_dim)).sum(-1)

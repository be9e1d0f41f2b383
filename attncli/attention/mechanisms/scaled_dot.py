"""Scaled dot product: ``softmax(q k^T / sqrt(D)) v``.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762
"""

from __future__ import annotations

from torch import Tensor

from attncli.attention.mechanisms.base import Mechanism


class ScaledDot(Mechanism):
    """Products over the square root of the head width."""

    name = "scaled_dot"
    use = "by default: exact, and the fastest of the exact ones"

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """As they are, with the scale."""
        return q, k, q.shape[-1] ** -0.5

"""Dilated window: every ``dilation``-th place, ``window`` of them on each side.

    weights = softmax over { j : |i - j| <= window dilation, i - j a multiple of dilation }

Child et al. 2019, "Generating Long Sequences with Sparse Transformers", https://arxiv.org/abs/1904.10509;
Beltagy et al. 2020, "Longformer", https://arxiv.org/abs/2004.05150
"""

from __future__ import annotations

from attncli.attention.mechanisms.sparse import SparseDot
from attncli.attention.patterns import Dilated


class DilatedWindow(SparseDot):
    """Scaled dot products with the places of a widened window."""

    name = "dilated"
    time = "O(T window D)"
    use = "a wide view at the cost of a window, beside layers that see the near"

    def __init__(
        self, *, heads: int, kv_heads: int, head_dim: int, window: int = 64, dilation: int = 2
    ) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.at_least(window=(window, 1), dilation=(dilation, 1))
        self.rule = Dilated(window, dilation)
        self.options = {"window": window, "dilation": dilation}

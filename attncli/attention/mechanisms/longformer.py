"""Longformer: a sliding window, and a few global tokens that see all and are seen by all.

    weights = softmax over { j : |i - j| <= window, or i or j < global_tokens }

Beltagy et al. 2020, "Longformer: The Long-Document Transformer", https://arxiv.org/abs/2004.05150. There
global tokens have projections of their own; here all tokens share theirs.
"""

from __future__ import annotations

from attncli.attention.mechanisms.sparse import SparseDot
from attncli.attention.patterns import WindowAndGlobal


class Longformer(SparseDot):
    """Scaled dot products under the rule; the first ``global_tokens`` places are the global ones."""

    name = "longformer"
    by_place = True
    time = "O(T (window + globals) D)"
    use = "long documents with a token that stands for the whole, such as [CLS]"

    def __init__(
        self, *, heads: int, kv_heads: int, head_dim: int, window: int = 64, global_tokens: int = 1
    ) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.at_least(window=(window, 1), global_tokens=(global_tokens, 0))
        self.rule = WindowAndGlobal(window, global_tokens)
        self.options = {"window": window, "global_tokens": global_tokens}

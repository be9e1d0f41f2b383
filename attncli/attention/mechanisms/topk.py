"""Ranked attention: softmax over the ``k`` highest scores of each query, the others are ignored.

Zhao et al. 2019, "Explicit Sparse Transformer", https://arxiv.org/abs/1912.11637;
Gupta et al. 2021, "Memory-efficient Transformers via Top-k Attention", https://arxiv.org/abs/2106.06899
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.attention.mechanisms.base import Mechanism, Support
from attncli.errors import RecipeError


class TopK(Mechanism):
    """Scaled dot product over the ``topk`` best keys; keys level with the last one are kept too."""

    name = "topk"
    use = "when few keys should count for each query; the scores still cost T^2"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, topk: int = 8) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if topk < 1:
            raise RecipeError(
                f"mechanism topk needs topk, the keys kept for each query, at least 1; it is {topk}"
            )
        self.topk = topk

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """As they are, with the scale."""
        return q, k, q.shape[-1] ** -0.5

    def normalise(self, scores: Tensor) -> Tensor:
        """Softmax over the best."""
        if self.topk < scores.shape[-1]:
            least = scores.detach().topk(self.topk, -1, sorted=True).values[..., -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        return torch.softmax(scores, -1)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"topk={self.topk}"

"""A learnt term of the scores for each head and bucket of distances.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
https://arxiv.org/abs/1910.10683
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attncli.attention.positions.base import Bias, DistanceBias, Position


class T5Buckets(Position):
    """``weight`` [buckets, H]: near distances have a bucket each, farther ones share, up to ``max_distance``.

    Bidirectional attention gives half of the buckets to each side; causal attention gives all to the past.
    """

    name = "t5"

    def __init__(
        self, heads: int, *, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.buckets, self.max_distance, self.bidirectional = buckets, max_distance, bidirectional
        self.weight = nn.Parameter(torch.empty(buckets, heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small, so that training starts from content."""
        nn.init.normal_(self.weight, std=0.02)

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of each distance (key place minus query place), int64."""
        count = self.buckets
        if self.bidirectional:
            count //= 2
            side = (distance > 0).long() * count
            away = distance.abs()
        else:
            side = torch.zeros_like(distance)
            away = (-distance).clamp(min=0)
        exact = count // 2
        ratio = torch.log(away.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (ratio * (count - exact)).long()).clamp(max=count - 1)
        return side + torch.where(away < exact, away, far)

    def bias(
        self,
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> Bias:
        """The term, learnt through ``weight``."""

        def rule(distance: Tensor, weight: Tensor) -> Tensor:
            return weight[self.bucket(distance)]  # [..., H]

        return DistanceBias(rule, (self.weight,), queries, keys, device, q_positions, k_positions)

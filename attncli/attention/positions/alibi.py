"""Attention with linear biases: scores fall with distance, at a fixed rate for each head.

Press et al. 2022, "Train Short, Test Long", https://arxiv.org/abs/2108.12409. The distance is absolute,
so that bidirectional attention is symmetric; under a causal mask this is the published form.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attncli.attention.positions.base import Bias, DistanceBias, Position


class Alibi(Position):
    """No parameters; slopes are 2^(-8/H), 2^(-16/H), ... for H a power of two, interleaved otherwise."""

    name = "alibi"

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.slopes: Tensor
        self.register_buffer("slopes", torch.tensor(slopes(heads)), persistent=False)

    def bias(
        self,
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> Bias:
        """``-slope |distance|``."""

        def rule(distance: Tensor) -> Tensor:
            return distance.abs().unsqueeze(-1) * -self.slopes.to(distance.device)  # [..., H]

        return DistanceBias(rule, (), queries, keys, device, q_positions, k_positions)


def slopes(heads: int) -> list[float]:
    """The published slopes for any number of heads."""
    below = 2 ** math.floor(math.log2(heads))
    found = [2.0 ** (-8.0 * (i + 1) / below) for i in range(below)]
    between = [2.0 ** (-4.0 * (2 * i + 1) / below) for i in range(heads - below)]
    return found + between

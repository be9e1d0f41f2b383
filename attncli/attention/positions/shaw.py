"""Relative positions as keys and values, clipped at a distance.

Shaw et al. 2018, "Self-Attention with Relative Position Representations", https://arxiv.org/abs/1803.02155

The queries meet only the 2 R + 1 distance vectors, and weights are summed by distance before they meet
their values: no tensor of T x T x D is made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.positions.base import Bias, Position, explicit_distance


class Shaw(Position):
    """``key`` and ``value`` [2 R + 1, D]: a vector for each distance from -R to R, shared by all heads."""

    name = "shaw"

    def __init__(self, head_dim: int, *, clip: int = 16) -> None:
        super().__init__()
        self.clip = clip
        self.key = nn.Parameter(torch.empty(2 * clip + 1, head_dim))
        self.value = nn.Parameter(torch.empty(2 * clip + 1, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small, so that training starts from content."""
        nn.init.normal_(self.key, std=0.02)
        nn.init.normal_(self.value, std=0.02)

    def bias(
        self,
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> Bias:
        """The term and the addition to the output."""
        if q_positions is None:
            q_positions = torch.arange(keys - queries, keys, device=device).unsqueeze(0)
            k_positions = torch.arange(keys, device=device).unsqueeze(0)
        return _ShawTerm(self, q_positions, k_positions)


class _ShawTerm(Bias):
    needs_query = True

    def __init__(self, position: Shaw, q_positions: Tensor, k_positions: Tensor) -> None:
        self.position = position
        self.sources = (position.key, position.value)
        self.places = q_positions, k_positions

    def at(self, rows: slice, cols: slice, *sources: Tensor) -> float:
        """Nothing without the queries."""
        return 0.0

    def _index(self, rows: slice, cols: slice) -> Tensor:
        clip = self.position.clip
        return (
            explicit_distance(*self.places, rows, cols).clamp(-clip, clip).add(clip).unsqueeze(1)
        )  # [B|1, 1, r, c]

    def scores(self, q: Tensor, rows: slice, cols: slice) -> Tensor:
        """``q . key[distance]``, [B, H, r, c]."""
        met = q @ self.position.key.to(q.dtype).t()  # [B, H, r, 2 R + 1]
        index = self._index(rows, cols)
        return met.gather(-1, index.expand(*q.shape[:3], index.shape[-1]))

    def values(self, weights: Tensor, rows: slice, cols: slice) -> Tensor:
        """Weights summed by distance, times ``value``: [B, H, r, D]."""
        value = self.position.value.to(weights.dtype)
        index = self._index(rows, cols).expand(weights.shape)
        summed = weights.new_zeros(*weights.shape[:3], value.shape[0]).scatter_add(-1, index, weights)
        return summed @ value

"""A learnt term of the scores for each head and each distance in rows and columns of a square window.

Liu et al. 2021, "Swin Transformer", https://arxiv.org/abs/2103.14030, section 3.2
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.positions.base import Bias, DenseBias, Position
from attncli.errors import RecipeError


class RelativeGrid(Position):
    """``weight`` [(2 window - 1)^2, H]: queries and keys are the places of one window, row by row."""

    name = "grid"

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.weight = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        row, column = torch.arange(window * window) // window, torch.arange(window * window) % window
        down, right = (place.unsqueeze(1) - place + window - 1 for place in (row, column))
        self.register_buffer("number", down * (2 * window - 1) + right, persistent=False)  # [w^2, w^2]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small, so that training starts from content."""
        nn.init.trunc_normal_(self.weight, std=0.02)

    def bias(
        self,
        queries: int,
        keys: int,
        device: torch.device,
        q_positions: Tensor | None = None,
        k_positions: Tensor | None = None,
    ) -> Bias:
        """The term, learnt through ``weight``."""
        if (queries, keys) != tuple(self.number.shape) or q_positions is not None:
            raise RecipeError(
                f"position grid is for the {self.number.shape[0]} places of a window in order, "
                f"not for {queries} queries and {keys} keys"
            )
        return DenseBias(self.weight[self.number].permute(2, 0, 1))  # [H, w^2, w^2]

"""Learnt absolute positions, added to the input.

Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", https://arxiv.org/abs/1705.03122;
Devlin et al. 2019, "BERT", https://arxiv.org/abs/1810.04805
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.positions.base import Position
from attncli.errors import DataError


class Learned(Position):
    """One vector for each of ``max_length`` places: ``weight`` [max_length, C]."""

    name = "learned"
    absolute = True

    def __init__(self, width: int, max_length: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, width))
        self.std = std
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, as in BERT."""
        nn.init.normal_(self.weight, std=self.std)

    def embed(self, x: Tensor, positions: Tensor | None = None, start: int = 0) -> Tensor:
        """``x`` [B, T, C] plus the vector of each position. Longer input is a :class:`DataError`."""
        if positions is not None:
            return x + F.embedding(positions, self.weight).to(x.dtype)
        end = start + x.shape[1]
        if end > self.weight.shape[0]:
            raise DataError(f"{end} tokens, but the model has learnt {self.weight.shape[0]} positions")
        return x + self.weight[start:end].to(x.dtype)

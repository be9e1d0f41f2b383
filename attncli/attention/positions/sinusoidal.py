"""Sinusoidal positions, added to the input.

Vaswani et al. 2017, "Attention Is All You Need", section 3.5, https://arxiv.org/abs/1706.03762
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attncli.attention.positions.base import Position


class Sinusoidal(Position):
    """Sines in even channels, cosines in odd ones, of wavelengths 2 pi to ``base`` times that. Any length.

    ``halves`` orders the channels otherwise: first all sines, then all cosines (tensor2tensor, Marian).
    """

    name = "sinusoidal"
    absolute = True

    def __init__(self, width: int, *, base: float = 10000.0, halves: bool = False) -> None:
        super().__init__()
        self.width, self.base, self.halves = width, base, halves
        self._table: Tensor | None = None

    def embed(self, x: Tensor, positions: Tensor | None = None, start: int = 0) -> Tensor:
        """``x`` [B, T, C] plus the code of each position."""
        end = start + x.shape[1]
        if positions is None and not isinstance(end, int):  # a graph of any length: nothing is kept
            positions = torch.arange(start, end, device=x.device)
        if positions is None:
            if self._table is None or self._table.shape[0] < end or self._table.device != x.device:
                count = max(64, 2 ** math.ceil(math.log2(end)))
                with torch.inference_mode(False):
                    self._table = self.codes(torch.arange(count, device=x.device))
            code = self._table[start:end]
        else:
            code = self.codes(positions)
        return x + code.to(x.dtype)

    def codes(self, positions: Tensor) -> Tensor:
        """The code [..., C] of integer positions [...], float32."""
        channel = torch.arange(0, self.width, 2, device=positions.device, dtype=torch.float32)
        rate = torch.exp(channel * (-math.log(self.base) / self.width))  # [ceil(C / 2)]
        angle = positions.unsqueeze(-1).float() * rate
        if self.halves:
            return torch.cat((angle.sin(), angle.cos()), -1)[..., : self.width]
        return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2)[..., : self.width]

"""From bytes to numbers around zero: the first layer of models that see pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """``(x / 255 - mean) / std`` by channel; ``mean`` and ``std`` [K] are stored with the weights."""

    def __init__(self, channels: int, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        mean = torch.full((channels,), 0.5) if mean is None else mean
        std = torch.full((channels,), 0.5) if std is None else std
        self.register_buffer("mean", mean.float().clone())
        self.register_buffer("std", std.float().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, H, W] uint8, or float from 0 to 255, to float of the same shape."""
        scale = 1.0 / (255.0 * self.std)
        shift = -self.mean / self.std
        return torch.addcmul(shift[:, None, None], x.to(scale.dtype), scale[:, None, None])

"""Squeeze and excitation: the mean of every channel decides how much of each channel passes.

    out = x * sigmoid(W2 relu(W1 mean(x) + b1) + b2),  the mean over all places

Hu et al. 2017, "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.images.base import ImageAttention
from attncli.attention.recording import record_map
from attncli.errors import RecipeError


class SqueezeExcite(ImageAttention):
    """Parameters: ``down`` [C / reduction, C] and ``up`` [C, C / reduction] with biases."""

    name = "squeeze_excite"
    takes = "feature maps [B, C, H, W] to the same"
    time = "O(H W C + C^2 / reduction)"
    use = "after the convolutions of a block, for little; it sees which features are there, not where"
    seen = "factors [B, C, 1, 1]"

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise RecipeError(
                f"squeeze_excite needs channels and reduction of 1 or more: {channels}, {reduction}"
            )
        inner = max(1, channels // reduction)
        self.down, self.up = nn.Linear(channels, inner), nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] with its channels weighted."""
        factor = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3))))))[:, :, None, None]
        record_map(self, factor)
        return x * factor

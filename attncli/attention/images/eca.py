"""Efficient channel attention: each channel's factor comes from its own mean and those of its neighbours.

    out = x * sigmoid(conv_k(mean(x))),  a convolution along the channels, k odd and near (log2 C + 1) / 2

Wang et al. 2019, "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
https://arxiv.org/abs/1910.03151
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attncli.attention.images.base import ImageAttention
from attncli.attention.recording import record_map
from attncli.errors import RecipeError


class EfficientChannel(ImageAttention):
    """``kernel``: channels in a convolution, odd; None follows the paper. Parameters: ``conv`` [1, 1, k]."""

    name = "eca"
    takes = "feature maps [B, C, H, W] to the same"
    time = "O(H W C)"
    use = "as squeeze_excite, for a handful of parameters"
    seen = "factors [B, C, 1, 1]"

    def __init__(self, channels: int, *, kernel: int | None = None) -> None:
        super().__init__()
        if kernel is None:
            kernel = int(math.log2(channels) / 2 + 0.5) | 1
        if kernel < 1 or kernel % 2 == 0:
            raise RecipeError(f"eca needs an odd kernel of 1 or more channels; it is {kernel}")
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] with its channels weighted."""
        means = x.mean((2, 3)).unsqueeze(1)  # [B, 1, C]
        factor = torch.sigmoid(self.conv(means)).transpose(1, 2).unsqueeze(-1)  # [B, C, 1, 1]
        record_map(self, factor)
        return x * factor

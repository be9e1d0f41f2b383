"""Convolutional block attention: channels are weighted first, then places.

    x' = x * sigmoid(mlp(mean(x)) + mlp(max(x)))                 mean and maximum over all places
    out = x' * sigmoid(conv([mean(x'); max(x')]))                mean and maximum over the channels

Woo et al. 2018, "CBAM: Convolutional Block Attention Module", https://arxiv.org/abs/1807.06521
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.images.base import ImageAttention
from attncli.attention.recording import record_map
from attncli.errors import RecipeError


class CBAM(ImageAttention):
    """Parameters: ``down``, ``up`` (the mlp, with biases) and ``place`` [1, 2, kernel, kernel], without."""

    name = "cbam"
    takes = "feature maps [B, C, H, W] to the same"
    time = "O(H W (C + kernel^2) + C^2 / reduction)"
    use = "where it matters not only which features count but also where in the picture"
    seen = "factors [B, C, 1, 1] of the channels, then [B, 1, H, W] of the places"

    def __init__(self, channels: int, *, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        if channels < 1 or reduction < 1 or kernel < 1 or kernel % 2 == 0:
            raise RecipeError(
                "cbam needs channels and reduction of 1 or more and an odd kernel, "
                f"not {channels}, {reduction} and {kernel}"
            )
        inner = max(1, channels // reduction)
        self.down, self.up = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.place = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W] with its channels and its places weighted."""
        sizes = torch.stack([x.mean((2, 3)), x.amax((2, 3))])  # [2, B, C]
        channel = torch.sigmoid(self.up(torch.relu(self.down(sizes))).sum(0))[:, :, None, None]
        record_map(self, channel)
        x = x * channel
        place = torch.sigmoid(self.place(torch.cat([x.mean(1, True), x.amax(1, True)], 1)))  # [B, 1, H, W]
        record_map(self, place)
        return x * place

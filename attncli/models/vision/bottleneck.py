"""Transformer layers on the lowest level of a U-Net: every place sees every other (TransUNet).

Chen et al. 2021, "TransUNet", https://arxiv.org/abs/2102.04306
"""

from __future__ import annotations

from torch import Tensor, nn

from attncli.layers import initialise
from attncli.models.config import TransformerConfig
from attncli.models.parts import ABSOLUTE, build_stack, position_of


class Bottleneck(nn.Module):
    """Pre-norm layers of :class:`attncli.attention.Attention` on the grid of the configuration."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.position = position_of(config, config.width) if config.position in ABSOLUTE else None
        self.stack = build_stack(config, causal=False)
        initialise(self.stack)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)  # [B, H W, C]
        if self.position is not None:
            tokens = self.position.embed(tokens)
        return self.stack(tokens).transpose(1, 2).unflatten(2, (height, width))

"""Transformer layers on the lowest level of a U-Net: every place sees every other (TransUNet).

Chen et al. 2021, "TransUNet", https://arxiv.org/abs/2102.04306
"""

from __future__ import annotations

from torch import Tensor, nn

from attncli.layers import initialise
from attncli.models.config import TransformerConfig
from attncli.models.parts import build_stack
from attncli.models.vision.unet_config import UNetConfig


class Bottleneck(nn.Module):
    """Pre-norm layers of :class:`attncli.attention.Attention` on a grid of fixed size."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        rows, columns = config.grid
        self.stack = build_stack(
            TransformerConfig(
                vocabulary=1,
                length=rows * columns,
                layers=config.layers,
                width=width,
                intermediate=4 * width,
                heads=config.heads,
                kv_heads=config.kv_heads,
                mechanism=config.mechanism,
                mechanism_options=config.mechanism_options,
                position=config.position,
                attention_dropout=config.attention_dropout,
                qk_norm=config.qk_norm,
                backend=config.backend,
                norm="pre",
                norm_epsilon=1e-6,
                dropout=config.dropout,
            ),
            causal=False,
        )
        initialise(self.stack)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)  # [B, H W, C]
        return self.stack(tokens).transpose(1, 2).unflatten(2, (height, width))

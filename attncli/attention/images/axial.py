"""Axial attention: every place attends along its row, then along its column.

    y = attention over each row of x,  out = attention over each column of y

Two steps reach every place from every other, at a cost of O(H W (H + W)) in the place of O(H^2 W^2).

Ho et al. 2019, "Axial Attention in Multidimensional Transformers", https://arxiv.org/abs/1912.12180;
Wang et al. 2020, "Axial-DeepLab", https://arxiv.org/abs/2003.07853
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attncli.attention.images.base import ImageAttention
from attncli.attention.module import Attention
from attncli.attention.positions import build_position


class AxialAttention(ImageAttention):
    """``rows`` and ``columns`` are each an :class:`Attention` with its own parameters.

    ``position`` is a scheme that acts inside attention (rotary, t5, alibi, shaw), counted along each axis.
    The other options are those of :class:`Attention`: heads, kv_heads, mechanism, dropout, ...
    """

    name = "axial"
    takes = "a grid of tokens [B, H, W, C] to the same"
    time = "O(H W (H + W) C), with exact attention"
    use = "large grids, where attention between all places would not fit"
    seen = "weights [B H, heads, W, W] of the rows, then [B W, heads, H, H] of the columns"

    def __init__(self, width: int, *, heads: int, position: str | None = None, **options: Any) -> None:
        super().__init__()
        head_dim = options.get("head_dim") or width // heads
        self.rows, self.columns = (
            Attention(
                width,
                heads=heads,
                position=build_position(position, width=width, heads=heads, head_dim=head_dim, max_length=1),
                **options,
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor, mask: None = None, cache: None = None, positions: None = None) -> Tensor:
        """``x`` [B, H, W, C] to the same. The rest is what a block of layers hands on: it must be None."""
        self.only_grids(mask, cache, positions)
        rows = self.rows(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # [B, H, W, C]
        turned = rows.transpose(1, 2)  # [B, W, H, C]
        return self.columns(turned.flatten(0, 1)).unflatten(0, turned.shape[:2]).transpose(1, 2)

"""Linformer: keys and values are projected along the sequence to few rows.

    out = softmax(q (E_h k)^T / sqrt(D)) (F_h v),  E_h, F_h [rank, T]

Wang et al. 2020, "Linformer: Self-Attention with Linear Complexity", https://arxiv.org/abs/2006.04768
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.backends.base import expand_heads
from attncli.attention.masks import Mask
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.mechanisms.keys import WHOLE_SEQUENCES, kept_keys
from attncli.errors import RecipeError
from attncli.ops.dropout import dropout as drop


class Linformer(Mechanism):
    """Parameters: ``key`` and ``value`` [K, rank, length]; shorter sequences use their first columns.

    Padded keys and values are zero before they are projected.
    """

    name = "linformer"
    support = WHOLE_SEQUENCES
    time = "O(T rank D)"
    use = "encoders of a known length, where the gist of the sequence suffices"

    def __init__(
        self, *, heads: int, kv_heads: int, head_dim: int, rank: int = 64, length: int = 512
    ) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if rank < 1 or length < 1:
            raise RecipeError(f"mechanism linformer needs rank and length of 1 or more, not {rank}, {length}")
        self.rank, self.length = rank, length
        self.key = nn.Parameter(torch.empty(kv_heads, rank, length))
        self.value = nn.Parameter(torch.empty(kv_heads, rank, length))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Rows that add up ``length`` random places to the size of one."""
        for projection in (self.key, self.value):
            nn.init.normal_(projection, std=self.length**-0.5)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, bias: Any, dropout: float) -> Tensor:
        """Heads to heads, [B, H, T, D]."""
        heads, length = q.shape[1], k.shape[2]
        if length > self.length:
            raise RecipeError(
                f"mechanism linformer has length={self.length}, and this sequence has {length} places",
                then=f"set length={length} for it or give shorter sequences",
            )
        keep = kept_keys(mask, self.name)
        if keep is not None:
            k, v = (x.masked_fill(~keep[:, None, :, None], 0) for x in (k, v))
        k = self.key[:, :, :length].to(k.dtype) @ k  # [B, K, rank, D]
        v = self.value[:, :, :length].to(v.dtype) @ v
        k, v = expand_heads(k, heads), expand_heads(v, heads)
        if dropout == 0.0:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)  # [B, H, T, rank]
            out = drop(weights, dropout) @ v
        return out if keep is None else out.masked_fill(~keep.any(1).view(-1, 1, 1, 1), 0)

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"rank={self.rank}, length={self.length}"

"""Attention whose queries and keys carry codes of where they are, and whose values do not.

Detectors attend by what is seen and by where it lies (Carion et al. 2020). The heads are the core's.

Legend: B pictures, Tq queries, Tk keys, C width, H heads, D head width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from attncli.attention import build_mechanism
from attncli.attention.functional import compute
from attncli.attention.masks import Mask
from attncli.attention.positions.base import DenseBias
from attncli.attention.table import require
from attncli.recipe.sections import AttentionSection


class CodedAttention(nn.Module):
    """``out(mechanism(query(x + code), key(context + context_code), value(context)))``.

    ``section`` has mechanism, heads, kv_heads, dropout, qk_norm and backend.
    """

    def __init__(self, width: int, section: AttentionSection) -> None:
        super().__init__()
        heads = section.heads or 8
        kv_heads = section.kv_heads or heads
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        options: dict[str, Any] = section.options()
        self.mechanism = build_mechanism(
            section.mechanism, heads=heads, kv_heads=kv_heads, head_dim=self.head_dim, **options
        )
        if kv_heads != heads:
            require(self.mechanism, "gqa", "fewer key/value heads than query heads")
        self.dropout, self.backend = section.dropout, section.backend
        self.query = nn.Linear(width, heads * self.head_dim)
        self.key = nn.Linear(width, kv_heads * self.head_dim)
        self.value = nn.Linear(width, kv_heads * self.head_dim)
        self.out = nn.Linear(heads * self.head_dim, width)
        self.query_norm = nn.RMSNorm(self.head_dim, eps=1e-6) if section.qk_norm else nn.Identity()
        self.key_norm = nn.RMSNorm(self.head_dim, eps=1e-6) if section.qk_norm else nn.Identity()
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        code: Tensor | None = None,
        context_code: Tensor | None = None,
        mask: Mask | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """``x`` [B, Tq, C] attends to itself or to ``context`` [B, Tk, C]: [B, Tq, C].

        ``code`` and ``context_code`` broadcast to the two (without a context the code is both's); ``bias``, a
        term of the scores, to [B, H, Tq, Tk].
        """
        if context is None:
            context, context_code = x, code
        q = self.query_norm(self._split(self.query(_with(x, code)), self.heads))
        k = self.key_norm(self._split(self.key(_with(context, context_code)), self.kv_heads))
        v = self._split(self.value(context), self.kv_heads)
        y = compute(
            self.mechanism,
            q,
            k.to(q.dtype),
            v,
            mask,
            None if bias is None else DenseBias(bias.to(v.dtype)),
            self.dropout if self.training else 0.0,
            self.backend,
            self,
        )
        return self.out(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)  # [B, heads, T, D]


def _with(x: Tensor, code: Tensor | None) -> Tensor:
    return x if code is None else x + code.to(x.dtype)


def sine_code(values: Tensor, width: int, *, period: float = 10000.0, scale: float = 2 * math.pi) -> Tensor:
    """Sines and cosines of each of the last dimension's numbers, side by side: [..., n] to [..., width].

    Each number, about 0 to 1, gets ``width / n`` features, of wavelengths in a geometric row (Vaswani et al.
    2017; of pictures, Carion et al. 2020).
    """
    each = width // values.shape[-1]
    steps = torch.arange((each + 1) // 2, device=values.device, dtype=torch.float32)
    angles = values.float().unsqueeze(-1) * scale / period ** (2 * steps / each)  # [..., n, each / 2]
    code = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)[..., :each]  # [..., n, each]
    flat = code.flatten(-2)
    return nn.functional.pad(flat, (0, width - flat.shape[-1]))


def map_code(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Codes of the places of a map, row by row: [H W, C]."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    places = torch.stack([y.view(-1, 1).expand(height, width), x.view(1, -1).expand(height, width)], -1)
    return sine_code(places.view(-1, 2), channels, period=100.0)

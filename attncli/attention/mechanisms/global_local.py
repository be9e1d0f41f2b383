"""Global plus local: each head mixes attention to everything with attention to a window, by a learnt gate.

    out = g_h softmax(s) v + (1 - g_h) softmax(s, |i - j| <= window) v,  g_h = sigmoid(gate_h)

Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation" (global and local),
https://arxiv.org/abs/1508.04025; gated as in Wu et al. 2022, "Memorizing Transformers",
https://arxiv.org/abs/2203.08913
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.masks import Mask, Places, Window
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.attention.patterns import ByHalf
from attncli.errors import RecipeError


class GlobalLocal(ScaledDot):
    """Parameter ``gate`` [H] starts at 0: half and half. ``window`` places on each side."""

    name = "global_local"
    support = Support(cross=False, bias=False, relative=False, backends=("reference", "fused", "chunked"))
    use = "where both the neighbourhood and the whole matter, and heads should choose; twice the cost"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, window: int = 64) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if window < 0:
            raise RecipeError(f"mechanism global_local: window is {window}; it must not be negative")
        self.window = window
        self.gate = nn.Parameter(torch.zeros(heads))

    def reset_parameters(self) -> None:
        """Half and half."""
        nn.init.zeros_(self.gate)

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Heads twice: those that see all, then those that see the window."""
        return torch.cat([q, q], 1), torch.cat([k, k], 1), q.shape[-1] ** -0.5

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask, and for the second half the window too."""
        window = Window(self.window, self.window, places)
        return ByHalf(self.heads, mask, window if mask is None else mask & window)

    def values(self, v: Tensor) -> Tensor:
        """For both halves."""
        return torch.cat([v, v], 1)

    def finish(self, out: Tensor, q: Tensor) -> Tensor:
        """The two by the gate."""
        return self.combine(out)

    def combine(self, weights: Tensor) -> Tensor:
        """The two by the gate."""
        first, second = weights.chunk(2, 1)
        share = torch.sigmoid(self.gate).to(weights.dtype).view(-1, 1, 1)
        return share * first + (1 - share) * second

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"window={self.window}"

"""Self-attention mixed with convolution: each head adds a learnt kernel over distances to its weights.

    weights = g_h softmax(s) + (1 - g_h) c_h,  c_h = softmax over |i - j| <= kernel / 2 of taps_h[j - i]
    g_h = sigmoid(gate_h)

The second part is a lightweight convolution (a kernel of each head, normalised by softmax).

Wu et al. 2019, "Pay Less Attention with Lightweight and Dynamic Convolutions", https://arxiv.org/abs/1901.10430;
mixed with attention as in Wu et al. 2020, "Lite Transformer", https://arxiv.org/abs/2004.11886
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.errors import RecipeError


class Convolution(ScaledDot):
    """Parameters: ``taps`` [H, kernel], from left to right, and ``gate`` [H]; all start at 0.

    What a mask hides has no share in the kernel's softmax either, so that causality holds.
    """

    name = "convolution"
    fusable = False
    placed = True
    support = Support(cross=False, backends=("reference", "chunked"))
    use = "where neighbours matter for their place, whatever they say, as in speech and images"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, kernel: int = 15) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if kernel < 1 or kernel % 2 == 0:
            raise RecipeError(f"mechanism convolution needs an odd kernel; it is {kernel}")
        self.kernel = kernel
        self.taps = nn.Parameter(torch.zeros(heads, kernel))
        self.gate = nn.Parameter(torch.zeros(heads))

    def reset_parameters(self) -> None:
        """Even kernels, half and half."""
        nn.init.zeros_(self.taps)
        nn.init.zeros_(self.gate)

    def normalise_placed(self, scores: Tensor, away: Tensor) -> Tensor:
        """The two by the gate; a row that sees nothing inside the kernel has attention's share alone."""
        side = self.kernel // 2
        near = (away.abs() <= side) & (scores > -torch.inf)  # [B, H, r, c]
        flat = away.clamp(-side, side) + side
        taps = self.taps.to(scores.dtype)[:, flat]  # [H, r, c] or [H, B, 1, r, c]
        taps = taps.squeeze(2).transpose(0, 1) if taps.ndim == 5 else taps
        power = torch.where(near, torch.exp(taps - taps.detach().amax()), 0.0)
        kernel = power / power.sum(-1, keepdim=True).clamp(min=1e-30)
        share = torch.sigmoid(self.gate).to(scores.dtype).view(-1, 1, 1)
        return share * torch.softmax(scores, -1) + (1 - share) * kernel

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"kernel={self.kernel}"

"""Additive gate: what a coarser layer knows decides which places of a skip connection pass.

    a = sigmoid(psi relu(W_x x + W_g g + b) + b_psi),  out = a * x

W_x steps over the skip ``x`` as much as the gating signal ``g`` is coarser, and ``a`` is interpolated to the
size of ``x`` (bilinear). Gates start nearly open.

Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the Pancreas", https://arxiv.org/abs/1804.03999
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.images.base import ImageAttention
from attncli.attention.recording import record_map
from attncli.errors import RecipeError


class AdditiveGate(ImageAttention):
    """A skip of ``skip`` channels, gated by a signal of ``gating`` channels, ``step`` times coarser.

    Parameters: ``of_skip`` [inner, skip, step, step] without bias, ``of_gating`` [inner, gating, 1, 1] and
    ``score`` [1, inner, 1, 1]; ``inner`` is half of ``skip`` if not given.
    """

    name = "additive_gate"
    takes = "a skip [B, C, H, W] and a coarser signal [B, C', H', W'] to the skip, gated"
    time = "O(H W C inner)"
    use = "on the skip connections of a U-Net, where the object is small and its surroundings are loud"
    seen = "factors [B, 1, H, W]"

    def __init__(self, skip: int, gating: int, *, inner: int | None = None, step: int = 2) -> None:
        super().__init__()
        inner = max(1, skip // 2) if inner is None else inner
        if min(skip, gating, inner, step) < 1:
            raise RecipeError(
                "additive_gate needs skip, gating, inner and step of 1 or more, "
                f"not {skip}, {gating}, {inner} and {step}"
            )
        self.of_skip = nn.Conv2d(skip, inner, step, stride=step, bias=False)
        self.of_gating = nn.Conv2d(gating, inner, 1)
        self.score = nn.Conv2d(inner, 1, 1)
        nn.init.constant_(self.score.bias, 2.0)

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """``skip`` [B, C, H, W] times the gate; ``gating`` [B, C', H', W'] of any size."""
        own, other = self.of_skip(skip), self.of_gating(gating)  # [B, inner, H / step, W / step]
        if other.shape[2:] != own.shape[2:]:
            other = F.interpolate(other, own.shape[2:], mode="bilinear", align_corners=False)
        factor = torch.sigmoid(self.score(torch.relu(own + other)))
        if factor.shape[2:] != skip.shape[2:]:
            factor = F.interpolate(factor, skip.shape[2:], mode="bilinear", align_corners=False)
        record_map(self, factor)
        return skip * factor

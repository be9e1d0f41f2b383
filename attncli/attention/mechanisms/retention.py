"""Retention: products that fade with distance, by a rate for each head, without softmax.

    weights_ij = q_i k_j / sqrt(D)  g_h^|i - j|,  g_h = 1 - 2^(-5 - h),  then RMSNorm of each head's output

Recurrent, chunked and parallel forms agree; here the formula is the parallel one, the ``linear`` backend the
chunked one, and decoding with a cache the recurrent one.

Sun et al. 2023, "Retentive Network: A Successor to Transformer for Large Language Models",
https://arxiv.org/abs/2307.08621
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.kernel import Kernel


class Retention(Kernel):
    """Fixed decays; no parameters. Without causality the decay counts in both directions."""

    name = "retention"
    placed = True
    decays = True
    recurrent = True
    divides = False
    support = Support(bias=False, relative=False, cross=False, backends=("reference", "chunked", "linear"))
    time = "O(T D^2)"
    use = "long text read from left to right, where recency matters"

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """As they are, with the scale."""
        return q, k, q.shape[-1] ** -0.5

    def decay(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """``1 - 2^(-5 - h)``, from the first head's 31/32 towards 1."""
        return 1 - 2.0 ** -(5 + torch.arange(self.heads, dtype=dtype, device=device))

    def normalise_placed(self, scores: Tensor, away: Tensor) -> Tensor:
        """Scores times the decay; masked ones are zero."""
        rate = self.decay(scores.dtype, scores.device).log().view(-1, 1, 1)
        return scores.masked_fill(scores == -torch.inf, 0) * torch.exp(rate * away.abs().to(scores.dtype))

    def finish(self, out: Tensor, q: Tensor) -> Tensor:
        """RMSNorm of each head, in float32 at least."""
        wide = torch.promote_types(out.dtype, torch.float32)
        return F.rms_norm(out.to(wide), out.shape[-1:], eps=1e-6).to(out.dtype)

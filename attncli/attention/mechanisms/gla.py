"""Gated linear attention: products that fade feature by feature, by gates that read every token.

    S_t = diag(a_t) S_(t-1) + k_t^T v_t,  a_t = sigmoid(k_t W_h + b_h)^(1/16),  out_t = RMSNorm(q_t S_t)
    weights_ij = sum_d q_id k_jd prod(a_td for t after the earlier of i and j, up to the later) / sqrt(D)

Recurrent, chunked and parallel forms agree; here the formula is the parallel one, the ``linear`` backend the
chunked one, and decoding with a cache the recurrent one. A token's gate stands between it and the one before
it, also where attention goes both ways.

Yang et al. 2023, "Gated Linear Attention Transformers with Hardware-Efficient Training",
https://arxiv.org/abs/2312.06635. There the gates read the layer's input through a matrix of rank 16; here
they read the head's key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.backends.base import expand_heads
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.kernel import Kernel

SLOWED = 16
"""The root taken of a gate, as published: gates near 1 remember."""
LEAST = -4.0
"""Logarithm below which no gate closes further in one step, so that products of chunks stay finite."""


class GatedLinear(Kernel):
    """Parameters: ``weight`` [K, D, D], which starts at 0, and ``bias`` [K, D], at 0."""

    name = "gla"
    decays = True
    gated = True
    recurrent = True
    divides = False
    support = Support(
        bias=False, relative=False, cross=False, order=True, backends=("reference", "chunked", "linear")
    )
    time = "O(T D^2)"
    use = "long text read from left to right, where what to keep depends on what is read"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.score_width = 2 * head_dim
        self.weight = nn.Parameter(torch.empty(kv_heads, head_dim, head_dim))
        self.bias = nn.Parameter(torch.empty(kv_heads, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The same for all tokens: half a gate's weight is left after 16 of them."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """``[q; sum of logarithms up to it]`` and ``[k; logarithm of its gate; sum up to it]``."""
        wide = torch.promote_types(k.dtype, torch.float32)
        k, scale = k.to(wide), q.shape[-1] ** -0.5
        gate = F.logsigmoid(k @ self.weight.to(wide) + self.bias.to(wide).unsqueeze(1)) / SLOWED
        gate = gate.clamp(min=LEAST)  # [B, K, Tk, D]
        total = gate.cumsum(2)
        mine = expand_heads(total[:, :, k.shape[2] - q.shape[2] :], q.shape[1])
        return torch.cat([q.to(wide), mine], -1), torch.cat([k, gate, total], -1), scale

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Products of each pair under the gates between the two, [B, H, r, c]."""
        q, mine = q.chunk(2, -1)
        k, _, total = expand_heads(k, q.shape[1]).chunk(3, -1)
        between = torch.exp(-(mine.unsqueeze(3) - total.unsqueeze(2)).abs())  # [B, H, r, c, D]
        return (between * k.unsqueeze(2)).mul(q.unsqueeze(3)).sum(-1)

    def normalise(self, scores: Tensor) -> Tensor:
        """As they are; masked ones are zero."""
        return scores.masked_fill(scores == -torch.inf, 0)

    def features(self, q: Tensor, k: Tensor, shift: int) -> tuple[Tensor, Tensor]:
        """Queries and keys themselves."""
        return q[..., : self.head_dim], k[..., : self.head_dim]

    def gates(self, k: Tensor) -> Tensor:
        """Logarithms of the gates, [B, K, Tk, D]."""
        return k[..., self.head_dim : 2 * self.head_dim]

    def finish(self, out: Tensor, q: Tensor) -> Tensor:
        """RMSNorm of each head, in float32 at least."""
        wide = torch.promote_types(out.dtype, torch.float32)
        return F.rms_norm(out.to(wide), out.shape[-1:], eps=1e-6).to(q.dtype)

"""Gated attention: a sigmoid of the query opens or closes each feature of a head's output.

    out = sigmoid(q W_h + b_h) * softmax(s) v

Qiu et al. 2025, "Gated Attention for Large Language Models: Non-linearity, Sparsity, and
Attention-Sink-Free", https://arxiv.org/abs/2505.06708. There the gate reads the layer's input; here it reads
the head's query.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.scaled_dot import ScaledDot


class Gated(ScaledDot):
    """Parameters: ``weight`` [H, D, D], which starts at 0, and ``bias`` [H, D], at 2: nearly open."""

    name = "gated"
    use = "to let heads be silent without a sink token; a small further cost"

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.weight = nn.Parameter(torch.empty(heads, head_dim, head_dim))
        self.bias = nn.Parameter(torch.empty(heads, head_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Nearly open, whatever the query."""
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, 2.0)

    def finish(self, out: Tensor, q: Tensor) -> Tensor:
        """Times the gate."""
        opened = torch.sigmoid(q @ self.weight.to(q.dtype) + self.bias.to(q.dtype).unsqueeze(1))
        return out * opened.to(out.dtype)  # [B, H, Tq, D]

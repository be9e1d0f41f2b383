"""Attention with sinks: a learnt score takes part in each row's softmax and its weight goes nowhere.

    weights_j = exp(s_j) / (exp(b) + sum_i exp(s_i))

A head may so attend to nothing, which else it does by piling weight on the first token.

Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks", https://arxiv.org/abs/2309.17453;
Miller 2023, "Attention Is Off By One" (b = 0), https://www.evanmiller.org/attention-is-off-by-one.html;
learnt for each head in OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card", https://arxiv.org/abs/2508.10925
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot


class Sinks(ScaledDot):
    """Scaled dot products; ``sink`` [H] is each head's score of nothing and starts at 0."""

    name = "sinks"
    use = "streaming and low-bit models, whose heads need somewhere to look when nothing fits"
    fusable = False
    support = Support(backends=("reference", "chunked"))

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.sink = nn.Parameter(torch.zeros(heads))

    def reset_parameters(self) -> None:
        """Start at 0."""
        nn.init.zeros_(self.sink)

    def normalise(self, scores: Tensor) -> Tensor:
        """Softmax with the sink as a further column, which is then dropped."""
        sink = self.sink.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        return torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]

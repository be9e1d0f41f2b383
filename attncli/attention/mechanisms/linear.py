"""Linear attention: ``phi(x) = elu(x) + 1``, positive features in the place of the exponential.

    weights_ij = phi(q_i) phi(k_j) / sum_j phi(q_i) phi(k_j)

Katharopoulos et al. 2020, "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
https://arxiv.org/abs/2006.16236
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention.mechanisms.kernel import Kernel


class Linear(Kernel):
    """As many features as the head is wide; no parameters."""

    name = "linear"
    recurrent = True
    time = "O(T D^2)"
    use = "very long sequences where sharp look-ups matter little; the simplest of the linear kinds"

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """The features, in float32 at least."""
        wide = torch.promote_types(q.dtype, torch.float32)
        return F.elu(q.to(wide)) + 1, F.elu(k.to(wide)) + 1, 1.0

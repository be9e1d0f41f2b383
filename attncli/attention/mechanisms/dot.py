"""Plain dot product: ``softmax(q k^T) v``.

Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", score "dot",
https://arxiv.org/abs/1508.04025
"""

from __future__ import annotations

from attncli.attention.mechanisms.base import Mechanism


class Dot(Mechanism):
    """Products, unscaled."""

    name = "dot"
    use = "narrow heads, or scores scaled elsewhere; Luong's dot"

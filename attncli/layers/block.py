"""The transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from attncli.ops.dropout import dropout_add


class Block(nn.Module):
    """Attention and a feed-forward net, each with a residual connection, dropout and a norm.

    ``place="post"``: the norm follows the residual sum, as in BERT (Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762).
    ``place="pre"``: the norm stands before the sub-layer, as in GPT-2 (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745).

    ``attention_norm`` may be ``nn.Identity()``, where the input is already normalised. ``dropout`` acts on
    the output of both sub-layers.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        *,
        place: str = "post",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if place not in ("post", "pre"):
            raise ValueError(f"norm place {place!r} is none of post, pre")
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.pre = place == "pre"
        self.dropout = dropout

    def forward(self, x: Tensor, mask=None, cache=None, positions: Tensor | None = None) -> Tensor:
        """[B, T, C] to [B, T, C]; ``mask``, ``cache`` and ``positions`` as in attncli.attention.Attention."""
        rate, training = self.dropout, self.training
        if self.pre:
            y = self.attention(self.attention_norm(x), mask=mask, cache=cache, positions=positions)
            x = dropout_add(y, x, rate, training)
            return dropout_add(self.feed_forward(self.feed_forward_norm(x)), x, rate, training)
        y = self.attention(x, mask=mask, cache=cache, positions=positions)
        x = self.attention_norm(dropout_add(y, x, rate, training))
        return self.feed_forward_norm(dropout_add(self.feed_forward(x), x, rate, training))

"""The transformer block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from attncli.ops.dropout import dropout_add


class Block(nn.Module):
    """Attention and a feed-forward net, each with a residual connection, dropout and a norm.

    A decoder's block has ``cross_attention`` between the two, over a context.

    ``place="post"``: the norm follows the residual sum, as in BERT (Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762).
    ``place="pre"``: the norm stands before the sub-layer, as in GPT-2 (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745).

    ``attention_norm`` may be ``nn.Identity()``, where the input is already normalised. ``dropout`` acts on
    the output of every sub-layer.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        *,
        cross_attention: nn.Module | None = None,
        cross_attention_norm: nn.Module | None = None,
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
        self.cross_attention = cross_attention
        self.cross_attention_norm = cross_attention_norm
        self.pre = place == "pre"
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        mask=None,
        cache=None,
        positions: Tensor | None = None,
        context: Tensor | None = None,
        context_mask=None,
        context_cache=None,
    ) -> Tensor:
        """[B, T, C] to [B, T, C]; ``mask``, ``cache`` and ``positions`` as in attncli.attention.Attention.

        The context's [B, S, C'] are those of cross attention.
        """
        x = self._residual(
            x,
            self.attention_norm,
            lambda y: self.attention(y, mask=mask, cache=cache, positions=positions),
        )
        if self.cross_attention is not None:
            x = self._residual(
                x,
                self.cross_attention_norm,
                lambda y: self.cross_attention(y, context, mask=context_mask, cache=context_cache),
            )
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    @property
    def reads_one(self) -> bool:
        """Whether :meth:`first` is exact here: no position scheme or window acts inside attention."""
        attention = self.attention
        return attention.position is None and attention.mechanism.support.cross

    def first(self, x: Tensor, mask=None) -> Tensor:
        """The output at the first place alone, [B, T, C] to [B, 1, C]: a fraction of the work.

        ``mask`` as in :meth:`forward`, of keys only; ``reads_one`` must hold.
        """
        one = x[:, :1]
        if self.pre:
            x = self.attention_norm(x)
            y = self.attention(x[:, :1], x, mask=mask)
            one = dropout_add(y, one, self.dropout, self.training)
        else:
            y = self.attention(one, x, mask=mask)
            one = self.attention_norm(dropout_add(y, one, self.dropout, self.training))
        return self._residual(one, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """A sub-layer with what surrounds it."""
        if self.pre:
            return dropout_add(layer(norm(x)), x, self.dropout, self.training)
        return norm(dropout_add(layer(x), x, self.dropout, self.training))

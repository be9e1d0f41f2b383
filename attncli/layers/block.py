"""The transformer block."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attncli.ops.dropout import dropout, dropout_add


class Block(nn.Module):
    """Attention and a feed-forward net, each with a residual connection, dropout and a norm.

    A decoder's block has ``cross_attention`` between the two, over a context.

    ``place="post"``: the norm follows the residual sum, as in BERT (Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762).
    ``place="pre"``: the norm stands before the sub-layer, as in GPT-2 (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745).

    ``attention_norm`` may be ``nn.Identity()``, where the input is already normalised. ``dropout`` acts on
    the output of every sub-layer.

    ``drop_path``: stochastic depth (Huang et al. 2016, https://arxiv.org/abs/1603.09382): in training each
    example goes past a sub-layer with this probability. ``layer_scale``: the first value of a learnt factor
    for each feature of a sub-layer's output (Touvron et al. 2021, "CaiT", https://arxiv.org/abs/2103.17239).
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
        drop_path: float = 0.0,
        layer_scale: float | None = None,
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
        self.dropout, self.drop_path = dropout, drop_path
        self.attention_scale = self.feed_forward_scale = self.cross_attention_scale = None
        if layer_scale is not None:
            self.attention_scale = LayerScale(feed_forward.contract.out_features, layer_scale)
            self.feed_forward_scale = LayerScale(feed_forward.contract.out_features, layer_scale)
            if cross_attention is not None:
                self.cross_attention_scale = LayerScale(feed_forward.contract.out_features, layer_scale)

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
            self.attention_scale,
        )
        if self.cross_attention is not None:
            x = self._residual(
                x,
                self.cross_attention_norm,
                lambda y: self.cross_attention(y, context, mask=context_mask, cache=context_cache),
                self.cross_attention_scale,
            )
        return self._residual(x, self.feed_forward_norm, self.feed_forward, self.feed_forward_scale)

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
            one = self._add(self.attention(x[:, :1], x, mask=mask), one, self.attention_scale)
        else:
            y = self.attention(one, x, mask=mask)
            one = self.attention_norm(self._add(y, one, self.attention_scale))
        return self._residual(one, self.feed_forward_norm, self.feed_forward, self.feed_forward_scale)

    def _residual(
        self,
        x: Tensor,
        norm: nn.Module,
        layer: Callable[[Tensor], Tensor],
        scale: LayerScale | None = None,
    ) -> Tensor:
        """A sub-layer with what surrounds it."""
        if self.pre:
            return self._add(layer(norm(x)), x, scale)
        return norm(self._add(layer(x), x, scale))

    def _add(self, y: Tensor, x: Tensor, scale: LayerScale | None) -> Tensor:
        """What a sub-layer gave, ``y`` [B, T, C], added to its input."""
        if scale is not None:
            y = scale(y)
        if not self.training or self.drop_path == 0.0:
            return dropout_add(y, x, self.dropout, self.training)
        y = dropout(y, self.dropout, self.training)
        return torch.addcmul(x, y.to(x.dtype), kept_paths(x, self.drop_path))


class LayerScale(nn.Module):
    """A learnt factor for each feature of [..., C], ``first`` at the beginning."""

    def __init__(self, width: int, first: float) -> None:
        super().__init__()
        self.first = first
        self.weight = nn.Parameter(torch.full((width,), first))

    def reset_parameters(self) -> None:
        """As at the beginning."""
        nn.init.constant_(self.weight, self.first)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        return x * self.weight.to(x.dtype)


def kept_paths(x: Tensor, rate: float) -> Tensor:
    """A factor for each example of ``x`` [B, ...], [B, 1, ...]: 0 with probability ``rate``, else 1 / (1 -
    rate).

    On a CPU PyTorch's generator draws so few numbers in no time, and ``torch.manual_seed`` reproduces them.
    """
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    keep = torch.rand(shape, device=x.device) >= rate
    return keep.to(x.dtype) / (1.0 - rate)

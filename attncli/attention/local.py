"""Local attention around a predicted place ("local-p").

    place    p = S sigmoid(v . tanh(W h))                       S source tokens, h the query's state
    weights  softmax over |s - p| <= D, times exp(-(s - p)^2 / (2 sigma^2)),  sigma = D / 2

The Gaussian comes after the softmax, as published: a row adds up to less than one. Its gradient is what
moves the place.

Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", section 3.2,
https://arxiv.org/abs/1508.04025
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention.masks import Mask, Places
from attncli.attention.mechanisms.base import Mechanism, Support


class Place(nn.Module):
    """Where in the source each head of each query looks, from the query's state.

    Parameters: ``hidden`` [W, W] and ``score`` [H, W], without biases.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, heads, bias=False)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """States [B, Tq, W] and source lengths [B] to places [B, H, Tq], each between 0 and its length."""
        share = torch.sigmoid(self.score(torch.tanh(self.hidden(states))))  # [B, Tq, H]
        return share.transpose(1, 2) * lengths.view(-1, 1, 1).to(share.dtype)


class Near(Mask):
    """Keys at most ``window`` tokens from the query's place; ``places`` [B, H, Tq]."""

    kind = "near"

    def __init__(self, places: Tensor, window: int) -> None:
        super().__init__()
        self.places, self.window = places.detach(), window

    def allowed(self, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, shift: int) -> Tensor:
        """``|k - places[batch, head, q]| <= window``."""
        return (k - self.places[batch, head, q]).abs() <= self.window


class LocalWeights(Mechanism):
    """The weights of ``mechanism`` near ``places`` [B, H, Tq], times the Gaussian; made for one call."""

    name = "local"
    fusable = False
    support = Support(causal=False, relative=False, backends=("reference",))

    def __init__(self, mechanism: Mechanism, places: Tensor, window: int) -> None:
        super().__init__(heads=mechanism.heads, kv_heads=mechanism.kv_heads, head_dim=mechanism.head_dim)
        self.mechanism, self.places, self.window = mechanism, places, window
        self.score_width, self.mixes = mechanism.score_width, mechanism.mixes

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """As the mechanism does."""
        return self.mechanism.prepare(q, k)

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask and the window."""
        mask = self.mechanism.restrict(mask, queries, keys, places)
        near = Near(self.places, self.window)
        return near if mask is None else mask & near

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """As the mechanism does."""
        return self.mechanism.scores(q, k)

    def normalise(self, scores: Tensor) -> Tensor:
        """The mechanism's weights times the Gaussian."""
        places = self.places.to(scores.dtype).unsqueeze(-1)  # [B, H, Tq, 1]
        away = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype) - places
        return self.mechanism.normalise(scores) * torch.exp(-2.0 * (away / self.window).square())

    def mix(self, weights: Tensor) -> Tensor:
        """As the mechanism does."""
        return self.mechanism.mix(weights)

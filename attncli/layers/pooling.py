"""Pooling: the vectors of a sequence become one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.recording import recorders


class FirstPooling(nn.Module):
    """The first position, as BERT's classifier reads it (Devlin et al. 2019,
    https://arxiv.org/abs/1810.04805); ``keep`` changes nothing."""

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, T, C] to [B, C]."""
        return x[:, 0]


class MeanPooling(nn.Module):
    """The mean over the positions that are kept."""

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, T, C], of which ``keep`` bool [B, T] are tokens, to [B, C]; 0 in a row without any."""
        if keep is None:
            return x.mean(1)
        share = keep.to(x.dtype) / keep.sum(1, keepdim=True).clamp(min=1)  # [B, T]
        return _weighted(x, share)


class MaxPooling(nn.Module):
    """The maximum over the positions that are kept, feature by feature."""

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, T, C], of which ``keep`` bool [B, T] are tokens, to [B, C]; 0 in a row without any."""
        if keep is None:
            return x.amax(1)
        lowest = torch.finfo(x.dtype).min
        return x.masked_fill(~keep.unsqueeze(2), lowest).amax(1) * keep.any(1, keepdim=True)


class AttentionPooling(nn.Module):
    """A weighted sum; the weights are a softmax of each vector's score against a learnt one.

    ``score="additive"``: ``u . tanh(W x + b)`` with the context vector ``u`` of Yang et al. 2016,
    "Hierarchical Attention Networks for Document Classification", https://aclanthology.org/N16-1174.
    ``score="dot"``: ``u . x``.

    Recorded weights (:func:`attncli.attention.record`) are [B, 1, 1, T].

    Args:
        width: features of a vector.
        score: additive or dot.
        hidden: width of W x, for additive; None is ``width``.
    """

    def __init__(self, width: int, score: str = "additive", hidden: int | None = None) -> None:
        super().__init__()
        if score not in ("additive", "dot"):
            raise ValueError(f"pooling score {score!r} is none of additive, dot")
        inner = width if hidden is None or score == "dot" else hidden
        self.project = nn.Linear(width, inner) if score == "additive" else None
        self.context = nn.Parameter(torch.empty(inner))
        nn.init.normal_(self.context, std=inner**-0.5)  # scores of size 1: the first weights are fairly even

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, T, C], of which ``keep`` bool [B, T] are tokens, to [B, C]; 0 in a row without any."""
        weights = self.weights(x, keep)
        for recorded in recorders():
            recorded.add(self, weights.detach()[:, None, None])
        return _weighted(x, weights)

    def weights(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, T, C] to weights [B, T] that add up to 1, all 0 in a row without a token."""
        return masked_softmax(self.scores(x), keep)

    def scores(self, x: Tensor) -> Tensor:
        """[..., C] to scores [...], float32 or wider."""
        inner = x if self.project is None else torch.tanh(self.project(x))  # [..., A]
        scores = F.linear(inner, self.context.unsqueeze(0)).squeeze(-1)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


def masked_softmax(scores: Tensor, keep: Tensor | None) -> Tensor:
    """Softmax of [B, T] over the places that ``keep`` bool [B, T] allows; 0 elsewhere, and in empty rows."""
    if keep is None:
        return torch.softmax(scores, 1)
    scores = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, 1).masked_fill(~keep, 0.0)


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """The sum of [B, T, C] by weights [B, T]: [B, C]."""
    return torch.bmm(weights.to(x.dtype).unsqueeze(1), x).squeeze(1)


_KINDS = {
    "first": lambda width: FirstPooling(),
    "mean": lambda width: MeanPooling(),
    "max": lambda width: MaxPooling(),
    "attention": AttentionPooling,
    "additive": AttentionPooling,
    "dot": lambda width: AttentionPooling(width, "dot"),
}
POOLINGS = tuple(_KINDS)
"""The kinds of :func:`build_pooling`."""


def build_pooling(kind: str, width: int) -> nn.Module:
    """A module from ``x`` [B, T, width] and ``keep`` bool [B, T] or None to [B, width].

    ``kind``: first, mean, max, attention (which is additive), or by its score: additive, dot.
    """
    if kind not in _KINDS:
        raise ValueError(f"pooling {kind!r} is none of {', '.join(_KINDS)}")
    return _KINDS[kind](width)

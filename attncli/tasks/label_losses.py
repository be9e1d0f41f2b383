"""Losses of labelled examples, summed over examples, and the agreement of two passes (R-Drop)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def label_losses(
    logits: Tensor,
    labels: Tensor,
    kind: str,
    *,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
    other: Tensor | None = None,
    share: Tensor | None = None,
) -> Tensor:
    """Summed loss of logits [B, L] against the labels of ``kind``.

    single: cross-entropy with labels int64 [B], smoothed labels and label ``weights`` [L] where given.
    multi: binary cross-entropy with 0 and 1 [B, L], the mean over labels of each example, ``weights`` on the
    ones. regression: squared error of [B, 1] with numbers [B].

    Of examples that were mixed in pairs (mixup, CutMix) the loss is ``share`` [B] of that against ``labels``,
    and the rest of that against ``other``, the labels of what was mixed in.
    """
    logits = logits.float()
    if share is not None:
        mine, theirs = (
            _each(logits, one, kind, smoothing=smoothing, weights=weights) for one in (labels, other)
        )
        return torch.lerp(theirs, mine, share).sum()
    return _each(logits, labels, kind, smoothing=smoothing, weights=weights).sum()


def _each(logits: Tensor, labels: Tensor, kind: str, *, smoothing: float, weights: Tensor | None) -> Tensor:
    """The loss of each example, [B]."""
    if kind == "single":
        return F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="none")
    if kind == "multi":
        loss = F.binary_cross_entropy_with_logits(
            logits, labels.float(), pos_weight=weights, reduction="none"
        )
        return loss.mean(1)
    return (logits.squeeze(1) - labels.float()).square()


def label_count(
    labels: Tensor,
    kind: str,
    weights: Tensor | None = None,
    *,
    other: Tensor | None = None,
    share: Tensor | None = None,
) -> float:
    """What :func:`label_losses` is divided by: examples, or the sum of their labels' weights."""
    if kind == "single" and weights is not None:
        weighed = weights.to(labels.device)
        if share is not None:
            return float(torch.lerp(weighed[other], weighed[labels], share).sum())
        return float(weighed[labels].sum())
    return float(len(labels))


def disagreement(first: Tensor, second: Tensor, kind: str) -> Tensor:
    """Summed distance of two predictions [B, L] of the same examples.

    Kullback-Leibler divergence in both directions, halved (Liang et al. 2021,
    https://arxiv.org/abs/2106.14448), over labels or label by label; of numbers the squared difference.
    """
    if kind == "regression":
        return (first.float() - second.float()).square().sum()
    if kind == "multi":
        pairs = [torch.stack((logits, torch.zeros_like(logits)), -1) for logits in (first, second)]
        return disagreement(pairs[0].flatten(0, 1), pairs[1].flatten(0, 1), "single") / first.shape[1]
    p, q = F.log_softmax(first.float(), -1), F.log_softmax(second.float(), -1)
    # sum p (log p - log q) + sum q (log q - log p) = sum (p - q)(log p - log q)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum()


def doubled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every example twice: first all, then all again."""
    return {name: torch.cat((value, value)) for name, value in inputs.items()}

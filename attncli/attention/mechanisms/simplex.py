"""Sparsemax and entmax of rows: weights with exact zeros, without sorting.

    weights = max(s - tau, 0) ^ e,  tau such that they add up to 1

The e-norm of what is left above tau is convex in tau and falls. Newton's iteration for the place where it is
1 climbs from the left and never goes past it; each step is a few passes over the row, and a dozen are many.
Gradients are those of the closed forms.

Martins and Astudillo 2016, https://arxiv.org/abs/1602.02068; Peters et al. 2019, https://arxiv.org/abs/1905.05702.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sparsemax(scores: Tensor) -> Tensor:
    """The nearest point of the simplex to each row of ``scores`` [..., T]."""
    return _Sparsemax.apply(scores)


def entmax15(scores: Tensor) -> Tensor:
    """Rows [..., T] as max(s / 2 - tau, 0)^2 with the tau at which they add up to 1."""
    return _Entmax15.apply(scores)


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        centred = scores - scores.amax(-1, keepdim=True)
        tau = torch.full_like(centred[..., :1], -1.0)
        left, inside = torch.empty_like(centred), torch.empty_like(centred)
        for _ in range(scores.shape[-1]):  # each step but the last takes away at least one
            torch.sub(centred, tau, out=left).clamp_(min=0)
            count = torch.sign(left, out=inside).sum(-1, keepdim=True)
            step = (left.sum(-1, keepdim=True) - 1) / count
            if is_last(step):
                break
            tau += step
        weights = torch.sub(centred, tau, out=left).clamp_(min=0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        inside = torch.sign(weights)
        grad = grad * inside
        return grad - inside * (grad.sum(-1, keepdim=True) / inside.sum(-1, keepdim=True))


class _Entmax15(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        half = (scores - scores.amax(-1, keepdim=True)) / 2
        tau = torch.full_like(half[..., :1], -1.0)
        left = torch.empty_like(half)
        for _ in range(MOST):
            torch.sub(half, tau, out=left).clamp_(min=0)
            norm = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
            step = (norm - 1) * norm / left.sum(-1, keepdim=True)
            if is_last(step):
                break
            tau += step
        weights = torch.sub(half, tau, out=left).clamp_(min=0).square_()
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        inside = weights > 0
        roots = torch.where(inside, torch.where(inside, weights, 1.0).sqrt(), 0.0)  # differentiable again
        weighted = grad * roots
        return weighted - roots * (weighted.sum(-1, keepdim=True) / roots.sum(-1, keepdim=True))


MOST = 50
"""Newton steps."""


def is_last(step: Tensor) -> bool:
    """Whether a step of the thresholds, which lie between -1 and 0, is rounding in every row."""
    return not bool((step > 4 * torch.finfo(step.dtype).eps).any())

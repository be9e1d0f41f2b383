"""An output layer and its cross-entropy in one, without the logits of all places in memory.

Logits, their softmax and both gradients are computed for a few rows at a time, while they are in the
processor's cache, and only the gradients are kept (as cut cross-entropy does on GPUs, Wijmans et al. 2024,
https://arxiv.org/abs/2411.09009).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_CHUNK = 2**21  # logits computed at a time


class CrossEntropy(NamedTuple):
    """Sums over all places, scalars: ``loss`` has a graph; ``nll`` (nats) is without smoothing."""

    loss: Tensor
    nll: Tensor
    right: Tensor
    """Places whose likeliest word is the label."""


def linear_cross_entropy(x: Tensor, weight: Tensor, labels: Tensor, smoothing: float = 0.0) -> CrossEntropy:
    """Cross-entropy of ``labels`` int64 [N] under logits ``x @ weight.T``; ``x`` [N, C], ``weight`` [V, C].

    ``smoothing``: share of the probability that is spread over all V words (Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567). Sums are float32 or wider. Under autocast the products are of its type.
    """
    kind = x.device.type
    if kind != "cpu" or torch.compiler.is_compiling():
        logits = F.linear(x, weight)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        with torch.no_grad():
            plain = F.cross_entropy(logits, labels, reduction="sum") if smoothing else loss.detach()
            right = (logits.argmax(-1) == labels).sum()
        return CrossEntropy(loss, plain, right)
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        grad = torch.is_grad_enabled()
        return CrossEntropy(*_LinearCrossEntropy.apply(x, weight, labels, smoothing, dtype, grad))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, labels: Tensor, smoothing: float, dtype: torch.dtype, grad: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        places, words = x.shape[0], weight.shape[0]
        wide = torch.promote_types(x.dtype, torch.float32)
        narrow_x, narrow_weight = x.detach().to(dtype), weight.detach().to(dtype)
        total = weight.detach().sum(0, dtype=wide)  # [C]: what smoothing needs of all words at once
        need_x, need_weight = (grad and needed for needed in ctx.needs_input_grad[:2])
        grad_x = torch.empty_like(x) if need_x else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if need_weight else None
        likelihood, nll, right = (torch.zeros((), dtype=wide) for _ in range(3))
        spread = smoothing / words
        rows = max(1, _CHUNK // words)
        kept = narrow_x.new_empty(min(rows, places), words)
        shares = kept if dtype == wide else torch.empty_like(kept, dtype=wide)
        for first in range(0, places, rows):
            part, label = narrow_x[first : first + rows], labels[first : first + rows].unsqueeze(-1)
            logits = torch.mm(part, narrow_weight.t(), out=kept[: part.shape[0]])  # [r, V]
            top, best = logits.max(-1, keepdim=True)
            score = logits.gather(-1, label).to(wide)
            # The likeliest word's probability is at least 1 / V, so that its logarithm is exact enough.
            chance = torch.softmax(logits, -1, dtype=wide, out=shares[: part.shape[0]])
            norm = top.to(wide) - chance.gather(-1, best).log()  # logarithm of the sum of exponentials
            nll += (norm - score).sum()
            likelihood += (norm - (1 - smoothing) * score).sum()
            right += (best == label).sum()
            if not (need_x or need_weight):
                continue
            chance.scatter_add_(-1, label, chance.new_full(label.shape, smoothing - 1))
            chance = chance.to(dtype)  # the gradient of the logits, but for the spread
            if need_x:
                grad_x[first : first + rows] = torch.mm(chance, narrow_weight)
            if need_weight and dtype == wide:
                grad_weight.addmm_(chance.t(), part)
            elif need_weight:
                grad_weight += torch.mm(chance.t(), part)
        if smoothing:
            summed = narrow_x.sum(0, dtype=wide)  # [C]
            likelihood -= spread * (summed @ total)
            if need_x:
                grad_x -= (spread * total).to(grad_x.dtype)
            if need_weight:
                grad_weight -= spread * summed
        ctx.save_for_backward(grad_x, None if grad_weight is None else grad_weight.to(weight.dtype))
        ctx.mark_non_differentiable(nll, right)
        return likelihood, nll, right

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_: Tensor):
        grad_x, grad_weight = ctx.saved_tensors
        scaled = (None if g is None else g * grad.to(g.dtype) for g in (grad_x, grad_weight))
        return *scaled, None, None, None, None

"""What each input token does to an output, by gradients: beside attention weights, which alone mislead.

Jain and Wallace 2019, "Attention is not Explanation", https://arxiv.org/abs/1902.10186.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

STEPS = 32
"""Points on the path of integrated gradients."""


@dataclass(frozen=True)
class Attribution:
    """Of one example, token by token in the order in which the embedding was asked for them."""

    gradient: Tensor
    """[T]: gradient times input, the output's change to first order if a token's embedding were 0."""
    integrated: Tensor
    """[T]: integrated gradients from embeddings of 0."""
    error: float
    """Share by which the integrated gradients miss what they should add up to: the output's whole change."""


def attribute(score: Callable[[], Tensor], embedding: nn.Module, steps: int = STEPS) -> Attribution:
    """Attribute ``score()``, a number that a forward pass gives, to the outputs of ``embedding`` [..., T, E].

    ``score`` runs the model once, in eval mode; the embedding is asked once in it. Integrated gradients as in
    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, by the midpoint rule over ``steps`` points.
    """
    whole, x, gradient = _gradient(score, embedding, 1.0)
    none, _, _ = _gradient(score, embedding, 0.0)
    total = torch.zeros_like(x)
    for step in range(steps):
        total += _gradient(score, embedding, (step + 0.5) / steps)[2]
    integrated = (x * total / steps).sum(-1).flatten()
    change = whole - none
    missed = abs(float(integrated.sum()) - change)
    return Attribution((x * gradient).sum(-1).flatten(), integrated, missed / max(abs(change), 1e-12))


def _gradient(
    score: Callable[[], Tensor], embedding: nn.Module, share: float
) -> tuple[float, Tensor, Tensor]:
    """The score with embeddings scaled by ``share``, the embeddings, and the gradient at the scaled ones."""
    kept: list[Tensor] = []

    def scale(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        scaled = (share * output.detach()).requires_grad_()
        kept[:] = [output.detach(), scaled]
        return scaled

    handle = embedding.register_forward_hook(scale)
    try:
        # cuDNN's recurrent layers have no gradients in eval mode
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            value = score()
            (gradient,) = torch.autograd.grad(value, kept[1])
    finally:
        handle.remove()
    return float(value.detach()), kept[0], gradient

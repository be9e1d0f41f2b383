"""Muon: momentum whose matrix updates are orthogonalised by a Newton-Schulz iteration.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to each of ``matrices`` [..., M, N], approximately.

    A quintic Newton-Schulz iteration whose coefficients maximise the slope at zero: it moves every
    singular value into about [0.7, 1.2] in five rounds. Computed in the type of the input.
    """
    x = matrices
    wide = x.size(-2) <= x.size(-1)
    if not wide:
        x = x.mT  # the Gram matrix on the short side is the cheaper one
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT  # [..., m, m]
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    return x if wide else x.mT


class Muon(Optimizer):
    """Muon for matrices [M, N]; a convolution's weight [M, K, p, q] is one of [M, K p q].

    ``momentum`` is Nesterov's, ``weight_decay`` decoupled. The update is scaled by
    ``sqrt(max(1, M / N))``. ``dtype`` is what the iteration is computed in.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(f"Muon takes matrices, not a tensor of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient; equal shapes are iterated together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                self._update(group, shape, parameters)

    def _update(self, group: dict[str, Any], shape: torch.Size, parameters: list[Tensor]) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"]
            buffer.lerp_(parameter.grad, 1.0 - group["momentum"])
            direction = parameter.grad.lerp(buffer, group["momentum"])
            directions.append(direction.flatten(1).to(self.dtype))
        updates = orthogonalise(torch.stack(directions))  # [parameters, M, N]
        scale = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
            parameter.add_(update.to(parameter.dtype).view_as(parameter), alpha=-group["lr"] * scale)

"""Optimisers from settings, their learning rates, and their state as named tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from attncli.errors import CheckpointError
from attncli.recipe.sections import TrainSection
from attncli.training.muon import Muon
from attncli.training.rows import RowAdamW, sparse_tables

_SEPARATOR = "//"  # between a parameter's name and its state's; neither contains it


class Optimizers:
    """The optimisers of a model's parts, which step as one.

    ``groups`` are those of :meth:`Task.parameter_groups`; ``half`` is whether bf16 is fast here.
    """

    def __init__(
        self, model: nn.Module, groups: list[dict[str, Any]], settings: TrainSection, half: bool
    ) -> None:
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        sparse = sparse_tables(model)
        matrices, rest, tables = [], [], []
        for group in groups:
            group = {**group, "params": list(group["params"])}
            use_muon = group.pop("muon", False) and settings.optimizer == "muon"
            peak = settings.muon_learning_rate if use_muon else settings.learning_rate
            group["peak"] = group["lr"] = peak * group.pop("scale", 1.0)
            group.setdefault("weight_decay", settings.weight_decay)
            rows = [p for p in group["params"] if id(p) in sparse]
            if rows:
                tables.append({**group, "params": rows})
                group["params"] = [p for p in group["params"] if id(p) not in sparse]
            if group["params"]:
                (matrices if use_muon else rest).append(group)
        self.all: list[Optimizer] = []
        if matrices:
            self.all.append(Muon(matrices, dtype=torch.bfloat16 if half else torch.float32))
        if rest:
            self.all.append(_adamw(rest, settings))
        if tables:
            self.all.append(RowAdamW(tables, **_options(settings)))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [p for optimizer in self.all for group in optimizer.param_groups for p in group["params"]]

    def set_share(self, share: float) -> None:
        """Set every learning rate to ``share`` of its peak."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share

    def step(self) -> None:
        """Update the weights."""
        for optimizer in self.all:
            optimizer.step()

    def clear(self) -> None:
        """Drop the gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by parameter and state name."""
        found = {}
        for optimizer in self.all:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for at, state in optimizer.state_dict()["state"].items():
                name = self._names[id(parameters[at])]
                found |= {f"{name}{_SEPARATOR}{key}": value for key, value in state.items()}
        return found

    def load(self, tensors: dict[str, Tensor], place: str) -> None:
        """Set the state from ``tensors``; :class:`CheckpointError` when they are another optimiser's."""
        states: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, part = key.rpartition(_SEPARATOR)
            states.setdefault(name, {})[part] = value.clone()
        for optimizer in self.all:
            order = [self._names[id(p)] for group in optimizer.param_groups for p in group["params"]]
            found = {i: states.pop(name) for i, name in enumerate(order) if name in states}
            _check_kind(optimizer, found.values(), place)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for i, state in found.items():
                found[i] = {key: _laid_out(value, parameters[i]) for key, value in state.items()}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": found})
        if states:
            raise CheckpointError(
                f"{place} holds optimiser state of unknown parameters: {', '.join(sorted(states))}"
            )


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """``value`` with the strides of its parameter, which fused kernels take for granted."""
    if value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _check_kind(optimizer: Optimizer, states: Any, place: str) -> None:
    wanted = "momentum_buffer" if isinstance(optimizer, Muon) else "exp_avg"
    for state in states:
        if wanted not in state:
            raise CheckpointError(
                f"{place} was written by another optimiser: it has {', '.join(sorted(state))}, not {wanted}; "
                "train.optimizer cannot change in a run"
            )


def _adamw(groups: list[dict[str, Any]], settings: TrainSection) -> Optimizer:
    # Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
    options = _options(settings)
    try:
        return torch.optim.AdamW(groups, fused=True, **options)
    except RuntimeError:  # a device without the fused kernel
        return torch.optim.AdamW(groups, foreach=True, **options)


def _options(settings: TrainSection) -> dict[str, Any]:
    betas = (settings.beta1, settings.beta2)
    return {"lr": settings.learning_rate, "betas": betas, "eps": settings.epsilon}


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradients so that their global norm is at most ``limit`` (0: leave them). The norm before.

    Pascanu et al. 2013, https://arxiv.org/abs/1211.5063
    """
    gradients = [_values(p) for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit and (norm.is_cuda or norm > limit):  # asking a GPU would wait for it
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _values(parameter: nn.Parameter) -> Tensor:
    """The gradient's values, of a sparse one those that it holds."""
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()

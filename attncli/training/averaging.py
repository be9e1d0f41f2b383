"""Averages of the weights over training, which evaluation, the best checkpoint and export use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """The weights as they are: nothing is averaged. Base of the kinds that do."""

    def __init__(self, model: nn.Module) -> None:
        self.names, self.live = [], []
        for name, parameter in model.named_parameters():
            self.names.append(name)
            self.live.append(parameter)

    def update(self, step: int) -> None:
        """After update ``step`` (from 1)."""

    def snapshot(self, step: int) -> None:
        """At a regular checkpoint."""

    def value(self) -> dict[str, Tensor] | None:
        """The averaged parameters by name, None when they are the live ones."""
        return None

    def snapshots(self) -> dict[int, dict[str, Tensor]]:
        """What must be stored besides the average, by step."""
        return {}

    def load(self, value: dict[str, Tensor] | None, snapshots: dict[int, dict[str, Tensor]]) -> None:
        """Go on from a checkpoint. One made without averaging starts the average afresh."""

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged values into the model; afterwards it holds every bit it held before."""
        value = self.value()
        if value is None:
            yield
            return
        with torch.no_grad():
            before = [parameter.detach().clone() for parameter in self.live]
            for name, parameter in zip(self.names, self.live, strict=True):
                parameter.copy_(value[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, old in zip(self.live, before, strict=True):
                    parameter.copy_(old)


class MovingAverage(Average):
    """Exponential moving average with the decay ``min(decay, (1 + t) / (10 + t))`` after update t.

    The lower decay at the start keeps the initial weights from outliving a short run, as in
    TensorFlow's ExponentialMovingAverage. Polyak & Juditsky 1992, https://doi.org/10.1137/0330046.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.shadow = [parameter.detach().clone() for parameter in self.live]

    @torch.no_grad()
    def update(self, step: int) -> None:  # noqa: D102
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.live], 1.0 - decay)

    def value(self) -> dict[str, Tensor]:  # noqa: D102
        return dict(zip(self.names, self.shadow, strict=True))

    @torch.no_grad()
    def load(self, value: dict[str, Tensor] | None, snapshots: dict[int, dict[str, Tensor]]) -> None:  # noqa: D102
        for name, shadow, live in zip(self.names, self.shadow, self.live, strict=True):
            shadow.copy_(live if value is None else value[name])


class LastAverage(Average):
    """Mean of the weights at the last ``count`` regular checkpoints (Vaswani et al. 2017, section 6.1)."""

    def __init__(self, model: nn.Module, count: int) -> None:
        super().__init__(model)
        self.count = count
        self._kept: dict[int, dict[str, Tensor]] = {}

    def snapshot(self, step: int) -> None:  # noqa: D102
        self._kept[step] = {
            name: live.detach().to("cpu", copy=True) for name, live in zip(self.names, self.live, strict=True)
        }
        for old in sorted(self._kept)[: -self.count]:
            del self._kept[old]

    def value(self) -> dict[str, Tensor] | None:  # noqa: D102
        if not self._kept:
            return None
        kept = [self._kept[step] for step in sorted(self._kept)]
        mean = {}
        for name in self.names:
            total = kept[0][name].double()
            for other in kept[1:]:
                total += other[name]
            mean[name] = (total / len(kept)).to(kept[0][name].dtype)
        return mean

    def snapshots(self) -> dict[int, dict[str, Tensor]]:  # noqa: D102
        return dict(self._kept)

    def load(self, value: dict[str, Tensor] | None, snapshots: dict[int, dict[str, Tensor]]) -> None:  # noqa: D102
        self._kept = {step: {n: t.clone() for n, t in kept.items()} for step, kept in snapshots.items()}


def build_average(kind: str, model: nn.Module, *, decay: float, count: int) -> Average:
    """The average that ``train.average`` names: none, ema or last."""
    if kind == "ema":
        return MovingAverage(model, decay)
    if kind == "last":
        return LastAverage(model, count)
    return Average(model)

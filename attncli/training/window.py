"""Losses since the last logged step, and the watch that they stay finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from attncli.training.distributed import World


class LossWindow:
    """Loss terms and counts of several steps, summed on the device in float64.

    ``counts`` are global, ``sums`` this process's; what a checkpoint restores is the first process's.
    """

    def __init__(self, world: World, device: torch.device) -> None:
        self._world, self._device = world, device
        self.counts: dict[str, float] = {}
        self._sums: Tensor | None = None

    def add(self, counts: dict[str, float], sums: Tensor) -> None:
        """A step: ``sums`` [terms] in the order of ``counts``."""
        self._sums = sums.clone() if self._sums is None else self._sums + sums
        self.counts = {name: self.counts.get(name, 0.0) + count for name, count in counts.items()}

    def means(self) -> dict[str, float]:
        """Mean of each term over the window and all processes; the window begins anew."""
        losses, counts = self._losses(), self.counts
        self.counts, self._sums = {}, None
        return {name: losses[name] / count if count else 0.0 for name, count in counts.items()}

    def state(self) -> dict[str, Any]:
        """Global sums, as JSON values. Every process must ask."""
        return {"losses": self._losses(), "counts": self.counts}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.counts = state["counts"]
        if self.counts:
            mine = [state["losses"][name] if self._world.chief else 0.0 for name in self.counts]
            self._sums = torch.tensor(mine, dtype=torch.float64, device=self._device)

    def _losses(self) -> dict[str, float]:
        if self._sums is None:
            return {}
        return self._world.sum(dict(zip(self.counts, self._sums.tolist(), strict=True)))


class FiniteWatch:
    """Calls ``stop(step)`` for the first step whose gradient or loss is not finite.

    On a CPU at once; a GPU keeps a note, which :meth:`check` reads, so that steps need not wait for it.
    """

    def __init__(self, device: torch.device, stop: Callable[[int], NoReturn]) -> None:
        self._stop = stop
        self._waits = device.type != "cpu"
        self._first = torch.zeros((), dtype=torch.int64, device=device)

    def note(self, step: int, value: Tensor) -> None:
        """``value`` must be finite."""
        sound = torch.isfinite(value)
        if self._waits:
            self._first += torch.where((self._first == 0) & ~sound, step, 0)
        elif not sound:
            self._stop(step)

    def check(self) -> None:
        """Before anything is logged, evaluated or saved."""
        if self._waits and (step := int(self._first)):
            self._stop(step)

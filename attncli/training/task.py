"""The contract between a task and the loop: everything the loop needs, and all it may know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

Batch = dict[str, Any]
"""Tensors by name, first dimension the example; what ``make`` of the data collates."""

T = TypeVar("T")


@dataclass(frozen=True)
class Goal:
    """The evaluation metric that decides which of two checkpoints is better."""

    metric: str
    higher: bool = False

    def better(self, new: float, old: float | None) -> bool:
        """Whether ``new`` is strictly better than ``old`` (None: nothing yet). NaN never is."""
        if new != new:
            return False
        return old is None or (new > old if self.higher else new < old)


class Batches(Protocol):
    """An endless, exactly resumable stream of global batches."""

    epoch: float
    """Passes over the data so far, with the fraction."""

    def next(self, parts: Sequence[int], of: int) -> list[Batch]:
        """The chosen ``parts`` of the next global batch cut into ``of``; then move on.

        The global batch, its masking included, depends on the seed and the position alone, never on
        ``parts`` or ``of``: any number of processes and rounds sees the same examples.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Position after the last batch handed out, as plain JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        ...


class Shard(Protocol):
    """This process's share of an evaluation."""

    def mine(self, items: Iterable[T]) -> Iterator[T]:
        """Every ``world``-th item, starting at this rank."""
        ...

    def sum(self, totals: dict[str, float]) -> dict[str, float]:
        """Totals added up over all processes, in float64."""
        ...


class Task(ABC):
    """Data, model, loss and metric of one task."""

    name: str
    """The command it belongs to."""
    model: nn.Module
    goal: Goal
    unit: str = "tokens"
    """What throughput counts."""

    @abstractmethod
    def batches(self) -> Batches:
        """A new training stream from the beginning."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Denominator of each loss term in this part of a batch, known without the model.

        The loop adds them up over rounds and processes before any backward pass, so that an update
        does not depend on how its batch was cut.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms **summed** over this part, scalar tensors under the same keys as ``counts``.

        The training loss is the sum of ``losses[k] / counts[k]`` with global counts. Called under
        autocast, on tensors already on the model's device.
        """

    @abstractmethod
    def size(self, batch: Batch) -> int:
        """Units of throughput in this part: real ones, never padding."""

    @abstractmethod
    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Metrics of ``self.model`` on the validation part. The model is in eval mode, no gradients."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser: weight decay on matrices, none on biases, norms and embeddings' kin."""
        decay = [p for p in self.model.parameters() if p.requires_grad and p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.requires_grad and p.ndim < 2]
        return [{"params": decay}, {"params": plain, "weight_decay": 0.0}]

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self.model.to(device)

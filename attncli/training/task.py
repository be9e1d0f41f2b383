"""The contract between a task and the loop: everything the loop needs, and all it may know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from attncli.recipe.sections import TrainSection

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
    """Passes over the data so far, with the fraction. Where there is also ``waited``, the seconds that the
    loop has waited for batches so far, it goes into ``timings.jsonl``; ``close`` is called after training."""

    def next(self, parts: Sequence[int], of: int) -> list[Batch]:
        """The chosen ``parts`` of the next global batch cut into ``of``; then move on.

        The global batch, its masking included, depends on the seed and the position alone, never on
        ``parts`` or ``of``: any number of processes and rounds sees the same examples. Each example is
        in exactly one part, and no part is empty where ``of`` is at most the batch's examples. Draw from
        a generator of its own: the loop seeds the global ones for the model's sake.
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

    def gather(self, items: list[T]) -> list[T]:
        """The items (JSON values) of all processes, one process after the other."""
        ...


class Task(ABC):
    """Data, model, loss and metric of one task."""

    name: str
    """The command it belongs to."""
    model: nn.Module
    goal: Goal
    unit: str = "tokens"
    """What throughput counts."""

    def settle(self, settings: TrainSection) -> TrainSection:
        """The recipe's ``train`` with what depends on the data put in, such as the steps of an epoch."""
        return settings

    @abstractmethod
    def batches(self) -> Batches:
        """A new training stream from the beginning."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Denominator of each loss term in this part of a batch, known without the model.

        The loop adds them up over rounds and processes before any backward pass, so that an update
        does not depend on how its batch was cut. The keys are the same in every part and in every
        batch; a term that a part has nothing of counts 0. Called on tensors in main memory.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms **summed** over this part, scalar tensors under the same keys as ``counts``.

        The training loss is the sum of ``losses[k] / counts[k]`` with global counts. Called under
        autocast, on tensors already on the model's device. What takes part does not depend on the data:
        a term that a part has nothing of is a zero with a graph. PyTorch's global generators have been seeded
        for this part of this step, so dropout is free to draw from them.
        """

    @abstractmethod
    def size(self, batch: Batch) -> int:
        """Units of throughput in this part: real ones, never padding."""

    @abstractmethod
    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Metrics of ``self.model`` on the validation part, ``goal.metric`` among them.

        The model is in eval mode, under no_grad and autocast, with averaged weights where the run
        averages. Every process calls it and returns the same values: go over ``shard.mine(batches)`` and
        add up with ``shard.sum``. Alone, ``mine`` may raise to end an interrupted evaluation; let it pass.
        """

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics measured once, after training, with the best weights: of test sets.

        The model is as in :meth:`evaluate`. Only one process calls it; what else is worth keeping goes into
        the run folder.
        """
        return {}

    def notes(self) -> dict[str, Any]:
        """What belongs to the metrics measured last but is no number, such as signatures."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser: weight decay on tensors of two dimensions and more, none on the rest.

        ``muon`` marks the hidden matrices that Muon may take (:func:`hidden_matrices`). A group may also
        set ``weight_decay``, and ``scale`` the share of the learning rate that it gets.
        """
        hidden = hidden_matrices(self.model)
        taken = {id(p) for p in hidden}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in taken]
        return [
            {"params": hidden, "muon": True},
            {"params": [p for p in rest if p.ndim >= 2]},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self.model.to(device)

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Lines that open a run: data, model, how attention is computed there in ``dtype``."""
        return []

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` says of it, by name: plain values."""
        return {}

    def flops_a_step(self) -> float:
        """Model FLOPs of one update, forward and backward; 0 where nobody counted."""
        return 0.0

    def save(self, folder: Path) -> None:  # noqa: B027 - nothing to do by default
        """Store in the run folder what a run needs besides recipe and weights, such as a tokeniser."""

    def next_commands(self, run: Path) -> list[str]:
        """What one types after training."""
        return [f"attn evaluate {run}"]

    def choices(self) -> dict[str, Any]:
        """What was decided by measuring this machine, such as attention backends: plain JSON values.

        The loop stores them with the first step that they took part in, before anything of that step
        is kept, so that a resumed run computes the same.
        """
        return {}

    def restore_choices(self, choices: dict[str, Any]) -> None:  # noqa: B027 - nothing to do by default
        """Decide as ``choices`` says, before the first forward pass."""


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers and convolutions between embeddings and heads, in order.

    Left out: weights tied to an embedding, convolutions of single channels, and every module (with all inside
    it) whose attribute ``muon`` is False: output heads, the projection of factorised embeddings and the first
    layer that sees pixels set it.
    """
    out = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for module in model.modules():
        if not getattr(module, "muon", True):
            out.update(id(p) for p in module.parameters())
    found = {}
    for module in model.modules():
        whole = isinstance(module, _CONVOLUTIONS) and module.groups == 1
        if (whole or isinstance(module, nn.Linear)) and module.weight.requires_grad:
            found[id(module.weight)] = module.weight
    return [weight for key, weight in found.items() if key not in out]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

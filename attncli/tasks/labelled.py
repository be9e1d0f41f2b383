"""What tasks on labelled examples share: epochs, batches, evaluation over processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncli import console
from attncli.attention import choices, restore_choices
from attncli.data.order import EvaluationBatches
from attncli.data.rows import batches_an_epoch
from attncli.recipe.text import FreshTrain, LabelTrain
from attncli.training.task import Batch, Shard, Task


class LabelTask(Task):
    """A model on examples with labels: :attr:`sets` has ``train``, ``validation`` and ``tests``."""

    unit = "examples"
    sets: Any
    recipe: Any

    def settle(self, settings: LabelTrain) -> LabelTrain:
        """Epochs as steps, an evaluation an epoch unless said otherwise, and the rate of fresh weights."""
        an_epoch = self.steps_an_epoch(settings.batch)
        fresh = self.fresh and isinstance(settings, FreshTrain)
        epochs = settings.fresh_epochs if fresh else settings.epochs
        steps = settings.steps or max(1, round(epochs * an_epoch))
        changed = {"steps": steps, "evaluate_every": settings.evaluate_every or min(an_epoch, steps)}
        if fresh:
            changed["learning_rate"] = settings.fresh_learning_rate
        return settings.model_copy(update=changed)

    @property
    def fresh(self) -> bool:
        """Whether training starts from weights that have learnt nothing."""
        model = self.recipe.model
        return not getattr(model, "base", "") or model.weights == "fresh"

    def steps_an_epoch(self, batch: int) -> int:
        """Updates of a pass over the training part."""
        return batches_an_epoch(len(self.sets.train), batch)

    def size(self, batch: Batch) -> int:
        """Examples."""
        return len(batch["index"])

    @abstractmethod
    def evaluation_batches(self, examples: Any) -> EvaluationBatches:
        """Batches of a validation or test set, each example in one."""

    @abstractmethod
    def predict(self, batch: Batch) -> Tensor | Sequence[Any]:
        """What is measured of each example of a batch on the model's device, a row or item an example."""

    def predictions(
        self, examples: Any, shard: Shard | None = None, what: str | None = None
    ) -> Iterator[tuple[Batch, Any]]:
        """Batches of ``examples`` (this process's share) with what is predicted; with ``what``, a bar."""
        device = next(self.model.parameters()).device
        batches = self.evaluation_batches(examples)
        mine = range(len(batches)) if shard is None else shard.mine(range(len(batches)))
        shown = console.Progress(what, total=len(examples), unit=self.unit) if what else nullcontext()
        with shown as bar:
            for number in mine:
                batch = {name: value.to(device) for name, value in batches[number].items()}
                yield batch, self.predict(batch)
                if bar is not None:
                    bar.advance(len(batch["index"]), units=len(batch["index"]))

    # What the machine decided

    def choices(self) -> dict[str, Any]:
        """Attention backends measured on this machine."""
        return choices()

    def restore_choices(self, choices: dict[str, Any]) -> None:
        """Compute with the backends that the run was begun with."""
        restore_choices(choices)

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        return [f"attn evaluate {run}"]


def trainable(model: torch.nn.Module) -> str:
    """How many parameters there are, and how many of them learn."""
    total = sum(p.numel() for p in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{total:,} parameters" + ("" if learning == total else f", {learning:,} of them learn")

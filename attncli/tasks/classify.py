"""Classification, whatever is labelled and whatever model sees it."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.data.labels import Labels
from attncli.errors import Problem, RecipeError
from attncli.metrics.classification import score
from attncli.tasks.label_losses import disagreement, doubled, label_count, label_losses
from attncli.tasks.label_metrics import reported
from attncli.tasks.labelled import LabelTask
from attncli.training.task import Batch, Goal, Shard

_GOALS = {"single": "accuracy", "multi": "f1_macro", "regression": "spearman"}
_GOAL_NAMES = {"f1": "f1_macro"}


class ClassifyTask(LabelTask):
    """Labels of whole examples: texts, pictures, clips. A set of examples has ``name`` and ``targets``."""

    name = "classify"

    def __init__(self, recipe: Any, labels: Labels, sets: Any | None) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.labels, self.sets = recipe, labels, sets
        chosen = recipe.train.goal
        metric = _GOALS[labels.kind] if chosen == "auto" else _GOAL_NAMES.get(chosen, chosen)
        known = ("loss", *reported(labels.kind, len(labels.names)))
        if metric not in known:
            what = f"train.goal={chosen}: these labels are not measured by it ({labels.describe()})"
            raise RecipeError(Problem(what, hint=f"they are by {', '.join(known)}"))
        self.goal = Goal(metric, higher=metric != "loss")
        self.weights: Tensor | None = None
        if sets is not None and recipe.train.class_weights == "balanced":
            self.weights = torch.from_numpy(balanced_weights(sets.train.targets, labels)).float()
        self.measured: Any | None = None
        self.outcomes: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def outputs(self) -> int:
        """Numbers that the model gives for an example."""
        return 1 if self.labels.kind == "regression" else len(self.labels.names)

    @abstractmethod
    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What the model reads of a batch."""

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.labels.save(run)

    # Training

    def counts(self, batch: Batch) -> dict[str, float]:
        """Examples, or what their labels weigh."""
        kind, mixed = self.labels.kind, {name: batch.get(name) for name in ("other", "share")}
        counts = {"labels": label_count(batch["labels"], kind, self.weights, **mixed)}
        return counts | ({"agreement": float(len(batch["index"]))} if self.recipe.train.r_drop else {})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Summed loss; with R-Drop, that of two passes and their disagreement."""
        settings, kind, inputs = self.recipe.train, self.labels.kind, self.inputs(batch)
        options = {"smoothing": settings.label_smoothing, "weights": self._weights(batch["labels"].device)}
        options |= {name: batch.get(name) for name in ("other", "share")}
        if not settings.r_drop:
            return {"labels": label_losses(self.model(**inputs), batch["labels"], kind, **options)}
        first, second = self.model(**doubled(inputs)).chunk(2)
        loss = sum(label_losses(logits, batch["labels"], kind, **options) for logits in (first, second)) / 2
        return {"labels": loss, "agreement": settings.r_drop * disagreement(first, second, kind)}

    def _weights(self, device: torch.device) -> Tensor | None:
        return None if self.weights is None else self.weights.to(device)

    # Evaluation

    def predict(self, batch: Batch) -> Tensor:
        """Logits [B, L], float32."""
        return self.model(**self.inputs(batch)).float()

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Loss and metrics of the validation part, or of what :meth:`measure_on` chose."""
        examples = self.measured or self.sets.validation
        logits, targets = self._logits(examples, shard)
        return self._score(logits, targets)

    def _logits(
        self, examples: Any, shard: Shard | None = None, what: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits [N, L] and targets of a set, in its order."""
        rows: list[list[Any]] = []
        for batch, logits in self.predictions(examples, shard, what):
            rows += [list(row) for row in zip(batch["index"].tolist(), logits.tolist(), strict=True)]
        if shard is not None:
            rows = shard.gather(rows)
        found = np.zeros((len(examples), self.outputs))
        for index, row in rows:
            found[index] = row
        return found, examples.targets

    def _score(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        kind = self.labels.kind
        loss = label_losses(torch.from_numpy(logits), torch.from_numpy(targets), kind)
        return {
            "loss": float(loss) / max(len(targets), 1),
            **score(kind, probabilities(logits, kind), targets),
        }

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics of the test sets; predictions and pictures go into the run folder."""
        if self.measured is not None:
            return {}
        found: dict[str, float] = {}
        for examples in self.sets.tests or [self.sets.validation]:
            logits, targets = self._logits(examples, what=f"measuring {examples.name}")
            self._report(run, examples, logits)
            if self.sets.tests:
                scores = self._score(logits, targets)
                found |= {f"{examples.name}.{name}": value for name, value in scores.items()}
        return found

    def _report(self, run: Path, examples: Any, logits: np.ndarray) -> None:
        """What was predicted of each example goes into the run folder, and into :attr:`outcomes`."""
        shares = probabilities(logits, self.labels.kind)
        self.outcomes[examples.name] = (examples.targets, shares)
        folder = run / "predictions"
        folder.mkdir(exist_ok=True)
        with (folder / f"{examples.name}.jsonl").open("w", encoding="utf-8") as file:
            for number, target in enumerate(examples.targets):
                told = self.named(examples, number) | {"label": self.labels.written(target)}
                file.write(json.dumps(told | self.answer(shares[number]), ensure_ascii=False) + "\n")

    @abstractmethod
    def named(self, examples: Any, number: int) -> dict[str, Any]:
        """Which example it is, in plain values."""

    def answer(self, shares: np.ndarray) -> dict[str, Any]:
        """What is told of one example: its label or labels and their probabilities, or its number."""
        kind, names = self.labels.kind, self.labels.names
        if kind == "regression":
            return {"predicted": float(shares[0])}
        probability = {name: float(share) for name, share in zip(names, shares, strict=True)}
        if kind == "multi":
            return {
                "predicted": [n for n, share in probability.items() if share >= 0.5],
                "probabilities": probability,
            }
        return {"predicted": names[int(shares.argmax())], "probabilities": probability}

    @abstractmethod
    def other_set(self, name: str, *, part: bool) -> Any:
        """A ``part`` of the run's own data, or other data by its path, to be measured on."""

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Evaluate on a test set of the run's data, or on other data, from now on."""
        self.measured = self.other_set(split or source, part=split is not None)

    # What is said about it

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        sets = self.sets
        told: dict[str, Any] = {
            "training examples": len(sets.train),
            "validation examples": len(sets.validation),
        }
        told |= {f"{test.name} examples": len(test) for test in sets.tests}
        return told | {
            "labels": self.labels.kind if self.labels.kind == "regression" else ", ".join(self.labels.names)
        }


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """Logits [N, L] as probabilities; numbers as they are."""
    if kind == "regression":
        return logits
    if kind == "multi":
        return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def predicted(task: Any, logits: Tensor) -> tuple[list[tuple[str, str]], int, str, dict[str, float]]:
    """Rows on one example for people, the likeliest first; the likeliest output, its name, all as numbers."""
    kind, names = task.labels.kind, task.labels.names
    shares = probabilities(logits.detach().cpu().numpy().astype(np.float64), kind)[0]
    if kind == "regression":
        return [("predicted", f"{shares[0]:.4g}")], 0, "the number", {"predicted": float(shares[0])}
    order = np.argsort(-shares, kind="stable")
    rows = [(names[at], f"{100 * shares[at]:.1f} %") for at in order[:10]]
    numbers = {f"{names[at]}, %": 100 * float(shares[at]) for at in order[:10]}
    return rows, int(order[0]), names[int(order[0])], numbers


def balanced_weights(targets: np.ndarray, labels: Labels) -> np.ndarray:
    """A weight for each label [L]: the inverse of its frequency, mean 1 over the examples.

    Of several labels at once: how much rarer its presence is than its absence.
    """
    if labels.kind == "regression":
        return np.ones(1)
    if labels.kind == "multi":
        present = targets.sum(0)
        return np.where(present > 0, (len(targets) - present) / np.maximum(present, 1), 1.0)
    counts = np.bincount(targets, minlength=len(labels.names))
    return np.where(counts > 0, len(targets) / (np.maximum(counts, 1) * (counts > 0).sum()), 0.0)

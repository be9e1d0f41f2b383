"""Where a run stands, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attncli.training.task import Goal


@dataclass
class Progress:
    """JSON values, stored in every checkpoint."""

    step: int = 0
    steps: int = 0
    """The run's length when it was here."""
    best: dict[str, Any] | None = None
    """step, metric, value and metrics of the best evaluation."""
    last: dict[str, Any] | None = None
    """step and metrics of the last evaluation."""
    waited: int = 0
    """Evaluations since the last that was better than all before it."""
    pending: bool = False
    """Whether the evaluation of this step is still to be done."""
    units: float = 0.0
    seconds: float = 0.0

    def note_evaluation(self, goal: Goal, metrics: dict[str, float]) -> bool:
        """Take in an evaluation of this step; whether it is the best so far.

        Of equal ones the later is: its learning rate was lower.
        """
        self.pending = False
        self.last = {"step": self.step, "metrics": metrics}
        value, before = metrics[goal.metric], self.best["value"] if self.best else None
        better = goal.better(value, before)
        self.waited = 0 if better else self.waited + 1
        if better or value == before:
            self.best = {"step": self.step, "metric": goal.metric, "value": value, "metrics": metrics}
            return True
        return False


@dataclass
class FitResult:
    """How a run ended; what result.json holds."""

    metrics: dict[str, float]
    """The best evaluation, which the best checkpoint reaches."""
    best_step: int
    last: dict[str, float]
    """The last evaluation."""
    steps: int
    stopped_early: bool
    speed: dict[str, Any]
    """<unit>_per_second (tokens_per_second ...) and seconds of the training steps."""

"""Pictures of what a classifier got right and wrong, drawn when it has been measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli.reports.calibration import draw_calibration
from attncli.reports.confusion import draw_confusion


def draw_outcomes(task: Any, folder: Path) -> None:
    """Confusion and calibration of each set that a task with one label a text measured last."""
    labels = getattr(task, "labels", None)
    if getattr(labels, "kind", None) != "single":
        return
    for name, (targets, probabilities) in task.outcomes.items():
        draw_confusion(targets, probabilities.argmax(1), labels.names, folder / f"confusion-{name}.png")
        draw_calibration(probabilities, targets, folder / f"calibration-{name}.png")

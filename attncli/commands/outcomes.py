"""Pictures of what a model got right and wrong, drawn when it has been measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli import console
from attncli.reports.calibration import draw_calibration
from attncli.reports.confusion import draw_confusion, draw_counts
from attncli.reports.masks import draw_examples


def draw_outcomes(task: Any, folder: Path) -> None:
    """Of each set that was measured last: confusion and, of one label a text, calibration; of masks,
    examples."""
    if task.name == "detect":
        draw_detections(task, folder)
        return
    if hasattr(task, "classes"):
        _draw_segmented(task, folder)
        return
    labels = getattr(task, "labels", None)
    if getattr(labels, "kind", None) != "single":
        return
    for name, (targets, probabilities) in task.outcomes.items():
        draw_confusion(targets, probabilities.argmax(1), labels.names, folder / f"confusion-{name}.png")
        draw_calibration(probabilities, targets, folder / f"calibration-{name}.png")


def _draw_segmented(task: Any, folder: Path) -> None:
    """Confusion of pixels, and pictures beside their true and found masks."""
    for name, outcome in task.outcomes.items():
        draw_counts(outcome.matrix, task.names, folder / f"confusion-{name}.png")
        draw_examples(outcome.examples, task.classes.palette(), task.names, folder / f"examples-{name}.png")


def draw_detections(task: Any, folder: Path) -> None:
    """Precision over recall, and which class is taken for which, of each set that was measured last."""
    from attncli.metrics.detection import confusion
    from attncli.reports.detection import draw_precision_recall

    settings, names = task.recipe.evaluate, task.classes.names
    for name, scores in task.scores.items():
        truths, found = task.outcomes[name]
        draw_precision_recall(scores, folder / f"precision-recall-{name}.png")
        table = confusion(
            truths, found, len(names), threshold=settings.threshold, overlap=settings.confusion_overlap
        )
        draw_counts(table, [*names, "nothing"], folder / f"confusion-{name}.png")
        if not console.json_mode():
            rows = [
                (one, values["map"], values["map50"], values["objects"])
                for one, values in scores.classes.items()
            ]
            columns = ["class", "map", "map50", "objects"]
            console.table(columns, rows, title=f"{name}, by class", right=columns[1:])

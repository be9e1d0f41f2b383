"""Names of what segmentation is measured by. No torch, so that ``--require`` comes first."""

from __future__ import annotations

import re

from attncli.recipe.sections import Recipe

NAMES = ("mean_iou", "mean_dice", "pixel_accuracy", "mean_accuracy", "boundary_f1")


def metric_names(recipe: Recipe) -> list[str]:
    """Metrics that an evaluation of ``recipe`` reports: of the validation part, then of the test sets.

    A test set's are ``<test set>.<metric>``, and ``<class>.iou`` is one class's: ``*`` stands for any.
    """
    return ["loss", *NAMES, "*.loss", *(f"*.{name}" for name in NAMES), "*.iou"]


def class_metric(name: str) -> str:
    """The metric of a class's IoU: ``car.iou``."""
    return re.sub(r"[^\w/@-]+", "_", name).strip("_") + ".iou"

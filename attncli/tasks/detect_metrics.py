"""Names of what detection is measured by. No torch, so that ``--require`` comes first."""

from __future__ import annotations

from attncli.recipe.sections import Recipe

NAMES = ("map", "map50", "map75", "recall", "map_small", "map_medium", "map_large")


def metric_names(recipe: Recipe) -> list[str]:
    """Metrics of the validation part, then of the test sets as ``<test set>.<metric>``.

    Those of sizes are there where there are objects of the size.
    """
    return [*NAMES, *(f"*.{name}" for name in NAMES)]

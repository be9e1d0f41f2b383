"""Names of what detection is measured by. No torch, so that ``--require`` comes first."""

from __future__ import annotations

from attncli.recipe.sections import Recipe

NAMES = ("map", "map50", "map75", "recall", "map_small", "map_medium", "map_large")


def metric_names(recipe: Recipe) -> list[str]:
    """Metrics of the validation part, then of the test sets as ``<test set>.<metric>``.

    Of up to twenty classes ``map50/<class>`` comes too, under names that the data decides.
    """
    classes = [f"map50/{name}" for name in recipe.data.classes]  # type: ignore[attr-defined]
    return [*NAMES, *classes, *(f"*.{name}" for name in (*NAMES, *classes))]

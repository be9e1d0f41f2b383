"""Cross-validation: a run for each fold of a data set, which is its test set, and the spread over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attncli.commands.seeds import train_group
from attncli.commands.shared import Requirement
from attncli.recipe.loading import LoadedRecipe
from attncli.training import Task


def train_folds(
    loaded: LoadedRecipe, build: Callable[[Any], Task], *, requirements: list[Requirement], out: Path | None
) -> None:
    """Train on all folds but one, measure on that one, for each of them; goes on where it was stopped.

    Raises:
        DataError: the data has no folds, or what is wrong with its list.
    """
    from attncli.data.clips.raw import folds_of

    recipe = loaded.recipe
    variants = {
        fold: recipe.model_copy(
            update={"data": recipe.data.model_copy(update={"fold": fold, "cross_validate": False})}
        )
        for fold in folds_of(recipe.data)
    }
    train_group(loaded, build, variants, "fold", requirements=requirements, out=out)

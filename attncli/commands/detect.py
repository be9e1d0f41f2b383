"""``attn detect``: train a detector, or find things in pictures with a finished run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.shared import (
    check_metric_names,
    find_target,
    parse_requirements,
    refuse,
    split_arguments,
)
from attncli.commands.trained import APPLY, metric_names, module_of, open_run, task_class
from attncli.errors import Problem, RecipeError
from attncli.recipe.loading import load_recipe
from attncli.recipe.sections import Recipe


def main(
    first: str | None,
    args: list[str],
    *,
    data: str | None = None,
    out: Path | None = None,
    dry_run: bool = False,
    require: list[str] | None = None,
    threshold: float | None = None,
    pictures: bool | None = None,
) -> None:
    """Train the recipe ``first`` with settings ``args``, or apply the run ``first`` to pictures ``args``."""
    requirements = parse_requirements(require or [])
    target = find_target("detect", first)
    console.say(target.sentence)
    if target.kind == "run":
        options = {"--data": data, "--dry-run": dry_run, "--require": require}
        refuse(options, "train", f"attn evaluate {first}")
        run, loaded = open_run("detect", target.path)
        applier = module_of(APPLY, "detect", loaded.recipe)
        applier.apply("detect", run, loaded, args, out=out, threshold=threshold, pictures=pictures)
        return
    options = {"--threshold": threshold, "--no-pictures": pictures is not None}
    refuse(options, "apply a run", f"attn detect {first} --help")
    overrides, inputs = split_arguments(args)
    if inputs:
        what = [Problem(f"{text!r} is no setting; a recipe takes key=value") for text in inputs]
        raise RecipeError(*what, then="attn runs list")
    loaded = load_recipe("detect", target.name, overrides, data)
    _locate(loaded.recipe)
    check_metric_names(requirements, metric_names("detect", loaded.recipe))
    from attncli.commands import training

    build = task_class("detect", loaded.recipe).build
    if loaded.recipe.train.seeds > 1 and not dry_run:
        from attncli.commands.seeds import train_seeds

        train_seeds(loaded, build, requirements=requirements, out=out)
        return
    training.train(loaded, build, requirements=requirements, out=out, dry_run=dry_run)


def _locate(recipe: Recipe) -> None:
    """Make paths absolute, so that the run can be resumed and measured from anywhere."""

    def absolute(text: Any) -> Any:
        path = os.path.expanduser(str(text))
        return os.path.abspath(path) if text not in ("", "builtin") and os.path.exists(path) else text

    data, backbone = recipe.data, recipe.model.backbone  # type: ignore[attr-defined]
    data.path, data.validation, data.images = map(absolute, (data.path, data.validation, data.images))
    data.tests = [absolute(text) for text in data.tests]
    backbone.weights = absolute(backbone.weights)

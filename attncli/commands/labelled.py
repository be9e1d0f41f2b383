"""What ``attn finetune`` and ``attn classify`` share: learn from labelled data, or apply what was learnt."""

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

APPLIED = {"finetune": ("classify",), "classify": ("finetune",)}
"""Command to the other ones whose runs it applies too."""


def train_or_apply(
    command: str,
    first: str | None,
    args: list[str],
    *,
    base: str | None = None,
    data: str | None = None,
    out: Path | None = None,
    dry_run: bool = False,
    require: list[str] | None = None,
    **applying: Any,
) -> None:
    """Train the recipe ``first`` with settings ``args``, or apply the run ``first`` to inputs ``args``."""
    requirements = parse_requirements(require or [])
    target = find_target(command, first, APPLIED[command])
    console.say(target.sentence)
    if target.kind == "run":
        options = {
            "--from": base,
            "--data": data,
            "--out": out,
            "--dry-run": dry_run,
            "--require": require,
        }
        refuse(options, "train", f"attn evaluate {first}")
        run, loaded = open_run(command, target.path)
        module_of(APPLY, run.info["command"], loaded.recipe).apply(command, run, loaded, args, **applying)
        return
    options = {f"--{name.replace('_', '-')}": value for name, value in applying.items()}
    refuse(options, "apply a run", f"attn {command} {first} --help")
    overrides, inputs = split_arguments(args)
    if inputs:
        what = [Problem(f"{text!r} is no setting; a recipe takes key=value") for text in inputs]
        raise RecipeError(*what, then="attn runs list")
    if base is not None:
        overrides.append(f"model.base={base}")
    loaded = load_recipe(command, target.name, overrides, data)
    _locate(loaded.recipe)
    check_metric_names(requirements, metric_names(command, loaded.recipe))
    from attncli.commands import training

    build = task_class(command, loaded.recipe).build
    if loaded.recipe.train.seeds > 1 and not dry_run:
        from attncli.commands.seeds import train_seeds

        train_seeds(loaded, build, requirements=requirements, out=out)
        return
    if getattr(loaded.recipe.data, "cross_validate", False) and not dry_run:
        from attncli.commands.folds import train_folds

        train_folds(loaded, build, requirements=requirements, out=out)
        return
    training.train(loaded, build, requirements=requirements, out=out, dry_run=dry_run)


def _locate(recipe: Recipe) -> None:
    """Make paths absolute, so that the run can be resumed and measured from anywhere."""

    def absolute(text: Any) -> Any:
        path = os.path.expanduser(str(text))
        return os.path.abspath(path) if text not in ("", "builtin") and os.path.exists(path) else text

    data, model = recipe.data, recipe.model
    data.path, data.validation = absolute(data.path), absolute(data.validation)
    data.tests = [absolute(text) for text in data.tests]
    for section, key in ((model, "base"), (getattr(recipe, "tokenizer", None), "path")):
        if getattr(section, key, ""):
            setattr(section, key, absolute(getattr(section, key)))

"""The commands of tasks: train a recipe, or apply a finished run."""

from __future__ import annotations

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

ALSO = {"finetune": ("classify",), "classify": ("finetune",)}
"""Command to the other ones whose runs it applies too."""
_WRITE = ("detect", "segment")
"""Commands that, of a run, write into ``--out``."""


def main(
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
    """Train the recipe ``first`` with settings ``args``, or apply the run ``first`` to inputs ``args``.

    ``applying``: the options of ``command`` that only a run takes.
    """
    requirements = parse_requirements(require or [])
    target = find_target(command, first, ALSO.get(command, ()))
    console.say(target.sentence)
    if target.kind == "run":
        of_training = {"--from": base, "--data": data, "--dry-run": dry_run, "--require": require}
        if command in _WRITE:
            applying["out"] = out
        else:
            of_training["--out"] = out
        refuse(of_training, "train", f"attn evaluate {first}")
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
    recipe = loaded.recipe
    recipe.locate()
    check_metric_names(requirements, metric_names(command, recipe))
    from attncli.commands import training

    build = task_class(command, recipe).build
    if getattr(recipe.train, "seeds", 1) > 1 and not dry_run:
        from attncli.commands.seeds import train_seeds

        train_seeds(loaded, build, requirements=requirements, out=out)
    elif getattr(recipe.data, "cross_validate", False) and not dry_run:
        from attncli.commands.folds import train_folds

        train_folds(loaded, build, requirements=requirements, out=out)
    else:
        training.train(loaded, build, requirements=requirements, out=out, dry_run=dry_run)
